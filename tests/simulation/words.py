"""Events and effects in words, for a trace that people can read."""

from consensus.machine import (
    BlockChecked,
    Build,
    Decide,
    Equivocation,
    Fetch,
    ProposalSeen,
    Propose,
    QuorumSeen,
    Schedule,
    Sign,
    VoteSeen,
)
from consensus.votes import NIL, Subject
from tests.simulation.wire import Body, Commit, Polka, Proposal, Standing, Want


def name(block_hash: bytes) -> str:
    """The first digits of a block's hash."""
    return "nil" if block_hash == NIL else block_hash.hex()[:6]


def _subject(subject: Subject) -> str:
    return (
        f"{subject.kind.name.lower()} {name(subject.block_hash)} "
        f"at {subject.height}/{subject.round}"
    )


def _quorum(quorum: QuorumSeen) -> str:
    voters = [vote.validator for vote in quorum.votes]
    return (
        f"{quorum.kind.name.lower()}s {name(quorum.block_hash)} of round "
        f"{quorum.round} by {voters}"
    )


def _proposal(seen: ProposalSeen) -> str:
    again = "" if seen.polka_round is None else f" again, polka {seen.polka_round}"
    return f"{name(seen.block_hash)} for round {seen.round}{again}"


def words(what: object) -> str:  # noqa: C901, PLR0911, PLR0912 - a table
    """One event or effect."""
    match what:
        case VoteSeen(vote):
            return f"hears validator {vote.validator} {_subject(vote.subject)}"
        case Proposal(author, height, seen):
            return f"hears node {author} propose {_proposal(seen)} at {height}"
        case Body(block):
            good = "" if block.valid else ", invalid"
            return f"gets block {name(block.hash)} of {block.height}{good}"
        case Want(sender, height, block_hash):
            return f"is asked by {sender} for {name(block_hash)} of {height}"
        case Standing(sender, state):
            return f"hears that {sender} is at {state.height}/{state.round}"
        case Polka(height, quorum):
            return f"gets {_quorum(quorum)} at {height}"
        case Commit(height, quorum):
            return f"gets the commit of {height}: {_quorum(quorum)}"
        case ProposalSeen():
            return f"proposal {_proposal(what)}"
        case QuorumSeen():
            return _quorum(what)
        case BlockChecked(block_hash, valid):
            return f"checked {name(block_hash)}: {'valid' if valid else 'invalid'}"
        case Build(round_):
            return f"builds for round {round_}"
        case Propose(round_, polka):
            return (
                f"proposes {name(polka.block_hash)} again in round {round_}, "
                f"polka {polka.round}"
            )
        case Sign(subject):
            return f"signs {_subject(subject)}"
        case Schedule(kind, round_):
            return f"waits: {kind.value} of round {round_}"
        case Fetch(round_, block_hash):
            return f"wants {name(block_hash)}, which round {round_} is for"
        case Decide(height, round_, block_hash):
            return f"decides {name(block_hash)} at {height}/{round_}"
        case Equivocation(first, second):
            return f"has {_subject(first.subject)} and {_subject(second.subject)}"
        case _:
            return str(what)
