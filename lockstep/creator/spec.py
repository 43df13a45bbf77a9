"""What a creator wants trained, in ordinary PyTorch, and what the chain gets of it.

A job script is a Python file that defines `job`:

    import lockstep, torch
    model = torch.nn.Linear(64, 10)
    job = lockstep.JobSpec(
        model=model,
        loss=torch.nn.functional.cross_entropy,
        optimizer=torch.optim.AdamW(model.parameters(), lr=1e-2),
        data=(images, labels),   # arrays or tensors with one row per record
        batch=32,
        steps=300,
    )
"""

import runpy
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lockstep.errors import JobRefused, JobScriptError
from ml_verifier.data import Dataset, encode_records
from ml_verifier.errors import Malformed, VerifierError
from ml_verifier.judge import MAX_WITNESS_BYTES, Admission, admit
from ml_verifier.program import Initialiser
from ml_verifier.session import initial_state

if TYPE_CHECKING:
    from ml_verifier.capture import Captured

__all__ = ["JobSpec", "Prepared", "Terms", "load_script", "prepare", "tokens"]

WEI = 10**18
_SEED_BITS = 64


def tokens(amount: Decimal | float | str) -> int:
    """An amount of tokens in wei, exactly.

    Raises:
        ValueError: it is negative or has more than 18 decimals.
    """
    wei = Decimal(str(amount)) * WEI
    if not wei.is_finite() or wei < 0 or wei != wei.to_integral_value():
        raise ValueError(
            f"expected tokens with at most 18 decimals, such as 2.5, got {amount}"
        )
    return int(wei)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a creator pays and asks for; money in tokens, times in clock ticks.

    Attributes:
        price: the most it pays.
        floor: where the rising Dutch price starts; None means half of `price`.
        auction: ticks until the price has risen to `price`.
        deadline: ticks a solver has for training.
        stake: what a solver locks; None means twice `price`.
        reopen: whether a job whose solver was late or convicted is offered again.
    """

    price: float = 1.0
    floor: float | None = None
    auction: int = 20
    deadline: int = 600
    stake: float | None = None
    reopen: bool = False


@dataclass(slots=True)
class JobSpec:
    """A training job in PyTorch's own terms.

    Attributes:
        model: a `torch.nn.Module` in training mode.
        loss: called as `loss(model(x), y)`, giving a scalar.
        optimizer: SGD, Adam, AdamW, Muon or Adafactor of `torch.optim`, or
            `lockstep.optim.Lion`; a sequence of several over different parameters.
        data: arrays or tensors (x, ..., y) with one row per record. Floats take the
            type of the model's first parameter, float32 or bfloat16; the rest is int64.
        batch: records per step.
        steps: T, how many steps.
        seed: of initial weights and data order; None draws one.
        commit_every: c; 1 commits to every step's state.
        initialise: recipes (`lockstep.initial`) for tensors whose initialisation
            PyTorch does not tell, by name or by pattern such as `*.weight`.
        schedule: what the learning rate is multiplied with: one of
            `lockstep.schedules`, or a `torch.optim.lr_scheduler` with a closed form; a
            sequence gives each optimiser its own.
        clip_norm: largest 2-norm of all gradients together.
        clip_value: largest magnitude of an element of a gradient.
        accumulate: micro-batches that a batch is cut into; gradients are averaged.
        ema: decay of a moving average of the weights, fetched as `averaged`.
        terms: money and time.
    """

    model: Any
    loss: Callable[..., Any]
    optimizer: Any
    data: Sequence[Any]
    batch: int
    steps: int
    seed: int | None = None
    commit_every: int = 1
    initialise: Mapping[str, Initialiser] | None = None
    schedule: Any = None
    clip_norm: float | None = None
    clip_value: float | None = None
    accumulate: int = 1
    ema: float | None = None
    terms: Terms = field(default_factory=Terms)


@dataclass(frozen=True)
class Prepared:
    """A job, ready to be posted.

    Attributes:
        captured: the program, and which slots belong to the model.
        dataset: the records.
        seed: of the job.
        steps: T.
        commit_every: c.
        initial_root: h_0.
        admission: what the program costs.
        terms: money and time.
    """

    captured: "Captured"
    dataset: Dataset
    seed: int
    steps: int
    commit_every: int
    initial_root: bytes
    admission: Admission
    terms: Terms

    @property
    def work_units(self) -> int:
        """Multiply-adds and bytes moved by the whole training."""
        return self.admission.work_units * self.steps

    def obstacles(self, dispute_gas: int) -> list[str]:
        """Why the chain would refuse the job; empty if it takes it.

        Args:
            dispute_gas: the chain's limit for the gas of one replay.
        """
        found: list[str] = []
        if self.admission.witness_bytes > MAX_WITNESS_BYTES:
            found.append(
                f"the witness of one step has {self.admission.witness_bytes:,} bytes, "
                f"a dispute takes at most {MAX_WITNESS_BYTES:,}: use fewer parameters "
                "(AdamW holds three numbers for each) or a smaller batch"
            )
        if self.admission.replay_gas > dispute_gas:
            found.append(
                f"replaying one step costs {self.admission.replay_gas:,} gas, a "
                f"dispute grants {dispute_gas:,}: use a smaller batch or model"
            )
        return found


def prepare(spec: JobSpec) -> Prepared:
    """Capture the step, encode the data and dry-run the chain's admission.

    Raises:
        JobRefused: the step or the data cannot be a job; the message says why.
    """
    # Importing capture imports torch, which takes seconds: only creators need it.
    from ml_verifier.capture import capture  # noqa: PLC0415

    columns = [_array(column) for column in spec.data]
    _check_numbers(spec, columns)
    try:
        captured = capture(
            spec.model,
            spec.loss,
            spec.optimizer,
            [_sample(spec.model, column, spec.batch) for column in columns],
            spec.initialise,
            schedule=spec.schedule,
            clip_norm=spec.clip_norm,
            clip_value=spec.clip_value,
            accumulate=spec.accumulate,
            ema=spec.ema,
        )
        program = captured.program
        dataset = Dataset(program, encode_records(program, columns))
        admission = admit(program.encoded, dataset.records)
    except (Malformed, VerifierError) as error:
        raise JobRefused(f"this step cannot be a job: {error}") from error
    seed = secrets.randbits(_SEED_BITS) if spec.seed is None else spec.seed
    return Prepared(
        captured=captured,
        dataset=dataset,
        seed=seed,
        steps=spec.steps,
        commit_every=spec.commit_every,
        initial_root=initial_state(program, seed).root,
        admission=admission,
        terms=spec.terms,
    )


def load_script(path: Path) -> JobSpec:
    """Run a job script and return its `job`.

    Raises:
        JobScriptError: it is missing, or defines no `job`.
    """
    if not path.is_file():
        raise JobScriptError(f"no job script at {path}")
    job = runpy.run_path(str(path)).get("job")
    if not isinstance(job, JobSpec):
        raise JobScriptError(
            f"{path} must define `job = lockstep.JobSpec(model=..., loss=..., "
            f"optimizer=..., data=(x, y), batch=..., steps=...)`, it defines "
            f"{'nothing of that name' if job is None else type(job).__name__}"
        )
    return job


def _check_numbers(spec: JobSpec, columns: Sequence[np.ndarray]) -> None:
    lengths = {len(column) for column in columns}
    if len(columns) < 2 or len(lengths) != 1:
        raise JobRefused(
            "expected data=(x, ..., y) with one row per record in each, got "
            f"{[column.shape for column in columns]}"
        )
    for name, value in (
        ("batch", spec.batch),
        ("steps", spec.steps),
        ("commit_every", spec.commit_every),
    ):
        if value < 1:
            raise JobRefused(f"expected {name} of at least 1, got {value}")
    if spec.seed is not None and not 0 <= spec.seed < 1 << _SEED_BITS:
        raise JobRefused(f"expected a seed of {_SEED_BITS} bits, got {spec.seed}")


def _array(column: Any) -> np.ndarray:  # noqa: ANN401 - torch is not imported here
    """A column as float32 or int64; other widths of the same kind are converted."""
    if str(getattr(column, "dtype", None)) == "torch.bfloat16":
        column = column.float()  # numpy has no such type
    found = np.asarray(column.numpy() if hasattr(column, "numpy") else column)
    if found.ndim == 0 or found.dtype.kind not in "fiub":
        raise JobRefused(
            f"expected columns of numbers with one row per record, got {found.dtype}"
            f"{list(found.shape)}"
        )
    return found.astype(np.float32 if found.dtype.kind == "f" else np.int64)


def _sample(model: Any, column: np.ndarray, batch: int) -> Any:  # noqa: ANN401
    """A tensor with the shape and type of one batch; its values do not matter."""
    parameter = next(iter(model.parameters()), None)
    if parameter is None:
        raise JobRefused("the model has no parameters to train")
    zeros = parameter.new_zeros((batch, *column.shape[1:]))
    return zeros if column.dtype == np.float32 else zeros.long()
