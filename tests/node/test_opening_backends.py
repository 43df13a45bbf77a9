"""A node starts only on the fast libraries, and on kernels that conform."""

from pathlib import Path

import pytest

from genesis import ChainSpec
from ml_verifier import conformance
from node.config import NodeConfig
from node.datadir import DataDirectory
from node.opening import initialise, opened_node
from runtime import backends
from runtime.errors import BackendMissing, NonConforming


def test_a_node_refuses_slow_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with DataDirectory(tmp_path) as directory:
        initialise(directory, ChainSpec.load("devnet"), None)
        with opened_node(NodeConfig(data_dir=tmp_path), directory) as node:
            assert node is not None
        monkeypatch.setattr(backends, "get_backend", object)
        with (
            pytest.raises(BackendMissing, match="coincurve"),
            opened_node(NodeConfig(data_dir=tmp_path), directory),
        ):
            pass


def test_a_node_refuses_kernels_that_do_not_conform(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conformance, "conformance_hash", lambda *_: "00" * 32)
    with DataDirectory(tmp_path) as directory:
        initialise(directory, ChainSpec.load("devnet"), None)
        with (
            pytest.raises(NonConforming, match="00" * 32),
            opened_node(NodeConfig(data_dir=tmp_path), directory),
        ):
            pass
