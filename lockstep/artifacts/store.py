"""A content-addressed store over fsspec: a local folder, or a bucket (`s3://...`).

Layout: `<url>/<kind>/<root in hexadecimal>`, the bytes of the artifact and nothing
else. Files appear whole: on a local disk through a temporary name and a rename, in a
bucket because a put is atomic there. What is read back is checked like anything that
comes from a peer, since disks and buckets change hands.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, cast

import fsspec  # type: ignore[import-untyped]  # fsspec ships no types

from lockstep.artifacts.kinds import Expected, Kind
from lockstep.errors import ConfigurationError, NotServed

__all__ = ["CHUNK_BYTES", "Store"]

CHUNK_BYTES = 1 << 18
_ROOT = re.compile(r"[0-9a-f]{64}")


class Store:
    """Artifacts below one URL."""

    def __init__(self, url: str) -> None:
        """Open or create the store.

        Args:
            url: a folder, or anything fsspec knows, such as `s3://bucket/prefix`.

        Raises:
            ConfigurationError: no driver for the URL is installed.
        """
        try:
            system, root = _open(url)
        except (ImportError, ValueError) as error:
            raise ConfigurationError(
                f"cannot keep artifacts at {url}: {error}; give a folder, or install "
                "the driver (for s3:// the extra `lockstep-chain[s3]`)"
            ) from error
        self._system: Any = system  # fsspec ships no types
        self._root = root.rstrip("/")
        self._is_local = "file" in _protocols(system)
        for kind in Kind:
            self._system.makedirs(f"{self._root}/{kind}", exist_ok=True)

    def put(self, kind: Kind, root: bytes, data: bytes) -> None:
        """Keep `data` as the artifact of this root; the caller computed the root."""
        path = self._path(kind, root)
        if self._is_local:
            self._system.pipe_file(path + ".new", data)
            self._system.mv(path + ".new", path)
        else:
            self._system.pipe_file(path, data)

    def has(self, kind: Kind, root: bytes) -> bool:
        """Whether the artifact is here."""
        return bool(self._system.exists(self._path(kind, root)))

    def get(self, expected: Expected) -> bytes:
        """The artifact's bytes, checked.

        Raises:
            NotServed: it is not here.
            ArtifactError: what is here is something else.
        """
        path = self._path(expected.kind, expected.root)
        if not self._system.exists(path):
            raise NotServed(f"{self._root} does not have {expected.path}")
        file = self._system.open(path, "rb")
        try:
            data = bytes(file.read(expected.largest + 1))
        finally:
            file.close()
        expected.check(data, self._root)
        return data

    def roots(self, kind: Kind) -> list[bytes]:
        """Every root of this kind, ascending."""
        names = self._system.ls(f"{self._root}/{kind}", detail=False)
        last = (name.rstrip("/").rpartition("/")[2] for name in names)
        return sorted(bytes.fromhex(name) for name in last if _ROOT.fullmatch(name))

    def size(self, kind: Kind, root: bytes) -> int | None:
        """The artifact's length in bytes, or None if it is not here."""
        path = self._path(kind, root)
        return int(self._system.size(path)) if self._system.exists(path) else None

    def chunks(self, kind: Kind, root: bytes) -> Iterator[bytes]:
        """The artifact's bytes in pieces, unchecked: whoever receives them checks."""
        file = self._system.open(self._path(kind, root), "rb")
        try:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
        finally:
            file.close()

    def _path(self, kind: Kind, root: bytes) -> str:
        return f"{self._root}/{kind}/{root.hex()}"


_open = cast(
    "Callable[[str], tuple[Any, str]]",
    fsspec.url_to_fs,  # pyright: ignore[reportUnknownMemberType]  # untyped library
)


def _protocols(system: object) -> tuple[str, ...]:
    protocol: str | tuple[str, ...] = getattr(system, "protocol", ())
    return (protocol,) if isinstance(protocol, str) else protocol
