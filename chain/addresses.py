"""Fixed addresses: system contracts, precompiles and the callers of system calls.

Contracts of this chain live at ``b"Lockstep"`` followed by a 12-byte counter, so no
key and no CREATE can produce them by chance.
"""

from typing import Final


def _system_contract(counter: int) -> bytes:
    return b"Lockstep" + counter.to_bytes(12, "big")


ZERO: Final = bytes(20)

CLOCK: Final = _system_contract(1)
STAKING: Final = _system_contract(2)
JOB_MARKET: Final = _system_contract(3)
DISPUTE_GAME: Final = _system_contract(4)
VERIFICATION: Final = _system_contract(5)
EVIDENCE: Final = _system_contract(6)
DEMANDS: Final = _system_contract(7)
VALIDATORS: Final = _system_contract(8)

ML_VERIFIER: Final = (0x4D4C).to_bytes(20, "big")
BLS_POSSESSION: Final = (0x504F50).to_bytes(20, "big")
P256VERIFY: Final = (0x100).to_bytes(20, "big")

# The caller of every block-start system call (EIP-4788).
SYSTEM: Final = bytes.fromhex("fffffffffffffffffffffffffffffffffffffffe")
BEACON_ROOTS: Final = bytes.fromhex("000f3df6d732807ef1319fb7b8bb8522d0beac02")
HISTORY_STORAGE: Final = bytes.fromhex("0000f90827f1c53a10cb7a02335b175320002935")

SYSTEM_CONTRACTS: Final = {
    "Clock": CLOCK,
    "Staking": STAKING,
    "JobMarket": JOB_MARKET,
    "DisputeGame": DISPUTE_GAME,
    "Verification": VERIFICATION,
    "Evidence": EVIDENCE,
    "Demands": DEMANDS,
    "Validators": VALIDATORS,
}
