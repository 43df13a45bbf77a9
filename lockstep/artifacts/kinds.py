"""The kinds of artifacts, and what is known about one before it is fetched."""

import enum
from collections.abc import Callable
from dataclasses import dataclass

from lockstep.errors import RootMismatch, TooLong, TooShort

__all__ = ["MAX_ARTIFACT_BYTES", "Expected", "Kind"]

MAX_ARTIFACT_BYTES = 1 << 34
"""No artifact is larger than 16 GiB, whoever claims it."""


class Kind(enum.StrEnum):
    """First part of an artifact's address, `/<kind>/<root in hexadecimal>`."""

    PROGRAM = "program"
    DATA = "data"
    LEAVES = "leaves"
    STATE = "state"
    LOSSES = "losses"


@dataclass(frozen=True, slots=True)
class Expected:
    """An artifact as the chain describes it.

    Attributes:
        kind: what it is.
        root: its 32-byte address.
        smallest: bytes, the least it can have.
        largest: bytes, the most it can have; usually equal to `smallest`.
        matches: whether bytes of an allowed length have this root.
    """

    kind: Kind
    root: bytes
    smallest: int
    largest: int
    matches: Callable[[bytes], bool]

    @property
    def path(self) -> str:
        """Where it is found below a source's URL."""
        return f"{self.kind}/{self.root.hex()}"

    def check(self, data: bytes, source: str) -> None:
        """Refuse bytes which are not the artifact.

        Raises:
            TooShort: there are fewer bytes than `smallest`.
            TooLong: there are more bytes than `largest`.
            RootMismatch: they are other bytes.
        """
        if len(data) < self.smallest:
            raise TooShort(
                f"{source} sent {len(data):,} bytes of {self.path}, which has at least "
                f"{self.smallest:,}"
            )
        if len(data) > self.largest:
            raise TooLong(
                f"{source} sent {len(data):,} bytes of {self.path}, which has at most "
                f"{self.largest:,}"
            )
        if not self.matches(data):
            raise RootMismatch(
                f"{source} sent bytes for {self.path} that have another root"
            )
