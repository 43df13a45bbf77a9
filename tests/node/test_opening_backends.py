"""A node starts only on the fast libraries."""

from pathlib import Path

import pytest

from genesis import ChainSpec
from node.config import NodeConfig
from node.datadir import DataDirectory
from node.opening import initialise, opened_node
from runtime import backends
from runtime.errors import BackendMissing


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
