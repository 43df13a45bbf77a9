"""The chain specification: one JSON file from which everybody makes the same genesis.

```json
{
  "name": "devnet",
  "chain_id": 4242,
  "genesis_time": 1767225600,
  "mix_hash": "0x...32 bytes, where the beacon starts",
  "base_fee": "1000000000",
  "forks": {"launch": 0},
  "contracts": ["Clock", "Staking", "..."],
  "parameters": {"challenge_window": 20, "...": 0},
  "alloc": {"0x...20 bytes": "10000000000000000000000"},
  "consensus": {"epoch_blocks": 100, "evidence_age_blocks": 1000},
  "validators": [
    {"public_key": "0x...64 bytes", "beacon_key": "0x...48 bytes",
     "stake": "1000000000000000000", "operator": "0x...20 bytes"}
  ]
}
```

Amounts are decimal strings of wei, since JSON's numbers lose digits in other
languages. `parameters` are the constructor parameters of all contracts, by name;
addresses among them are filled in, and so is what the consensus section says. A
validator's operator is the account that moves its stake; without one it is the address
of the public key. Stakes are money besides `alloc`. Forks are named in the order of
their heights; a fork that this program does not know is no error until its height.
Unknown keys, unused parameters and keys that
occur twice are errors: a specification that is misread forks the chain.
"""

import json
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from chain.addresses import SYSTEM_CONTRACTS
from chain.crypto import address_of
from consensus.errors import InvalidValidatorSet
from consensus.validators import Validator, ValidatorSet
from runtime.rules import FORKS, INITIAL_BASE_FEE, ForkSchedule, Rules

BUNDLED: Final = ("devnet",)
MAX_SPEC_BYTES: Final = 4 << 20
MAX_CHAIN_ID: Final = (1 << 53) - 1  # what JavaScript wallets can hold


class SpecError(Exception):
    """The chain specification cannot be found or breaks a rule."""


def _hex(size: int) -> BeforeValidator:
    """A 0x-prefixed string of exactly `size` bytes."""

    def read(value: object) -> bytes:
        if not isinstance(value, str) or not value.startswith("0x"):
            raise ValueError(f"expected {size} bytes in hexadecimal after 0x")
        try:
            found = bytes.fromhex(value[2:])
        except ValueError:
            raise ValueError("characters that are not hexadecimal") from None
        if len(found) != size or len(value) != 2 + 2 * size:
            raise ValueError(f"expected {size} bytes, got {len(found)}")
        return found

    return BeforeValidator(read)


def _amount(value: object) -> int:
    if (
        not isinstance(value, str)
        or not value.isascii()
        or not value.isdecimal()
        or str(int(value[:80])) != value
    ):
        raise ValueError('expected wei as a decimal string, such as "1000"')
    if int(value) >> 256:
        raise ValueError("more than 2**256 - 1 wei")
    return int(value)


Amount = Annotated[int, BeforeValidator(_amount)]
Address = Annotated[bytes, _hex(20)]
Hash = Annotated[bytes, _hex(32)]
_STRICT: Final = ConfigDict(frozen=True, extra="forbid", strict=True)


class ValidatorEntry(BaseModel):
    """A validator at genesis.

    Attributes:
        operator: The account that moves its stake; None leaves it to the key itself.
    """

    model_config = _STRICT

    public_key: Annotated[bytes, _hex(64)]
    beacon_key: Annotated[bytes, _hex(48)]
    stake: Amount
    operator: Address | None = None

    @classmethod
    def of(
        cls,
        public_key: bytes,
        beacon_key: bytes,
        stake: int,
        operator: bytes | None = None,
    ) -> "ValidatorEntry":
        """An entry from values as they are, not as JSON writes them."""
        return cls.model_construct(
            public_key=public_key,
            beacon_key=beacon_key,
            stake=stake,
            operator=operator,
        )

    @property
    def operator_address(self) -> bytes:
        """The account that moves its stake."""
        if self.operator is None:
            return address_of(self.public_key)
        return self.operator


class Consensus(BaseModel):
    """What validators and the staking contract must agree on.

    Attributes:
        epoch_blocks: The set of validators may change at the multiples of this height.
        evidence_age_blocks: How many blocks back evidence may reach.
    """

    model_config = _STRICT

    epoch_blocks: Annotated[int, Field(ge=1, lt=1 << 32)]
    evidence_age_blocks: Annotated[int, Field(ge=1, lt=1 << 32)]

    @property
    def parameters(self) -> Mapping[str, int]:
        """These values as constructor parameters."""
        return {
            "epoch_blocks": self.epoch_blocks,
            "evidence_age_blocks": self.evidence_age_blocks,
        }


def _known_contracts(names: list[str]) -> list[str]:
    if len(set(names)) != len(names):
        raise ValueError("a contract is named twice")
    unknown = [name for name in names if name not in SYSTEM_CONTRACTS]
    if unknown:
        raise ValueError(
            f"unknown contracts {unknown}; known: {', '.join(SYSTEM_CONTRACTS)}"
        )
    return names


