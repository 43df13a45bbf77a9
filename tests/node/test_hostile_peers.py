"""A peer without stake: what it says costs no memory and stops nobody."""

from pathlib import Path

from consensus.evidence import Evidence
from consensus.messages import (
    Accusation,
    Ballot,
    BlockPart,
    Message,
    Proposal,
    Standing,
    encode,
)
from consensus.parts import Part
from consensus.votes import Subject, Vote, VoteKind
from node.gossip import _CHANNEL, _Conversation
from tests.node.network import Network, Wire, make_network

NOWHERE = 1 << 40
SIGNATURE = bytes(65)


def conversation(directory: Path) -> _Conversation:
    network = make_network(directory, 2)
    engine = network.nodes[0].engine
    return _Conversation(engine, Wire(Network(network.nodes), 0, 1))


def say(found: _Conversation, message: Message) -> None:
    found.listen(_CHANNEL[type(message)].id, encode(message))


def remembered(found: _Conversation) -> int:
    known = found.known
    slots = len(known.votes) + len(known.sent) + len(known.quorums)
    parts = len(known.parts) + len(known.sent_parts)
    return slots + parts + len(known.proposals) + len(known.evidence)


def test_what_cannot_be_checked_is_not_remembered(tmp_path: Path) -> None:
    """Votes, parts and proposals of a height that nobody is at, and old evidence."""
    found = conversation(tmp_path)
    say(found, Standing(NOWHERE, 0, 1))
    for number in range(100):
        name = number.to_bytes(32)
        prevote = Subject(VoteKind.PREVOTE, NOWHERE, number, name)
        say(found, Ballot(Vote(prevote, 0, SIGNATURE)))
        say(found, BlockPart(NOWHERE, name, Part(0, 1, b"x", ())))
        proposal = Subject(VoteKind.PROPOSAL, NOWHERE, number, name)
        say(found, Proposal(proposal, 1, SIGNATURE))
        old = Subject(VoteKind.PREVOTE, 9, 0, name)
        other = Subject(VoteKind.PREVOTE, 9, 0, b"\xff" * 32)
        evidence = Evidence(bytes(20), old, SIGNATURE, other, SIGNATURE)
        say(found, Accusation(evidence))
    assert remembered(found) == 0
