"""Twins (arXiv 2004.10617): a Byzantine node is two honest copies with one key.

The two know nothing of each other, so together they equivocate, forget their locks and
propose two blocks, just by following the protocol on two sides of a partition. What the
schedule decides is small enough to enumerate: for each round, who leads and how the
network is divided. After the scripted rounds the network is whole.

With at most f twins the laws must hold, and after healing every copy must decide. With
more, agreement may break; then the logs of the honest nodes must name validators with
more than a third of the stake, and no honest one (`consensus.accountability`).

Time is abstract: every message between nodes that can reach each other arrives, then
the waits for a proposal are over, then those for a polka, then those for a decision.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from typing_extensions import override

from consensus.accountability import Finding, investigate, named_stake, votes_in
from consensus.machine import Effect, TimeoutKind, VoteSeen
from consensus.validators import Validator, ValidatorSet
from consensus.votes import VoteKind
from tests.simulation.laws import Fork, Laws, Violation
from tests.simulation.node import Node
from tests.simulation.wire import Commit, Message, Polka, Roster
from tests.simulation.words import words

_PHASES = (TimeoutKind.PROPOSE, TimeoutKind.PREVOTE, TimeoutKind.PRECOMMIT)
_ROUNDS_TO_RECOVER = 16
_STRIDE = 104_729  # prime: any stretch of numbers is spread over the enumeration


@dataclass(frozen=True, slots=True)
class Step:
    """One scripted round.

    Attributes:
        groups: For each kind of message, the group of each copy: one for proposals and
            all else, one for prevotes and polkas, one for precommits and commits.
            Groups do not hear each other.
        deaf: For each kind of message, the copies that hear none.
        gossip: Whether nodes tell where they are at its beginning.
    """

    groups: tuple[tuple[int, ...], ...]
    gossip: bool
    deaf: tuple[frozenset[int], ...] = (frozenset(),) * 3


@dataclass(frozen=True, slots=True)
class Script:
    """A scenario.

    Attributes:
        validators: How many.
        twins: How many of them are two; the first ones.
        leaders: The proposers of the rounds; afterwards it is everybody's turn.
        steps: What happens, round by round.
        shuffle: Draws the order of delivery; None for the order of sending.
    """

    validators: int
    twins: int
    leaders: tuple[int, ...]
    steps: tuple[Step, ...]
    shuffle: int | None = None

    @property
    def copies(self) -> int:
        """How many nodes run."""
        return self.validators + self.twins

    @property
    def tolerable(self) -> bool:
        """Whether fewer than a third are twins."""
        return 3 * self.twins < self.validators


# -- scripts ---------------------------------------------------------------------------


def _halves(copies: int) -> list[tuple[int, ...]]:
    """Every division of the copies into two groups, one of which may be empty."""
    return [
        (0, *(number >> bit & 1 for bit in range(copies - 1)))
        for number in range(2 ** (copies - 1))
    ]


ENUMERATED_ROUNDS = 3
ENUMERATED = (4 * 2 ** (4 + 1 - 1)) ** ENUMERATED_ROUNDS


def enumerated(number: int, *, twins: int = 1) -> Script:
    """One of all scripts of three rounds for four validators and one twin."""
    halves = _halves(4 + twins)
    index = number * _STRIDE % ((4 * len(halves)) ** ENUMERATED_ROUNDS)
    leaders: list[int] = []
    steps: list[Step] = []
    for _ in range(ENUMERATED_ROUNDS):
        index, choice = divmod(index, 4 * len(halves))
        leader, half = divmod(choice, len(halves))
        leaders.append(leader)
        steps.append(Step((halves[half],) * 3, gossip=True))
    return Script(4, twins, tuple(leaders), tuple(steps))


def sampled(source: Random, validators: int, twins: int) -> Script:
    """A script with up to three groups, other ones for each kind of message.

    Half of the scripts keep the two copies of a twin apart, which is how they do harm.
    """
    copies = validators + twins
    rounds = source.randint(1, 6)
    count = source.choice((2, 2, 2, 3))
    apart = source.random() < 0.5
    constant = source.random() < 0.5
    deafness = source.choice((0.0, 0.0, 0.2, 0.5))
    talkative = source.choice((0.0, 0.5, 1.0))
    steps: list[Step] = []
    for _ in range(rounds):
        groups = tuple(
            _divide(source, copies, twins, count, apart=apart) for _ in _PHASES
        )
        if constant:
            groups = (groups[0],) * 3
        deaf = tuple(
            frozenset(each for each in range(copies) if source.random() < deafness)
            for _ in _PHASES
        )
        steps.append(Step(groups, source.random() < talkative, deaf))
    leaders = tuple(
        source.randrange(twins if source.random() < 0.5 else validators)
        for _ in range(rounds)
    )
    shuffle = source.randrange(2**32) if source.random() < 0.5 else None
    return Script(validators, twins, leaders, tuple(steps), shuffle)


def _divide(
    source: Random, copies: int, twins: int, count: int, *, apart: bool
) -> tuple[int, ...]:
    if source.random() < 0.1:
        return (0,) * copies
    groups = [source.randrange(count) for _ in range(copies)]
    if apart:
        for twin in range(twins):
            groups[twin], groups[copies - twins + twin] = 0, 1
    return tuple(groups)


def scenario(number: int) -> Script:
    """The script of that number: tolerable three times of four."""
    source = Random(number)  # noqa: S311 - a simulation
    match number % 8:
        case 0 | 1 | 2:
            return enumerated(number // 8 * 3 + number % 8)
        case 3:
            return sampled(source, 4, 1)
        case 4 | 5:
            return sampled(source, 7, 2)
        case 6:
            return sampled(source, 4, 2)
        case _:
            return sampled(source, 7, 3)


def _kind(message: Message) -> int:
    """Which of a step's groups a message belongs to."""
    if isinstance(message, VoteSeen):
        return 1 if message.vote.subject.kind is VoteKind.PREVOTE else 2
    if isinstance(message, Polka):
        return 1
    return 2 if isinstance(message, Commit) else 0


