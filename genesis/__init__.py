"""Where a chain begins: its specification and the block that everybody starts from."""

from genesis.builder import Genesis, build, open_chain
from genesis.spec import ChainSpec, SpecError, ValidatorEntry

__all__ = [
    "ChainSpec",
    "Genesis",
    "SpecError",
    "ValidatorEntry",
    "build",
    "open_chain",
]
