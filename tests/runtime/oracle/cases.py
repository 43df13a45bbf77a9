"""Cases for which Ethereum's executable specification is asked (`eels.py`).

The named ones are faults that py-evm has or had; the rest is random bytecode from a
fixed seed.
"""

from collections.abc import Iterator
from importlib import import_module
from random import Random
from typing import Any

from chain.crypto import address_of, keccak, public_key
from chain.transaction import (
    ACCESS_LIST,
    LEGACY,
    SET_CODE,
    Authorization,
    Unsigned,
    contract_address,
    sign_authorization,
)

CHAIN_ID = 4242
A, B = b"\1" * 32, b"\2" * 32
SENDER, OTHER = (address_of(public_key(each)) for each in (A, B))
TARGET = b"\x77" * 20
HELPER = b"\x66" * 20
GWEI = 10**9

Alloc = dict[bytes, tuple[int, int, bytes, dict[int, int]]]


def signed(secret: bytes = A, **fields: object) -> bytes:
    values: dict[str, Any] = {
        "chain_id": CHAIN_ID,
        "nonce": 0,
        "gas": 200_000,
        "max_fee_per_gas": 2 * GWEI,
        "max_priority_fee_per_gas": GWEI,
        "to": TARGET,
        **fields,
    }
    return Unsigned(**values).sign(secret)


def alloc(code: bytes = b"", storage: dict[int, int] | None = None) -> Alloc:
    return {
        SENDER: (10**20, 0, b"", {}),
        OTHER: (10**20, 0, b"", {}),
        TARGET: (1, 1, code, storage or {}),
    }


def case(name: str, state: Alloc, transactions: list[bytes]) -> dict[str, Any]:
    return {
        "name": name,
        "alloc": {
            address.hex(): [str(balance), nonce, code.hex(), storage]
            for address, (balance, nonce, code, storage) in state.items()
        },
        "transactions": [raw.hex() for raw in transactions],
    }


def authorise(address: bytes = TARGET, **fields: object) -> Authorization:
    values: dict[str, Any] = {"chain_id": CHAIN_ID, "nonce": 0, **fields}
    return sign_authorization(B, address=address, **values)


def set_code(
    *authorizations: Authorization, to: bytes = OTHER, **fields: object
) -> bytes:
    values: dict[str, Any] = {"gas": 300_000, **fields}
    return signed(type=SET_CODE, authorizations=authorizations, to=to, **values)


STORE_42 = bytes.fromhex("602a5f55")
CLEAR_20 = b"".join(bytes((0x5F, 0x60, slot, 0x55)) for slot in range(20))
# Copies call data to memory, creates from it, stores the new address in slot 0.
CREATE = bytes.fromhex("365f5f37365f5ff05f55")
CREATE2 = bytes.fromhex("5f365f5f37365f5f365f5f37f55f55")


