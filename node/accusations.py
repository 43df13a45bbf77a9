"""Evidence that waits for a block: checked, bounded, forgotten once it is punished."""

from collections.abc import Iterator
from contextlib import suppress

import structlog

from chain.block import Block
from chain.header import Header
from consensus.errors import InvalidEvidence
from consensus.evidence import Evidence
from consensus.proposal import check_evidence
from node.epochs import Epochs

MAX_EVIDENCE = 256
_log = structlog.get_logger("node.evidence")


class EvidencePool:
    """What is known against validators and has not been punished."""

    def __init__(self, epochs: Epochs) -> None:
        """Start with nothing."""
        self._epochs = epochs
        self._waiting: dict[bytes, Evidence] = {}

    def __len__(self) -> int:
        """How many pieces wait."""
        return len(self._waiting)

    def __iter__(self) -> Iterator[Evidence]:
        """Oldest first."""
        return iter(tuple(self._waiting.values()))

    def check(self, head: Header, evidence: Evidence) -> bool:
        """Check evidence from a peer; False when it is known, too old or too new.

        Raises:
            InvalidEvidence: it proves nothing.
        """
        if evidence.hash in self._waiting or len(self) >= MAX_EVIDENCE:
            return False
        next_height = head.number + 1
        oldest = max(1, next_height - self._epochs.evidence_age)
        if not oldest <= evidence.height <= next_height:
            return False
        epoch = self._epochs.epoch(head)
        check_evidence(epoch, max(next_height, evidence.height + 1), evidence)
        return True

    def add(self, evidence: Evidence) -> bool:
        """Keep evidence that was checked or seen here; tell whether it is new."""
        if evidence.hash in self._waiting or len(self) >= MAX_EVIDENCE:
            return False
        self._waiting[evidence.hash] = evidence
        _log.warning(
            "a validator contradicted itself",
            validator="0x" + evidence.validator.hex(),
            height=evidence.height,
            round=evidence.first.round,
            kind=evidence.first.kind.name.lower(),
        )
        return True

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
        self._waiting = {
            digest: evidence
            for digest, evidence in self._waiting.items()
            if evidence.validator not in punished and evidence.height >= oldest
        }