# -- the stage -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Led(ValidatorSet):
    """A validator set whose proposers are scripted."""

    leaders: tuple[int, ...] = ()

    @override
    def proposer(self, height: int, round_: int) -> Validator:
        if round_ < len(self.leaders):
            return self.members[self.leaders[round_]]
        return self.members[round_ % len(self.members)]


def _led(script: Script) -> Roster:
    """Equal stakes, so that the index is the identity."""
    roster = Roster(dict.fromkeys(range(script.validators), 1))
    plain = roster.set
    roster.set = _Led(plain.members, plain.total_stake, plain.hash, script.leaders)
    return roster


@dataclass(slots=True)
class Verdict:
    """What a script has come to.

    Attributes:
        forked: Agreement broke.
        findings: Then, who is to blame.
        rounds: The highest round of a decision, plus one.
    """

    forked: bool = False
    findings: tuple[Finding, ...] = ()
    rounds: int = 0


class Stage:
    """Plays one script; it is the world of its nodes."""

    def __init__(
        self, script: Script, trace: Callable[[str], None] | None = None
    ) -> None:
        """Set up all copies at height 1; `trace` is told every event in words."""
        self._trace = trace
        self.script = script
        self.size = script.copies
        self._roster = _led(script)
        self.laws = Laws(frozenset(range(script.twins, script.validators)))
        self._step = self._whole = Step(((0,) * self.size,) * 3, gossip=True)
        self._mail: deque[tuple[int, int, Message]] = deque()
        self._timers: dict[TimeoutKind, dict[int, int]] = {k: {} for k in _PHASES}
        self._builds: deque[tuple[Node, int]] = deque()
        self._shuffle = (
            None if script.shuffle is None else Random(script.shuffle)  # noqa: S311
        )
        self.nodes = [
            Node(number, number % script.validators, self, archive=True)
            for number in range(self.size)
        ]

    # -- the world of a node -----------------------------------------------------------

    def clock(self) -> int:
        """Time stands still."""
        return 0

    def roster(self, height: int, chain: list[Commit]) -> Roster:  # noqa: ARG002
        """One set."""
        return self._roster

    def send(self, source: int, target: int, message: Message) -> None:
        """It arrives if the two are in one group for such messages."""
        kind = _kind(message)
        groups = self._step.groups[kind]
        if groups[source] == groups[target] and target not in self._step.deaf[kind]:
            self._mail.append((source, target, message))

    def broadcast(self, source: int, message: Message) -> None:
        """To everybody else in the group."""
        for target in range(self.size):
            if target != source:
                self.send(source, target, message)

    def wait(self, node: Node, kind: TimeoutKind, round_: int) -> None:
        """It will be over at the end of that phase."""
        self._timers[kind][node.number] = round_

    def wait_for_height(self, node: Node) -> None:
        """There is one height only."""

    def wait_for_build(self, node: Node, round_: int) -> None:
        """Building takes no time, but is no part of the step that asks for it."""
        self._builds.append((node, round_))

    def note(self, node: int, effect: Effect) -> None:
        """For the trace."""
        if self._trace is not None:
            self._trace(f"  copy {node} {words(effect)}")

    # -- playing -----------------------------------------------------------------------

    def play(self) -> Verdict:
        """Play the script, heal, and judge.

        Raises:
            Violation: a law was broken that this many twins can't break, or an honest
                validator is named, or too little stake is.
        """
        verdict = Verdict()
        try:
            self._play()
        except Fork:
            if self.script.tolerable:
                raise
            verdict.forked = True
            verdict.findings = tuple(self._blame())
        verdict.rounds = max(
            (1 + node.chain[0].quorum.round for node in self.nodes if node.chain),
            default=0,
        )
        return verdict

    def _play(self) -> None:
        for node in self.nodes:
            node.begin()
        for step in self.script.steps:
            self._round(step)
        for _ in range(_ROUNDS_TO_RECOVER):
            if all(node.chain for node in self.nodes):
                return
            self._round(self._whole)
        if self.script.tolerable and not all(node.chain for node in self.nodes):
            raise Violation(
                "liveness: undecided after healing: "
                + ", ".join(
                    f"{node.number} in {node.state.round} {node.state.step.name}"
                    for node in self.nodes
                    if not node.chain
                )
            )

    def _round(self, step: Step) -> None:
        self._step = step
        for phase, kind in enumerate(_PHASES):
            if self._trace is not None:
                self._trace(f"{kind.value}: {step}")
            if step.gossip and not phase:
                for node in self.nodes:
                    node.tell()
            self._deliver()
            due = self._timers[kind]
            self._timers[kind] = {}
            for number, round_ in sorted(due.items()):
                node = self.nodes[number]
                if not node.chain:
                    node.time_out(kind, round_)
            if kind is not TimeoutKind.PRECOMMIT:
                self._deliver()

    def _deliver(self) -> None:
        mail, builds = self._mail, self._builds
        while mail or builds:
            while builds:
                node, round_ = builds.popleft()
                if not node.chain:
                    node.built(round_)
            if mail:
                if self._shuffle is not None:
                    mail.rotate(self._shuffle.randrange(len(mail)))
                _, target, message = mail.popleft()
                if self._trace is not None:
                    self._trace(f"  copy {target} {words(message)}")
                self.nodes[target].receive(message)

    def _blame(self) -> Iterator[Finding]:
        """Ask the logs of the honest for the guilty, and hold the answer against us."""
        votes = [
            vote
            for number in self.laws.bound
            for log in (self.nodes[number].log, *(self.nodes[number].archive or ()))
            for vote in votes_in(log)
            if vote.subject.height == 1
        ]
        validators = self._roster.set
        findings = investigate(votes, validators, 1)
        for finding in findings:
            if finding.validator in self.laws.bound:
                raise Violation(f"no framing: {finding}")
        stake = named_stake(findings, validators)
        if not validators.is_third(stake):
            raise Violation(f"accountability: only {stake} is named: {findings}")
        yield from findings
