"""Audit: execute a chain again from its specification, and believe nothing stored.

`Auditor` builds genesis itself, then takes each stored block, checks what consensus
fixed (proposer, beacon, sidecar, certificates), executes its transactions on a state
of its own, and compares every header field, receipt and log. Each question to the ML
precompile's `replay` is asked again, with the C kernels and on request with the numpy
oracle too. What a database keeps beyond blocks (indexes, step counts, state nodes,
code) is compared entry by entry with what the execution wrote, and at the end the
whole database is read once more for entries that should not be there.

The first difference ends the audit; it says block, transaction, field, what was
expected and what was found.
"""

from node.audit.auditor import Auditor, AuditReport, Verdict
from node.audit.comparison import AuditMismatch
from node.audit.sources import DatabaseSource, FileSource

__all__ = [
    "AuditMismatch",
    "AuditReport",
    "Auditor",
    "DatabaseSource",
    "FileSource",
    "Verdict",
]
