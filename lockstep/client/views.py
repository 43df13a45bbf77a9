"""What the contracts know, as Python values."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

__all__ = [
    "DEMANDED",
    "WITHHELD",
    "Challenge",
    "ChallengeStatus",
    "Clocks",
    "Demand",
    "DemandStatus",
    "DisputeParameters",
    "Docket",
    "Job",
    "JobState",
    "JobTerms",
]

WITHHELD = 2**256 - 1
"""Named instead of a step: leaves are withheld, so the challenge descends."""
DEMANDED = 2**256 - 2
"""Named by the challenge that an unanswered demand turns into."""


class JobState(enum.IntEnum):
    """Where a job is in its life; the numbers are the contract's."""

    OPEN = 1
    ASSIGNED = 2
    COMMITTED = 3
    FINALISED = 4
    SLASHED = 5
    CANCELLED = 6
    EXPIRED = 7
    DIVERGED = 8

    @property
    def is_end(self) -> bool:
        """Whether nothing happens to the job any more."""
        return self >= JobState.FINALISED


@dataclass(frozen=True, slots=True)
class JobTerms:
    """What a creator asked for, as it stands on the chain.

    Attributes:
        data_root: of the records' tree, 32 bytes.
        records: how many records.
        seed: of initialisation and data order.
        initial_root: h_0.
        steps: T.
        commit_every: c.
        floor_price: wei, where the Dutch price starts.
        maximum_price: wei, where it ends; the escrow.
        auction_ticks: how long it rises.
        training_ticks: from assignment to the last moment of the commitment.
        stake: wei that the solver locks.
        reopen: whether a missed deadline reopens the job.
    """

    data_root: bytes
    records: int
    seed: int
    initial_root: bytes
    steps: int
    commit_every: int
    floor_price: int
    maximum_price: int
    auction_ticks: int
    training_ticks: int
    stake: int
    reopen: bool

    def to_abi(self) -> tuple[object, ...]:
        """The struct's members in their order."""
        return tuple(getattr(self, name) for name in self.__slots__)


@dataclass(frozen=True, slots=True)
class Job:
    """A job.

    Attributes:
        id: 1, 2, ...
        creator: who pays, a checksummed address.
        solver: who trains; the zero address before assignment.
        state: where it is in its life.
        program_root: 32 bytes.
        terms: what the creator asked for.
        opened_at: tick at which the Dutch price started.
        price: wei agreed at assignment; 0 before.
        deadline: last tick at which the solver may commit.
        root: of the committed trajectory; zero before.
        final_root: h_T; zero before the commitment.
        committed_at: tick of the commitment.
        trial: key of everything about the commitment.
        steps_done: steps that are paid for.
        dispute_gas: gas of a transaction that replays one step, at most.
    """

    id: int
    creator: str
    solver: str
    state: JobState
    program_root: bytes
    terms: JobTerms
    opened_at: int
    price: int
    deadline: int
    root: bytes
    final_root: bytes
    committed_at: int
    trial: bytes
    steps_done: int
    dispute_gas: int

    @classmethod
    def from_abi(cls, job_id: int, answer: object) -> "Job | None":
        """The job from the contract's answer; None if there is no such job."""
        members = list(cast("Sequence[object]", answer))
        if not members[2]:
            return None
        members[2] = JobState(cast("int", members[2]))
        terms = cast("Sequence[object]", members[4])
        members[4] = JobTerms(*terms)  # type: ignore[arg-type]  # the ABI's types
        return cls(job_id, *members)  # type: ignore[arg-type]  # the ABI's types


class ChallengeStatus(enum.IntEnum):
    """How far a challenge is; the numbers are the contract's."""

    SEALED = 1
    PENDING = 2
    WON = 3
    LOST = 4
    CLAIMED = 5


