"""A light client over JSON-RPC: one node is asked, others bear witness.

The rules are `consensus.light`; this module fetches what they ask for. The primary's
answers are verified down to signatures, so it can be wrong only when a third of the
stake helps it; witnesses are asked to find that out. A witness that contradicts a
verified header must prove its own; then both headers are evidence of a fork, and
otherwise the witness is faulty and is said to be.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from chain.header import Header
from chain.sidecar import CommitCertificate
from consensus.light import (
    Fork,
    LightBlock,
    LightError,
    Policy,
    Search,
    Trusted,
    bifurcation,
    fork,
    verify_backwards,
)
from consensus.validators import ValidatorSet
from lockstep.errors import ChainError, LockstepError

__all__ = ["LightClient", "Source", "Verification", "VerificationFailed", "Witness"]


class VerificationFailed(LockstepError):
    """What a node answers does not lead from the trusted header to the target."""


class Source(Protocol):
    """A full node, believed nothing; `lockstep.client.raw` is one.

    Every method raises `ChainError` when the node has no usable answer.
    """

    @property
    def url(self) -> str:
        """Names it."""
        ...

    def head(self) -> int:
        """Its newest height."""
        ...

    def genesis_hash(self) -> bytes:
        """Of its chain."""
        ...

    def header(self, height: int) -> Header:
        """At a height."""
        ...

    def certificate(self, height: int) -> CommitCertificate:
        """Of the block at a height."""
        ...

    def validators(self, height: int) -> ValidatorSet:
        """Who votes at a height."""
        ...


@dataclass(frozen=True, slots=True)
class Witness:
    """What came of asking one witness.

    Attributes:
        url: Names it.
        agrees: It has the same header.
        problem: Why nothing it says counts, when it does not agree; empty for a fork.
        fork: What it proved.
    """

    url: str
    agrees: bool
    problem: str = ""
    fork: Fork | None = None


@dataclass(frozen=True, slots=True)
class Verification:
    """The outcome.

    Attributes:
        header: The verified header of the target.
        fetched: How many light blocks, or headers going backwards, it took.
        witnesses: In the order given.
    """

    header: Header
    fetched: int
    witnesses: tuple[Witness, ...]

    @property
    def forks(self) -> tuple[Fork, ...]:
        """What the witnesses proved."""
        return tuple(each.fork for each in self.witnesses if each.fork is not None)


@dataclass(frozen=True, slots=True)
class LightClient:
    """Verifies headers from a trusted height and hash.

    Attributes:
        primary: Who is asked.
        witnesses: Who is asked whether it is the same elsewhere.
        policy: Trust period and level.
        genesis_hash: Names the chain in every signature; None asks the primary, and
            the witnesses must say the same.
        sequential: Verify every height on the way.
    """

    primary: Source
    witnesses: Sequence[Source]
    policy: Policy
    genesis_hash: bytes | None = None
    sequential: bool = False

    def verify(
        self, height: int, block_hash: bytes, to: int | None = None, *, now: float
    ) -> Verification:
        """Verify the header at `to` (the primary's head when None).

        Args:
            height: Trusted.
            block_hash: Of the block at that height, 32 bytes.
            to: The target.
            now: Seconds since 1970.

        Raises:
            ChainError: the primary does not answer.
            VerificationFailed: what it answers proves nothing, or trust has expired.
        """
        target = self.primary.head() if to is None else to
        header = self.primary.header(height)
        try:
            root = Trusted.root(
                height, block_hash, header, self.primary.validators(height + 1)
            )
            if target < height:
                return self._backwards(root, target)
            genesis_hash = self._genesis_hash(height, block_hash)
            search = self._search(
                self.primary, genesis_hash, Search(root, target, self.sequential), now
            )
        except LightError as error:
            raise VerificationFailed(f"{self.primary.url}: {error}") from error
        witnesses = tuple(
            self._cross_check(witness, genesis_hash, search, now)
            for witness in self.witnesses
        )
        return Verification(search.latest.header, len(search.trace), witnesses)

    def _genesis_hash(self, height: int, block_hash: bytes) -> bytes:
        if self.genesis_hash is not None:
            return self.genesis_hash
        return block_hash if height == 0 else self.primary.genesis_hash()

    def _backwards(self, root: Trusted, target: int) -> Verification:
        """Below the trusted header hashes alone decide, so witnesses add nothing."""
        header = root.header
        while header.number > target:
            parent = self.primary.header(header.number - 1)
            verify_backwards(header, parent)
            header = parent
        return Verification(header, root.height - target, ())

    def _search(
        self, source: Source, genesis_hash: bytes, search: Search, now: float
    ) -> Search:
        while (needed := search.needed) is not None:
            block = light_block(source, needed)
            search = search.advance(genesis_hash, block, self.policy, now=now)
        return search

    def _cross_check(
        self, witness: Source, genesis_hash: bytes, search: Search, now: float
    ) -> Witness:
        try:
            proved = self._contradiction(witness, genesis_hash, search, now)
        except (ChainError, LightError, VerificationFailed) as error:
            return Witness(witness.url, agrees=False, problem=str(error))
        return Witness(witness.url, agrees=proved is None, fork=proved)

    def _contradiction(
        self, witness: Source, genesis_hash: bytes, search: Search, now: float
    ) -> Fork | None:
        """The fork that a witness proves; None when it agrees.

        Raises:
            VerificationFailed: it disagrees, and proves nothing.
            LightError: as above.
            ChainError: it does not answer.
        """
        if witness.genesis_hash() != genesis_hash:
            raise VerificationFailed("it is on another chain")
        if witness.header(search.target).hash == search.latest.header.hash:
            return None
        root = search.root.header
        if witness.header(root.number).hash != root.hash:
            raise VerificationFailed("it has another block at the trusted height")
        heights = [block.height for block in search.trace]
        hashes = {each: witness.header(each).hash for each in heights}
        parting = bifurcation(search, hashes)
        if parting is not None:
            common, ours = parting
            other = self._search(
                witness, genesis_hash, Search(common, ours.height), now
            )
            proved = fork(common, ours, other.trace[-1])
            if proved is not None:
                return proved
        raise VerificationFailed("it contradicts itself")


def light_block(source: Source, height: int) -> LightBlock:
    """What a source says of a height.

    Raises:
        ChainError: it has no usable answer.
    """
    return LightBlock(
        parent=source.header(height - 1),
        header=source.header(height),
        certificate=source.certificate(height),
        validators=source.validators(height),
        following=source.validators(height + 1),
    )
