"""What must hold at every step of every history, checked from outside the nodes.

agreement       nobody decides two blocks, no two honest nodes differ
validity        only valid blocks that extend the chain are decided, and only with
                precommits of a quorum that were really cast
one voice       no honest node signs two blocks in one (height, round, kind), or two
                proposals for one round, whatever crashes in between
lock rule       an honest node that precommitted v in round r prevotes another v'
                in r' > r only if v' had a polka in one of r .. r' - 1
grounds         an honest node precommits v in r only if v has a polka in r
no framing      an honest node is never shown as an equivocator
"""

from collections import defaultdict
from dataclasses import dataclass, field

from consensus.machine import Decide, Equivocation
from consensus.votes import NIL, Subject, Vote, VoteKind
from tests.simulation.wire import Block, Roster

_PREVOTE, _PRECOMMIT = VoteKind.PREVOTE, VoteKind.PRECOMMIT
_Place = tuple[VoteKind, int, bytes]
_LATE = 2  # votes may still be signed again for a height that was decided


class Violation(Exception):
    """A law was broken: the message says which, by whom and where."""


class Fork(Violation):
    """Two blocks were decided at one height."""


@dataclass(slots=True)
class _Height:
    """What was signed and decided at one height."""

    stakes: defaultdict[_Place, int] = field(default_factory=lambda: defaultdict(int))
    voters: defaultdict[_Place, set[int]] = field(
        default_factory=lambda: defaultdict(set)
    )
    said: dict[tuple[int, VoteKind, int], tuple[bytes, int]] = field(
        default_factory=dict[tuple[int, VoteKind, int], tuple[bytes, int]]
    )
    locks: defaultdict[int, list[tuple[int, bytes]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    decided: dict[int, bytes] = field(default_factory=dict[int, bytes])


class Laws:
    """Watches one network.

    Attributes:
        bound: Nodes that are held to the laws.
        chain: The block decided at each height.
    """

    def __init__(self, bound: frozenset[int]) -> None:
        """Watch a network in which `bound` are the honest nodes."""
        self.bound = bound
        self.chain: dict[int, Block] = {}
        self._valid: dict[bytes, bool] = {}
        self._heights: defaultdict[int, _Height] = defaultdict(_Height)
        self._lowest = 0

    def built(self, block: Block) -> None:
        """A block exists now."""
        self._valid[block.hash] = block.valid

    def cast(self, roster: Roster, vote: Vote) -> None:
        """Somebody, honest or not, signed a vote."""
        subject = vote.subject
        self._count(self._heights[subject.height], roster, vote)

    def _count(self, height: _Height, roster: Roster, vote: Vote) -> None:
        subject = vote.subject
        place = (subject.kind, subject.round, subject.block_hash)
        voters = height.voters[place]
        if vote.validator not in voters:
            voters.add(vote.validator)
            height.stakes[place] += roster.set.members[vote.validator].stake

    def spoke(self, node: int, subject: Subject) -> None:
        """An honest node signed this."""
        said = self._heights[subject.height].said
        place = (node, subject.kind, subject.round)
        meant = (
            subject.block_hash,
            subject.detail if subject.kind is VoteKind.PROPOSAL else 0,
        )
        if said.setdefault(place, meant) != meant:
            raise Violation(
                f"one voice: node {node} signed 0x{said[place][0].hex()[:8]} and "
                f"0x{meant[0].hex()[:8]} as {subject.kind.name.lower()}s of height "
                f"{subject.height} round {subject.round}"
            )

    def voted(self, node: int, roster: Roster, vote: Vote) -> None:
        """An honest node signed a vote."""
        subject = vote.subject
        self.spoke(node, subject)
        height = self._heights[subject.height]
        self._count(height, roster, vote)
        block_hash, round_ = subject.block_hash, subject.round
        if block_hash == NIL:
            return
        if not self._valid[block_hash]:
            raise Violation(
                f"validity: node {node} voted for the invalid block "
                f"0x{block_hash.hex()[:8]} at height {subject.height}"
            )
        quorum = roster.set.is_quorum
        if subject.kind is _PRECOMMIT:
            if not quorum(height.stakes[_PREVOTE, round_, block_hash]):
                raise Violation(
                    f"grounds: node {node} precommitted 0x{block_hash.hex()[:8]} at "
                    f"height {subject.height} round {round_} without a polka"
                )
            height.locks[node].append((round_, block_hash))
            return
        for locked_round, locked in height.locks.get(node, ()):
            if locked_round < round_ and locked != block_hash:
                between = range(locked_round, round_)
                if not any(
                    quorum(height.stakes[_PREVOTE, each, block_hash])
                    for each in between
                ):
                    raise Violation(
                        f"lock rule: node {node} precommitted 0x{locked.hex()[:8]} in "
                        f"round {locked_round} and prevoted 0x{block_hash.hex()[:8]} "
                        f"in round {round_} of height {subject.height}"
                    )

    def decided(
        self, node: int, roster: Roster, decision: Decide, block: Block, parent: bytes
    ) -> None:
        """An honest node decided."""
        height = self._heights[decision.height]
        block_hash = decision.block_hash
        if (block.hash, block.height, block.parent, block.valid) != (
            block_hash,
            decision.height,
            parent,
            True,
        ):
            raise Violation(f"validity: node {node} decided {block} after {parent!r}")
        cast = height.voters[_PRECOMMIT, decision.round, block_hash]
        stake = 0
        for vote in decision.precommits:
            subject = vote.subject
            if (subject.kind, subject.height, subject.round, subject.block_hash) != (
                _PRECOMMIT,
                decision.height,
                decision.round,
                block_hash,
            ) or vote.validator not in cast:
                raise Violation(f"validity: node {node} decided with {vote}")
            stake += roster.set.members[vote.validator].stake
        if not roster.set.is_quorum(stake):
            raise Violation(f"validity: node {node} decided without a quorum")
        height.decided[node] = block_hash
        first = self.chain.setdefault(decision.height, block)
        if first.hash != block_hash:
            raise Fork(
                f"agreement: node {node} decided 0x{block_hash.hex()[:8]} at height "
                f"{decision.height}, others 0x{first.hash.hex()[:8]}"
            )

    def contested(self, height: int, roster: Roster) -> bool:
        """Whether two blocks of a height had a polka: where locks matter."""
        polkas = {
            block_hash
            for (kind, _, block_hash), stake in self._heights[height].stakes.items()
            if kind is _PREVOTE and block_hash != NIL and roster.set.is_quorum(stake)
        }
        return len(polkas) > 1

    def accused(self, roster: Roster, evidence: Equivocation) -> None:
        """A machine has found two contradicting votes."""
        first, second = evidence.first, evidence.second
        if (
            first.validator != second.validator
            or not first.subject.contradicts(second.subject)
            or roster.identities[first.validator] in self.bound
        ):
            raise Violation(f"no framing: {evidence}")

    def forget(self, height: int) -> None:
        """Every bound node is at this height or above."""
        while self._lowest < height - _LATE:
            self._heights.pop(self._lowest, None)
            self._lowest += 1
