"""The fast libraries, asserted once at start.

Each of these has a slow replacement that works just as well and says nothing: a
hundred times slower recovery of senders, five times slower hashing. Execution itself
takes keccak and secp256k1 from `chain.crypto` alone; the libraries around it (py-evm,
eth-account) choose for themselves, and are held to the same choice.

The kernels are held to more than speed: where they compute other bits, verdicts would
be wrong, so a node shows that it conforms before it validates.
"""

import rlp.codec  # type: ignore[import-untyped]  # only looked at
from eth_keys.backends import get_backend
from eth_keys.backends.coincurve import CoinCurveECCBackend

from chain import crypto
from ml_verifier import conformance, kernels
from runtime.errors import BackendMissing, NonConforming
from runtime.evm import KECCAK


def require_fast_backends() -> None:
    """Check that nothing slow has taken a fast library's place.

    Raises:
        BackendMissing: With the library to install, or the setting to remove.
    """
    if KECCAK.hasher != crypto.keccak:
        raise BackendMissing(
            "keccak comes from another library than safe-pysha3; unset "
            "ETH_HASH_BACKEND or set it to pysha3"
        )
    if not isinstance(get_backend(), CoinCurveECCBackend):
        raise BackendMissing(
            "eth-keys does not use coincurve; install it and unset ECC_BACKEND_CLASS"
        )
    if not hasattr(rlp.codec, "rusty_rlp"):
        raise BackendMissing("rlp runs without rusty-rlp; install it")


def require_conforming_kernels() -> None:
    """Run the short extent of the conformance program on the kernels as they are set.

    Raises:
        NonConforming: Its hash is not the pinned one.
    """
    expected = conformance.pinned("start")
    got = conformance.conformance_hash(kernels, "start")
    if got != expected:
        raise NonConforming(expected, got)
