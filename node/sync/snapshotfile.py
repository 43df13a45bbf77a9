"""A snapshot as a file, written once, then read at random (docs/spec/sync.md).

    "LOCKSNAP" || uint16 version || chunks || uint32 0 || hashes || manifest
    chunk    = uint32 length || bytes
    hashes   = SHA-256 of every chunk, 32 bytes each
    manifest = uint32 length || bytes

Only the lengths are believed while the file is opened, and only within their bounds;
chunks are held against the hashes and the manifest's root when they are read.
"""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from chain.crypto import sha256
from chain.database import ChainDatabase
from chain.errors import Malformed
from node.sync.errors import BadSnapshotError
from node.sync.merkle import HASH_BYTES, Tree
from node.sync.snapshots import (
    MAX_CHUNK_BYTES,
    MAX_CHUNKS,
    MAX_MANIFEST_BYTES,
    VERSION,
    Manifest,
    chunks,
    records,
)

MAGIC = b"LOCKSNAP"
_HEAD = MAGIC + VERSION.to_bytes(2)


def write_snapshot(
    path: Path,
    database: ChainDatabase,
    height: int,
    history: int,
    progress: Callable[[int], None] = lambda _: None,
) -> Manifest:
    """Make a snapshot of a height; the file appears when it is complete.

    Args:
        path: Of the file.
        database: A full node's.
        height: From 1 to the head.
        history: See `node.sync.snapshots.records`.
        progress: Told how many chunks are written; what it raises ends the work.

    Raises:
        SyncError: the database lacks something.
    """
    temporary = path.with_name(path.name + ".part")
    digests: list[bytes] = []
    with temporary.open("wb") as stream:
        stream.write(_HEAD)
        for chunk in chunks(records(database, height, history)):
            digests.append(sha256(chunk))
            stream.write(len(chunk).to_bytes(4) + chunk)
            progress(len(digests))
        block_hash = database.hash_at(height) or b""
        root = Tree(digests).root
        manifest = Manifest(height, block_hash, history, len(digests), root)
        encoded = manifest.encode()
        stream.write(bytes(4) + b"".join(digests))
        stream.write(len(encoded).to_bytes(4) + encoded)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
    return manifest


class SnapshotFile:
    """A snapshot file, open.

    Attributes:
        manifest: What it holds.
    """

    def __init__(self, stream: BinaryIO) -> None:
        """Read where the chunks are.

        Raises:
            BadSnapshotError: it is no snapshot file, or damaged.
        """
        self._stream = stream
        self._lock = threading.Lock()
        stream.seek(0)
        if self._read(len(_HEAD), "head") != _HEAD:
            raise BadSnapshotError(
                f"not a snapshot file: expected it to begin with {_HEAD!r}"
            )
        self._places: list[tuple[int, int]] = []
        while size := int.from_bytes(self._read(4, "length of a chunk")):
            if size > MAX_CHUNK_BYTES or len(self._places) >= MAX_CHUNKS:
                raise BadSnapshotError(
                    f"chunk {len(self._places)} of {size} bytes is impossible"
                )
            self._places.append((stream.tell(), size))
            stream.seek(size, os.SEEK_CUR)
        if not self._places:
            raise BadSnapshotError("a snapshot file without chunks")
        count = len(self._places)
        hashes = self._read(HASH_BYTES * count, "hashes")
        self._hashes = [
            hashes[start : start + HASH_BYTES]
            for start in range(0, len(hashes), HASH_BYTES)
        ]
        size = int.from_bytes(self._read(4, "length of the manifest"))
        if size > MAX_MANIFEST_BYTES:
            raise BadSnapshotError(f"a manifest of {size} bytes")
        try:
            self.manifest = Manifest.decode(self._read(size, "manifest"))
        except Malformed as error:
            raise BadSnapshotError(str(error)) from error
        if stream.read(1):
            raise BadSnapshotError("bytes after the end of the snapshot")
        self._tree = Tree(self._hashes)
        if (count, self._tree.root) != (self.manifest.chunks, self.manifest.root):
            raise BadSnapshotError("the manifest is not of these chunks")

    def close(self) -> None:
        """Release the file; chunks are no longer read."""
        with self._lock:
            self._stream.close()

    def chunk(self, index: int) -> bytes:
        """A chunk by number.

        Raises:
            BadSnapshotError: its bytes have changed, or the file is closed.
        """
        place, size = self._places[index]
        with self._lock:  # several peers are served by several threads
            if self._stream.closed:
                raise BadSnapshotError("the snapshot is no longer kept")
            self._stream.seek(place)
            found = self._read(size, f"chunk {index}")
        if sha256(found) != self._hashes[index]:
            raise BadSnapshotError(f"chunk {index} is damaged")
        return found

    def proof(self, index: int) -> tuple[bytes, ...]:
        """The hashes that lead from a chunk to the manifest's root."""
        return self._tree.proof(index)

    def __iter__(self) -> Iterator[bytes]:
        """All chunks in order."""
        return map(self.chunk, range(len(self._places)))

    def _read(self, size: int, what: str) -> bytes:
        found = self._stream.read(size)
        if len(found) != size:
            raise BadSnapshotError(f"the snapshot file is cut off inside its {what}")
        return found
