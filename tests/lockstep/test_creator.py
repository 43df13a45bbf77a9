"""From PyTorch to a job, and back to PyTorch."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typing_extensions import override

import lockstep
from lockstep.creator.chain import job_terms
from lockstep.creator.spec import JobSpec, Prepared, Terms, load_script, prepare, tokens
from lockstep.errors import JobRefused, JobScriptError
from lockstep.schedules import Cosine, Warmup
from lockstep.training import Run, Work
from lockstep.weights import WeightsMismatch, load_into, save, weights
from ml_verifier.state import State

ROWS, FEATURES, CLASSES = 40, 6, 3


def spec(**changes: object) -> JobSpec:
    torch.manual_seed(1)
    model = torch.nn.Linear(FEATURES, CLASSES)
    given: dict[str, object] = {
        "model": model,
        "loss": torch.nn.functional.cross_entropy,
        "optimizer": torch.optim.AdamW(model.parameters(), lr=0.1),
        "data": (
            np.random.default_rng(0).normal(size=(ROWS, FEATURES)),
            np.arange(ROWS) % CLASSES,
        ),
        "batch": 8,
        "steps": 5,
        "seed": 3,
    }
    return JobSpec(**{**given, **changes})  # type: ignore[arg-type]  # the test's own


def trained(prepared: Prepared, directory: Path) -> State:
    program = prepared.captured.program
    run = Run(Work(program, prepared.seed, prepared.dataset, 5, 1), directory)
    while not run.done:
        run.step()
    final = run.state_at(5)
    assert isinstance(final, State)
    return final


def test_the_package_offers_what_scripts_need() -> None:
    assert lockstep.JobSpec is JobSpec
    assert callable(lockstep.connect)
    with pytest.raises(AttributeError, match="no attribute 'submits'"):
        _ = lockstep.submits


def test_a_step_becomes_a_job() -> None:
    prepared = prepare(spec())
    assert prepared.dataset.records == ROWS
    assert prepared.seed == 3
    assert prepared.obstacles(12_000_000) == []
    assert prepared.work_units == 5 * prepared.admission.work_units
    assert prepare(spec()).captured.program.root == prepared.captured.program.root
    assert prepare(spec(seed=None)).seed != prepare(spec(seed=None)).seed


def test_what_a_dispute_cannot_hold_is_told_before_posting() -> None:
    big = torch.nn.Linear(FEATURES, 4000)
    prepared = prepare(
        spec(model=big, optimizer=torch.optim.AdamW(big.parameters(), lr=0.1))
    )
    assert "use fewer parameters" in prepared.obstacles(12_000_000)[0]
    assert "a dispute grants 1" in prepare(spec()).obstacles(1)[0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"steps": 0}, "expected steps of at least 1"),
        ({"batch": 0}, "expected batch of at least 1"),
        ({"seed": 2**64}, "expected a seed of 64 bits"),
        ({"data": (np.zeros((4, FEATURES)),)}, "one row per record"),
        ({"data": (np.zeros((4, 6)), np.zeros(3))}, "one row per record"),
        ({"data": (np.array(["a"]), np.zeros(1))}, "columns of numbers"),
        ({"model": torch.nn.ReLU()}, "no parameters"),
    ],
)
def test_an_unusable_spec_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(JobRefused, match=said):
        prepare(spec(**changes))


class Arc(torch.nn.Module):
    """An operator that has no kernel."""

    @override
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x[...] -> atan(x)."""
        return torch.atan(x)


def test_an_operator_without_a_kernel_is_named() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(FEATURES, CLASSES), Arc())
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    with pytest.raises(JobRefused, match="this step cannot be a job"):
        prepare(spec(model=model, optimizer=optimizer))


def test_trained_weights_load_into_the_module(tmp_path: Path) -> None:
    job = spec()
    prepared = prepare(job)
    found = weights(prepared.captured.program, trained(prepared, tmp_path / "run"))
    assert set(found) == {"weight", "bias"}
    load_into(job.model, found)
    assert torch.equal(job.model.weight.detach(), torch.tensor(found["weight"]))
    save(tmp_path / "w.safetensors", found, "7")
    loaded = load_file(tmp_path / "w.safetensors")
    fresh = torch.nn.Linear(FEATURES, CLASSES)
    fresh.load_state_dict(loaded)
    assert torch.equal(fresh.weight, job.model.weight)


