"""What can go wrong between Python and the kernels."""


class KernelError(Exception):
    """Base of this package's errors."""


class LibraryError(KernelError, ImportError):
    """The compiled library is missing, stale, or fails its own check."""


class BindingError(KernelError, ValueError):
    """An operator cannot be bound to these attributes and buffers."""
