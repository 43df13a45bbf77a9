"""Lockstep, for people: buy training, sell it, check it, and prove who cheated.

    import lockstep
    chain = lockstep.connect("http://127.0.0.1:8545", key="creator.key")

What is named here is imported on first use: `import lockstep` alone loads neither web3
nor torch.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lockstep.creator.chain import Chain, PostedJob, connect
    from lockstep.creator.spec import JobSpec, Terms

__all__ = ["Chain", "JobSpec", "PostedJob", "Terms", "connect"]

_HOMES = {
    "Chain": "lockstep.creator.chain",
    "PostedJob": "lockstep.creator.chain",
    "connect": "lockstep.creator.chain",
    "JobSpec": "lockstep.creator.spec",
    "Terms": "lockstep.creator.spec",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'lockstep' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
