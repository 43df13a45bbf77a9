"""What must be true of the databases when a network has ended."""

import itertools
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from chain.database import ChainDatabase
from chain.errors import NotFound
from chain.sidecar import CommitCertificate
from node.datadir import DataDirectory
from node.opening import opened_chain
from tests.testnets.network import Away

_ON_ITS_WAY = 1.0


@dataclass(slots=True)
class History:
    """What one or more databases say about a chain.

    Attributes:
        votes: times of precommits, seconds since 1970, by validator's address.
        commits: when each height was committed: median time of its precommits.
        evidence: heights of blocks with evidence.
    """

    votes: dict[bytes, list[float]] = field(
        default_factory=lambda: defaultdict[bytes, list[float]](list)
    )
    commits: dict[int, float] = field(default_factory=dict[int, float])
    evidence: list[int] = field(default_factory=list[int])

    def voted_after(self, validator: bytes, moment: float) -> float | None:
        """Seconds from a moment to that validator's next vote in a certificate."""
        later = [each - moment for each in self.votes[validator] if each >= moment]
        return min(later, default=None)

    def gaps(self) -> Iterator[tuple[float, float]]:
        """From each block to the next, seconds since 1970."""
        yield from itertools.pairwise(sorted(self.commits.values()))


@dataclass(frozen=True, slots=True)
class Chain:
    """One database.

    Attributes:
        path: of the node.
        hashes: by height; empty where there is none.
        first: the first whole block after genesis.
    """

    path: Path
    hashes: tuple[bytes, ...]
    first: int = 1


def head(path: Path) -> int:
    """The height of a stopped node."""
    with (
        DataDirectory.existing(path) as directory,
        opened_chain(directory) as (_, database),
    ):
        return database.head().number


def read(path: Path, history: History) -> Chain:
    """Read a stopped node's database into a history."""
    with (
        DataDirectory.existing(path) as directory,
        opened_chain(directory) as (_, database),
    ):
        _learn(database, history)
        count = database.head().number + 1
        hashes = tuple(database.hash_at(each) or b"" for each in range(count))
        first = database.base()
    return Chain(path, hashes, first)


def _learn(database: ChainDatabase, history: History) -> None:
    for number in range(database.base(), database.head().number + 1):
        block = database.block_at(number)
        if block is None:
            raise NotFound(f"{database.head().number} blocks, and no block {number}")
        certificate = database.certificate(block.hash)
        if certificate is not None:
            times = _note(certificate, history)
            history.commits.setdefault(number, statistics.median(times))
        if block.sidecar.parent_certificate is not None:
            _note(block.sidecar.parent_certificate, history)
        if block.sidecar.evidence and number not in history.evidence:
            history.evidence.append(number)


def _note(certificate: CommitCertificate, history: History) -> list[float]:
    times = [each.time / 1000 for each in certificate.signatures]
    for each, moment in zip(certificate.signatures, times, strict=True):
        history.votes[each.validator].append(moment)
    return times


def disagreement(chains: Sequence[Chain]) -> str | None:
    """The first height at which two databases differ; None: there is none."""
    for number in range(max(len(each.hashes) for each in chains)):
        known = {
            each.path.name: each.hashes[number].hex()
            for each in chains
            if len(each.hashes) > number and each.hashes[number]
        }
        if len(set(known.values())) > 1:
            return f"height {number}: {known}"
    return None


def longest_gap(history: History, away: Sequence[Away], tolerated: int) -> float:
    """The longest time without a block in which so few nodes were away.

    The end of a time in which too many were away belongs to that time, and so do the
    blocks' first attempts after it: a gap that touches such a time is not counted.
    """
    longest = 0.0
    for begin, end in history.gaps():
        moments = [begin, *(each.since for each in away if begin <= each.since <= end)]
        most = max(_away_at(away, moment) for moment in moments)
        if most <= tolerated:
            longest = max(longest, end - begin)
    return longest


def without_quorum(
    history: History, away: Sequence[Away], tolerated: int
) -> Sequence[int]:
    """Heights that were committed while too many were away; there must be none.

    What was on its way in the first moments may still arrive.
    """
    late = [replace(each, since=each.since + _ON_ITS_WAY) for each in away]
    return [
        number
        for number, moment in sorted(history.commits.items())
        if _away_at(late, moment) > tolerated
    ]


def _away_at(away: Sequence[Away], moment: float) -> int:
    return len(
        {
            each.node
            for each in away
            if each.since <= moment and (each.until is None or moment < each.until)
        }
    )
