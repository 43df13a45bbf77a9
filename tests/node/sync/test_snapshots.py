"""Snapshots: made, restored, resumed, and refused for every false record."""

import io
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from chain import rlp
from chain.block import Block
from chain.crypto import keccak, sha256
from chain.database import ChainDatabase
from chain.errors import Malformed
from chain.store import Store
from consensus.errors import InvalidProposal
from node.sync.errors import BadSnapshotError, SyncError
from node.sync.merkle import Tree, leads_to
from node.sync.restore import Restorer, Trust, restore
from node.sync.snapshotfile import SnapshotFile, write_snapshot
from node.sync.snapshots import (
    CERTIFICATE,
    CODES,
    HEADER,
    NODE,
    PIECE,
    SET,
    STEPS,
    Manifest,
    chunks,
    opened_chunk,
    records,
)
from node.sync.walk import CODE, StateWalk
from tests.consensus.committee import Committee
from tests.node.sync.chains import Chain, execute
from tests.node.tiny import DOUBLER_CODE, LOGGER_CODE, found

HISTORY = 256
HEIGHT = 12


@cache
def chain() -> Chain:
    made = Chain(committees={6: Committee(2, 1, 1), 11: Committee(1, 1, 1, 1)})
    made.grow(8)
    made.grow(2, [bytes(100) + bytes((n,)) for n in range(30)])
    made.grow(5, [bytes(70_000)] * 3)
    return made


@cache
def genesis() -> tuple[Block, dict[bytes, bytes]]:
    store = Store.memory()
    block = found(store).block_at(0)
    assert block is not None
    return block, dict(store.scan(b"s")) | dict(store.scan(b"k"))


def trust(height: int = HEIGHT) -> Trust:
    block, writes = genesis()
    return Trust(height, chain().block(height).hash, block, writes, HISTORY)


def all_chunks(height: int = HEIGHT) -> list[bytes]:
    return list(chunks(records(chain().database, height, HISTORY)))


def manifest_of(found_chunks: list[bytes], height: int = HEIGHT) -> Manifest:
    root = Tree([sha256(each) for each in found_chunks]).root
    block_hash = chain().block(height).hash
    return Manifest(height, block_hash, HISTORY, len(found_chunks), root)


def small(found_records: list[bytes], size: int = 3) -> list[bytes]:
    """Chunks of a few records, so that there are many."""
    return [
        rlp.encode(found_records[start : start + size])
        for start in range(0, len(found_records), size)
    ]


def restorer(store: Store, found_chunks: list[bytes], height: int = HEIGHT) -> Restorer:
    return Restorer(store, manifest_of(found_chunks, height), trust(height), execute)


@pytest.mark.parametrize("height", [1, 2, 7, HEIGHT])
def test_a_restored_node_goes_on_with_the_chain(height: int) -> None:
    store = Store.memory()
    content = all_chunks(height)
    assert restore(restorer(store, content, height), content).number == height
    database = ChainDatabase(store)
    block = chain().block(height)
    assert database.head() == block.header
    assert database.base() == height
    assert database.block_at(height) == block
    assert database.genesis_hash() == chain().database.genesis_hash()
    expected = chain().database.certificate(block.hash)
    assert database.certificate(block.hash) == expected
    assert database.receipts(block.hash) == chain().database.receipts(block.hash)
    assert database.steps(block.hash) == chain().database.steps(block.hash)
    for number in range(height + 1):
        assert database.header_at(number) == chain().database.header_at(number)
    assert not list(store.scan(b"y"))
    assert not list(store.scan(b"z"))
    for number in range(height + 1, 16):
        following = chain().block(number)
        executed = execute(database, database.head(), following)
        database.commit(following, executed.receipts, executed.writes)
    assert database.head() == chain().database.head()


def test_a_snapshot_of_the_head() -> None:
    store = Store.memory()
    content = all_chunks(15)
    restore(restorer(store, content, 15), content)
    assert ChainDatabase(store).head() == chain().database.head()


