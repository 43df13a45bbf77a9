"""Light client: headers verified from one trusted header on, without executing.

The header of height n names the set that votes at n + 1 (`extraData`); the parent's
hash binds the header of n - 1 and thereby the set of n. A light block carries both
headers, so nothing in it is taken on faith:

    parent ----extraData----> validators ----certificate----> header
       ^------------------------parentHash---------------------+
                                 header ----extraData----> following

From a trusted header a light block is verified

- *adjacent* (the next height): its parent is the trusted header itself;
- *skipping* (any later height): more than a third of the stake that the trusted header
  named signed it. Within the trust period at least one of these signers is honest
  while less than a third is faulty, and an honest validator precommits only what it
  has checked, `parentHash` included.

The trust period must be shorter than the time for which stake stays slashable. Times
are seconds; `now` is an argument. What is verified is never older than what it was
verified from. `Search` says which height is needed next: the target, and when the
trust in between does not suffice, the middle. Every adjacent step is decided, so it
ends. The theory is CometBFT's light client specification (verification, detection).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from chain.header import Header
from chain.sidecar import CommitCertificate
from consensus.certificate import verify_certificate
from consensus.errors import ConsensusError, InvalidCertificate
from consensus.validators import ValidatorSet


class LightError(ConsensusError):
    """Base of what a light client finds."""


class InvalidLightBlock(LightError):
    """A light block proves nothing; who gave it is faulty."""


class TrustExpired(LightError):
    """The trusted header is too old to verify anything from."""


class NotEnoughTrust(LightError):
    """Too few of the trusted validators signed; a header in between is needed."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What a light client accepts.

    Attributes:
        period: Seconds for which a header can be trusted.
        drift: Seconds by which a header may be ahead of our clock.
        numerator: Of the trust level.
        denominator: More than this part of the trusted stake must have signed.
    """

    period: int
    drift: int = 10
    numerator: int = 1
    denominator: int = 3

    def __post_init__(self) -> None:
        """Refuse what would trust nobody or the faulty.

        Raises:
            ValueError: the level is not of 1/3..1, or a time is out of range.
        """
        third, whole = 3 * self.numerator, self.numerator
        if not 0 < self.denominator <= third or whole > self.denominator:
            raise ValueError(
                "trust level: expected from 1/3 to 1, got "
                f"{self.numerator}/{self.denominator}"
            )
        if self.period <= 0 or self.drift < 0:
            raise ValueError("the trust period must be above 0, the drift at least 0")


@dataclass(frozen=True, slots=True)
class LightBlock:
    """What a full node tells of one height above 0.

    Attributes:
        parent: Header of the height before.
        header: Of this height.
        certificate: The votes for it.
        validators: Who voted.
        following: Who votes at the next height.
    """

    parent: Header
    header: Header
    certificate: CommitCertificate
    validators: ValidatorSet
    following: ValidatorSet

    @property
    def height(self) -> int:
        """Of the header."""
        return self.header.number


@dataclass(frozen=True, slots=True)
class Trusted:
    """A header that is trusted, and the set that votes after it."""

    header: Header
    following: ValidatorSet

    @classmethod
    def root(
        cls, height: int, block_hash: bytes, header: Header, following: ValidatorSet
    ) -> "Trusted":
        """What the user trusts: a height and a hash, with what belongs to them.

        Raises:
            InvalidLightBlock: header or set are not the ones.
        """
        _equal("trusted height", height, header.number)
        _equal("trusted hash", block_hash, header.hash)
        _equal("next validator set", header.extra_data, following.hash)
        return cls(header, following)

    @property
    def height(self) -> int:
        """Of the header."""
        return self.header.number


def verify(
    genesis_hash: bytes,
    trusted: Trusted,
    block: LightBlock,
    policy: Policy,
    *,
    now: float,
) -> Trusted:
    """Verify a later light block from a trusted header.

    Raises:
        TrustExpired: the trusted header is older than the trust period.
        NotEnoughTrust: a header in between must be verified first.
        InvalidLightBlock: it contradicts itself, the trusted header or the clock, or
            is not certified.
    """
    if trusted.header.timestamp + policy.period <= now:
        raise TrustExpired(
            f"trusted block {trusted.height} is {now - trusted.header.timestamp:.0f} s "
            f"old, the trust period is {policy.period} s; trust a newer one"
        )
    _check_links(trusted, block)
    _check_time(trusted.header, block.header, policy, now)
    if block.height == trusted.height + 1:
        _equal("parent hash", trusted.header.hash, block.header.parent_hash)
    else:
        _check_trust(trusted, block.certificate, policy)
    try:
        verify_certificate(
            genesis_hash,
            block.certificate,
            block.validators,
            height=block.height,
            block_hash=block.header.hash,
        )
    except InvalidCertificate as error:
        raise InvalidLightBlock(f"block {block.height}: {error}") from error
    return Trusted(block.header, block.following)


def _check_links(trusted: Trusted, block: LightBlock) -> None:
    if block.height <= trusted.height:
        raise InvalidLightBlock(
            f"expected a height above {trusted.height}, got {block.height}"
        )
    header, parent = block.header, block.parent
    _equal("parent number", header.number - 1, parent.number)
    _equal("parent hash", header.parent_hash, parent.hash)
    _equal("validator set", parent.extra_data, block.validators.hash)
    _equal("next validator set", header.extra_data, block.following.hash)


def _check_time(earlier: Header, later: Header, policy: Policy, now: float) -> None:
    if later.timestamp < earlier.timestamp:
        raise InvalidLightBlock(
            f"block {later.number} is of {later.timestamp}, block {earlier.number} "
            f"before it of {earlier.timestamp}"
        )
    if later.timestamp > now + policy.drift:
        raise InvalidLightBlock(
            f"block {later.number} is of {later.timestamp}, more than {policy.drift} s "
            f"ahead of this clock at {now:.0f}"
        )


def _check_trust(
    trusted: Trusted, certificate: CommitCertificate, policy: Policy
) -> None:
    """Count the trusted stake that signed; the signatures are checked afterwards."""
    known = trusted.following
    signers = {entry.validator for entry in certificate.signatures}
    stake = sum(each.stake for each in known.members if each.address in signers)
    if stake * policy.denominator <= known.total_stake * policy.numerator:
        raise NotEnoughTrust(
            f"of the {known.total_stake} wei trusted at height {trusted.height + 1}, "
            f"{stake} signed block {certificate.height}"
        )


def _equal(what: str, expected: bytes | int, got: bytes | int) -> None:
    if expected != got:
        raise InvalidLightBlock(
            f"{what}: expected {_shown(expected)}, got {_shown(got)}"
        )


def _shown(value: bytes | int) -> str:
    return "0x" + value.hex() if isinstance(value, bytes) else str(value)


def verify_backwards(later: Header, earlier: Header) -> None:
    """Check a header below a trusted one, by hash.

    Raises:
        InvalidLightBlock: it is not the parent.
    """
    _equal("parent number", later.number - 1, earlier.number)
    _equal("parent hash", later.parent_hash, earlier.hash)


# -- which header next ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Search:
    """A verification under way.

    Attributes:
        root: Where it began.
        target: The height to reach.
        sequential: Verify every height; else skip as far as trust reaches.
        trace: What was verified so far, lowest first.
        pending: Fetched, further up than trust reaches yet; nearest last.
    """

    root: Trusted
    target: int
    sequential: bool = False
    trace: tuple[LightBlock, ...] = ()
    pending: tuple[LightBlock, ...] = ()

    @property
    def latest(self) -> Trusted:
        """The highest verified header."""
        if not self.trace:
            return self.root
        return Trusted(self.trace[-1].header, self.trace[-1].following)

    @property
    def needed(self) -> int | None:
        """The height of the light block to give next; None when it is over."""
        reached = self.latest.height
        if reached >= self.target:
            return None
        if self.sequential:
            return reached + 1
        if not self.pending:
            return self.target
        return (reached + self.pending[-1].height) // 2

    def advance(
        self, genesis_hash: bytes, block: LightBlock, policy: Policy, *, now: float
    ) -> "Search":
        """Go on with the light block that was needed.

        Raises:
            LightError: as `verify`, but for `NotEnoughTrust`, which it handles.
        """
        if block.height != self.needed:
            raise InvalidLightBlock(
                f"expected a light block of height {self.needed}, got {block.height}"
            )
        search = replace(self, pending=(*self.pending, block))
        while search.pending:
            nearest = search.pending[-1]
            try:
                verify(genesis_hash, search.latest, nearest, policy, now=now)
            except NotEnoughTrust:
                break
            search = replace(
                search, trace=(*search.trace, nearest), pending=search.pending[:-1]
            )
        return search


# -- forks ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fork:
    """Two certified headers of one height, verified from one trusted header.

    More than a third of the stake broke the rules, and the two certificates are the
    evidence: at least a third of the stake is in both.
    """

    common: Trusted
    first: LightBlock
    second: LightBlock

    @property
    def equivocators(self) -> tuple[bytes, ...]:
        """Addresses that signed both in one round: slashable duplicate votes.

        With different rounds there may be none; then the validators' message logs
        tell who voted against a lock.
        """
        first, second = self.first.certificate, self.second.certificate
        if first.round != second.round:
            return ()
        others = {entry.validator for entry in second.signatures}
        return tuple(
            entry.validator for entry in first.signatures if entry.validator in others
        )


def fork(common: Trusted, first: LightBlock, second: LightBlock) -> Fork | None:
    """The fork that two light blocks prove, both verified from `common` before."""
    if first.height != second.height or first.header.hash == second.header.hash:
        return None
    return Fork(common, first, second)


def bifurcation(
    search: Search, hash_at: Mapping[int, bytes]
) -> tuple[Trusted, LightBlock] | None:
    """Where a witness leaves a finished trace.

    Args:
        search: Finished.
        hash_at: What the witness says, for every height of the trace.

    Returns:
        The last header on which both agree, and ours of the next height of the trace;
        None when the witness agrees with all of it.
    """
    common = search.root
    for block in search.trace:
        if hash_at.get(block.height) != block.header.hash:
            return common, block
        common = Trusted(block.header, block.following)
    return None
