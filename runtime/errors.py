"""Errors of execution. Who is at fault is in the name."""

from collections.abc import Sequence


class RuntimeFailure(Exception):
    """Root of every error raised by `runtime`."""


class TransactionInvalid(RuntimeFailure):
    """No block may hold this transaction on this state; drop it."""


class NonceTooHigh(TransactionInvalid):
    """A transaction before this one is missing; it may become valid later."""


class BlockFull(RuntimeFailure):
    """The transaction is sound but does not fit into what is left of this block."""


class InvalidBlock(RuntimeFailure):
    """A block that breaks a rule; whoever proposed it is at fault.

    Attributes:
        field: The header field or the part of the block.
        expected: What the rule asks for.
        got: What the block holds.
    """

    def __init__(self, field: str, expected: object, got: object) -> None:
        super().__init__(f"{field}: expected {_show(expected)}, got {_show(got)}")
        self.field = field
        self.expected = expected
        self.got = got


class SystemCallFailed(RuntimeFailure):
    """A block-start call failed: this chain's contracts or state are broken."""


class ValidatorSetUnreadable(RuntimeFailure):
    """The staking contract is absent, or answers what is no validator set."""


class CallFailed(RuntimeFailure):
    """An eth_call or an estimate that cannot be answered."""


class CallLimitExceeded(CallFailed):
    """The call took more interpreter steps than this node grants."""


class ExecutionReverted(CallFailed):
    """The estimated transaction would fail.

    Attributes:
        output: The revert data, perhaps empty.
    """

    def __init__(self, message: str, output: bytes) -> None:
        super().__init__(message)
        self.output = output


class UnknownFork(RuntimeFailure):
    """A block lies behind a fork whose rules this program does not know.

    Attributes:
        fork: Its name.
        fork_height: Of the first block under its rules.
    """

    def __init__(
        self, fork: tuple[int, str], height: int, known: Sequence[str]
    ) -> None:
        self.fork_height, self.fork = fork
        super().__init__(
            f"block {height} needs the fork {self.fork!r}, in force from height "
            f"{self.fork_height}; this program knows {', '.join(known)} and stops after"
            f" block {self.fork_height - 1}. Install a release that knows it; the data "
            "directory can stay"
        )


class BackendMissing(RuntimeFailure):
    """A fast library is absent or was replaced by a slow one."""


class NonConforming(RuntimeFailure):
    """The kernels compute other bits here than the specification's.

    Attributes:
        expected: The pinned conformance hash, in hex.
        got: What this machine computes.
    """

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(
            f"the numeric kernels do not conform: expected hash {expected}, got {got};"
            " verdicts computed here would be wrong, so this node does not start."
            " Install the package again, or run 'python hatch_build.py' in a checkout;"
            " if the hash still differs, this machine must not validate, and"
            " 'python -m ml_verifier.conformance --lines' shows which operators differ"
        )
        self.expected = expected
        self.got = got


class PrecompileFailure(RuntimeFailure):
    """A precompile refuses its input; the call loses its gas."""


class PrecompileRevert(RuntimeFailure):
    """A precompile refuses its input; the caller keeps the gas that is left."""


def _show(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
