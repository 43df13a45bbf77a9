"""Restoring a snapshot into an empty database.

The trusted hash says what every record must be, so records are checked one by one as
they come and nothing is kept that was not asked for. Chunks are taken in order; each is
written in one batch together with how far the restoration is, so that a process that
was killed goes on after the last one (within the headers it begins again; they are
few). Another snapshot than the one that was begun starts from nothing. Nodes, codes
and sets lie under their final keys but nothing leads to them: the database stays empty
for everybody else until `finish` has executed the trusted block, and writes genesis,
headers, that block and the head in one batch.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from typing_extensions import override

from chain import rlp
from chain.block import MAX_BLOCK_BYTES, Block
from chain.database import ChainDatabase, code_key, node_key, validators_key
from chain.errors import Malformed
from chain.header import Header
from chain.sidecar import CommitCertificate
from chain.store import Store
from consensus.certificate import verify_certificate
from consensus.errors import ConsensusError, InvalidValidatorSet
from consensus.parts import PART_BYTES
from consensus.validators import ValidatorSet
from node.sync.errors import BadBlockError, BadSnapshotError, SyncError
from node.sync.snapshots import (
    CERTIFICATE,
    CODES,
    HEADER,
    NODE,
    PIECE,
    SET,
    STEPS,
    Manifest,
    lowest,
    named_sets,
    opened_chunk,
)
from node.sync.verification import verify_body
from node.sync.walk import CODE, StateWalk
from runtime.block import ExecutedBlock
from runtime.errors import RuntimeFailure

_TAIL_KEY = b"y"
_PROGRESS_KEY = b"z"
_CLEARED_AT_ONCE = 4_096

Execute = Callable[[ChainDatabase, Header, Block], ExecutedBlock]
_Record = tuple[int, bytes]


@dataclass(frozen=True, slots=True)
class Trust:
    """What the operator trusts.

    Attributes:
        height: Of a block, at least 1.
        block_hash: Of that block.
        genesis: Block 0, from the chain specification.
        genesis_writes: The state it carries.
        history: Headers to keep before `height`, a property of the chain.
    """

    height: int
    block_hash: bytes
    genesis: Block
    genesis_writes: Mapping[bytes, bytes]
    history: int


@dataclass(frozen=True, slots=True)
class _Tail:
    """Everything of a snapshot but sets and state; `headers` descend."""

    headers: tuple[Header, ...]
    block: Block
    certificate: CommitCertificate
    steps: int

    def encode(self) -> bytes:
        return rlp.encode(
            [
                [header.encode() for header in self.headers],
                self.block.encode(),
                self.certificate.encode(),
                rlp.encode_uint(self.steps),
            ]
        )

    @classmethod
    def decode(cls, data: bytes) -> "_Tail":
        items = rlp.decode_list(data, length=4, max_items=len(data))
        headers, block, certificate, steps = items
        return cls(
            tuple(Header.decode(rlp.as_bytes(each)) for each in rlp.as_list(headers)),
            Block.decode(rlp.as_bytes(block)),
            CommitCertificate.decode(rlp.as_bytes(certificate)),
            rlp.as_uint(steps, 64),
        )


def unfinished(store: Store) -> Manifest | None:
    """The snapshot whose restoration was begun here and not brought to its end."""
    data = store.get(_PROGRESS_KEY)
    if data is None:
        return None
    return Manifest.decode(rlp.as_bytes(rlp.decode_list(data, length=3)[0]))


class Restorer:
    """A restoration under way.

    Attributes:
        manifest: Of the snapshot.
        next: Number of the chunk to take next.
    """

    def __init__(
        self, store: Store, manifest: Manifest, trust: Trust, execute: Execute
    ) -> None:
        """Begin, or go on where an earlier process stopped.

        Args:
            store: Without a chain.
            manifest: From a peer or a file.
            trust: What it is held against.
            execute: Holds the trusted block against all rules and executes it on its
                parent, whose state, ancestors and validators are in the database.

        Raises:
            SyncError: the database is not empty.
            BadSnapshotError: the snapshot is of another block.
        """
        if not ChainDatabase(store).is_empty():
            raise SyncError("a snapshot can be restored into an empty database only")
        wanted = (trust.height, trust.block_hash, trust.history)
        if wanted != (manifest.height, manifest.block_hash, manifest.history):
            raise BadSnapshotError(
                f"expected a snapshot of block {trust.height} "
                f"0x{trust.block_hash.hex()} with {trust.history} headers, got block "
                f"{manifest.height} 0x{manifest.block_hash.hex()} with "
                f"{manifest.history}"
            )
        self.manifest = manifest
        self.next = 0
        self._store = store
        self._trust = trust
        self._execute = execute
        self._fresh: dict[bytes, bytes] = {}
        self._walk: StateWalk | None = None
        self._tail: _Tail | None = None
        self._broken = False
        self._reader = _tail_reader(trust, self._fresh)
        next(self._reader)
        self._resume()

    @property
    def complete(self) -> bool:
        """Whether every chunk was taken, and `finish` may be called."""
        return self.next == self.manifest.chunks

    def take(self, chunk: bytes) -> None:
        """Check chunk number `next` and write it.

        Raises:
            BadSnapshotError: some record is not what it must be; nothing was written,
                and this restorer takes no more.
        """
        if self._broken or self.complete:
            raise BadSnapshotError("a chunk after the last one")
        self._broken = True
        for record in opened_chunk(chunk):
            self._take_record(record[0], record[1:])
        self.next += 1
        walk = self._walk
        if (walk is not None and walk.wanted is None) != self.complete:
            raise BadSnapshotError(
                f"after chunk {self.next} of {self.manifest.chunks} the snapshot is "
                f"{'not ' * self.complete}complete"
            )
        if walk is not None:
            self._fresh[_PROGRESS_KEY] = self._progress(walk)
            self._store.write(self._fresh)
            self._fresh.clear()
        self._broken = False

    def _take_record(self, kind: int, content: bytes) -> None:
        if self._walk is None:
            try:
                self._reader.send((kind, content))
            except StopIteration as done:
                tail: _Tail = done.value
                self._tail = tail
                self._fresh[_TAIL_KEY] = tail.encode()
                self._walk = StateWalk.of(self._parent(tail).state_root, self._has_code)
            return
        wanted, digest = self._walk.take(content)
        if kind != (CODES if wanted == CODE else NODE):
            raise BadSnapshotError(f"a piece of the state of kind {kind}")
        key = code_key if wanted == CODE else node_key
        self._fresh[key(digest)] = content

    def _parent(self, tail: _Tail) -> Header:
        return tail.headers[1] if len(tail.headers) > 1 else self._trust.genesis.header

    def _has_code(self, digest: bytes) -> bool:
        key = code_key(digest)
        return key in self._fresh or self._store.get(key) is not None

    # -- progress ---------------------------------------------------------------------

    def _progress(self, walk: StateWalk) -> bytes:
        stack: list[rlp.Item] = [
            [rlp.encode_uint(kind), digest] for kind, digest in walk.stack
        ]
        return rlp.encode([self.manifest.encode(), rlp.encode_uint(self.next), stack])

    def _resume(self) -> None:
        data, tail = self._store.get(_PROGRESS_KEY), self._store.get(_TAIL_KEY)
        if data is None or tail is None:
            self._clear()
            return
        manifest, position, stack = rlp.decode_list(data, length=3)
        if rlp.as_bytes(manifest) != self.manifest.encode():
            self._clear()
            return
        pairs = (rlp.as_list(each, 2) for each in rlp.as_list(stack))
        self._walk = StateWalk(
            [(rlp.as_uint(kind), rlp.as_bytes(digest)) for kind, digest in pairs],
            self._has_code,
        )
        self._tail = _Tail.decode(tail)
        self.next = rlp.as_uint(position, 64)

    def _clear(self) -> None:
        """Remove what another restoration left, its progress first."""
        self._store.write({}, [_PROGRESS_KEY, _TAIL_KEY])
        rows = (key for key, _ in self._store.scan(b""))
        while batch := tuple(islice(rows, _CLEARED_AT_ONCE)):
            self._store.write({}, batch, sync=False)

    # -- the end ----------------------------------------------------------------------

    def finish(self) -> Header:
        """Execute the trusted block, and make the chain visible; return its header.

        Raises:
            BadSnapshotError: chunks are missing, or the block does not execute to what
                its header says: then the steps of the parent are false.
        """
        tail, trust = self._tail, self._trust
        if tail is None or not self.complete:
            raise BadSnapshotError(
                f"{self.next} of {self.manifest.chunks} chunks were taken"
            )
        overlay = _Overlay(self._store)
        database = ChainDatabase(overlay)
        database.commit(trust.genesis, (), trust.genesis_writes)
        if len(tail.headers) > 1:
            database.adopt(tail.headers[1:], tail.steps)
        try:
            executed = self._execute(database, self._parent(tail), tail.block)
        except (RuntimeFailure, ConsensusError) as error:
            raise BadSnapshotError(
                f"block {trust.height} does not execute on this snapshot: {error}"
            ) from error
        database.commit(
            executed.block,
            executed.receipts,
            executed.writes,
            certificate=tail.certificate,
        )
        self._store.write(overlay.puts, [_PROGRESS_KEY, _TAIL_KEY])
        return tail.block.header


def _tail_reader(
    trust: Trust, fresh: dict[bytes, bytes]
) -> Generator[None, _Record, _Tail]:
    """Takes one record after the other; returns when the state begins."""
    headers: list[Header] = []
    wanted = trust.block_hash
    for number in range(trust.height, lowest(trust.height, trust.history) - 1, -1):
        headers.append(_header(_expected(HEADER, (yield)), number, wanted))
        wanted = headers[-1].parent_hash
    if headers[-1].number == 1 and wanted != trust.genesis.hash:
        raise BadSnapshotError("the headers do not lead to the genesis block")
    pieces: list[bytes] = []
    kind, content = yield
    while kind == PIECE:
        if pieces and len(pieces[-1]) != PART_BYTES:
            raise BadSnapshotError("a piece of the block is too short")
        if len(pieces) * PART_BYTES >= MAX_BLOCK_BYTES:
            raise BadSnapshotError("the block is too large")
        pieces.append(content)
        kind, content = yield
    block = _block(headers[0], b"".join(pieces))
    encoded = _expected(CERTIFICATE, (kind, content))
    sets: dict[bytes, ValidatorSet] = {}
    for digest in named_sets(headers, trust.genesis.header):
        found = _expected(SET, (yield))
        sets[digest] = _set(found, digest)
        fresh[validators_key(digest)] = found
    parent = headers[1] if len(headers) > 1 else trust.genesis.header
    certificate = _certificate(trust, encoded, sets[parent.extra_data])
    steps = _expected(STEPS, (yield))
    if len(steps) != 8:
        raise BadSnapshotError(f"steps: expected 8 bytes, got {len(steps)}")
    return _Tail(tuple(headers), block, certificate, int.from_bytes(steps))


def _expected(kind: int, record: _Record) -> bytes:
    if record[0] != kind:
        raise BadSnapshotError(f"expected a record of kind {kind}, got {record[0]}")
    return record[1]


def _header(content: bytes, number: int, wanted: bytes) -> Header:
    try:
        header = Header.decode(content)
    except Malformed as error:
        raise BadSnapshotError(f"header of block {number}: {error}") from error
    if (header.number, header.hash) != (number, wanted):
        raise BadSnapshotError(
            f"expected header {number} 0x{wanted.hex()}, got header {header.number} "
            f"0x{header.hash.hex()}"
        )
    return header


def _block(header: Header, encoded: bytes) -> Block:
    try:
        block = Block.decode(encoded)
        if block.hash != header.hash:
            raise BadSnapshotError(f"the block is 0x{block.hash.hex()}")
        verify_body(block)
    except (Malformed, BadBlockError) as error:
        raise BadSnapshotError(f"block {header.number}: {error}") from error
    return block


def _set(encoded: bytes, digest: bytes) -> ValidatorSet:
    try:
        found = ValidatorSet.decode(encoded)
    except InvalidValidatorSet as error:
        raise BadSnapshotError(f"validator set: {error}") from error
    if found.hash != digest:
        raise BadSnapshotError(
            f"expected validator set 0x{digest.hex()}, got 0x{found.hash.hex()}"
        )
    return found


def _certificate(
    trust: Trust, encoded: bytes, validators: ValidatorSet
) -> CommitCertificate:
    try:
        certificate = CommitCertificate.decode(encoded)
        verify_certificate(
            trust.genesis.hash,
            certificate,
            validators,
            height=trust.height,
            block_hash=trust.block_hash,
        )
    except (Malformed, ConsensusError) as error:
        raise BadSnapshotError(f"certificate: {error}") from error
    return certificate


class _Overlay(Store):
    """Writes that are seen here and nowhere else yet."""

    def __init__(self, below: Store) -> None:
        self._below = below
        self.puts: dict[bytes, bytes] = {}

    @override
    def get(self, key: bytes) -> bytes | None:
        found = self.puts.get(key)
        return self._below.get(key) if found is None else found

    @override
    def write(
        self,
        puts: Mapping[bytes, bytes],
        deletes: Iterable[bytes] = (),
        *,
        sync: bool = True,
    ) -> None:
        if any(True for _ in deletes):
            raise SyncError("nothing is deleted while a snapshot is restored")
        self.puts.update(puts)

    @override
    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        below = dict(self._below.scan(prefix))
        own = {key: value for key, value in self.puts.items() if key.startswith(prefix)}
        yield from sorted((below | own).items())

    @override
    def compact(self) -> None:
        """Nothing to give back."""

    @override
    def close(self) -> None:
        """Nothing to release."""


def restore(restorer: Restorer, found: Sequence[bytes] | Iterator[bytes]) -> Header:
    """Take all chunks of a snapshot from the first on, and finish.

    Chunks that an earlier process took are passed over.

    Raises:
        BadSnapshotError: as `Restorer.take` and `finish`.
    """
    for index, chunk in enumerate(found):
        if index >= restorer.next:
            restorer.take(chunk)
    return restorer.finish()