def named() -> Iterator[dict[str, Any]]:
    data = b"\xff" * 1_000
    yield case("gas below floor", alloc(), [signed(data=data, gas=37_000)])
    yield case("gas at floor", alloc(), [signed(data=data, gas=61_000)])
    yield case("gas one below floor", alloc(), [signed(data=data, gas=60_999)])
    poor = {**alloc(), SENDER: (60_000 * 2 * GWEI, 0, b"", {})}
    yield case("cannot pay the floor", poor, [signed(data=data, gas=61_000)])
    for size in (0, 500, 1_000, 2_000, 2_600, 3_000, 4_000):
        yield case(
            f"refund and floor, {size} bytes",
            alloc(CLEAR_20, dict.fromkeys(range(20), 1)),
            [signed(data=b"\xff" * size, gas=400_000)],
        )
    yield case("tip above cap", alloc(), [signed(max_priority_fee_per_gas=3 * GWEI)])
    yield case("cap below base fee", alloc(), [signed(max_fee_per_gas=GWEI - 1)])
    yield case("nonce gap", alloc(), [signed(nonce=5)])
    yield case("nonce used", alloc(), [signed(), signed()])
    yield case("value above balance", alloc(), [signed(value=10**21)])
    yield case(
        "sender is a contract", {**alloc(), SENDER: (10**20, 0, b"\1", {})}, [signed()]
    )
    for size in (49_152, 49_153):
        yield case(
            f"initcode of {size}",
            alloc(),
            [signed(to=None, data=bytes(size), gas=3_000_000)],
        )
    yield case(
        "create",
        alloc(),
        [
            signed(
                to=None,
                data=bytes.fromhex("600a600c600039600a6000f3602a60005260206000f3"),
            )
        ],
    )
    yield case(
        "create collides",
        {**alloc(), contract_address(SENDER, 0): (0, 1, b"", {})},
        [signed(to=None, data=b"\0")],
    )
    yield case(
        "create selfdestructs", alloc(), [signed(to=None, data=b"\x33\xff", value=5)]
    )
    yield case(
        "create returns 0xef",
        alloc(),
        [signed(to=None, data=bytes.fromhex("60ef5f5360015ff3"))],
    )
    yield case(
        "create out of gas for deposit",
        alloc(),
        [signed(to=None, data=bytes.fromhex("6160005ff3"), gas=100_000)],
    )
    yield case(
        "create 24577 bytes",
        alloc(),
        [signed(to=None, data=bytes.fromhex("6160015ff3"), gas=9_000_000)],
    )
    for name, code in (("create", CREATE), ("create2", CREATE2)):
        for child in (
            "",
            "33ff",
            "60ef5f5360015ff3",
            "602a5f5560015ff3",
            "5ffd",
            "fe",
            "60205ffd",
        ):
            yield case(
                f"{name} {child}",
                alloc(code),
                [
                    signed(nonce=n, data=bytes.fromhex(child), gas=500_000)
                    for n in range(2)
                ],
            )
        # The endowment cannot be paid and the initcode is too large (EIP-3860).
        body = bytes.fromhex("5f620100005f620f4240f05f55")
        yield case(f"{name} too large and too poor", alloc(body), [signed(gas=900_000)])
    yield case(
        "selfdestruct to itself", alloc(b"\x30\xff"), [signed(), signed(nonce=1)]
    )
    yield case("selfdestruct to new", alloc(b"\x61\x12\x34\xff"), [signed()])
    yield case(
        "environment",
        alloc(
            bytes.fromhex("415f5544600155486002554a600355455f5446600455")
            + bytes.fromhex("436005554260065542600755")
        ),
        [signed()],
    )
    yield case("blockhash", alloc(bytes.fromhex("5f40600055600140600155")), [signed()])
    yield case(
        "mcopy and transient",
        alloc(bytes.fromhex("60205f60015e602a5f5d5f5c5f55")),
        [signed()],
    )
    yield case(
        "modexp without base",
        alloc(precompile_call(5)),
        [
            signed(data=modexp_input(0, 0, 1) + b"\x05"),
            signed(nonce=1, data=modexp_input(0, 1, 1) + b"\x03\x05"),
        ],
    )
    pushes = b"\x61\x5d\xc0\x56" + b"\x60" * 23_996 + b"\x5b"
    yield case("jump behind a run of PUSH1", alloc(pushes), [signed()])
    yield case(
        "jump behind a shorter run",
        alloc(b"\x61\x5d\xbf\x56" + b"\x60" * 23_995 + b"\x5b\x5b"),
        [signed()],
    )
    yield case(
        "access list",
        alloc(STORE_42),
        [signed(type=ACCESS_LIST, access_list=((TARGET, (0, 1)), (OTHER, ())))],
    )
    yield case("legacy", alloc(STORE_42), [signed(type=LEGACY, value=3)])
    yield from delegations()