def test_old_headers_are_left_out() -> None:
    long = Chain()
    long.grow(260, [])
    content = list(chunks(records(long.database, 259, HISTORY)))
    headers = [r for c in content for r in opened_chunk(c) if r[0] == HEADER]
    assert len(headers) == HISTORY + 1
    block, writes = genesis()
    root = Tree([sha256(each) for each in content]).root
    wanted = long.block(259).hash
    manifest = Manifest(259, wanted, HISTORY, len(content), root)
    store = Store.memory()
    made = Restorer(
        store, manifest, Trust(259, wanted, block, writes, HISTORY), execute
    )
    restore(made, content)
    database = ChainDatabase(store)
    assert database.header_at(2) is None
    assert database.header_at(3) == long.database.header_at(3)
    following = long.block(260)
    assert execute(database, database.head(), following).header == following.header


def test_nothing_is_visible_before_the_end_and_it_resumes_at_every_chunk() -> None:
    content = small(list(records(chain().database, HEIGHT, HISTORY)))
    store = Store.memory()
    taken = 0
    while True:
        made = restorer(store, content)
        assert made.next in (0, taken)
        if made.complete:
            break
        made.take(content[made.next])
        while made.next < made.manifest.chunks and made.next <= taken:
            made.take(content[made.next])
        taken = made.next
        assert ChainDatabase(store).is_empty()
    assert made.finish() == chain().block(HEIGHT).header
    assert not ChainDatabase(store).is_empty()


def test_another_snapshot_may_be_begun_in_the_same_database() -> None:
    store = Store.memory()
    content = small(list(records(chain().database, HEIGHT, HISTORY)))
    half = restorer(store, content)
    for chunk in content[: len(content) - 2]:
        half.take(chunk)
    other = all_chunks(15)
    assert restore(restorer(store, other, 15), other).number == 15


def test_a_full_database_is_refused() -> None:
    with pytest.raises(SyncError, match="empty database only"):
        restorer(chain().database.store, all_chunks())


@pytest.mark.parametrize(
    "change", [{"height": 3}, {"block_hash": bytes(32)}, {"history": 300}]
)
def test_a_snapshot_of_another_block_is_refused(change: dict[str, object]) -> None:
    manifest = replace(manifest_of(all_chunks()), **change)  # type: ignore[arg-type]
    with pytest.raises(BadSnapshotError, match="expected a snapshot of block 12"):
        Restorer(Store.memory(), manifest, trust(), execute)


Rows = list[bytes]


def _index(rows: Rows, kind: int) -> int:
    return next(index for index, row in enumerate(rows) if row[0] == kind)


def _swap(kind: int, content: Callable[[bytes], bytes]) -> Callable[[Rows], None]:
    def spoil(rows: Rows) -> None:
        at = _index(rows, kind)
        rows[at] = rows[at][:1] + content(rows[at][1:])

    return spoil


def _drop(kind: int) -> Callable[[Rows], None]:
    def spoil(rows: Rows) -> None:
        del rows[_index(rows, kind)]

    return spoil


def _twice(kind: int) -> Callable[[Rows], None]:
    return lambda rows: rows.insert(_index(rows, kind), rows[_index(rows, kind)])


def _flipped(data: bytes) -> bytes:
    return data[:-1] + bytes((data[-1] ^ 1,))


@pytest.mark.parametrize("kind", [HEADER, PIECE, CERTIFICATE, SET, STEPS, NODE, CODES])
@pytest.mark.parametrize("how", ["flip", "cut", "drop", "twice", "empty", "kind"])
def test_no_record_can_lie(kind: int, how: str) -> None:
    rows = list(records(chain().database, HEIGHT, HISTORY))
    spoils: dict[str, Callable[[Rows], None]] = {
        "flip": _swap(kind, _flipped),
        "cut": _swap(kind, lambda data: data[:-1]),
        "drop": _drop(kind),
        "twice": _twice(kind),
        "empty": _swap(kind, lambda _: b""),
        "kind": lambda rows: rows.__setitem__(
            _index(rows, kind), b"\x09" + rows[_index(rows, kind)][1:]
        ),
    }
    spoils[how](rows)
    content = small(rows)
    store = Store.memory()
    if (kind, how) == (STEPS, "flip"):
        _check_false_steps(store, content)
        return
    with pytest.raises(BadSnapshotError):
        restore(restorer(store, content), content)
    assert ChainDatabase(store).is_empty()


