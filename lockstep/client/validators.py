"""The Validators contract as a Python object."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from eth_utils.address import to_checksum_address

from chain.crypto import address_of
from lockstep.client.connection import Connection, Receipt
from lockstep.errors import ChainError

__all__ = ["Registration", "ValidatorView", "Validators"]

_NAME = "Validators"


@dataclass(frozen=True, slots=True)
class Registration:
    """What a validator's keys say so that an operator may register them.

    Attributes:
        public_key: secp256k1, 64 bytes.
        beacon_key: BLS12-381, 48 bytes.
        possession: proof of possession of the beacon key, 96 bytes.
        consent: signature of the consensus key, 65 bytes.
    """

    public_key: bytes
    beacon_key: bytes
    possession: bytes
    consent: bytes

    @property
    def validator(self) -> str:
        """The validator's address."""
        return to_checksum_address(address_of(self.public_key))


@dataclass(frozen=True, slots=True)
class ValidatorView:
    """One validator, as the contract sees it. Amounts in wei, times in blocks.

    Attributes:
        operator: the account that moves its stake.
        stake: bonded now.
        power: with which it is in the set elected last; 0 if it is not.
        release_at: block from which `unbonding` may be withdrawn.
        jailed_until: block from which it may be unjailed; 0 if it is free.
        missed: blocks of this epoch.
        seated: whether it would be elected now.
        evidence: of what it was punished for; zeros if it never was.
    """

    operator: str
    public_key: bytes
    beacon_key: bytes
    stake: int
    power: int
    unbonding: int
    release_at: int
    jailed_until: int
    missed: int
    seated: bool
    evidence: bytes


class Validators:
    """Who makes blocks, and what they stake."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # ── views ────────────────────────────────────────────────────────────────

    def genesis_hash(self) -> bytes:
        """Names the chain; consents are bound to it.

        Not asked of the Clock contract, which knows it from block 1 on only.
        """
        return self._connection.genesis_hash()

    def validator(self, address: str) -> ValidatorView:
        """One validator.

        Raises:
            ChainError: nobody has registered this one.
        """
        found = cast(
            "Sequence[object]", self._connection.call(_NAME, "validator", address)
        )
        operator, x, y, head, tail, *rest = found
        if not int(cast("str", operator), 16):
            raise ChainError(f"{address} is no validator of this chain")
        stake, power, unbonding, release_at, jailed_until, missed = cast(
            "Sequence[int]", rest[:6]
        )
        return ValidatorView(
            operator=cast("str", operator),
            public_key=cast("bytes", x) + cast("bytes", y),
            beacon_key=cast("bytes", head) + cast("bytes", tail),
            stake=stake,
            power=power,
            unbonding=unbonding,
            release_at=release_at,
            jailed_until=jailed_until,
            missed=missed,
            seated=cast("bool", rest[6]),
            evidence=cast("bytes", rest[7]),
        )

    def elected(self) -> dict[str, int]:
        """The set elected last: stakes in wei by address, the largest first."""
        members = cast(
            "Sequence[tuple[bytes, bytes, bytes, bytes, int]]",
            self._connection.call(_NAME, "active_set"),
        )
        found = {to_checksum_address(address_of(x + y)): s for x, y, _, _, s in members}
        return dict(sorted(found.items(), key=lambda entry: (-entry[1], entry[0])))

    def seed(self, height: int) -> bytes | None:
        """The random value that nobody knew at a height; None: not fixed yet."""
        known, seed = cast(
            "tuple[bool, bytes]", self._connection.call(_NAME, "seed", height)
        )
        return seed if known else None

    # ── moves ────────────────────────────────────────────────────────────────

    def register(self, registration: Registration, stake: int) -> Receipt:
        """Become the operator of a validator with `stake` wei."""
        return self._connection.send(
            *(_NAME, "register", registration.public_key, registration.beacon_key),
            *(registration.possession, registration.consent),
            value=stake,
        )

    def add_stake(self, validator: str, amount: int) -> Receipt:
        """Stake more on an own validator."""
        return self._connection.send(_NAME, "add_stake", validator, value=amount)

    def unbond(self, validator: str, amount: int) -> Receipt:
        """Take stake of an own validator out of service."""
        return self._connection.send(_NAME, "unbond", validator, amount)

    def withdraw(self, validator: str) -> Receipt:
        """Fetch what has unbonded."""
        return self._connection.send(_NAME, "withdraw", validator)

    def unjail(self, validator: str) -> Receipt:
        """Let an own validator stand for election again."""
        return self._connection.send(_NAME, "unjail", validator)