@dataclass(frozen=True, slots=True)
class Challenge:
    """A challenge.

    Attributes:
        id: 1, 2, ...
        job_id: the job whose commitment is challenged.
        challenger: a checksummed address.
        bond: wei.
        commitment: seal of the place; zero if it comes from a demand.
        committed_at: tick.
        committed_block: block number.
        status: how far it is.
        named: the step, WITHHELD or DEMANDED; 0 while sealed.
        weight: its part in its share group.
        awaits: the fact the solver owes; zero if the challenger is to move.
        level: above 0, it stands at a node of the commitment's tree.
        index: of that node.
        start: at level 0, the undisputed state it stands at.
        end: the disputed one.
        moved_at: tick of the challenger's last move.
        challenger_spent: ticks burned before that.
        solver_spent: ticks burned before that.
    """

    id: int
    job_id: int
    challenger: str
    bond: int
    commitment: bytes
    committed_at: int
    committed_block: int
    status: ChallengeStatus
    named: int
    weight: int
    awaits: bytes
    level: int
    index: int
    start: int
    end: int
    moved_at: int
    challenger_spent: int
    solver_spent: int

    @classmethod
    def from_abi(cls, challenge_id: int, answer: object) -> "Challenge | None":
        """The challenge from the contract's answer; None if there is none."""
        members = list(cast("Sequence[object]", answer))
        if not members[0]:
            return None
        members[6] = ChallengeStatus(cast("int", members[6]))
        return cls(challenge_id, *members)  # type: ignore[arg-type]  # the ABI's types

    @property
    def is_pinned(self) -> bool:
        """Whether it stands at a single step, waiting for the verdict on it."""
        return (
            self.status is ChallengeStatus.PENDING
            and not any(self.awaits)
            and self.end == self.start + 1
        )


@dataclass(frozen=True, slots=True)
class Clocks:
    """The chess clocks of a challenge.

    Attributes:
        solver: ticks burned by the solver.
        challenger: ticks burned by the challenger.
        solver_moves: whose clock runs.
    """

    solver: int
    challenger: int
    solver_moves: bool


@dataclass(frozen=True, slots=True)
class Docket:
    """The sums over all challenges of a commitment.

    Attributes:
        sealed: challenges not revealed.
        pending: challenges and demands without a result.
        contested: distinct steps named by pending challenges.
        quiet_at: tick by which all revealed challenges can have ended.
        convicted: the challenge that leads; 0: none has convicted.
        settled: whether the stake has been shared out.
        award: wei that the leading group shares.
        award_weight: by this sum of weights.
    """

    sealed: int
    pending: int
    contested: int
    quiet_at: int
    convicted: int
    settled: bool
    award: int
    award_weight: int


@dataclass(frozen=True, slots=True)
class DisputeParameters:
    """Windows and clocks in ticks, and what bonds are made of.

    Attributes:
        challenge_window: ticks after a commitment in which challenges are accepted.
        reveal_window: ticks after that in which they may be revealed.
        minimum_reveal_delay: ticks that a challenge stays sealed.
        move_clock: ticks each side has for all its moves in a challenge.
        whistleblower_share_bps: part of a slashed stake for the whistleblowers.
        bond_gas_price: wei at which bonds count gas.
        opening_gas: gas of all openings of a challenge.
    """

    challenge_window: int
    reveal_window: int
    minimum_reveal_delay: int
    move_clock: int
    whistleblower_share_bps: int
    bond_gas_price: int
    opening_gas: int


class DemandStatus(enum.IntEnum):
    """How far a demand is; the numbers are the contract's."""

    PENDING = 1
    ANSWERED = 2
    SILENT = 3
    REFUNDED = 4


@dataclass(frozen=True, slots=True)
class Demand:
    """A demand for withheld data.

    Attributes:
        id: 1, 2, ...
        job_id: the job it is about.
        demander: a checksummed address.
        bond: wei.
        fact: key of the answer.
        demanded_at: tick.
        status: how far it is.
    """

    id: int
    job_id: int
    demander: str
    bond: int
    fact: bytes
    demanded_at: int
    status: DemandStatus

    @classmethod
    def from_abi(cls, demand_id: int, answer: object) -> "Demand | None":
        """The demand from the contract's answer; None if there is none."""
        members = list(cast("Sequence[object]", answer))
        if not members[0]:
            return None
        members[5] = DemandStatus(cast("int", members[5]))
        return cls(demand_id, *members)  # type: ignore[arg-type]  # the ABI's types
