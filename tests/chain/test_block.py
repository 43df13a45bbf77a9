from typing import Any

import pytest
from hypothesis import given, strategies as st

from chain import rlp
from chain.block import MAX_BLOCK_BYTES, Block
from chain.errors import Malformed, MalformedBlock
from chain.sidecar import (
    MAX_EVIDENCE_BYTES,
    CommitCertificate,
    CommitSignature,
    Sidecar,
)
from tests.chain.test_header import header
from tests.support.vectors import Vectors

SIGNATURES = st.builds(
    CommitSignature,
    validator=st.binary(min_size=20, max_size=20),
    time=st.integers(0, 2**64 - 1),
    signature=st.binary(min_size=65, max_size=65),
)
CERTIFICATES = st.builds(
    CommitCertificate,
    height=st.integers(0, 2**64 - 1),
    round=st.integers(0, 2**32),
    block_hash=st.binary(min_size=32, max_size=32),
    signatures=st.lists(SIGNATURES, max_size=4).map(tuple),
)
SIDECARS = st.builds(
    Sidecar,
    parent_certificate=st.none() | CERTIFICATES,
    reveal=st.just(b"") | st.binary(min_size=96, max_size=96),
    evidence=st.lists(st.binary(max_size=60), max_size=3).map(tuple),
)
BLOCKS = st.builds(
    Block,
    header=st.builds(header, number=st.integers(0, 2**64 - 1)),
    transactions=st.lists(st.binary(max_size=80), max_size=5).map(tuple),
    sidecar=SIDECARS,
)


@given(BLOCKS)
def test_round_trips(block: Block) -> None:
    assert Block.decode(block.encode()) == block
    assert Block.with_body(block.header, block.encode_body()) == block
    assert Sidecar.decode(block.sidecar.encode()) == block.sidecar
    assert (block.hash, block.number) == (block.header.hash, block.header.number)


@given(CERTIFICATES)
def test_certificates_round_trip(certificate: CommitCertificate) -> None:
    assert CommitCertificate.decode(certificate.encode()) == certificate


@given(SIDECARS, SIDECARS)
def test_the_root_binds_the_sidecar(one: Sidecar, other: Sidecar) -> None:
    assert (one.root() == other.root()) == (one == other)


@given(st.binary(max_size=200))
def test_garbage_is_refused_by_name(data: bytes) -> None:
    for decode in (Block.decode, Sidecar.decode, CommitCertificate.decode):
        with pytest.raises(Malformed):
            decode(data)


@pytest.mark.parametrize(
    "fields",
    [
        {"reveal": b"\1" * 95},
        {"evidence": (b"",) * 65},
        {"evidence": (bytes(MAX_EVIDENCE_BYTES + 1),)},
    ],
)
def test_sidecars_are_bounded(fields: dict[str, Any]) -> None:
    with pytest.raises(MalformedBlock):
        Sidecar(**fields)


def test_certificates_are_bounded() -> None:
    signature = CommitSignature(b"\1" * 20, 7, b"\2" * 65)
    for fields in (
        {"block_hash": b"\1" * 31},
        {"signatures": (signature,) * 1_025},
        {"height": 2**64},
        {"round": -1},
    ):
        values: dict[str, Any] = {
            "height": 1,
            "round": 0,
            "block_hash": b"\1" * 32,
            "signatures": (),
            **fields,
        }
        with pytest.raises(MalformedBlock):
            CommitCertificate(**values)
    with pytest.raises(MalformedBlock):
        CommitSignature(b"\1" * 19, 7, b"\2" * 65)


def test_large_blocks_are_refused_unread() -> None:
    with pytest.raises(MalformedBlock, match="at most"):
        Block.decode(bytes(MAX_BLOCK_BYTES + 1))
    fields: list[rlp.Item] = [header().fields(), [b""] * 5_000, Sidecar().items()]
    with pytest.raises(MalformedBlock, match="5000 transactions"):
        Block.decode(rlp.encode(fields))


def test_vector(vectors: Vectors) -> None:
    sidecar = Sidecar(
        CommitCertificate(
            6, 1, b"\1" * 32, (CommitSignature(b"\2" * 20, 7, b"\3" * 65),)
        ),
        b"\4" * 96,
        (b"evidence",),
    )
    block = Block(header(), (b"one", b"two"), sidecar)
    vectors.check(
        "block",
        {
            "block": block.encode().hex(),
            "body": block.encode_body().hex(),
            "sidecar": sidecar.encode().hex(),
            "sidecar_root": sidecar.root().hex(),
            "empty_sidecar_root": Sidecar().root().hex(),
        },
    )
