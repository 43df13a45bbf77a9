"""The last-sign-state: what a validator signed last, on the disk before it leaves.

It decides what may be signed. The file holds every signature of the latest (height,
round). Asked again for one of these subjects, it has the stored signature; what is not
later in (height, round, kind) order is refused. A precommit that was signed with
another time counts as signed, and comes back with the time that it was signed with.

A file without signatures says that the key never signed anything: it is written next to
a new key. When there is no file at all, nobody knows (`node.doppelganger`).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consensus.errors import ConsensusError
from consensus.votes import Subject, VoteKind
from node.disk import SYSTEM, Disk
from node.errors import DoubleSignError, KeyFileError
from node.files import read_private, write_durably

STATE_FILE = "last-sign.json"
_MAX_BYTES = 4_096


@dataclass(frozen=True, slots=True)
class Signed:
    """A subject that was signed, and its signature."""

    subject: Subject
    signature: bytes


def order(subject: Subject) -> tuple[int, int, int]:
    """A validator signs subjects in this order, never back."""
    return subject.height, subject.round, subject.kind


def shown(subject: Subject) -> str:
    """A subject for people."""
    return (
        f"{subject.kind.name.lower()} at height {subject.height} round "
        f"{subject.round} for 0x{subject.block_hash.hex()}"
    )


def mark_never_signed(directory: Path, *, disk: Disk = SYSTEM) -> None:
    """State that the key in this directory is new; nothing if there is a state."""
    path = directory / STATE_FILE
    if disk.mode(path) is None:
        write_durably(path, _encode(None, ()), disk=disk)


def find(latest: Sequence[Signed], subject: Subject) -> Signed | None:
    """What was signed for this subject; None when it may be signed now.

    Args:
        latest: Every signature of the latest (height, round).
        subject: Asked for.

    Raises:
        DoubleSignError: something else was signed for this place, or a later one.
    """
    for each in latest:
        same = order(each.subject) == order(subject)
        if same and not each.subject.contradicts(subject):
            return each
    if latest and order(subject) <= order(latest[-1].subject):
        raise DoubleSignError(
            f"refusing to sign {shown(subject)}: "
            f"already signed {shown(latest[-1].subject)}"
        )
    return None


class SignState:
    """The last-sign-state of one validator on one chain."""

    def __init__(
        self, directory: Path, genesis_hash: bytes, *, disk: Disk = SYSTEM
    ) -> None:
        """Read it, if there is one.

        Raises:
            KeyFileError: the file is damaged or of another chain.
        """
        self._path = directory / STATE_FILE
        self._genesis_hash = genesis_hash
        self._disk = disk
        self.exists = disk.mode(self._path) is not None
        self._signed = self._read() if self.exists else ()

    @property
    def last(self) -> Signed | None:
        """The latest signature, or None when nothing is known to be signed."""
        return self._signed[-1] if self._signed else None

    @property
    def height(self) -> int | None:
        """Of the latest signature; 0 for a key that never signed; None: unknown."""
        if self._signed:
            return self._signed[-1].subject.height
        return 0 if self.exists else None

    @property
    def signed(self) -> Sequence[Signed]:
        """Every signature of the latest (height, round), oldest first."""
        return self._signed

    def find(self, subject: Subject) -> Signed | None:
        """See `find`."""
        return find(self._signed, subject)

    def record(self, made: Signed) -> None:
        """Make a signature durable; only then may it leave.

        Raises:
            DoubleSignError: as `find`.
            KeyFileError: the disk refuses; the signature must not leave.
        """
        if self.find(made.subject) is not None:
            return
        last = self.last
        place = made.subject.height, made.subject.round
        kept = self._signed
        if last is None or (last.subject.height, last.subject.round) != place:
            kept = ()
        signed = (*kept, made)
        try:
            write_durably(
                self._path, _encode(self._genesis_hash, signed), disk=self._disk
            )
        except OSError as error:
            raise KeyFileError(
                f"cannot write {self._path}: {error}; nothing was signed"
            ) from error
        self._signed, self.exists = signed, True

    def _read(self) -> tuple[Signed, ...]:
        content = read_private(self._path, limit=_MAX_BYTES, disk=self._disk)
        try:
            document: dict[str, Any] = dict(json.loads(content))
            chain = document["genesis_hash"]
            signed = _decode(document)
            genesis_hash = self._genesis_hash
            if chain is not None or signed:
                genesis_hash = bytes.fromhex(str(chain))
        except (ValueError, LookupError, TypeError, ConsensusError) as error:
            raise KeyFileError(
                f"{self._path} is damaged ({error!r}); signing without it could "
                "contradict an earlier signature"
            ) from error
        if genesis_hash != self._genesis_hash:
            raise KeyFileError(
                f"{self._path} is of chain 0x{genesis_hash.hex()}, "
                f"this chain is 0x{self._genesis_hash.hex()}"
            )
        return signed


def _encode(genesis_hash: bytes | None, signed: Sequence[Signed]) -> bytes:
    last = signed[-1].subject if signed else None
    document = {
        "genesis_hash": None if genesis_hash is None else genesis_hash.hex(),
        "height": 0 if last is None else last.height,
        "round": 0 if last is None else last.round,
        "signatures": [
            {
                "kind": each.subject.kind.name.lower(),
                "block_hash": each.subject.block_hash.hex(),
                "detail": each.subject.detail,
                "parts_root": each.subject.parts_root.hex(),
                "signature": each.signature.hex(),
            }
            for each in signed
        ],
    }
    return json.dumps(document, indent=1).encode() + b"\n"


def _decode(document: dict[str, Any]) -> tuple[Signed, ...]:
    height, round_ = int(document["height"]), int(document["round"])
    signed = tuple(
        Signed(
            Subject(
                VoteKind[str(each["kind"]).upper()],
                height,
                round_,
                bytes.fromhex(each["block_hash"]),
                int(each["detail"]),
                bytes.fromhex(each["parts_root"]),
            ),
            bytes.fromhex(each["signature"]),
        )
        for each in document["signatures"]
    )
    orders = [order(each.subject) for each in signed]
    if orders != sorted(set(orders)) or (not orders and (height, round_) != (0, 0)):
        raise ValueError("signatures are missing or not in order")
    return signed