def _ordered_forks(forks: dict[str, int]) -> dict[str, int]:
    heights = list(forks.values())
    if heights[:1] != [0] or heights != sorted(set(heights)):
        raise ValueError(
            f"expected forks at ascending heights, the first at height 0, got {heights}"
        )
    known = [name for name in forks if name in FORKS]
    if known != list(FORKS[: len(known)]) or next(iter(forks)) not in FORKS:
        raise ValueError(
            f"expected the forks that this program knows in the order "
            f"{', '.join(FORKS)}, one of them at height 0, got {', '.join(forks)}"
        )
    return forks


def _bounded(parameters: dict[str, int]) -> dict[str, int]:
    for name, value in parameters.items():
        if value < 0 or value >> 256:
            raise ValueError(f"{name} is not a uint256: {value}")
    return parameters


class ChainSpec(BaseModel):
    """A validated chain specification; see the module's text for the JSON."""

    model_config = _STRICT

    name: Annotated[str, Field(min_length=1, max_length=64)]
    chain_id: Annotated[int, Field(ge=1, le=MAX_CHAIN_ID)]
    genesis_time: Annotated[int, Field(ge=0, lt=1 << 63)]
    mix_hash: Hash
    base_fee: Amount = INITIAL_BASE_FEE
    forks: Annotated[dict[str, int], AfterValidator(_ordered_forks)]
    contracts: Annotated[list[str], AfterValidator(_known_contracts)]
    parameters: Annotated[dict[str, int], AfterValidator(_bounded)]
    alloc: dict[Address, Amount]
    consensus: Consensus
    validators: Annotated[list[ValidatorEntry], Field(min_length=1)]

    @model_validator(mode="after")
    def _supply_fits(self) -> "ChainSpec":
        stakes = sum(entry.stake for entry in self.validators)
        if sum(self.alloc.values()) + stakes >> 256:
            raise ValueError("allocations and stakes sum to more than 2**256 - 1 wei")
        return self

    @classmethod
    def load(cls, source: str | Path) -> "ChainSpec":
        """Read a bundled specification by name, or a file by path.

        Raises:
            SpecError: It does not exist, is not JSON, or breaks a rule; the message
                names the place.
        """
        if source in BUNDLED:
            resource = resources.files("genesis") / "specs" / f"{source}.json"
            return cls.parse(resource.read_bytes(), str(source))
        path = Path(source)
        try:
            with path.open("rb") as file:
                content = file.read(MAX_SPEC_BYTES + 1)
        except OSError as error:
            raise SpecError(
                f"{source}: no bundled specification has this name "
                f"({', '.join(BUNDLED)}) and no file can be read: {error.strerror}"
            ) from error
        return cls.parse(content, str(path))

    @classmethod
    def parse(cls, content: bytes, origin: str) -> "ChainSpec":
        """Read the bytes of a specification.

        Args:
            content: JSON in UTF-8.
            origin: Names the source in error messages.

        Raises:
            SpecError: It is not JSON or breaks a rule.
        """
        if len(content) > MAX_SPEC_BYTES:
            raise SpecError(f"{origin}: more than {MAX_SPEC_BYTES} bytes")
        try:
            fields = json.loads(content, object_pairs_hook=_without_duplicates)
        except (UnicodeDecodeError, ValueError, RecursionError) as error:
            raise SpecError(f"{origin}: not JSON: {error}") from error
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            raise SpecError(f"{origin}: {_explain(error)}") from error

    @property
    def rules(self) -> ForkSchedule:
        """Execution rules by height, up to the first fork that is not known."""
        known: list[tuple[int, Rules]] = []
        for fork, height in self.forks.items():
            if fork not in FORKS:
                return ForkSchedule(tuple(known), (height, fork))
            known.append((height, Rules(chain_id=self.chain_id, fork=fork)))
        return ForkSchedule(tuple(known))

    @property
    def elects(self) -> bool:
        """Whether a staking contract chooses the validators, epoch by epoch."""
        return "Validators" in self.contracts

    @property
    def validator_set(self) -> ValidatorSet:
        """Who votes on block 1.

        Raises:
            SpecError: Two validators share a key, or a stake is zero.
        """
        try:
            return ValidatorSet.of(
                Validator(entry.public_key, entry.beacon_key, entry.stake)
                for entry in self.validators
            )
        except InvalidValidatorSet as error:
            raise SpecError(f"{self.name}: validators: {error}") from error

    def with_parameters(self, **values: int) -> "ChainSpec":
        """A copy with some contract parameters changed, for tests and devnets.

        Raises:
            SpecError: A parameter is not in this specification.
        """
        unknown = values.keys() - self.parameters.keys()
        if unknown:
            raise SpecError(f"{self.name}: no parameters {sorted(unknown)}")
        return self.model_copy(update={"parameters": {**self.parameters, **values}})

    def with_validators(self, entries: Iterable[ValidatorEntry]) -> "ChainSpec":
        """A copy with other validators at genesis.

        `genesis.accounts.validator_entries` makes some for test networks.

        Raises:
            SpecError: Two share a key, or there are none.
        """
        changed = self.model_copy(update={"validators": list(entries)})
        _ = changed.validator_set
        return changed


def _without_duplicates(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"keys that occur twice: {twice}")
    return found


def _explain(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(str(part) for part in each['loc']) or 'specification'}: "
        f"{each['msg']}"
        for each in error.errors(include_url=False, include_input=False)
    )