def _check_false_steps(store: Store, content: list[bytes]) -> None:
    """Few steps more or less change nothing that block 12 commits to."""
    restore(restorer(store, content), content)
    assert ChainDatabase(store).head() == chain().block(HEIGHT).header


def test_false_steps_that_matter_are_found_by_executing() -> None:
    rows = list(records(chain().database, HEIGHT, HISTORY))
    rows[_index(rows, STEPS)] = bytes((STEPS,)) + (2**63).to_bytes(8)
    content = small(rows)
    store = Store.memory()
    with pytest.raises(BadSnapshotError, match="does not execute on this snapshot"):
        restore(restorer(store, content), content)
    assert ChainDatabase(store).is_empty()


def test_a_block_that_consensus_refuses_is_not_restored() -> None:
    def refuse(*_: object) -> None:
        raise InvalidProposal("evidence", 0, 1)

    content = all_chunks()
    made = Restorer(Store.memory(), manifest_of(content), trust(), refuse)  # type: ignore[arg-type]
    with pytest.raises(BadSnapshotError, match="evidence: expected 0"):
        restore(made, content)


@pytest.mark.parametrize("extra", [b"\x06node", b"\x07code", b"\x01", b"\x09"])
def test_nothing_may_follow(extra: bytes) -> None:
    rows = [*records(chain().database, HEIGHT, HISTORY), extra]
    content = small(rows)
    with pytest.raises(BadSnapshotError):
        restore(restorer(Store.memory(), content), content)
    content = [*all_chunks(), rlp.encode([extra])]
    with pytest.raises(BadSnapshotError):
        restore(restorer(Store.memory(), content), content)


def test_an_early_end_is_found() -> None:
    content = small(list(records(chain().database, HEIGHT, HISTORY)))
    made = restorer(Store.memory(), content)
    with pytest.raises(BadSnapshotError, match="chunks were taken"):
        made.finish()
    short = content[:-1]
    with pytest.raises(BadSnapshotError, match="is not complete"):
        restore(restorer(Store.memory(), short), short)
    complete = restorer(Store.memory(), content)
    restore(complete, content)
    with pytest.raises(BadSnapshotError, match="after the last one"):
        complete.take(content[0])


@pytest.mark.parametrize(
    "chunk", [b"", b"\xc0", b"\x81", rlp.encode([b""]), rlp.encode([[b"\x01"]])]
)
def test_malformed_chunks_are_refused(chunk: bytes) -> None:
    with pytest.raises(BadSnapshotError):
        opened_chunk(chunk)


def test_a_huge_chunk_is_refused_before_it_is_read() -> None:
    with pytest.raises(BadSnapshotError, match="are possible"):
        opened_chunk(bytes(1 << 20))


def test_what_is_not_here_cannot_be_given() -> None:
    database = chain().database
    for height, history, reason in (
        (0, HISTORY, "no block 0"),
        (99, HISTORY, "no block 99"),
        (3, 255, "history: expected 256"),
    ):
        with pytest.raises(SyncError, match=reason):
            list(records(database, height, history))
    store = Store.memory()
    content = all_chunks()
    restore(restorer(store, content), content)
    with pytest.raises(SyncError, match="cannot make a snapshot of block 11"):
        list(records(ChainDatabase(store), 11, HISTORY))
    again = list(chunks(records(ChainDatabase(store), HEIGHT, HISTORY)))
    assert again == content  # the same chunks, whoever makes them


