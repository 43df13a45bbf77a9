"""Evidence that waits for a block: checked, bounded, forgotten once it is punished.

A validator is punished once, whatever else it signs. So one piece for each is enough,
and no validator can fill the pool and keep out what accuses others.

With a file it outlives the process: what was seen once comes before a block, though all
who saw it are started again.
"""

from collections.abc import Iterator, KeysView
from contextlib import suppress

import structlog

from chain.block import Block
from chain.header import Header
from consensus.errors import InvalidEvidence
from consensus.evidence import Evidence
from consensus.proposal import check_evidence
from node.epochs import Epochs
from node.errors import LedgerError
from node.evidence_file import MAX_EVIDENCE, EvidenceFile

_log = structlog.get_logger("node.evidence")


class EvidencePool:
    """What is known against validators and has not been punished."""

    def __init__(self, epochs: Epochs) -> None:
        """Start with nothing."""
        self._epochs = epochs
        self._waiting: dict[bytes, Evidence] = {}
        self._file: EvidenceFile | None = None

    def keep_in(self, file: EvidenceFile, head: Header) -> None:
        """Take in what a file holds and still accuses somebody; keep it there from now.

        Raises:
            DataDirectoryError: the file cannot be read.
        """
        found = file.load()
        for evidence in found:
            try:
                wanted = self.check(head, evidence)
            except (InvalidEvidence, LedgerError) as error:
                _log.warning("stored evidence proves nothing", reason=str(error))
            else:
                if wanted:
                    self._waiting[evidence.hash] = evidence
        self._file = file
        if len(found) != len(self):
            file.store(self)

    def __len__(self) -> int:
        """How many pieces wait."""
        return len(self._waiting)

    def __contains__(self, digest: object) -> bool:
        """Whether a piece with this hash waits."""
        return digest in self._waiting

    @property
    def hashes(self) -> KeysView[bytes]:
        """Of all that wait."""
        return self._waiting.keys()

    def __iter__(self) -> Iterator[Evidence]:
        """Oldest first."""
        return iter(tuple(self._waiting.values()))

    def check(self, head: Header, evidence: Evidence) -> bool:
        """Check evidence; False when it is too old or too new, or nobody needs it.

        Raises:
            InvalidEvidence: it proves nothing.
        """
        if not self._has_use(evidence):
            return False
        next_height = head.number + 1
        carrier = max(next_height, evidence.height + 1)  # the first that may hold it
        oldest = max(1, carrier - self._epochs.evidence_age)
        if not oldest <= evidence.height <= next_height:
            return False
        check_evidence(self._epochs.epoch(head), carrier, evidence)
        return not self._epochs.is_punished(head, evidence.validator)

    def add(self, evidence: Evidence) -> bool:
        """Keep evidence that was checked or seen here, unless nobody needs it."""
        if not self._has_use(evidence):
            return False
        self._waiting[evidence.hash] = evidence
        self._store()
        _log.warning(
            "a validator contradicted itself",
            validator="0x" + evidence.validator.hex(),
            height=evidence.height,
            round=evidence.first.round,
            kind=evidence.first.kind.name.lower(),
        )
        return True

    def _has_use(self, evidence: Evidence) -> bool:
        """Whether nothing against this validator waits yet, and there is room."""
        accused = {each.validator for each in self}
        return evidence.validator not in accused and len(self) < MAX_EVIDENCE

    def usable(self, parent: Header) -> list[Evidence]:
        """What the block after `parent` may carry, one piece for each validator."""
        epoch = self._epochs.epoch(parent)
        usable: dict[bytes, Evidence] = {}
        for evidence in self:
            with suppress(InvalidEvidence):
                check_evidence(epoch, parent.number + 1, evidence)
                if not self._epochs.is_punished(parent, evidence.validator):
                    usable.setdefault(evidence.validator, evidence)
        return list(usable.values())

    def forget(self, block: Block) -> None:
        """Drop what a committed block has punished and what has grown too old."""
        punished = {
            Evidence.decode(piece).validator for piece in block.sidecar.evidence
        }
        oldest = block.number + 1 - self._epochs.evidence_age
        gone = [
            digest
            for digest, evidence in self._waiting.items()
            if evidence.validator in punished or evidence.height < oldest
        ]
        for digest in gone:
            del self._waiting[digest]
        if gone:
            self._store()

    def _store(self) -> None:
        if self._file is not None:
            self._file.store(self)
