"""What a network of real processes goes through: a TOML file, checked.

    validators = 4
    seconds = 60.0

    [[steps]]
    at = 10.0
    action = "kill"
    node = 3
    seconds = 6.0

Nodes 0 to `validators` - 1 vote from genesis. Those after them begin with an empty
database when a step starts them.
"""

import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

MANIFESTS = Path(__file__).parent / "manifests"
_Seconds = Annotated[float, Field(ge=0, le=3_600)]


class ManifestError(Exception):
    """A manifest is missing or breaks a rule."""


class Action(StrEnum):
    """What is done to a node."""

    KILL = "kill"  # SIGKILL; started again after `seconds`
    RESTART = "restart"  # SIGTERM, then started again
    PAUSE = "pause"  # SIGSTOP; SIGCONT after `seconds`
    CUT = "cut"  # no packet passes between it and the others for `seconds`
    FOLLOW = "follow"  # a new node without a vote syncs from genesis
    SNAPSHOT = "snapshot"  # a new node begins at a snapshot that its peers offer
    RESTORE = "restore"  # a new node begins at a snapshot in a file
    JOIN = "join"  # a new node syncs from genesis, then stakes to validate
    LEAVE = "leave"  # a validator unbonds everything
    UNJAIL = "unjail"  # the operator of a validator that was away brings it back
    DOUBLE = "double"  # a second process on an old copy of a validator's directory
    TWIN = "twin"  # two processes with one key, neither of which minds


_LASTING = (Action.KILL, Action.PAUSE, Action.CUT, Action.DOUBLE)
NEW = (Action.FOLLOW, Action.SNAPSHOT, Action.RESTORE, Action.JOIN)
_COPIES = (Action.DOUBLE, Action.TWIN)


class Step(BaseModel):
    """Something that happens to a node.

    Attributes:
        at: seconds after all nodes have answered.
        action: see `Action`.
        node: its number.
        seconds: how long it lasts, for kill, pause and cut; for double, how long the
            copy lies before it is started.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: _Seconds
    action: Action
    node: Annotated[int, Field(ge=0, lt=100)]
    seconds: _Seconds = 0.0

    @model_validator(mode="after")
    def _lasts(self) -> Self:
        if (self.action in _LASTING) != (self.seconds > 0):
            lasting = ", ".join(_LASTING)
            raise ValueError(f"{self.action}: only {lasting} last some seconds")
        return self


class Manifest(BaseModel):
    """A network and its troubles.

    Attributes:
        name: of the file.
        seconds: how long the load goes on.
        transfers: per second.
        epoch_blocks: the set of validators may change so often.
        jail_blocks: who was away stays out for so long at least.
        snapshot_interval: heights between two snapshots of the first nodes; 0: none.
        prune_keep_states: the first nodes prune to so many states; 0: archives.
        longest_gap: seconds between two blocks while at most a third is away.
        back_within: seconds in which a validator that is back votes again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    validators: Annotated[int, Field(ge=1, le=16)]
    seconds: _Seconds
    block_time: Annotated[float, Field(ge=0.05, le=60)] = 0.5
    transfers: Annotated[float, Field(ge=0, le=1_000)] = 10.0
    epoch_blocks: Annotated[int, Field(ge=1)] = 100
    jail_blocks: Annotated[int, Field(ge=1)] = 200
    snapshot_interval: Annotated[int, Field(ge=0)] = 0
    prune_keep_states: Annotated[int, Field(ge=0)] = 0
    longest_gap: _Seconds = 15.0
    back_within: _Seconds = 20.0
    steps: tuple[Step, ...] = ()

    @model_validator(mode="after")
    def _nodes_exist(self) -> Self:
        new = [step.node for step in self.steps if step.action in NEW]
        if new != list(range(self.validators, self.validators + len(new))):
            raise ValueError(
                f"new nodes are numbered from {self.validators} in the order in which "
                f"they start, got {new}"
            )
        for step in self.steps:
            if step.node >= self.validators + len(new):
                raise ValueError(f"{step.action}: there is no node {step.node}")
        return self

    @property
    def nodes(self) -> int:
        """How many nodes there are in the end."""
        return self.validators + sum(step.action in NEW for step in self.steps)

    @property
    def copies(self) -> int:
        """How many more processes have the key of a validator."""
        return sum(step.action in _COPIES for step in self.steps)

    def who(self, *actions: Action) -> set[int]:
        """Nodes to which this happens."""
        return {step.node for step in self.steps if step.action in actions}

    @property
    def cuts(self) -> bool:
        """Whether connections are cut."""
        return any(step.action is Action.CUT for step in self.steps)

    @classmethod
    def load(cls, path: Path) -> "Manifest":
        """Read a file.

        Raises:
            ManifestError: it is missing, no TOML, or breaks a rule.
        """
        try:
            with path.open("rb") as file:
                fields = tomllib.load(file)
            return cls(name=path.stem, **fields)
        except (OSError, tomllib.TOMLDecodeError, TypeError) as error:
            raise ManifestError(f"{path}: {error}") from error
        except ValidationError as error:
            raise ManifestError(f"{path}: {error}") from error


def named(name: str) -> Manifest:
    """A manifest of this folder.

    Raises:
        ManifestError: there is none of this name, or it breaks a rule.
    """
    return Manifest.load(MANIFESTS / f"{name}.toml")


def names() -> list[str]:
    """All manifests of this folder."""
    return sorted(path.stem for path in MANIFESTS.glob("*.toml"))
