"""Validator sets by hash and by height, as the database has them."""

from chain.database import ChainDatabase
from chain.errors import NotFound
from consensus.validators import ValidatorSet
from node.errors import LedgerError

_CACHED = 16


class ValidatorSets:
    """Reads sets, and keeps the last few decoded. May be used from several threads."""

    def __init__(
        self, database: ChainDatabase, initial: ValidatorSet | None = None
    ) -> None:
        """Wrap a database.

        Args:
            database: Where sets are stored by hash.
            initial: The set of block 1, which old databases do not hold.
        """
        self._database = database
        self._initial = initial
        self._cache: dict[bytes, ValidatorSet] = {}

    def find(self, digest: bytes) -> ValidatorSet | None:
        """The set with this hash, if it is known here."""
        if self._initial is not None and digest == self._initial.hash:
            return self._initial
        found = self._cache.get(digest)
        if found is None:
            try:
                found = ValidatorSet.decode(self._database.validators(digest))
            except NotFound:
                return None
            if len(self._cache) >= _CACHED:
                self._cache = {}
            self._cache[digest] = found
        return found

    def at(self, height: int) -> ValidatorSet:
        """The set that votes at a height, from 1 to one above the head.

        Raises:
            LedgerError: the height is none of these, or the set is not here.
        """
        header = self._database.header_at(height - 1)
        if header is None:
            raise LedgerError(f"nobody knows yet who votes at height {height}")
        found = self.find(header.extra_data)
        if found is None:
            raise LedgerError(
                f"the validator set 0x{header.extra_data.hex()} of height {height} is "
                "missing from the database"
            )
        return found
