"""Hypothesis as the network: it picks every delivery, loss, crash and lie itself.

Two committees of four are played. With one liar all laws must hold, and in the end the
network heals and every honest node must decide. With two, agreement may break, and then
the logs of the honest must name both liars or more, never an honest validator.
"""

from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from typing_extensions import override

from consensus.accountability import investigate, named_stake, votes_in
from consensus.errors import Impossible
from consensus.machine import Effect, ProposalSeen, TimeoutKind, VoteSeen
from consensus.votes import NIL, Subject, VoteKind
from tests.simulation.laws import Fork, Laws
from tests.simulation.node import Node, PowerCut
from tests.simulation.wire import (
    Block,
    Body,
    Commit,
    Message,
    Proposal,
    Roster,
    vote as sign_vote,
)

SIZE = 4
LIARS = st.integers(0, SIZE - 1)
ANY = st.integers(0, 999)
ROUNDS = st.integers(0, 4)
KINDS = st.sampled_from((VoteKind.PREVOTE, VoteKind.PRECOMMIT))

PHASES = (TimeoutKind.PROPOSE, TimeoutKind.PREVOTE, TimeoutKind.PRECOMMIT)


@dataclass
class Wait:
    """Of a node; void once it has crashed or gone on."""

    node: Node
    phase: int
    action: Callable[[], None]

    def __post_init__(self) -> None:
        self.place = (self.node.incarnation, self.node.height)

    @property
    def valid(self) -> bool:
        return self.place == (self.node.incarnation, self.node.height)


