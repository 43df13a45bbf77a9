"""Chain files: the vector, the round trip, and a refusal for every defect."""

import io
from hashlib import sha256

import pytest
from hypothesis import given, strategies as st

from chain.receipt import Receipt
from chain.sidecar import Sidecar
from node.chainfile import (
    MAX_RECORD_BYTES,
    MAX_SPEC_BYTES,
    ChainFileReader,
    Record,
    write_chain_file,
)
from node.errors import ChainFileError
from tests.node.blocks import make_block, make_certificate, make_transaction
from tests.support.vectors import Vectors

SPEC = b'{"chain_id": 4242}'


def records() -> list[Record]:
    genesis = make_block(0)
    first = make_block(1, 5, (make_transaction(0), make_transaction(1, kind=0)))
    sidecar = Sidecar(make_certificate(first), b"\x05" * 96, ())
    second = make_block(2, 6, (), sidecar)
    receipts = (
        Receipt(2, succeeded=True, cumulative_gas_used=21_000, logs=()).encode(),
        Receipt(0, succeeded=True, cumulative_gas_used=42_000, logs=()).encode(),
    )
    return [
        Record(genesis, (), None, 0),
        Record(first, receipts, make_certificate(first), 300),
        Record(second, (), make_certificate(second), 7),
    ]


def written(chain: list[Record] | None = None) -> bytes:
    stream = io.BytesIO()
    write_chain_file(stream, SPEC, records() if chain is None else chain)
    return stream.getvalue()


def read(content: bytes) -> list[Record]:
    reader = ChainFileReader(io.BytesIO(content))
    assert reader.specification == SPEC
    return list(reader.records())


def computed() -> dict[str, object]:
    """One small file, whole, with what a reader finds in it."""
    return {
        "file": "0x" + written().hex(),
        "specification": SPEC.decode(),
        "blocks": [
            {
                "hash": "0x" + record.block.hash.hex(),
                "transactions": len(record.block.transactions),
                "receipts": ["0x" + each.hex() for each in record.receipts],
                "steps": record.steps,
            }
            for record in records()
        ],
    }


def test_vectors(vectors: Vectors) -> None:
    vectors.check("chain_file", computed())


def test_what_was_written_is_read() -> None:
    assert read(written()) == records()


def test_empty_chain_is_a_file_too() -> None:
    assert read(written([])) == []


def test_writer_counts_records() -> None:
    assert write_chain_file(io.BytesIO(), SPEC, records()) == 3


@given(st.integers(0, len(written()) - 1))
def test_every_truncation_is_noticed(size: int) -> None:
    with pytest.raises(ChainFileError, match="cut off"):
        read(written()[:size])


@given(st.integers(0, 8 * len(written()) - 1))
def test_every_flipped_bit_is_noticed(bit: int) -> None:
    content = bytearray(written())
    content[bit // 8] ^= 1 << (bit % 8)
    try:
        reader = ChainFileReader(io.BytesIO(bytes(content)))
        found = list(reader.records())
    except ChainFileError as error:
        assert str(error)  # noqa: PT017 - either outcome is a refusal
    else:
        pytest.fail(f"bit {bit} flipped, and {len(found)} records were read")


def test_bytes_after_the_end_are_refused() -> None:
    with pytest.raises(ChainFileError, match="bytes after the end"):
        read(written() + b"\0")


def test_missing_height_is_refused() -> None:
    chain = records()
    with pytest.raises(ChainFileError, match="expected block 1, got 2"):
        read(written([chain[0], chain[2]]))


HEAD = b"LOCKSTEP" + b"\0\1"
LARGE_SPEC = (MAX_SPEC_BYTES + 1).to_bytes(4)
LARGE_RECORD = b"\0\0\0\0" + b"\1" + (MAX_RECORD_BYTES + 1).to_bytes(4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"LOCKSTEQ" + b"\0\1" + bytes(4), "not a chain file"),
        (b"LOCKSTEP" + b"\0\2" + bytes(4), "version 2"),
        (HEAD + LARGE_SPEC, "specification of 4194305 bytes, at most 4194304"),
        (HEAD + LARGE_RECORD, "block 0 of 33554433 bytes, at most 33554432"),
        (HEAD + bytes(4) + b"\7" + bytes(4), "byte 14: unknown tag 7"),
        (HEAD + bytes(4) + b"\1" + b"\0\0\0\1" + b"\xc0", "block 0: expected a list"),
        (HEAD + bytes(4) + b"\0" + b"\0\0\0\1" + b"\0", "the end must have 40 bytes"),
    ],
    ids=["magic", "version", "spec", "record", "tag", "payload", "end"],
)
def test_defects_are_named(content: bytes, message: str) -> None:
    with pytest.raises(ChainFileError, match=message):
        list(ChainFileReader(io.BytesIO(content)).records())


def test_wrong_count_is_refused() -> None:
    body = written()[:-40]
    content = body + (9).to_bytes(8) + sha256(body[:-5]).digest()
    with pytest.raises(ChainFileError, match="announces 9 blocks and holds 3"):
        read(content)


def test_writer_refuses_what_no_reader_accepts() -> None:
    with pytest.raises(ChainFileError, match="specification"):
        write_chain_file(io.BytesIO(), bytes(MAX_SPEC_BYTES + 1), [])
    huge = Record(make_block(0), (bytes(MAX_RECORD_BYTES),), None, 0)
    with pytest.raises(ChainFileError, match="block 0"):
        write_chain_file(io.BytesIO(), SPEC, [huge])
