"""Who votes when, read from the chain itself.

The set of an epoch is what the staking contract elects in the state two blocks before
the epoch's first height: the block before that height names the set in its header, so
it must be known before that block is executed. The first epoch has the set of the
chain specification. A chain with `epoch_blocks` 0 never changes its validators.
"""

from functools import lru_cache

from chain import addresses
from chain.crypto import keccak
from chain.database import ChainDatabase
from chain.errors import NotFound
from chain.header import Header
from consensus.proposal import Epoch
from consensus.validators import Validator, ValidatorSet
from node.errors import LedgerError
from node.sync.sets import ValidatorSets
from runtime.call import CallRequest, call
from runtime.rules import ForkSchedule
from runtime.validators import read_validator_set

_KEPT_SETS = 32
_IS_PUNISHED = keccak(b"is_punished(address)")[:4]


class Epochs:
    """The validator sets of one chain."""

    def __init__(
        self,
        database: ChainDatabase,
        forks: ForkSchedule,
        first: ValidatorSet,
        *,
        epoch_blocks: int = 0,
        evidence_age: int = 0,
    ) -> None:
        """Read from a database that holds at least the genesis block.

        Args:
            database: With the state of every block that a set is read from.
            forks: Rules by height.
            first: The specification's.
            epoch_blocks: Heights between changes; 0: never.
            evidence_age: How many heights back evidence may reach.
        """
        self._database = database
        self._forks = forks
        self._first = first
        self._epoch_blocks = epoch_blocks
        self.evidence_age = evidence_age
        self.genesis_hash = database.genesis_hash()
        self._stored = b""  # hash of a set that is in the database
        self.sets = ValidatorSets(database, first)
        self._of_border = lru_cache(_KEPT_SETS)(self._elected)

    def voters(self, height: int) -> ValidatorSet:
        """The set that votes at a height, at most two above the head.

        Raises:
            LedgerError: the state that elected it is not here.
        """
        while height > 1:
            header = self._database.header_at(height - 1)
            found = None if header is None else self.sets.find(header.extra_data)
            if found is not None:
                return found
            if self._epoch_blocks and height % self._epoch_blocks == 0:
                return self._of_border(height)
            height -= 1  # who votes is the same there, and no old state is needed
        return self._first

    def epoch(self, parent: Header) -> Epoch:
        """The sets around the height after `parent`."""
        number = parent.number
        return Epoch(
            self.genesis_hash,
            self.voters(max(number, 1)),
            self.voters(number + 1),
            self.voters(number + 2),
            evidence_age=self.evidence_age,
            voters=self.voters,
        )

    def new_set(self, header: Header) -> dict[bytes, bytes]:
        """The set that a block about to be committed names, if it is not stored."""
        if header.extra_data == self._stored:
            return {}
        try:
            self._database.validators(header.extra_data)
        except NotFound:
            named = self.voters(header.number + 1)
            return {named.hash: named.encode()}
        self._stored = header.extra_data
        return {}

    def is_punished(self, parent: Header, validator: bytes) -> bool:
        """Whether a validator was convicted already, in the state of `parent`."""
        request = CallRequest(
            to=addresses.VALIDATORS, data=_IS_PUNISHED + bytes(12) + validator
        )
        result = call(self._forks.at(parent.number), self._database, parent, request)
        if not result.succeeded or len(result.output) != 32:
            raise LedgerError(
                f"the Validators contract does not say who is punished: {result.error}"
            )
        return bool(result.output[-1])

    def _elected(self, border: int) -> ValidatorSet:
        header = self._database.header_at(border - 2)
        if header is None:
            raise LedgerError(
                f"the set of height {border} is elected by block {border - 2}, "
                "which is not here"
            )
        rules = self._forks.at(header.number)
        members = read_validator_set(rules, self._database, header)
        return ValidatorSet.of(Validator(*member) for member in members)
