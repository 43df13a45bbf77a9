"""One height on its way: the machine's state and everything that it names by hash.

`consensus.machine` knows blocks by their hashes; here are the proposals as they were
signed, the parts that have arrived, the blocks that were executed. What validators may
send is bounded: a proposal needs its proposer's signature, so there is one for each
round, and parts are taken only for a proposal that is here.
"""

import math
from dataclasses import dataclass, field

from chain.block import Block
from chain.errors import Malformed
from chain.header import Header
from consensus.keeper import Outcome
from consensus.machine import State
from consensus.messages import Proposal
from consensus.parts import Part, cut, verify_part
from consensus.validators import ValidatorSet
from consensus.votes import Subject, Vote, VoteKind
from runtime.block import ExecutedBlock

MAX_ASSEMBLIES = 16
VoteKey = tuple[int, VoteKind, int, bytes]


def vote_key(vote: Vote) -> VoteKey:
    """Names a vote within its height."""
    subject = vote.subject
    return subject.round, subject.kind, vote.validator, subject.block_hash


class Assembly:
    """The parts of one block, as they arrive.

    Attributes:
        count: Of the parts. What stands beside a proposal is not signed, and whoever
            passed it on may have changed it; the first part that is here knows it.
        proposal: One that has this root.
    """

    def __init__(
        self, root: bytes, count: int, proposal: Proposal | None = None
    ) -> None:
        """Wait for parts that lead to `root`, `count` of them as somebody says."""
        self.root = root
        self.count = count
        self.proposal = proposal
        self.parts: dict[int, Part] = {}
        self.arrived = -math.inf  # when a peer brought the last part

    @property
    def complete(self) -> bool:
        """Whether every part is here."""
        return len(self.parts) == self.count

    def add(self, part: Part) -> bool:
        """Take a part; tell whether it is new.

        Raises:
            InvalidPart: it does not belong here.
        """
        if part.index in self.parts:
            return False
        verify_part(self.root, part)
        if not self.parts:
            self.count = part.count
        elif part.count != self.count:
            return False  # the fault of the proposer, and of nobody who passes it on
        self.parts[part.index] = part
        return True

    def block(self) -> Block | None:
        """The whole block; None when the parts are no block: its proposer's fault."""
        encoded = b"".join(self.parts[index].piece for index in range(self.count))
        try:
            block = Block.decode(encoded)
        except Malformed:
            return None
        return block if block.encode() == encoded else None


@dataclass(slots=True)
class Height:
    """A height under way, or the one before it, kept for those who are behind.

    Attributes:
        parent: The header that the block of this height follows.
        state: The machine's.
        proposals: By round, as signed.
        assemblies: By root of parts, oldest first.
        executed: Blocks that were checked and are valid, by hash.
        refused: Hashes of those that break a rule.
        pending: Votes that were verified and wait for the machine.
        arrived: When a vote came, by trio's clock.
        wanted: Blocks that a quorum wants and that are not here.
    """

    parent: Header
    state: State
    proposals: dict[int, Proposal] = field(default_factory=dict[int, Proposal])
    assemblies: dict[bytes, Assembly] = field(default_factory=dict[bytes, Assembly])
    executed: dict[bytes, ExecutedBlock] = field(
        default_factory=dict[bytes, ExecutedBlock]
    )
    refused: set[bytes] = field(default_factory=set[bytes])
    pending: set[VoteKey] = field(default_factory=set[VoteKey])
    arrived: dict[VoteKey, float] = field(default_factory=dict[VoteKey, float])
    wanted: set[bytes] = field(default_factory=set[bytes])

    @property
    def number(self) -> int:
        """The height."""
        return self.state.height

    @property
    def validators(self) -> ValidatorSet:
        """Who votes here."""
        return self.state.validators

    def knows(self, vote: Vote) -> bool:
        """Whether the vote was counted or waits to be."""
        subject = vote.subject
        if vote_key(vote) in self.pending:
            return True
        tally = self.state.keeper.tally(subject.round, subject.kind)
        return (vote.validator, subject.block_hash) in tally.votes

    def takes(self, vote: Vote) -> bool:
        """Whether the machine would count the vote, were its signature good."""
        state, validators = self.state, self.validators
        if vote.validator >= len(validators.members):
            return True  # it is refused with a reason
        _, outcome = state.keeper.add(vote, validators, state.round)
        return outcome is Outcome.COUNTED

    def fill(self, root: bytes, block: Block) -> None:
        """Have all parts of a block that came whole, for those who lack them.

        They get the proposal that belongs to them, whichever came last.
        """
        assembly = self.assemblies.get(root)
        if assembly is None:
            return
        if not assembly.complete:
            for part in cut(block.encode())[1]:
                assembly.add(part)
        proposal = assembly.proposal
        if proposal is not None and proposal.subject.block_hash == block.hash:
            self.proposals[proposal.subject.round] = proposal

    def claimed(self, root: bytes) -> set[bytes]:
        """Hashes of blocks that were proposed with this root of parts."""
        known = [*self.proposals.values()]
        assembly = self.assemblies.get(root)
        if assembly is not None and assembly.proposal is not None:
            known.append(assembly.proposal)
        return {
            each.subject.block_hash for each in known if each.subject.parts_root == root
        }

    def proposal_of(self, block_hash: bytes) -> Proposal | None:
        """Any proposal of that block."""
        for proposal in self.proposals.values():
            if proposal.subject.block_hash == block_hash:
                return proposal
        return None

    def note_proposal(self, proposal: Proposal) -> Assembly:
        """Keep a verified proposal and wait for its parts."""
        subject: Subject = proposal.subject
        self.proposals[subject.round] = proposal
        root = subject.parts_root
        assembly = self.assemblies.get(root)
        if assembly is None:
            assembly = Assembly(root, proposal.count, proposal)
            self.assemblies[root] = assembly
            while len(self.assemblies) > MAX_ASSEMBLIES:
                del self.assemblies[next(iter(self.assemblies))]
        return assembly


@dataclass(slots=True)
class Heights:
    """What consensus is at work on.

    Attributes:
        current: The height under way.
        previous: The one before it, if it was decided here.
    """

    current: Height | None = None
    previous: Height | None = None

    def at(self, number: int) -> Height | None:
        """One of them, by its number."""
        for each in (self.current, self.previous):
            if each is not None and each.number == number:
                return each
        return None
