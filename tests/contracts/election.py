"""A staking contract on which a test plays operators, proposers and the system.

Beside the contract runs what it should do, written as the rules are told: sets are
sorted, seeds are found by looking at every block.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, ParamSpec, cast

import pytest

from chain import addresses
from chain.crypto import (
    address_of,
    bls_prove_possession,
    bls_public_key,
    consent_digest,
    public_key,
    sha256,
    sign,
)
from tests.contracts.chain import (
    GENESIS_HASH,
    TOKEN,
    Chain,
    Receipt,
    Reverted,
    account,
    mix_of,
)

NOBODY = b"\xee" * 20
_P = ParamSpec("_P")


def refused(
    reason: str, action: Callable[_P, object], *args: _P.args, **kwargs: _P.kwargs
) -> None:
    """Check that the contract reverts for exactly this reason."""
    with pytest.raises(Reverted) as caught:
        action(*args, **kwargs)
    assert caught.value.reason == reason


@dataclass(frozen=True, slots=True)
class Keys:
    """A validator's keys."""

    secret: bytes
    beacon_secret: int

    @property
    def public_key(self) -> bytes:
        """64 bytes."""
        return public_key(self.secret)

    @property
    def address(self) -> bytes:
        """Names the validator."""
        return address_of(self.public_key)

    @property
    def beacon_key(self) -> bytes:
        """48 bytes."""
        return bls_public_key(self.beacon_secret)

    def consent(self, operator: bytes, genesis_hash: bytes = GENESIS_HASH) -> bytes:
        """Signature that lets `operator` register this key."""
        digest = consent_digest(genesis_hash, operator, self.beacon_key)
        return sign(digest, self.secret)


@cache
def keys(name: str) -> Keys:
    """Keys of the validator called `name`."""
    secret = sha256(b"validator " + name.encode())
    return Keys(secret, int.from_bytes(secret, "big") >> 3)


def validator(name: str) -> bytes:
    """Address of the validator called `name`."""
    return keys(name).address


class Election:
    """The contract in a chain with validators at genesis.

    Args:
        placed: Stakes at genesis by name; each person operates what has its name.
        parameters: That differ from the tests' usual ones.
    """

    def __init__(self, placed: dict[str, int] | None = None, **parameters: int) -> None:
        self.genesis = {"ann": 4 * TOKEN} if placed is None else placed
        entries = [
            (account(name), keys(name).public_key, keys(name).beacon_key, stake)
            for name, stake in self.genesis.items()
        ]
        self.chain = Chain(None, placed=entries, **parameters)
        for name in self.genesis:
            self.chain.fund(name, 100 * TOKEN)
        # What each block knew: proposer, and the set by which seeds are counted.
        self.proposers: list[bytes] = [NOBODY]
        self.powers: list[dict[bytes, int]] = [self.set_by_address()]
        self.begin()

    # -- the system ---------------------------------------------------------------

    def begin(self, proposer: bytes = NOBODY, absent: Iterable[bytes] = ()) -> int:
        """Begin the block that the chain has just started; the gas of it."""
        gas, _ = self.chain.system("Validators", "begin_block", proposer, tuple(absent))
        self.proposers.append(proposer)
        self.powers.append(self.set_by_address())
        return gas

    def mine(
        self, count: int = 1, proposer: bytes = NOBODY, absent: Iterable[bytes] = ()
    ) -> None:
        """Begin new blocks."""
        left_out = tuple(absent)
        for _ in range(count):
            self.chain.mine()
            self.begin(proposer, left_out)

    def to_border(self) -> None:
        """Begin blocks until an election, at least one."""
        epoch = int(self.chain.parameters["epoch_blocks"])
        while True:
            self.mine()
            if (self.chain.number + 2) % epoch == 0:
                return

    def punish(self, name: str, height: int | None = None) -> None:
        """Make the system call for an offence in the parent block."""
        at = self.chain.number - 1 if height is None else height
        evidence = sha256(name.encode())
        self.chain.system("Validators", "punish", validator(name), evidence, at)

    # -- operators ------------------------------------------------------------------

    def register(self, name: str, stake: int = TOKEN, **changes: Any) -> Receipt:  # noqa: ANN401  (any argument may be replaced)
        """Register a validator; by name, arguments that are not the right ones."""
        pair = keys(name)
        operator = account(name)
        if self.chain.balance(operator) == 0:
            self.chain.fund(name, 100 * TOKEN)
        given = {
            "public_key": pair.public_key,
            "beacon_key": pair.beacon_key,
            "possession": bls_prove_possession(pair.beacon_secret),
            "consent": pair.consent(operator),
            **changes,
        }
        return self.chain.send(
            operator, "Validators", "register", *given.values(), value=stake
        )

    def act(
        self, name: str, function: str, *arguments: int, value: int = 0, by: str = ""
    ) -> Receipt:
        """What an operator does with its validator."""
        sender = account(by or name)
        target = validator(name)
        return self.chain.send(
            sender, "Validators", function, target, *arguments, value=value
        )

    # -- reading --------------------------------------------------------------------

    def view(self, name: str) -> Any:  # noqa: ANN401  (a struct)
        """Everything about one validator."""
        return self.chain.call("Validators", "validator", validator(name))

    def set_by_address(self) -> dict[bytes, int]:
        """The set elected last: stakes by address."""
        found: dict[bytes, int] = {}
        members = cast(
            "list[tuple[bytes, bytes, bytes, bytes, int]]",
            self.chain.call("Validators", "active_set"),
        )
        for x, y, *_, stake in members:
            found[address_of(x + y)] = stake
        assert len(found) == len(members)
        return found

    def held(self) -> int:
        """What the contract owns."""
        return self.chain.balance(addresses.VALIDATORS)

    def seed(self, height: int) -> tuple[bool, bytes]:
        """What the contract says of a seed."""
        found: tuple[bool, bytes] = self.chain.call("Validators", "seed", height)
        return found

    def expected_seed(self, height: int) -> tuple[bool, bytes]:
        """What it should say: every later block is looked at."""
        for block in range(height + 1, self.chain.number + 1):
            power = self.powers[block]
            distinct = set(self.proposers[height + 1 : block + 1])
            revealed = sum(power.get(each, 0) for each in distinct)
            if 3 * revealed > sum(power.values()):
                return True, mix_of(block)
        return False, bytes(32)
