"""A disk in memory that loses power, tears writes, fills up and fails.

Every call but `read`, `mode` and `names` is an operation with an index. `crash_at`
names the operation during which the power fails; `faults` those that raise an error.
After a crash, `after_power_loss` gives the disk as a machine may find it when it starts
again: a name or a byte that was not synced is there or not, as `Luck` decides, and
bytes that were never written may read as zeros.
"""

import errno
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from typing_extensions import override

from node.disk import Disk

SECTOR = 16


class PowerLoss(BaseException):
    """The machine stops; nothing catches that."""


@dataclass
class Inode:
    """A file: what reads see, and what is on the platter."""

    content: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    mode: int = 0o600


@dataclass(frozen=True)
class Luck:
    """What survives a power loss of what was not synced.

    Attributes:
        names: How many of the pending changes to names, in their order.
        size: Of a file: from its synced and its current size to the one found.
        sector: Whether the new content of a sector of a file is found.
    """

    names: Callable[[int], int]
    size: Callable[[int, int], int]
    sector: Callable[[int], bool]


NOTHING = Luck(lambda _: 0, lambda synced, _: synced, lambda _: False)
EVERYTHING = Luck(lambda n: n, lambda _, current: current, lambda _: True)
ZEROS = Luck(lambda n: n, lambda _, current: current, lambda _: False)


Names = dict[Path, Inode]


class FakeDisk(Disk):
    """See the module."""

    def __init__(
        self,
        names: Names | None = None,
        *,
        crash_at: int | None = None,
        faults: Mapping[int, int] | None = None,
        torn: int | None = None,
        short: int | None = None,
    ) -> None:
        """Begin with files that are on the platter.

        Args:
            names: Files that are there.
            crash_at: Index of the operation that is not done any more.
            faults: Errno by index of the operation.
            torn: How many bytes of a write are done when it fails or is cut short by a
                crash; none by default.
            short: The most bytes that a write takes.
        """
        self.current: Names = dict(names or {})
        self.durable: Names = dict(names or {})
        self.pending: list[tuple[Path, Inode | None]] = []
        self.directories: set[Path] = set()
        self.descriptors: dict[int, Inode] = {}
        self.operations: list[str] = []
        self.crash_at = crash_at
        self.faults = dict(faults or {})
        self.torn = torn
        self.short = short

    # -- the port ----------------------------------------------------------------

    @override
    def make_directory(self, path: Path) -> None:
        self._count("make_directory")
        self.directories.add(path)

    @override
    def create(self, path: Path) -> int:
        self._count("create")
        inode = self.current.get(path)
        if inode is None:
            inode = Inode()
            self._name(path, inode)
        inode.content = bytearray()
        return self._descriptor(inode)

    @override
    def extend(self, path: Path) -> int:
        self._count("extend")
        return self._descriptor(self._inode(path))

    @override
    def write(self, descriptor: int, data: bytes) -> int:
        content = self.descriptors[descriptor].content
        try:
            self._count("write")
        except (OSError, PowerLoss):
            content += data[: self.torn or 0]
            raise
        taken = data[: self.short]
        content += taken
        return len(taken)

    @override
    def truncate(self, descriptor: int, size: int) -> None:
        self._count("truncate")
        content = self.descriptors[descriptor].content
        assert size <= len(content)
        del content[size:]

    @override
    def sync(self, descriptor: int) -> None:
        self._count("sync")
        inode = self.descriptors[descriptor]
        inode.durable = bytes(inode.content)

    @override
    def close(self, descriptor: int) -> None:
        del self.descriptors[descriptor]

    @override
    def rename(self, old: Path, new: Path) -> None:
        self._count("rename")
        inode = self._inode(old)
        self._name(new, inode)
        self._name(old, None)

    @override
    def remove(self, path: Path) -> None:
        self._count("remove")
        self._inode(path)
        self._name(path, None)

    @override
    def sync_directory(self, path: Path) -> None:
        self._count("sync_directory")
        rest: list[tuple[Path, Inode | None]] = []
        for change in self.pending:
            if change[0].parent == path:
                _change(self.durable, *change)
            else:
                rest.append(change)
        self.pending = rest

    @override
    def read(self, path: Path, limit: int) -> bytes:
        return bytes(self._inode(path).content[:limit])

    @override
    def mode(self, path: Path) -> int | None:
        inode = self.current.get(path)
        return None if inode is None else inode.mode

    @override
    def names(self, directory: Path) -> list[str]:
        return sorted(each.name for each in self.current if each.parent == directory)

    # -- what tests ask ------------------------------------------------------------

    def after_kill(self) -> "FakeDisk":
        """The disk as another process finds it when this one was killed."""
        again = FakeDisk(self.current)
        again.durable, again.pending = self.durable, self.pending
        return again

    def after_power_loss(self, luck: Luck) -> "FakeDisk":
        """The disk as it is found when the power comes back."""
        names = dict(self.durable)
        for path, inode in self.pending[: luck.names(len(self.pending))]:
            _change(names, path, inode)
        found: dict[int, Inode] = {}
        for inode in names.values():
            content = _survived(inode, luck)
            found[id(inode)] = Inode(bytearray(content), content, inode.mode)
        return FakeDisk({path: found[id(inode)] for path, inode in names.items()})

    # -- inside --------------------------------------------------------------------

    def _count(self, name: str) -> None:
        index = len(self.operations)
        self.operations.append(name)
        if self.crash_at is not None and index >= self.crash_at:
            raise PowerLoss
        if index in self.faults:
            code = self.faults[index]
            raise OSError(code, errno.errorcode[code])

    def _inode(self, path: Path) -> Inode:
        if path not in self.current:
            raise FileNotFoundError(errno.ENOENT, "ENOENT", str(path))
        return self.current[path]

    def _name(self, path: Path, inode: Inode | None) -> None:
        _change(self.current, path, inode)
        self.pending.append((path, inode))

    def _descriptor(self, inode: Inode) -> int:
        descriptor = 3 + len(self.operations)
        self.descriptors[descriptor] = inode
        return descriptor


def _change(names: Names, path: Path, inode: Inode | None) -> None:
    if inode is None:
        names.pop(path, None)
    else:
        names[path] = inode


def _survived(inode: Inode, luck: Luck) -> bytes:
    old, new = inode.durable, bytes(inode.content)
    if old == new:
        return new
    size = luck.size(len(old), len(new))
    found = bytearray()
    for start in range(0, size, SECTOR):
        one = (new if luck.sector(start) else old)[start : start + SECTOR]
        found += one.ljust(min(SECTOR, size - start), b"\0")
    return bytes(found[:size])
