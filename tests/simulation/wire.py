"""What simulated nodes say to each other, and who votes at a height.

A vote travels as the `VoteSeen` that the machine takes, a certificate as the
`QuorumSeen`. Signatures are a constant: nobody here forges, and the machine takes only
votes that were checked. A Byzantine node signs whatever it likes, with its own key.
"""

from dataclasses import dataclass
from typing import TypeAlias

from consensus.machine import ProposalSeen, QuorumSeen, State, VoteSeen
from consensus.validators import Validator, ValidatorSet
from consensus.votes import Subject, Vote

SIGNATURE = b"signed"


@dataclass(frozen=True, slots=True)
class Block:
    """A block: what its proposer put in, and whether the rules allow it."""

    hash: bytes
    height: int
    parent: bytes
    valid: bool


@dataclass(slots=True)
class Proposal:
    """Signed by `author`; `polka` is the certificate that a re-proposal carries."""

    author: int
    height: int
    seen: ProposalSeen
    polka: QuorumSeen | None = None


@dataclass(slots=True)
class Body:
    """The block itself, which travels on its own."""

    block: Block


@dataclass(slots=True)
class Want:
    """The sender lacks this block, which a quorum wants."""

    sender: int
    height: int
    block_hash: bytes


@dataclass(slots=True)
class Standing:
    """Where the sender is and whose votes it has.

    Only height, round, the voters of each tally, and the rounds of the proposals are
    read: what bitmaps say, no more.
    """

    sender: int
    state: State


@dataclass(slots=True)
class Polka:
    """A polka of that height, for one who may lack it."""

    height: int
    quorum: QuorumSeen


@dataclass(slots=True)
class Commit:
    """A commit certificate and its block, for one who is behind."""

    height: int
    quorum: QuorumSeen
    block: Block


Message: TypeAlias = VoteSeen | Proposal | Body | Want | Standing | Polka | Commit


class Roster:
    """A validator set, and which node is which member.

    Attributes:
        set: The product's validator set.
        identities: Of the members, by index.
        index: Of each identity.
    """

    def __init__(self, stakes: dict[int, int]) -> None:
        """Make a set of `stakes` by identity."""
        keys = {
            Validator(
                identity.to_bytes(64), identity.to_bytes(48), stake
            ).public_key: identity
            for identity, stake in stakes.items()
        }
        self.set = ValidatorSet.of(
            Validator(identity.to_bytes(64), identity.to_bytes(48), stake)
            for identity, stake in stakes.items()
        )
        self.identities = [keys[member.public_key] for member in self.set.members]
        self.index = {identity: index for index, identity in enumerate(self.identities)}
        self._turns: dict[int, int] = {}

    def turn(self, height: int, round_: int) -> int:
        """The identity of the proposer."""
        place = height + round_
        turn = self._turns.get(place)
        if turn is None:
            member = self.set.proposer(height, round_)
            turn = self.identities[self.set.members.index(member)]
            self._turns[place] = turn
        return turn

    def stake(self, identities: set[int]) -> int:
        """The stake of those who are members."""
        return sum(
            member.stake
            for member, identity in zip(self.set.members, self.identities, strict=True)
            if identity in identities
        )


def vote(subject: Subject, index: int) -> Vote:
    """A signed vote."""
    return Vote(subject, index, SIGNATURE)


def proves(quorum: QuorumSeen, roster: Roster, height: int) -> bool:
    """Whether a certificate is what it says; done before the machine sees it."""
    seen: set[int] = set()
    stake = 0
    for each in quorum.votes:
        subject = each.subject
        if each.validator in seen or (
            subject.kind,
            subject.height,
            subject.round,
            subject.block_hash,
        ) != (quorum.kind, height, quorum.round, quorum.block_hash):
            return False
        seen.add(each.validator)
        stake += roster.set.at(each.validator).stake
    return roster.set.is_quorum(stake)
