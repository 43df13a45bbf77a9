from dataclasses import replace

import pytest

from chain.block import Block
from chain.crypto import keccak
from chain.database import FORMAT, ChainDatabase, node_key
from chain.errors import NotFound, StoreCorrupt, StoreError
from chain.receipt import Log, Receipt
from chain.sidecar import CommitCertificate
from chain.store import Store
from tests.chain.test_header import header

GENESIS = Block(header(number=0, parent_hash=bytes(32)))
CHILD = Block(header(number=1, parent_hash=GENESIS.hash), (b"one", b"two"))
RECEIPTS = (
    Receipt(2, succeeded=True, cumulative_gas_used=21_000, logs=()),
    Receipt(
        2,
        succeeded=True,
        cumulative_gas_used=50_000,
        logs=(Log(b"\1" * 20, (), b"x"),),
    ),
)
CERTIFICATE = CommitCertificate(1, 0, CHILD.hash, ())


def database() -> ChainDatabase:
    found = ChainDatabase(Store.memory())
    found.commit(GENESIS, (), {node_key(b"\3" * 32): b"node"})
    return found


def test_an_empty_database() -> None:
    empty = ChainDatabase(Store.memory())
    assert empty.is_empty()
    assert empty.hash_at(0) is None
    assert empty.block_at(0) is None
    for read in (empty.genesis_hash, empty.head):
        with pytest.raises(NotFound):
            read()


def test_everything_comes_back() -> None:
    found = database()
    found.commit(CHILD, RECEIPTS, {}, certificate=CERTIFICATE)
    assert not found.is_empty()
    assert found.genesis_hash() == GENESIS.hash
    assert found.head() == CHILD.header
    assert found.block(CHILD.hash) == found.block_at(1) == CHILD
    assert found.header_at(0) == GENESIS.header
    assert found.receipts(CHILD.hash) == RECEIPTS
    assert found.encoded_block(CHILD.hash) == CHILD.encode()
    assert found.certificate(CHILD.hash) == CERTIFICATE
    assert found.encoded_certificate(CHILD.hash) == CERTIFICATE.encode()
    assert found.certificate(GENESIS.hash) is None
    assert found.node(b"\3" * 32) == b"node"
    assert found.steps(CHILD.hash) == 0
    location = found.location(keccak(b"two"))
    assert location is not None
    assert (location.block_hash, location.number, location.index) == (CHILD.hash, 1, 1)
    assert list(found.headers(0, 10)) == [GENESIS.header, CHILD.header]


def test_what_is_not_there() -> None:
    found = database()
    assert found.location(bytes(32)) is None
    assert found.hash_at(-1) is found.hash_at(1) is found.hash_at(2**64) is None
    for read in (found.header, found.block, found.receipts, found.node, found.code):
        with pytest.raises(NotFound):
            read(b"\xee" * 32)


def test_only_the_child_of_the_head_is_committed() -> None:
    found = database()
    before = dict(found.store.scan(b""))
    stranger = Block(replace(CHILD.header, parent_hash=b"\xee" * 32))
    for block, receipts, reason in (
        (GENESIS, (), "already holds"),
        (stranger, (), "the head is"),
        (CHILD, RECEIPTS[:1], "1 receipts"),
    ):
        with pytest.raises(StoreError, match=reason):
            found.commit(block, receipts, {})
    assert dict(found.store.scan(b"")) == before
    with pytest.raises(StoreError, match="absent"):
        ChainDatabase(Store.memory()).commit(CHILD, RECEIPTS, {})


def test_a_certificate_may_follow() -> None:
    found = database()
    found.commit(CHILD, RECEIPTS, {})
    assert found.certificate(CHILD.hash) is None
    found.put_certificate(CERTIFICATE)
    assert found.certificate(CHILD.hash) == CERTIFICATE


def test_another_format_is_refused() -> None:
    store = Store.memory()
    store.write({b"f": FORMAT + b"0"})
    with pytest.raises(StoreCorrupt, match="format"):
        ChainDatabase(store)


def test_validator_sets_are_kept_by_hash() -> None:
    found = database()
    with pytest.raises(NotFound, match="no validator set 0101"):
        found.validators(b"\1" * 32)
    found.put_validators({b"\1" * 32: b"one"})
    found.commit(CHILD, RECEIPTS, {}, validators={b"\2" * 32: b"two"})
    assert found.validators(b"\1" * 32) == b"one"
    assert found.validators(b"\2" * 32) == b"two"
    assert found.base() == 1


def test_headers_without_bodies_are_adopted_after_genesis_only() -> None:
    found = database()
    one = header(number=1, parent_hash=GENESIS.hash)
    two = header(number=2, parent_hash=one.hash)
    found.adopt([two, one], 77)
    assert found.head() == two
    assert list(found.headers(0, 9)) == [GENESIS.header, one, two]
    assert found.steps(two.hash) == 77
    assert found.base() == 3
    with pytest.raises(NotFound):
        found.block_at(2)
    child = Block(header(number=3, parent_hash=two.hash))
    found.commit(child, (), {})
    assert found.block_at(3) == child
    with pytest.raises(StoreError, match="ends with genesis"):
        found.adopt([two], 0)
