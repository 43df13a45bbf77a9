"""Blocks made to be slow: contracts and call data, no execution.

Each `Attack` is a contract and the transactions that call it until the block is full.
`benchmarks/worst_block.py` times them; `tests/runtime/test_worst_blocks.py` holds them
against the step limit. Programs are assembled by hand, so that the fewest gas buy the
most work.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

TRANSACTION_GAS: Final = 1 << 24
_ALL_GAS: Final = b"\x5a"  # GAS
_JUMPDEST: Final = b"\x5b"
_POP: Final = b"\x50"


@dataclass(frozen=True, slots=True)
class Attack:
    """One way to waste a validator's time.

    Attributes:
        name: For the table.
        code: Runtime code of the contract that the transactions call; empty for
            plain transfers.
        data: Call data of every transaction.
        gas: Gas limit of every transaction.
        creates: Send `data` as initcode instead of calling.
    """

    name: str
    code: bytes
    data: bytes = b""
    gas: int = TRANSACTION_GAS
    creates: bool = False


def initcode(code: bytes) -> bytes:
    """Creation code that returns `code`."""
    size = len(code).to_bytes(3, "big")
    # PUSH3 size, PUSH1 14, PUSH0, CODECOPY, PUSH3 size, PUSH0, RETURN
    return b"\x62" + size + b"\x60\x0e\x5f\x39\x62" + size + b"\x5f\xf3" + code


def push(value: int) -> bytes:
    """The shortest PUSH of a number."""
    if value == 0:
        return b"\x5f"
    data = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return bytes((0x5F + len(data),)) + data


def forever(body: bytes, setup: bytes = b"") -> bytes:
    """`setup`, then `body` again and again, many times for each jump back."""
    copies = max(1, min(200, 20_000 // max(len(body), 1)))
    return setup + _JUMPDEST + body * copies + push(len(setup)) + b"\x56"


def call(kind: int, address: int, size: int, *, value: int | None = None) -> bytes:
    """CALL-family instruction with `size` bytes of memory as input, no output."""
    arguments = push(0) + push(0) + push(size) + push(0)
    if value is not None:
        arguments += push(value)
    return arguments + push(address) + _ALL_GAS + bytes((kind,)) + _POP


def precompile(name: str, address: int, data: bytes) -> Attack:
    """Call a precompile with `data` until the gas is gone."""
    # CALLDATACOPY everything to 0, then STATICCALL in a loop.
    setup = push(len(data)) + push(0) + push(0) + b"\x37"
    return Attack(name, forever(call(0xFA, address, len(data)), setup), data)


def _word(value: int) -> bytes:
    return value.to_bytes(32, "big")


# Generators: of BN254, one pair; of BLS12-381, as EIP-2537 encodes them.
_BN_PAIR: Final = bytes.fromhex(
    "0000000000000000000000000000000000000000000000000000000000000001"
    "0000000000000000000000000000000000000000000000000000000000000002"
    "198e9393920d483a7260bfb731fb5d25f1aa493335a9e71297e485b7aef312c2"
    "1800deef121f1e76426a00665e5c4479674322d4f75edadd46debd5cd992f6ed"
    "090689d0585ff075ec9e99ad690c3395bc4b313370b38ef355acdadcd122975b"
    "12c85ea5db8c6deb4aab71808dcb408fe3d1e7690c43d37b4ce6cc0166fa7daa"
)
_BLS_G1: Final = bytes.fromhex(
    "0000000000000000000000000000000017f1d3a73197d7942695638c4fa9ac0f"
    "c3688c4f9774b905a14e3a3f171bac586c55e83ff97a1aeffb3af00adb22c6bb"
    "0000000000000000000000000000000008b3f481e3aaa0f1a09e30ed741d8ae4"
    "fcf5e095d5d00af600db18cb2c04b3edd03cc744a2888ae40caa232946c5e7e1"
)
_BLS_G2: Final = bytes.fromhex(
    "00000000000000000000000000000000024aa2b2f08f0a91260805272dc51051"
    "c6e47ad4fa403b02b4510b647ae3d1770bac0326a805bbefd48056c8c121bdb8"
    "0000000000000000000000000000000013e02b6052719f607dacd3a088274f65"
    "596bd0d09920b61ab5da61bbdc7f5049334cf11213945d57e5ac7d055d042b7e"
    "000000000000000000000000000000000ce5d527727d6e118cc9cdc6da2e351a"
    "adfd9baa8cbdd3a76d429a695160d12c923ac9cc3baca289e193548608b82801"
    "000000000000000000000000000000000606c4a02ea734cc32acd2b02bc28b99"
    "cb3e287e85a763af267492ab572e99ab3f370d275cec1da1aaa9075ff05f79be"
)
_BLS_FIELD: Final = int(
    "1a0111ea397fe69a4b1ba7b6434bacd764774b84f38512bf6730d2a0f6b0f624"
    "1eabfffeb153ffffb9feffffffffaaab",
    16,
)


def _fp(value: int) -> bytes:
    return int(value).to_bytes(64, "big")


def modexp(size: int, exponent_size: int, modulus_seed: int = 1) -> bytes:
    """Input whose operands have all their bits set, and an odd modulus."""
    base = b"\xff" * size
    modulus = (b"\xff" * (size - 1)) + bytes((0xFF - 2 * modulus_seed,))
    return (
        _word(size)
        + _word(exponent_size)
        + _word(size)
        + base
        + b"\xff" * exponent_size
        + modulus
    )


def instructions() -> Iterator[Attack]:
    """Loops of single instructions, cheap in gas and slow in Python."""
    yield Attack("jumpdest", forever(_JUMPDEST))
    yield Attack("push and pop", forever(b"\x58\x50"))
    yield Attack("mulmod", forever(push((1 << 256) - 1) * 3 + b"\x09\x50"))
    yield Attack(
        "exp", forever(push((1 << 256) - 1) + push((1 << 256) - 3) + b"\x0a\x50")
    )
    yield Attack(
        "sdiv", forever(push((1 << 255) - 1) + push((1 << 256) - 3) + b"\x05\x50")
    )
    yield Attack("mload far", forever(push(390_000) + b"\x51\x50"))
    yield Attack("keccak of 384 KiB", forever(push(393_216) + push(0) + b"\x20\x50"))
    yield Attack("keccak of a word", forever(push(32) + push(0) + b"\x20\x50"))
    yield Attack(
        "mcopy 128 KiB", forever(push(131_072) + push(200_000) + push(0) + b"\x5e")
    )
    yield Attack(
        "codecopy 128 KiB", forever(push(131_072) + push(0) + push(0) + b"\x39")
    )
    yield Attack("calldatacopy 128 KiB", forever(push(131_072) + push(0) * 2 + b"\x37"))
    yield Attack("log of 4 KiB", forever(push(4_096) + push(0) + b"\xa0"))
    yield Attack("log with topics", forever(push(0) * 6 + b"\xa4"))
    yield Attack("transient storage", forever(push(1) + b"\x5a\x5d"))
    yield Attack("returndatacopy", forever(push(0) * 3 + b"\x3e"))
    yield Attack("blockhash", forever(push(1) + b"\x43\x03\x40\x50"))


def state() -> Iterator[Attack]:
    """Work on the tries."""
    yield Attack("sstore new slots", forever(_ALL_GAS + b"\x80\x55"))
    yield Attack("sload cold", forever(_ALL_GAS + b"\x54\x50"))
    yield Attack("balance cold", forever(_ALL_GAS + b"\x31\x50"))
    yield Attack("extcodesize cold", forever(_ALL_GAS + b"\x3b\x50"))
    yield Attack(
        "transfer to new accounts",
        forever(push(0) * 4 + push(1) + _ALL_GAS + push(0) + b"\xf1\x50"),
    )
    yield Attack("selfdestruct in creations", _creator(b"\x33\xff"))


def _creator(child: bytes) -> bytes:
    """Contract that creates `child` (up to 32 bytes of initcode) for ever."""
    padded = int.from_bytes(child.ljust(32, b"\0"), "big")
    setup = b"\x7f" + _word(padded) + push(0) + b"\x52"
    return forever(push(len(child)) + push(0) * 2 + b"\xf0\x50", setup)


def frames() -> Iterator[Attack]:
    """Calls: many, deep, and with as many bytes as they may carry."""
    yield Attack("call with 384 KiB", forever(call(0xFA, 0x1234, 393_216)))
    yield Attack("call identity with 384 KiB", forever(call(0xFA, 4, 393_216)))
    yield Attack("call with 1 MiB", forever(call(0xFA, 0x1234, 1 << 20)))
    yield Attack("call an empty account", forever(call(0xFA, 0x1234, 0)))
    # ADDRESS as the callee: recursion as deep as 63/64 of the gas reaches.
    yield Attack("recursion", push(0) * 5 + b"\x30\x5a\xf1" + b"\x00")
    yield Attack(
        "recursion with 384 KiB",
        push(0) * 2 + push(393_216) + push(0) * 2 + b"\x30\x5a\xf1\x00",
    )
    yield Attack("delegate to itself", push(0) * 4 + b"\x30\x5a\xf4\x00")
    # Initcode of 48 KiB whose every third byte may be jumped to, one byte changing.
    pattern = b"\x60\x00\x5b"
    setup = push(49_152 - 32) + push(0) + push(0) + b"\x37"
    yield Attack(
        "create with 48 KiB",
        forever(
            _ALL_GAS
            + push(49_100)
            + b"\x53"
            + push(49_152)
            + push(0) * 2
            + b"\xf0\x50",
            setup,
        ),
        b"\x00" + pattern * 16_383,
    )
    yield Attack("initcode transaction", b"", b"\x00" + pattern * 16_383, creates=True)


def precompiles() -> Iterator[Attack]:
    """Each precompile with its worst input."""
    yield precompile("ecrecover", 1, _ecrecover())
    yield precompile("sha256 of 64 bytes", 2, b"\xff" * 64)
    yield precompile("sha256 of 100 KB", 2, b"\x01" * 100_000)
    yield precompile("ripemd160 of 100 KB", 3, b"\x01" * 100_000)
    yield precompile("identity of 100 KB", 4, b"\x01" * 100_000)
    for size, exponent in (
        (1, 40_000),
        (32, 32),
        (64, 512),
        (256, 256),
        (1_024, 32),
        (1_024, 1),
    ):
        yield precompile(f"modexp {size}/{exponent}", 5, modexp(size, exponent))
    yield precompile("bn add", 6, (_word(1) + _word(2)) * 2)
    yield precompile("bn multiply", 7, _word(1) + _word(2) + b"\xff" * 32)
    yield precompile("bn pairing 1", 8, _BN_PAIR)
    yield precompile("bn pairing 4", 8, _BN_PAIR * 4)
    yield precompile("blake2f 1 round", 9, _blake2(1))
    yield precompile("blake2f 10,000 rounds", 9, _blake2(10_000))
    yield precompile("bls g1 add", 0x0B, _BLS_G1 * 2)
    yield precompile("bls g1 msm 1", 0x0C, _BLS_G1 + b"\x7f" * 32)
    yield precompile("bls g1 msm 128", 0x0C, (_BLS_G1 + b"\x7f" * 32) * 128)
    yield precompile("bls g2 add", 0x0D, _BLS_G2 * 2)
    yield precompile("bls g2 msm 1", 0x0E, _BLS_G2 + b"\x7f" * 32)
    yield precompile("bls g2 msm 128", 0x0E, (_BLS_G2 + b"\x7f" * 32) * 128)
    yield precompile("bls pairing 1", 0x0F, _BLS_G1 + _BLS_G2)
    yield precompile("bls pairing 8", 0x0F, (_BLS_G1 + _BLS_G2) * 8)
    yield precompile("bls map to g1", 0x10, _fp(_BLS_FIELD - 2))
    yield precompile("bls map to g2", 0x11, _fp(_BLS_FIELD - 2) * 2)
    yield precompile("p256verify", 0x100, _p256())


def _ecrecover() -> bytes:
    return b"\x01" * 32 + _word(27) + _word(7**20) + _word(5**20)


def _p256() -> bytes:
    x = 0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296
    y = 0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5
    return b"".join(_word(each) for each in (7**60, 5**40, 3**80, x, y))


def _blake2(rounds: int) -> bytes:
    return rounds.to_bytes(4, "big") + bytes(range(208)) + b"\x01"


def transfers() -> Attack:
    """As many transfers as fit."""
    return Attack("transfers", b"", gas=21_000)


def calldata() -> Attack:
    """Transactions of nothing but call data."""
    return Attack("call data", b"\x00", bytes(390_000), gas=4_000_000)


def attacks() -> Iterator[Attack]:
    """Everything."""
    yield transfers()
    yield calldata()
    yield from instructions()
    yield from state()
    yield from frames()
    yield from precompiles()
