import eth_hash.auto
import pytest
import rlp.codec  # type: ignore[import-untyped]  # only looked at

from ml_verifier import conformance
from runtime import backends
from runtime.backends import require_conforming_kernels, require_fast_backends
from runtime.errors import BackendMissing, NonConforming


def test_the_installed_libraries_pass() -> None:
    require_fast_backends()
    assert eth_hash.auto.keccak(b"").hex().startswith("c5d2460186f7233c")


def test_a_slow_keccak_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eth_hash.auto.keccak, "hasher", lambda data: data)
    with pytest.raises(BackendMissing, match="pysha3"):
        require_fast_backends()


def test_slow_curves_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "get_backend", object)
    with pytest.raises(BackendMissing, match="coincurve"):
        require_fast_backends()


def test_slow_rlp_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(rlp.codec, "rusty_rlp")
    with pytest.raises(BackendMissing, match="rusty-rlp"):
        require_fast_backends()


def test_these_kernels_conform() -> None:
    require_conforming_kernels()


def test_kernels_that_do_not_conform_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = conformance.pinned("start")
    monkeypatch.setattr(conformance, "conformance_hash", lambda *_: "ab" * 32)
    with pytest.raises(NonConforming, match=r"expected hash .*hatch_build\.py") as info:
        require_conforming_kernels()
    assert (info.value.expected, info.value.got) == (expected, "ab" * 32)
