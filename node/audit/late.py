"""An audit of a history that does not begin with block 1.

A pruned node, or one that began at a snapshot, has the state of one block and every
block after it. Those are executed as always; what they rest on is taken from the
database as far as hashes allow, and the report says so.
"""

from chain.block import Block
from chain.crypto import keccak
from chain.database import (
    BASE_KEY,
    STATE_BASE_KEY,
    ChainDatabase,
    code_key,
    node_key,
    steps_key,
    validators_key,
)
from chain.errors import Malformed, MalformedRLP
from chain.header import Header
from chain.receipt import Receipt
from chain.trie import ordered_root
from consensus.errors import InvalidValidatorSet
from consensus.validators import ValidatorSet
from node.audit.comparison import AuditMismatch, equal
from node.audit.sources import Beginning, DatabaseSource, Source
from node.chainfile import Record
from node.sync.errors import BadBlockError, BadSnapshotError
from node.sync.verification import verify_body
from node.sync.walk import CODE, StateWalk

_NODES_AT_ONCE = 4_096


def take_headers(
    source: DatabaseSource, database: ChainDatabase, beginning: Beginning
) -> int:
    """Adopt the headers before the first whole block; returns how many entries.

    Raises:
        AuditMismatch: they are no chain, or not of this genesis.
    """
    number = beginning.block
    wanted = _header(source, number).parent_hash
    headers: list[Header] = []
    while number > 1:
        number -= 1
        if source.find(number, b"n" + number.to_bytes(8)) is None:
            break
        header = _header(source, number)
        equal(number, "hash", wanted, header.hash)
        headers.append(header)
        wanted = header.parent_hash
    else:
        equal(1, "parentHash", database.genesis_hash(), wanted)
    if headers:
        steps = source.raw(headers[0].number, steps_key(headers[0].hash))
        database.adopt(headers, int.from_bytes(steps))
    for header in headers:
        database.put_validators(take_set(source, header.number, header.extra_data))
    pointers = {
        key: value
        for key in (BASE_KEY, STATE_BASE_KEY)
        if (value := source.find(0, key)) is not None
    }
    database.store.write(pointers)
    return 2 * len(headers)


def _header(source: DatabaseSource, number: int) -> Header:
    digest = source.raw(number, b"n" + number.to_bytes(8))
    encoded = source.raw(number, b"h" + digest)
    equal(number, "header", digest, keccak(encoded))
    try:
        header = Header.decode(encoded)
    except Malformed as error:
        raise AuditMismatch(number, "header", "well-formed bytes", error) from error
    equal(number, "number", number, header.number)
    return header


def take_set(source: Source, number: int, digest: bytes) -> dict[bytes, bytes]:
    """The encoded validator set that a header names, by its hash.

    Raises:
        AuditMismatch: it is missing or another one.
    """
    if not isinstance(source, DatabaseSource):
        return {}
    encoded = source.raw(number, validators_key(digest))
    try:
        found = ValidatorSet.decode(encoded).hash
    except InvalidValidatorSet as error:
        raise AuditMismatch(number, "validator set", digest, error) from error
    equal(number, "validator set", digest, found)
    return {digest: encoded}


def take_body(record: Record) -> tuple[Receipt, ...]:
    """The receipts of a block that is held against its header, not executed.

    Raises:
        AuditMismatch: body or receipts are not those of the header.
    """
    block: Block = record.block
    number = block.number
    try:
        verify_body(block)
        receipts = tuple(map(Receipt.decode, record.receipts))
    except (BadBlockError, Malformed) as error:
        raise AuditMismatch(number, "body", "that of the header", error) from error
    equal(
        number,
        "receiptsRoot",
        block.header.receipts_root,
        ordered_root(record.receipts),
    )
    return receipts


def take_state(source: DatabaseSource, database: ChainDatabase, number: int) -> int:
    """Copy the state of a block, every node under its hash; returns how many entries.

    Raises:
        AuditMismatch: a node or code is missing or another one.
    """
    header = database.header_at(number)
    if header is None:
        raise AuditMismatch(number, "header", "one", "none")
    fresh: dict[bytes, bytes] = {}
    codes: set[bytes] = set()
    count = 0
    walk = StateWalk.of(header.state_root, codes.__contains__)
    while (wanted := walk.wanted) is not None:
        kind, digest = wanted
        key = code_key(digest) if kind == CODE else node_key(digest)
        fresh[key] = source.raw(number, key)
        try:
            walk.take(fresh[key])
        except (BadSnapshotError, MalformedRLP) as error:
            raise AuditMismatch(number, "state", f"0x{digest.hex()}", error) from error
        if kind == CODE:
            codes.add(digest)
        count += 1
        if len(fresh) >= _NODES_AT_ONCE:
            database.store.write(fresh, sync=False)
            fresh.clear()
    database.store.write(fresh, sync=False)
    return count