@pytest.mark.parametrize("averaged", [False, True])
def test_trained_weights_of_a_bf16_model(tmp_path: Path, averaged: bool) -> None:  # noqa: FBT001  a parameter
    torch.manual_seed(1)
    model = torch.nn.Linear(FEATURES, CLASSES, dtype=torch.bfloat16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    x = torch.randn(ROWS, FEATURES, dtype=torch.bfloat16)
    data = (x, torch.arange(ROWS) % CLASSES)
    prepared = prepare(spec(model=model, optimizer=optimizer, data=data, ema=0.5))
    np.testing.assert_array_equal(
        prepared.dataset.columns[0], x.view(torch.uint16).numpy()
    )
    final = trained(prepared, tmp_path / "run")
    found = weights(prepared.captured.program, final, averaged=averaged)
    assert found["weight"].dtype == (np.float32 if averaged else np.uint16)
    expected = {
        name: torch.from_numpy(tensor.copy()).view(
            torch.float32 if averaged else torch.bfloat16
        )
        for name, tensor in found.items()
    }
    load_into(model, found)
    save(tmp_path / "w.safetensors", found, "7")
    loaded = load_file(tmp_path / "w.safetensors")
    assert set(loaded) == set(expected) == {"weight", "bias"}
    for name, tensor in model.state_dict().items():
        assert loaded[name].dtype is expected[name].dtype
        assert torch.equal(loaded[name], expected[name])
        assert torch.equal(tensor, expected[name].bfloat16())
        assert 0 < tensor.abs().max() < 10


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (torch.nn.Linear(FEATURES, CLASSES, bias=False), "do not share bias"),
        (torch.nn.Linear(FEATURES + 1, CLASSES), "has shape"),
    ],
)
def test_weights_of_another_model_are_refused(
    tmp_path: Path, model: torch.nn.Module, said: str
) -> None:
    prepared = prepare(spec())
    found = weights(prepared.captured.program, trained(prepared, tmp_path))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(WeightsMismatch, match=said):
        load_into(model, found)
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())


def test_terms_become_wei() -> None:
    terms = job_terms(prepare(spec(terms=Terms(price=1.5))))
    assert (terms.maximum_price, terms.floor_price, terms.stake) == (
        15 * 10**17,
        75 * 10**16,
        3 * 10**18,
    )
    own = job_terms(prepare(spec(terms=Terms(price=2, floor=0.5, stake=7))))
    assert (own.floor_price, own.stake) == (5 * 10**17, 7 * 10**18)
    with pytest.raises(JobRefused, match="unusable amount"):
        job_terms(prepare(spec(terms=Terms(price=-1))))


@pytest.mark.parametrize(
    ("amount", "wei"), [(1, 10**18), ("0.000000000000000001", 1), (2.5, 25 * 10**17)]
)
def test_tokens_are_exact(amount: float | str, wei: int) -> None:
    assert tokens(amount) == wei


@pytest.mark.parametrize("amount", [-1, "0.0000000000000000001", "inf", "nan"])
def test_no_amount_is_rounded(amount: float | str) -> None:
    with pytest.raises(ValueError, match="tokens with at most 18 decimals"):
        tokens(amount)


def test_a_script_must_define_a_job(tmp_path: Path) -> None:
    with pytest.raises(JobScriptError, match="no job script"):
        load_script(tmp_path / "missing.py")
    path = tmp_path / "script.py"
    path.write_text("job = 3\n")
    with pytest.raises(JobScriptError, match="it defines int"):
        load_script(path)
    path.write_text("x = 3\n")
    with pytest.raises(JobScriptError, match="nothing of that name"):
        load_script(path)


def test_averages_are_fetched_by_the_modules_own_names(tmp_path: Path) -> None:
    prepared = prepare(spec(ema=0.5))
    program, final = prepared.captured.program, trained(prepared, tmp_path / "run")
    plain, averaged = (weights(program, final, averaged=a) for a in (False, True))
    assert set(plain) == set(averaged) == {"weight", "bias"}
    assert not np.array_equal(plain["weight"], averaged["weight"])


def test_a_job_without_averages_says_how_to_get_them(tmp_path: Path) -> None:
    prepared = prepare(spec())
    final = trained(prepared, tmp_path / "run")
    with pytest.raises(WeightsMismatch, match=r"submit it with ema=0\.999"):
        weights(prepared.captured.program, final, averaged=True)


def test_what_stands_beside_the_optimizer_reaches_the_program() -> None:
    plain = prepare(spec()).captured.program
    for changes in (
        {"schedule": Warmup(10).then(Cosine(90))},
        {"clip_norm": 1.0},
        {"clip_value": 0.1},
        {"accumulate": 2},
    ):
        assert prepare(spec(**changes)).captured.program.root != plain.root