def test_manifests() -> None:
    manifest = manifest_of(all_chunks())
    assert Manifest.decode(manifest.encode()) == manifest
    for change in (
        {"height": 0},
        {"chunks": 0},
        {"chunks": 1 << 23},
        {"history": 255},
    ):
        bad = replace(manifest, **change)  # type: ignore[arg-type]
        with pytest.raises(Malformed, match="impossible manifest"):
            Manifest.decode(bad.encode())
    with pytest.raises(Malformed, match="version 2"):
        Manifest.decode(_version(manifest.encode(), 2))
    with pytest.raises(Malformed, match="200 bytes"):
        Manifest.decode(bytes(200))


def _version(encoded: bytes, version: int) -> bytes:
    items = rlp.decode_list(encoded)
    items[0] = rlp.encode_uint(version)
    return rlp.encode(items)


def test_each_code_comes_once() -> None:
    rows = list(records(chain().database, HEIGHT, HISTORY))
    codes = [row[1:] for row in rows if row[0] == CODES]
    assert sorted(codes) == sorted([DOUBLER_CODE, LOGGER_CODE])


def test_a_walk_refuses_what_is_no_node() -> None:
    node = rlp.encode([b"\x20", b"not an account"])
    walk = StateWalk.of(keccak(node), lambda _: False)
    with pytest.raises(BadSnapshotError, match="is no trie node"):
        walk.take(node)
    walk = StateWalk([(CODE, keccak(b"x"))], lambda _: True)
    assert walk.wanted is None
    with pytest.raises(BadSnapshotError, match="more of it comes"):
        walk.take(b"x")


@given(st.lists(st.binary(max_size=4), min_size=1, max_size=40), st.data())
def test_proofs_hold_for_their_chunk_alone(
    content: list[bytes], data: st.DataObject
) -> None:
    tree = Tree([sha256(each) for each in content])
    count = len(content)
    index = data.draw(st.integers(0, count - 1))
    chunk, proof = content[index], tree.proof(index)
    assert leads_to(tree.root, index, count, chunk, proof)
    assert not leads_to(tree.root, index, count, chunk + b"x", proof)
    assert not leads_to(tree.root, index, count + 1, chunk, proof)
    assert not leads_to(tree.root, index, count, chunk, (*proof, bytes(32)))
    assert not leads_to(tree.root, index, count, chunk, proof[:-1]) or not proof
    assert not leads_to(tree.root, count, count, chunk, proof)


def test_a_tree_of_nothing_is_none() -> None:
    with pytest.raises(ValueError, match="at least one leaf"):
        Tree([])


# -- files -----------------------------------------------------------------------------


def test_a_file_holds_a_snapshot(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    manifest = write_snapshot(path, chain().database, HEIGHT, HISTORY)
    assert [each.name for each in tmp_path.iterdir()] == ["snapshot"]
    with path.open("rb") as stream:
        opened = SnapshotFile(stream)
        assert opened.manifest == manifest == manifest_of(all_chunks())
        assert list(opened) == all_chunks()
        for index, chunk in enumerate(opened):
            proof = opened.proof(index)
            assert leads_to(manifest.root, index, manifest.chunks, chunk, proof)
        store = Store.memory()
        made = Restorer(store, opened.manifest, trust(), execute)
        assert restore(made, iter(opened)).number == HEIGHT


def test_every_cut_and_every_flipped_byte_is_found(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    tiny = Chain()
    tiny.grow(2, [])
    manifest = write_snapshot(path, tiny.database, 2, HISTORY)
    content = path.read_bytes()
    for size in range(0, len(content), 7):
        with pytest.raises(BadSnapshotError):
            list(SnapshotFile(io.BytesIO(content[:size])))
    with pytest.raises(BadSnapshotError, match="after the end"):
        SnapshotFile(io.BytesIO(content + b"x"))
    for at in range(0, len(content), 5):
        damaged = bytearray(content)
        damaged[at] ^= 0x55
        try:
            opened = SnapshotFile(io.BytesIO(bytes(damaged)))
            list(opened)
        except BadSnapshotError:
            continue
        # Of which block it is, is for whoever trusts one to say.
        assert opened.manifest != manifest
