"""Ways to cheat, so that everyone can see them caught.

For tests and demonstrations only. A cheat is a `Run` whose steps go wrong in one exact
way, or a solver that hides something; the honest solver does not know that this file
exists beyond asking it for a `Cheat` when the hidden option `--cheat NAME[@STEP]` names
one.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from typing_extensions import override

from lockstep.artifacts.kinds import Kind
from lockstep.errors import ConfigurationError
from lockstep.training import Run, Work
from ml_verifier.data import Dataset
from ml_verifier.kernels import philox_uniform
from ml_verifier.program import Node, Program, build
from ml_verifier.session import Session
from ml_verifier.state import State

__all__ = ["CHEATS", "Cheat", "parse"]

_NOISE_KEY = 0x6E6F697365  # "noise"
_OPTIMISERS = {"adamw", "sgd"}


class FakeStep(Run):
    """One step is not done at all: the state stays, only its number moves on."""

    at = 0

    @override
    def take_step(self, session: Session) -> None:
        if session.position == self.at:
            _pass_off(session, session.position + 1, _tensors(session))
        else:
            super().take_step(session)


class Noise(Run):
    """No step is done: every state is random numbers of the right shape."""

    @override
    def take_step(self, session: Session) -> None:
        tensors = tuple(np.empty_like(tensor) for tensor in _tensors(session))
        for number, tensor in enumerate(tensors):
            philox_uniform(
                tensor.reshape(-1), _NOISE_KEY, number, session.position, -0.1, 0.1
            )
        _pass_off(session, session.position + 1, tensors)


class OtherData(Run):
    """The training is real, but on the records in reverse: cheaper data, say."""

    @cached_property
    def _other(self) -> Session:
        size = self.work.program.record_bytes
        data = self.work.dataset.data
        records = [data[i : i + size] for i in range(0, len(data), size)]
        reverse = Dataset(self.work.program, b"".join(reversed(records)))
        return _session(replace(self.work, dataset=reverse))

    @override
    def take_step(self, session: Session) -> None:
        _elsewhere(session, self._other, session.position)


class WrongRate(Run):
    """One step is done with twice the learning rate."""

    at = 0

    @override
    def take_step(self, session: Session) -> None:
        if session.position == self.at:
            faster = _with_doubled_rate(self.work.program)
            hasty = _session(replace(self.work, program=faster))
            _elsewhere(session, hasty, session.position)
        else:
            super().take_step(session)


class SwapBatches(Run):
    """Two neighbouring steps see each other's batch."""

    at = 0

    @override
    def take_step(self, session: Session) -> None:
        if session.position == self.at:
            _elsewhere(session, _session(self.work), self.at + 1)
        elif session.position == self.at + 1:
            _elsewhere(session, _session(self.work), self.at)
        else:
            super().take_step(session)


class BitFlip(Run):
    """One step is followed by a cosmic ray: the lowest bit of one weight flips."""

    at = 0

    @override
    def take_step(self, session: Session) -> None:
        super().take_step(session)
        if session.position == self.at + 1:
            tensors = _tensors(session)
            tensors[1].reshape(-1).view(np.uint32)[0] ^= 1
            _pass_off(session, session.position, tensors)


class Copy(Run):
    """After h_0 comes the result of another job: the same program, another seed."""

    @cached_property
    def _other(self) -> Session:
        return _session(replace(self.work, seed=self.work.seed ^ 1))

    @override
    def take_step(self, session: Session) -> None:
        if session.position == 0:
            self._other.step()
            session.resume(self._other.state())
        else:
            _elsewhere(session, self._other, session.position)


RunFactory = Callable[[Work, Path], Run]


@dataclass(frozen=True, slots=True)
class Cheat:
    """How a solver cheats.

    Attributes:
        name: as on the command line.
        run: what it trains with.
        withholds: kinds of artifacts it does not publish.
        answers_dispute: whether it moves in disputes.
        answers_demands: whether it opens what is demanded of it.
    """

    name: str
    run: RunFactory
    withholds: frozenset[Kind] = frozenset()
    answers_dispute: bool = True
    answers_demands: bool = True


def _at(kind: type[Run], step: int) -> RunFactory:
    return type(kind.__name__, (kind,), {"at": step})


_LEAVES: Final = frozenset({Kind.LEAVES, Kind.LOSSES})
_RESULT: Final = frozenset({Kind.STATE})

CHEATS: Final[Mapping[str, Callable[[int], Cheat]]] = {
    "fake-step": lambda step: Cheat("fake-step", _at(FakeStep, step)),
    "noise": lambda _: Cheat("noise", Noise),
    "other-data": lambda _: Cheat("other-data", OtherData),
    "wrong-lr": lambda step: Cheat("wrong-lr", _at(WrongRate, step)),
    "swap-batches": lambda step: Cheat("swap-batches", _at(SwapBatches, step)),
    "copy": lambda _: Cheat("copy", Copy),
    "bit-flip": lambda step: Cheat("bit-flip", _at(BitFlip, step)),
    "withhold-leaves": lambda step: Cheat(
        "withhold-leaves", _at(FakeStep, step), withholds=_LEAVES
    ),
    "withhold-data": lambda _: Cheat(
        "withhold-data", Run, withholds=_RESULT, answers_demands=False
    ),
    "silent": lambda step: Cheat(
        "silent", _at(FakeStep, step), withholds=_LEAVES, answers_dispute=False
    ),
}


def parse(text: str) -> Cheat:
    """The cheat that `NAME` or `NAME@STEP` names.

    Raises:
        ConfigurationError: there is no such cheat, or the step is no number.
    """
    name, separator, step = text.partition("@")
    if name not in CHEATS or (separator and not step.isdecimal()):
        raise ConfigurationError(
            f"no cheat is called {text!r}: expected NAME or NAME@STEP with NAME one of "
            f"{', '.join(CHEATS)}"
        )
    return CHEATS[name](int(step) if step else 0)


# ── tools of the trade ───────────────────────────────────────────────────────


def _tensors(session: Session) -> tuple[np.ndarray, ...]:
    """A copy of the session's tensors; a diverged job is not worth cheating in."""
    held = session.state()
    if not isinstance(held, State):
        raise ConfigurationError("this job diverges; cheat in one that does not")
    return held.tensors


def _pass_off(session: Session, position: int, tensors: tuple[np.ndarray, ...]) -> None:
    """Let these tensors be the state at a position."""
    session.resume(State(position, tensors))


def _session(work: Work) -> Session:
    return Session(work.program, work.seed, work.dataset)


def _elsewhere(session: Session, other: Session, position: int) -> None:
    """Take the session's next step as `other` would take the one at `position`."""
    other.resume(State(position, _tensors(session)))
    other.step()
    _pass_off(session, session.position + 1, _tensors(other))


def _with_doubled_rate(program: Program) -> Program:
    nodes = tuple(
        Node(node.operator, node.inputs, {**node.attributes, "lr": _doubled(node)})
        if node.operator.name in _OPTIMISERS
        else node
        for node in program.nodes
    )
    return build(
        program.batch, program.slots, program.fields, nodes, program.next_state
    )


def _doubled(node: Node) -> float:
    rate = node.attributes["lr"]
    if not isinstance(rate, float):
        raise ConfigurationError(f"expected a learning rate, found {rate!r}")
    (exact,) = struct.unpack("<f", struct.pack("<f", 2 * rate))
    return float(exact)