def delegations() -> Iterator[dict[str, Any]]:
    yield case("delegate and call", alloc(STORE_42), [set_code(authorise())])
    yield case("delegate any chain", alloc(STORE_42), [set_code(authorise(chain_id=0))])
    yield case(
        "delegate other chain", alloc(STORE_42), [set_code(authorise(chain_id=9))]
    )
    yield case("delegate wrong nonce", alloc(STORE_42), [set_code(authorise(nonce=3))])
    yield case(
        "delegate twice",
        alloc(STORE_42),
        [set_code(authorise(), authorise(HELPER, nonce=1))],
    )
    yield case(
        "delegate and clear",
        alloc(STORE_42),
        [set_code(authorise(), authorise(bytes(20), nonce=1))],
    )
    yield case(
        "delegate to a precompile",
        alloc(),
        [set_code(authorise((4).to_bytes(20, "big")), data=b"xx")],
    )
    yield case("delegate, then fail", alloc(b"\xfe"), [set_code(authorise())])
    yield case(
        "delegate, then revert", alloc(bytes.fromhex("5f5ffd")), [set_code(authorise())]
    )
    yield case(
        "delegate a new account",
        {k: v for k, v in alloc(STORE_42).items() if k != OTHER},
        [set_code(authorise())],
    )
    bad = authorise()
    high = Authorization(
        bad.chain_id, bad.address, bad.nonce, bad.y_parity, bad.r, 2**256 - 1
    )
    yield case("delegate high s", alloc(STORE_42), [set_code(high)])
    parity = Authorization(bad.chain_id, bad.address, bad.nonce, 2, bad.r, bad.s)
    yield case("delegate bad parity", alloc(STORE_42), [set_code(parity)])
    # A delegated account sends to itself and creates: initcode must be paid once.
    own = sign_authorization(A, chain_id=CHAIN_ID, address=TARGET, nonce=1)
    yield case(
        "delegated account creates",
        alloc(CREATE),
        [
            set_code(own, to=SENDER, data=bytes(1_000)),
            signed(nonce=2, to=SENDER, data=bytes(1_000)),
        ],
    )
    # A contract that reads and calls a delegated account.
    reader = (
        b"\x73"
        + OTHER
        + b"\x3b\x5f\x55"
        + b"\x73"
        + OTHER
        + b"\x3f\x60\x01\x55"
        + b"\x5f\x5f\x5f\x5f\x5f\x73"
        + OTHER
        + b"\x5a\xf1\x60\x02\x55"
    )
    state = {**alloc(STORE_42), HELPER: (0, 1, reader, {})}
    yield case("read a delegated account", state, [set_code(authorise(), to=HELPER)])


def precompile_call(number: int) -> bytes:
    """Pass call data on; store success, size and first word of the answer."""
    return (
        bytes.fromhex("365f5f37")
        + bytes.fromhex("5f5f365f61")
        + number.to_bytes(2, "big")
        + bytes.fromhex("5afa5f55")
        + bytes.fromhex("3d6001553d5f5f3e5f51600255")
        + bytes.fromhex("3d5f20600355")
    )


def modexp_input(*sizes: int) -> bytes:
    return b"".join(size.to_bytes(32, "big") for size in sizes)


_OPERATIONS = [
    *range(0x01, 0x0C), *range(0x10, 0x1E), 0x20, *range(0x30, 0x40),
    0x40, 0x41, 0x42, 0x43, 0x45, 0x46, 0x47, 0x48, 0x4A, *range(0x50, 0x54),
    0x54, 0x55, 0x58, 0x59, 0x5A, 0x5B, 0x5C, 0x5D, 0x5E, 0xA0, 0xA1, 0xA2,
    0xF0, 0xF1, 0xF2, 0xF4, 0xF5, 0xFA, 0xF3, 0xFD, 0xFF, 0x0C, 0xEF,
]  # fmt: skip
_SMALL = [0, 1, 2, 4, 5, 6, 9, 32, 64, 0x77, 255]


def _operand(random: Random) -> bytes:
    kind = random.random()
    if kind < 0.6:
        return bytes((0x60, random.choice(_SMALL)))
    if kind < 0.7:
        return b"\x73" + random.choice(
            (TARGET, SENDER, OTHER, HELPER, bytes(19) + b"\4", bytes(19) + b"\1")
        )
    if kind < 0.8:
        return b"\x7f" + random.randbytes(32)
    if kind < 0.9:
        return bytes((0x80 + random.randrange(4),))
    return bytes((0x90 + random.randrange(3),))


def _program(random: Random) -> bytes:
    parts = [bytes((0x60, random.choice(_SMALL))) for _ in range(14)]
    for _ in range(random.randrange(5, 80)):
        parts += [_operand(random) for _ in range(random.randrange(4))]
        parts.append(bytes((random.choice(_OPERATIONS),)))
    return b"".join(parts)


def fuzz(count: int, seed: int) -> Iterator[dict[str, Any]]:
    random = Random(seed)  # noqa: S311  (the same cases for everybody)
    for number in range(count):
        state = alloc(_program(random), {0: 1, 1: 2, 4: 5})
        state[HELPER] = (7, 1, _program(random), {0: 3})
        if random.random() < 0.2:
            state[OTHER] = (10**18, 0, b"\xef\x01\x00" + HELPER, {})
        transactions = [
            signed(
                nonce=nonce,
                to=random.choice((TARGET, TARGET, HELPER, OTHER)),
                data=random.randbytes(random.randrange(200)),
                gas=random.choice((60_000, 200_000, 1_000_000)),
                value=random.randrange(3),
            )
            for nonce in range(3)
        ]
        yield case(f"program {seed}/{number}", state, transactions)