class Play(RuleBasedStateMachine):
    """The world of the honest nodes; liars are rules, not nodes."""

    liars = 1

    def __init__(self) -> None:
        super().__init__()
        self.size = SIZE
        self._roster = Roster(dict.fromkeys(range(SIZE), 1))
        self.mail: list[tuple[Node, Message]] = []
        self.waits: list[Wait] = []
        self.blocks: list[Block] = []
        self.over = False

    @initialize(first=LIARS)
    def start(self, first: int) -> None:
        liars = {(first + each) % SIZE for each in range(self.liars)}
        self.laws = Laws(frozenset(range(SIZE)) - liars)
        self.false = sorted(liars)
        self.nodes = [
            Node(number, number, self, archive=True)
            for number in sorted(self.laws.bound)
        ]
        for node in self.nodes:
            node.begin()

    # -- the world of a node -----------------------------------------------------------

    def clock(self) -> int:
        return len(self.mail)

    def roster(self, height: int, chain: list[Commit]) -> Roster:  # noqa: ARG002
        return self._roster

    def send(self, source: int, target: int, message: Message) -> None:  # noqa: ARG002
        self.mail.extend(
            (node, message) for node in self.nodes if node.number == target
        )

    def broadcast(self, source: int, message: Message) -> None:
        self.mail.extend(
            (node, message) for node in self.nodes if node.number != source
        )

    def wait(self, node: Node, kind: TimeoutKind, round_: int) -> None:
        phase = PHASES.index(kind)
        self.waits.append(Wait(node, phase, lambda: node.time_out(kind, round_)))

    def wait_for_height(self, node: Node) -> None:
        self.waits.append(Wait(node, -1, node.begin))

    def wait_for_build(self, node: Node, round_: int) -> None:
        self.waits.append(Wait(node, -1, lambda: node.built(round_)))

    def note(self, node: int, effect: Effect) -> None:
        pass

    # -- what may happen ---------------------------------------------------------------

    def _do(self, node: Node, action: Callable[[], None]) -> None:
        if not node.up or self.over:
            return
        try:
            action()
        except PowerCut:
            node.crash(0)
        except (Fork, Impossible):
            if self.liars == 1:
                raise
            self.over = True
            self.blame()

    def _deliver(self, index: int, *, keep: bool) -> None:
        index %= len(self.mail)
        node, message = self.mail[index] if keep else self.mail.pop(index)
        self._do(node, lambda: node.receive(message))

    @rule(index=ANY)
    @precondition(lambda self: self.mail)
    def deliver(self, index: int) -> None:
        self._deliver(index, keep=False)

    @rule()
    @precondition(lambda self: self.mail)
    def deliver_all(self) -> None:
        for _ in range(len(self.mail)):
            self._deliver(0, keep=False)

    @rule(index=ANY)
    @precondition(lambda self: self.mail)
    def duplicate(self, index: int) -> None:
        self._deliver(index, keep=True)

    @rule(index=ANY)
    @precondition(lambda self: self.mail)
    def drop(self, index: int) -> None:
        self.mail.pop(index % len(self.mail))

    @rule(number=ANY)
    @precondition(lambda self: self.mail)
    def cut_off(self, number: int) -> None:
        """One node hears nothing of what is under way."""
        deaf = self.nodes[number % len(self.nodes)]
        self.mail = [each for each in self.mail if each[0] is not deaf]

    @rule(index=ANY)
    @precondition(lambda self: self.waits)
    def time_passes(self, index: int) -> None:
        wait = self.waits.pop(index % len(self.waits))
        if wait.valid:
            self._do(wait.node, wait.action)

    @rule(number=ANY, kept=st.integers(0, 5))
    def crash(self, number: int, kept: int) -> None:
        node = self.nodes[number % len(self.nodes)]
        if node.up and not self.over:
            node.crash(kept)

    @rule(number=ANY, steps=st.integers(1, 12))
    def arrange_power_cut(self, number: int, steps: int) -> None:
        self.nodes[number % len(self.nodes)].fuse = steps

    @rule(number=ANY)
    def restart(self, number: int) -> None:
        node = self.nodes[number % len(self.nodes)]
        if not node.up:
            node.up = True
            self._do(node, node.restart)

    @rule(number=ANY)
    def gossip(self, number: int) -> None:
        node = self.nodes[number % len(self.nodes)]
        self._do(node, node.tell)

    # -- lies --------------------------------------------------------------------------

    def _hash(self, which: int) -> bytes:
        known = [NIL, *(block.hash for block in self.blocks)]
        for node in self.nodes:
            known.extend(
                proposal.block_hash for proposal in node.state.proposals.values()
            )
        return known[which % len(known)]

    def _lie(self, node: Node, subject: Subject, liar: int) -> None:
        seen = VoteSeen(sign_vote(subject, self._roster.index[liar]))
        self.laws.cast(self._roster, seen.vote)
        self._do(node, lambda: node.receive(seen))

    @rule(number=ANY, liar=ANY, kind=KINDS, round_=ROUNDS, which=ANY)
    def byzantine_vote(
        self, number: int, liar: int, kind: VoteKind, round_: int, which: int
    ) -> None:
        node = self.nodes[number % len(self.nodes)]
        subject = Subject(kind, node.height, round_, self._hash(which))
        self._lie(node, subject, self.false[liar % len(self.false)])

    @rule(number=ANY, which=ANY)
    def conspire(self, number: int, which: int) -> None:
        """All liars vote as one for a block, to one node, in its own round."""
        node = self.nodes[number % len(self.nodes)]
        block_hash, round_ = self._hash(which), node.state.round
        for kind in (VoteKind.PREVOTE, VoteKind.PRECOMMIT):
            for liar in self.false:
                subject = Subject(kind, node.height, round_, block_hash)
                self._lie(node, subject, liar)

    @rule(number=ANY, round_=ROUNDS, valid=st.booleans(), polka=st.integers(-1, 3))
    def byzantine_proposal(
        self,
        number: int,
        round_: int,
        valid: bool,  # noqa: FBT001
        polka: int,
    ) -> None:
        """To one node, so that another may get another one."""
        node = self.nodes[number % len(self.nodes)]
        author = self._roster.turn(node.height, round_)
        if author not in self.false:
            return
        block = Block(
            len(self.blocks).to_bytes(32, "little")[:31] + b"\xff",
            node.height,
            node.head,
            valid,
        )
        self.blocks.append(block)
        self.laws.built(block)
        claimed = polka if 0 <= polka < round_ else None
        seen = ProposalSeen(round_, block.hash, claimed)
        proposal = Proposal(author, node.height, seen)
        self._do(node, lambda: node.receive(proposal))
        self.broadcast(-1, Body(block))

    # -- in the end --------------------------------------------------------------------

    def blame(self) -> None:
        """Who is to blame for a fork at any height."""
        honest = {node.number: node for node in self.nodes}
        top = max(node.height for node in self.nodes)
        named = 0
        for height in range(1, top + 1):
            logs = [
                log
                for node in honest.values()
                for log in (*(node.archive or ()), tuple(node.log))
            ]
            votes = [
                vote
                for log in logs
                for vote in votes_in(log)
                if vote.subject.height == height
            ]
            findings = investigate(votes, self._roster.set, height)
            for finding in findings:
                assert self._roster.identities[finding.validator] in self.false
            named = max(named, named_stake(findings, self._roster.set))
        assert self._roster.set.is_third(named)

    @override
    def teardown(self) -> None:
        if self.over or self.liars > 1 or not hasattr(self, "nodes"):
            return
        for node in self.nodes:
            node.fuse = 0
            if not node.up:
                node.restart()
        goal = max(len(node.chain) for node in self.nodes) + 1
        for phase in (-1, 0, 1, 2) * 30:
            if all(len(node.chain) >= goal for node in self.nodes):
                return
            for node in self.nodes:
                node.tell()
            while self.mail:
                self._deliver(0, keep=False)
            due = [wait for wait in self.waits if wait.phase == phase]
            self.waits = [wait for wait in self.waits if wait.phase != phase]
            for wait in due:
                if wait.valid:
                    wait.action()
        where = [(n.number, n.height, n.state.round, n.state.step) for n in self.nodes]
        raise AssertionError(f"height {goal} is not decided after healing: {where}")


class Conspiracy(Play):
    """Two liars of four."""

    liars = 2


def test_one_liar_of_four_breaks_no_law() -> None:
    run_state_machine_as_test(Play, settings=settings(stateful_step_count=40))


def test_two_liars_of_four_are_named_when_agreement_breaks() -> None:
    run_state_machine_as_test(Conspiracy, settings=settings(stateful_step_count=40))


def test_a_conspiracy_does_fork() -> None:
    """The rules above can do what the second test is about."""
    play = Conspiracy()
    play.start(first=play._roster.turn(1, 0))
    for number in range(2):
        play.byzantine_proposal(number, 0, valid=True, polka=-1)
        play.conspire(number, 1 + number)
    play.deliver_all()
    assert play.over
