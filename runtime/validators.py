"""Who votes next, as the staking contract says.

Consensus asks at every epoch border, on a committed state. The answer is a function of
that state alone: a call with fixed gas and steps, and a decoding that accepts one form.
"""

from typing import Final, TypeAlias

from chain import addresses
from chain.crypto import keccak
from chain.database import ChainDatabase
from chain.header import Header
from runtime.errors import ValidatorSetUnreadable
from runtime.evm import execute
from runtime.machine import BlockContext, Call
from runtime.precompile_table import precompiles
from runtime.rules import Rules
from runtime.steps import OutOfSteps, StepMeter
from runtime.world import World

READING_GAS: Final = 30_000_000
READING_STEPS: Final = 1_000_000
MAX_MEMBERS: Final = 128

# secp256k1 public key, 64 bytes; BLS12-381 key, 48 bytes; stake in wei.
Member: TypeAlias = tuple[bytes, bytes, int]

ACTIVE_SET: Final = keccak(b"active_set()")[:4]
_WORD: Final = 32
_MEMBER_WORDS: Final = 5
_TAIL_BYTES: Final = 16


def read_validator_set(
    rules: Rules, database: ChainDatabase, header: Header
) -> tuple[Member, ...]:
    """The set that the staking contract elects, in the state after `header`.

    Ordered by descending stake, then by public key.

    Raises:
        ValidatorSetUnreadable: There is no such contract, or it answers nonsense.
    """
    world = World(database, header.state_root)
    if not world.code(addresses.VALIDATORS):
        raise ValidatorSetUnreadable(
            f"block {header.number}: this chain has no Validators contract"
        )
    world.begin()
    call = Call(
        origin=addresses.SYSTEM,
        gas_price=0,
        to=addresses.VALIDATORS,
        gas=READING_GAS,
        data=ACTIVE_SET,
    )
    meter = StepMeter(READING_STEPS)
    try:
        result = execute(world, _context(rules, database, header), meter, call)
    except OutOfSteps:
        raise ValidatorSetUnreadable(
            f"block {header.number}: active_set() took more than {READING_STEPS} steps"
        ) from None
    if not result.succeeded:
        raise ValidatorSetUnreadable(
            f"block {header.number}: active_set() failed: {result.error}"
        )
    try:
        return decode_validator_set(result.output)
    except ValidatorSetUnreadable as error:
        raise ValidatorSetUnreadable(f"block {header.number}: {error}") from error


def decode_validator_set(output: bytes) -> tuple[Member, ...]:
    """Decode what `active_set()` returns, an array of five words for each member.

    Raises:
        ValidatorSetUnreadable: Other bytes than an encoder writes, no member or too
            many, no stake, or a key that occurs twice.
    """
    words = [output[at : at + _WORD] for at in range(0, len(output), _WORD)]
    if len(words) < 2 or len(output) % _WORD or int.from_bytes(words[0], "big") != 32:
        raise ValidatorSetUnreadable(f"no array in {len(output)} bytes")
    count = int.from_bytes(words[1], "big")
    if not 0 < count <= MAX_MEMBERS or len(words) != 2 + count * _MEMBER_WORDS:
        raise ValidatorSetUnreadable(
            f"expected 1 to {MAX_MEMBERS} members of {_MEMBER_WORDS} words, got "
            f"{count} in {len(words) - 2}"
        )
    members = [
        _member(words[at : at + _MEMBER_WORDS])
        for at in range(2, len(words), _MEMBER_WORDS)
    ]
    for position, name in enumerate(("public", "beacon")):
        if len({each[position] for each in members}) != count:
            raise ValidatorSetUnreadable(f"a {name} key occurs twice")
    return tuple(sorted(members, key=lambda each: (-each[2], each[0])))


def _member(words: list[bytes]) -> Member:
    x, y, head, tail, stake = words
    if any(tail[_TAIL_BYTES:]):
        raise ValidatorSetUnreadable("a beacon key of more than 48 bytes")
    amount = int.from_bytes(stake, "big")
    if amount == 0:
        raise ValidatorSetUnreadable(f"0x{(x + y).hex()} has no stake")
    return x + y, head + tail[:_TAIL_BYTES], amount


def _context(rules: Rules, database: ChainDatabase, header: Header) -> BlockContext:
    return BlockContext(
        chain_id=rules.chain_id,
        number=header.number,
        timestamp=header.timestamp,
        coinbase=header.coinbase,
        gas_limit=header.gas_limit,
        base_fee=header.base_fee_per_gas,
        mix_hash=header.mix_hash,
        block_hash=database.hash_at,
        precompiles=precompiles(rules),
    )
