"""Errors of the chain package.

`Malformed` is always the fault of whoever sent the bytes; `StoreError` is ours or
the machine's.
"""


class ChainError(Exception):
    """Root of every error raised by `chain`."""


class Malformed(ChainError):
    """Bytes that do not encode the value they claim to encode."""


class MalformedRLP(Malformed):
    """Not canonical RLP, or too large, too deep or too many items."""


class MalformedHeader(Malformed):
    """A header with a wrong number of fields or a field of the wrong size."""


class MalformedBlock(Malformed):
    """A block, sidecar or certificate that does not decode."""


class MalformedTransaction(Malformed):
    """A transaction that no block may hold, whatever the state."""


class BadSignature(Malformed):
    """A signature that no key produced, or that is not in canonical form."""


class StoreError(ChainError):
    """The database cannot be opened, read or written."""


class StoreLocked(StoreError):
    """Another process holds the database."""


class StoreCorrupt(StoreError):
    """The database holds bytes that this program did not write."""


class NotFound(StoreError):
    """A block, receipt or state node that the database does not hold."""


class MissingNode(NotFound):
    """A node of a state that was pruned, or was never here.

    Attributes:
        digest: Its hash.
    """

    def __init__(self, digest: bytes) -> None:
        super().__init__(f"no state node {digest.hex()}")
        self.digest = digest
