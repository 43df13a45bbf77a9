"""What can go wrong for a user of this package, as a small tree.

Every message says what was expected, what came, and what to do about it. The command
line prints the message of a `LockstepError` and exits with 1; anything else is a bug
and keeps its traceback.
"""

from collections.abc import Sequence

__all__ = [
    "ArtifactError",
    "ArtifactUnavailable",
    "ChainError",
    "ConfigurationError",
    "ContractReverted",
    "InsufficientFunds",
    "JobRefused",
    "JobScriptError",
    "JournalError",
    "LockstepError",
    "NodeUnreachable",
    "NotServed",
    "Redirected",
    "RootMismatch",
    "SourceUnreachable",
    "TooLong",
    "TooShort",
    "TransactionTimeout",
]


class LockstepError(Exception):
    """Root of everything this package reports to the person who uses it."""


class ConfigurationError(LockstepError):
    """A flag, environment variable, key file or configuration file is unusable."""


class JournalError(LockstepError):
    """An actor's directory is in use by another process, or its journal is damaged."""


class JobScriptError(LockstepError):
    """A job script does not define a usable `job = lockstep.JobSpec(...)`."""


class JobRefused(LockstepError):
    """The chain would not accept this job, for instance since a step is too big."""


class ChainError(LockstepError):
    """The node or a contract did not do what was asked."""


class NodeUnreachable(ChainError):
    """The node does not answer at its URL, or answers for another chain."""


class InsufficientFunds(ChainError):
    """The account cannot pay for the transaction."""


class TransactionTimeout(ChainError):
    """A transaction was sent but no block took it in time; it may still be taken.

    Attributes:
        transaction: its hash, 32 bytes.
    """

    def __init__(self, message: str, transaction: bytes) -> None:
        super().__init__(message)
        self.transaction = transaction


class ContractReverted(ChainError):
    """A contract refused a call.

    Attributes:
        contract: its name, such as `JobMarket`.
        function: the function that was called.
        reason: the revert string (`"market: not open"`), or "" when there is none.
    """

    def __init__(self, contract: str, function: str, reason: str) -> None:
        said = reason or "no reason given; it ran out of gas, or somebody moved first"
        super().__init__(f"{contract}.{function} was refused: {said}")
        self.contract = contract
        self.function = function
        self.reason = reason


class ArtifactError(LockstepError):
    """One source failed to deliver one artifact."""


class NotServed(ArtifactError):
    """The source answered that it does not have the artifact."""


class SourceUnreachable(ArtifactError):
    """The source's URL is unusable, or nothing answers there in time."""


class Redirected(ArtifactError):
    """The source answered with a redirect; artifacts are served where promised."""


class TooLong(ArtifactError):
    """The source announced or sent more bytes than the artifact can have."""


class TooShort(ArtifactError):
    """The source sent fewer bytes than the artifact has."""


class RootMismatch(ArtifactError):
    """The bytes do not hash to the root they were asked for by."""


class ArtifactUnavailable(LockstepError):
    """No source delivered an artifact.

    Attributes:
        failures: one error for each source tried, in order.
    """

    def __init__(self, what: str, failures: Sequence[ArtifactError]) -> None:
        tried = "; ".join(str(failure) for failure in failures) or "no source is known"
        super().__init__(f"{what} is served by nobody: {tried}")
        self.failures = tuple(failures)
