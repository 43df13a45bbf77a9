"""The Verification contract as a Python object."""

from collections.abc import Sequence
from typing import cast

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from lockstep.client.connection import Connection, Receipt

__all__ = ["Verification", "seal_digest"]

_NAME = "Verification"


def seal_digest(
    trial: bytes, verifier: str, start: int, end: int, digest: bytes, salt: bytes
) -> bytes:
    """The commitment to a digest; only its verifier can reveal it."""
    return keccak(
        encode(
            ["bytes32", "address", "uint256", "uint256", "bytes32", "bytes32"],
            [trial, verifier, start, end, digest, salt],
        )
    )


class Verification:
    """Who proved to have recomputed what."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def committed_at(self, job_id: int, verifier: str, start: int, end: int) -> int:
        """Tick at which a verifier committed a digest over a segment; 0: not."""
        return cast("int", self._proof(job_id, verifier, start, end)[1])

    def revealed(self, job_id: int, verifier: str, start: int, end: int) -> bool:
        """Whether the digest is revealed."""
        return any(cast("bytes", self._proof(job_id, verifier, start, end)[2]))

    def can_reveal(
        self, job_id: int, start: int, end: int, digest: bytes, salt: bytes
    ) -> bool:
        """Whether `reveal` would be accepted now."""
        return self._connection.accepts(
            _NAME, "reveal_digest", job_id, start, end, digest, salt
        )

    def commit(self, job_id: int, start: int, end: int, commitment: bytes) -> Receipt:
        """Bind the account to a digest over the steps [start, end)."""
        return self._connection.send(
            _NAME, "commit_digest", job_id, start, end, commitment
        )

    def reveal(
        self, job_id: int, start: int, end: int, digest: bytes, salt: bytes
    ) -> Receipt:
        """Reveal a digest."""
        return self._connection.send(
            _NAME, "reveal_digest", job_id, start, end, digest, salt
        )

    def _proof(
        self, job_id: int, verifier: str, start: int, end: int
    ) -> Sequence[object]:
        answer = self._connection.call(_NAME, "proof", job_id, verifier, start, end)
        return cast("Sequence[object]", answer)
