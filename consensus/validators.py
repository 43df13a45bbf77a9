"""Validator sets: members, their stakes, their hash, and whose turn it is.

The hash of the *next* set is the `extraData` of every header, exactly 32 bytes:

    sha256("lockstep/validators" || encoding)
    encoding = uint32 count || members
    member   = public key, 64 bytes, secp256k1 x || y
            || beacon key, 48 bytes compressed BLS12-381 G1
            || stake, uint256

Numbers are big-endian. Sets are stored and sent in this very encoding. Members are
ordered by descending stake, then by public key; a member's position in that order is
its index in a certificate.

The proposer of (height, round) is chosen by stake: the stakes, laid end to end, form a
line of length `total`, and the point `(height + round) * step mod total` falls on the
proposer. With `step` = total / golden ratio the points spread evenly, so each validator
proposes in proportion to its stake, with no state to carry from block to block. `step`
has no factor in common with `total`, so that the points leave nobody out: one who never
proposes could be the one that is locked on a block.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from math import gcd, isqrt

from chain.crypto import address_of, sha256
from consensus.errors import InvalidValidatorSet

PUBLIC_KEY_BYTES = 64
BEACON_KEY_BYTES = 48
STAKE_BYTES = 32
MEMBER_BYTES = PUBLIC_KEY_BYTES + BEACON_KEY_BYTES + STAKE_BYTES
MAX_VALIDATORS = 1_024
MAX_SET_BYTES = 4 + MAX_VALIDATORS * MEMBER_BYTES
_DOMAIN = b"lockstep/validators"


@dataclass(frozen=True, slots=True)
class Validator:
    """One member.

    Attributes:
        public_key: secp256k1 point, x || y.
        beacon_key: Compressed point of BLS12-381's G1.
        stake: In wei.
    """

    public_key: bytes
    beacon_key: bytes
    stake: int

    def __post_init__(self) -> None:
        """Refuse malformed members.

        Raises:
            InvalidValidatorSet: a key has a wrong length or the stake is no uint256
                above zero.
        """
        if len(self.public_key) != PUBLIC_KEY_BYTES:
            raise InvalidValidatorSet(
                f"public key: expected {PUBLIC_KEY_BYTES} bytes, "
                f"got {len(self.public_key)}"
            )
        if len(self.beacon_key) != BEACON_KEY_BYTES:
            raise InvalidValidatorSet(
                f"beacon key: expected {BEACON_KEY_BYTES} bytes, "
                f"got {len(self.beacon_key)}"
            )
        if not 0 < self.stake < 2**256:
            raise InvalidValidatorSet(f"stake: expected 1..2^256-1, got {self.stake}")

    @property
    def address(self) -> bytes:
        """The Ethereum address of the public key: coinbase of its blocks."""
        return address_of(self.public_key)

    def encode(self) -> bytes:
        """The 144 bytes of a member."""
        return self.public_key + self.beacon_key + self.stake.to_bytes(STAKE_BYTES)


@dataclass(frozen=True, slots=True)
class ValidatorSet:
    """A non-empty set in canonical order; build it with `of`."""

    members: tuple[Validator, ...]
    total_stake: int
    hash: bytes
    _indices: Mapping[bytes, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Remember who is where: certificates are checked by address."""
        indices = {member.address: index for index, member in enumerate(self.members)}
        object.__setattr__(self, "_indices", indices)

    @classmethod
    def of(cls, members: Iterable[Validator]) -> "ValidatorSet":
        """Order the members and take their hash.

        Raises:
            InvalidValidatorSet: none, too many, or a key that occurs twice.
        """
        ordered = tuple(sorted(members, key=lambda v: (-v.stake, v.public_key)))
        if not 0 < len(ordered) <= MAX_VALIDATORS:
            raise InvalidValidatorSet(
                f"expected 1..{MAX_VALIDATORS} validators, got {len(ordered)}"
            )
        for keys in (
            {v.public_key for v in ordered},
            {v.beacon_key for v in ordered},
        ):
            if len(keys) != len(ordered):
                raise InvalidValidatorSet("two validators share a key")
        digest = sha256(_DOMAIN + _encoded(ordered))
        return cls(ordered, sum(v.stake for v in ordered), digest)

    def encode(self) -> bytes:
        """Canonical bytes: what the hash is taken of, less its domain."""
        return _encoded(self.members)

    @classmethod
    def decode(cls, data: bytes) -> "ValidatorSet":
        """Read `encode`'s output.

        Raises:
            InvalidValidatorSet: anything else, a wrong order included.
        """
        count = int.from_bytes(data[:4])
        if len(data) < 4 or len(data) - 4 != count * MEMBER_BYTES:
            raise InvalidValidatorSet(
                f"validator set: expected 4 bytes and {count} times {MEMBER_BYTES}, "
                f"got {len(data)} bytes"
            )
        if count > MAX_VALIDATORS:
            raise InvalidValidatorSet(
                f"expected 1..{MAX_VALIDATORS} validators, got {count}"
            )
        members = tuple(
            _member(data[start : start + MEMBER_BYTES])
            for start in range(4, len(data), MEMBER_BYTES)
        )
        found = cls.of(members)
        if found.members != members:
            raise InvalidValidatorSet("the members are not in canonical order")
        return found

    def at(self, index: int) -> Validator:
        """The member at that index of the canonical order.

        Raises:
            InvalidValidatorSet: there is no such index.
        """
        if not 0 <= index < len(self.members):
            raise InvalidValidatorSet(
                f"validator index: expected 0..{len(self.members) - 1}, got {index}"
            )
        return self.members[index]

    def index_of(self, address: bytes) -> int | None:
        """The index of the member with that address, or None for an outsider."""
        return self._indices.get(address)

    def proposer(self, height: int, round_: int) -> Validator:
        """Whose turn it is to propose at that height and round."""
        point = (height + round_) * _step(self.total_stake) % self.total_stake
        for member, end in zip(
            self.members, accumulate(v.stake for v in self.members), strict=True
        ):
            if point < end:
                return member
        raise AssertionError("the point lies on the line")  # pragma: no cover

    def is_quorum(self, stake: int) -> bool:
        """Whether that much stake is more than two thirds of all."""
        return 3 * stake > 2 * self.total_stake

    def is_third(self, stake: int) -> bool:
        """Whether that much stake is more than a third: one honest member has part."""
        return 3 * stake > self.total_stake


def _encoded(members: tuple[Validator, ...]) -> bytes:
    return len(members).to_bytes(4) + b"".join(member.encode() for member in members)


def _member(data: bytes) -> Validator:
    keys = PUBLIC_KEY_BYTES + BEACON_KEY_BYTES
    return Validator(
        data[:PUBLIC_KEY_BYTES],
        data[PUBLIC_KEY_BYTES:keys],
        int.from_bytes(data[keys:]),
    )


@lru_cache(maxsize=64)
def _step(total: int) -> int:
    """The largest number up to total / golden ratio that is coprime to total."""
    step = max((isqrt(5 * total * total) - total) // 2, 1)
    while gcd(step, total) != 1:
        step -= 1
    return step
