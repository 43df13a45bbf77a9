"""`lockstep` without the guard against a second node with the same key.

A node listens before it signs when its state may be old, and falls silent when it hears
its own key. Two such nodes take much ill luck to contradict each other; two of these do
it at once. `python -m tests.testnets.reckless node ...`
"""

import sys

from typing_extensions import override

from consensus.votes import Subject
from lockstep.cli import main
from node.doppelganger import Guard
from node.opening import opened_node


class Reckless(Guard):
    """Signs whatever is asked."""

    @override
    def may_sign(self, height: int) -> bool:
        """Yes."""
        del height
        return True

    @override
    def saw_own_vote(self, subject: Subject) -> None:
        """So what."""


if __name__ == "__main__":
    vars(sys.modules[opened_node.__module__])["Guard"] = Reckless
    main()
