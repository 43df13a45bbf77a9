"""What can go wrong in the shell around the pure packages."""


class NodeError(Exception):
    """Something an operator can act on; the message says what to do."""


class ConfigError(NodeError):
    """A configuration file, environment variable or flag has a wrong value."""


class DataDirectoryError(NodeError):
    """The data directory is missing something, or belongs to another chain."""


class DataDirectoryLockedError(DataDirectoryError):
    """Another process works on this data directory."""


class KeyFileError(NodeError):
    """A key file is missing, malformed or readable by other users."""


class NotSignedError(NodeError):
    """The signer gave no signature; the validator goes on without it."""


class DoubleSignError(NotSignedError):
    """A signature was asked for that could contradict an earlier one."""


class SignerUnavailableError(NotSignedError):
    """The remote signer does not answer, or can't sign now."""


class LedgerError(NodeError):
    """The database contradicts itself."""


class ListenError(NodeError):
    """The address to listen on is taken, or not of this machine."""


class ChainFileError(NodeError):
    """A chain file is malformed, truncated or of another version."""


class WalError(NodeError):
    """The write-ahead log cannot be written, or is damaged."""


class SafetyError(NodeError):
    """The network agreed on what this node refuses; it stops rather than follow."""