def precompile_fuzz(count: int, seed: int) -> Iterator[dict[str, Any]]:
    random = Random(seed)  # noqa: S311  (the same cases for everybody)
    for number in range(count):
        address = random.choice([*range(1, 10), *range(0x0B, 0x12), 5])
        data = _precompile_input(random, address)
        yield case(
            f"precompile 0x{address:02x} {seed}/{number}",
            alloc(precompile_call(address)),
            [signed(data=data, gas=3_000_000)],
        )


def _precompile_input(random: Random, address: int) -> bytes:
    if address == 5:
        sizes = [random.choice((0, 1, 2, 31, 32, 33, 64)) for _ in range(3)]
        body = b"".join(
            random.choice((bytes(size), random.randbytes(size), b"\1" * size))
            for size in sizes
        )
        return (modexp_input(*sizes) + body)[: random.choice((None, None, 100, 97))]
    if address == 9:
        rounds = random.randrange(20).to_bytes(4, "big")
        return rounds + random.randbytes(208) + bytes((random.choice((0, 1, 1, 2)),))
    data = _curve_input(random, address)
    if random.random() < 0.3 and data:
        place = random.randrange(len(data))
        data = data[:place] + random.randbytes(1) + data[place + 1 :]
    if random.random() < 0.1:
        data = data[: random.randrange(len(data) + 1)]
    return data


def _curve_input(random: Random, address: int) -> bytes:
    bls, bn = _curve("optimized_bls12_381"), _curve("optimized_bn128")

    def bn1() -> bytes:
        if random.random() < 0.1:
            return bytes(64)
        x, y = bn.normalize(bn.multiply(bn.G1, random.randrange(1, 2**20)))
        return int(x).to_bytes(32, "big") + int(y).to_bytes(32, "big")

    def bn2() -> bytes:
        if random.random() < 0.1:
            return bytes(128)
        x, y = bn.normalize(bn.multiply(bn.G2, random.randrange(1, 2**10)))
        return b"".join(
            int(each).to_bytes(32, "big")
            for each in (x.coeffs[1], x.coeffs[0], y.coeffs[1], y.coeffs[0])
        )

    def bls1() -> bytes:
        if random.random() < 0.1:
            return bytes(128)
        x, y = bls.normalize(bls.multiply(bls.G1, random.randrange(1, 2**20)))
        return int(x).to_bytes(64, "big") + int(y).to_bytes(64, "big")

    def bls2() -> bytes:
        if random.random() < 0.1:
            return bytes(256)
        x, y = bls.normalize(bls.multiply(bls.G2, random.randrange(1, 2**10)))
        return b"".join(
            int(each).to_bytes(64, "big") for each in (*x.coeffs, *y.coeffs)
        )

    count = random.randrange(1, 3)
    scalar = random.choice((bytes(32), random.randbytes(32), b"\xff" * 32))
    field = random.randrange(bls.field_modulus + 3).to_bytes(64, "big")
    return {
        1: lambda: _recover_input(random),
        2: lambda: random.randbytes(random.randrange(300)),
        3: lambda: random.randbytes(random.randrange(300)),
        4: lambda: random.randbytes(random.randrange(300)),
        6: lambda: bn1() + bn1(),
        7: lambda: bn1() + scalar,
        8: lambda: b"".join(bn1() + bn2() for _ in range(count)),
        0x0B: lambda: bls1() + bls1(),
        0x0C: lambda: (bls1() + scalar) * count,
        0x0D: lambda: bls2() + bls2(),
        0x0E: lambda: (bls2() + scalar) * count,
        0x0F: lambda: b"".join(bls1() + bls2() for _ in range(count)),
        0x10: lambda: field,
        0x11: lambda: field + random.randrange(bls.field_modulus).to_bytes(64, "big"),
    }[address]()


def _curve(name: str) -> Any:  # noqa: ANN401  (py_ecc fills its names at run time)
    return import_module(f"py_ecc.{name}")


def _recover_input(random: Random) -> bytes:
    raw = signed()
    digest = keccak(raw)
    return (
        digest + random.choice((27, 28, 29)).to_bytes(32, "big") + random.randbytes(64)
    )


def committed() -> list[dict[str, Any]]:
    """What `tests/vectors/execution.json` holds."""
    return [*named(), *fuzz(60, 7), *precompile_fuzz(60, 11)]
