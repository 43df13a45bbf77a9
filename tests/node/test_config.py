"""Configuration: precedence of sources, and refusals that name the culprit."""

from pathlib import Path

import pytest

from node.config import MAX_CONFIG_BYTES, NodeConfig, load_config
from node.errors import ConfigError


def write(directory: Path, text: str) -> Path:
    path = directory / "node.toml"
    path.write_text(text)
    return path


def test_defaults_hold_without_any_source() -> None:
    config = load_config(environment={})
    assert config.rpc_port == 8545
    assert config.rpc_cors_origins == ()
    assert config.block_time == 1.0
    assert not str(config.data_dir).startswith("~")


def test_flags_over_environment_over_file(tmp_path: Path) -> None:
    file = write(tmp_path, 'rpc_port = 1\nblock_time = 3.0\nlog_format = "json"\n')
    environment = {"LOCKSTEP_RPC_PORT": "2", "LOCKSTEP_BLOCK_TIME": "2.0"}
    config = load_config({"rpc_port": 3}, file=file, environment=environment)
    assert (config.rpc_port, config.block_time, config.log_format) == (3, 2.0, "json")


def test_absent_flag_does_not_hide_the_environment() -> None:
    config = load_config({"rpc_port": None}, environment={"LOCKSTEP_RPC_PORT": "2"})
    assert config.rpc_port == 2


def test_environment_names_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, "rpc_port = 77\n")
    assert load_config(environment={"LOCKSTEP_CONFIG": str(file)}).rpc_port == 77


def test_list_in_the_environment_is_separated_by_commas() -> None:
    environment = {"LOCKSTEP_RPC_CORS_ORIGINS": "https://a.example, https://b.example"}
    assert load_config(environment=environment).rpc_cors_origins == (
        "https://a.example",
        "https://b.example",
    )


def test_foreign_environment_is_left_alone() -> None:
    environment = {"LOCKSTEP_RPC": "http://elsewhere", "RPC_PORT": "1"}
    assert load_config(environment=environment) == load_config(environment={})


@pytest.mark.parametrize("name", sorted(NodeConfig.model_fields))
def test_every_setting_can_come_from_the_environment(name: str) -> None:
    default = getattr(load_config(environment={}), name)
    shown = ",".join(default) if isinstance(default, tuple) else str(default)
    variable = f"LOCKSTEP_{name.upper()}"
    assert getattr(load_config(environment={variable: shown}), name) == default


def test_unknown_key_in_a_file_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path, "rpc_prot = 1\n")
    with pytest.raises(ConfigError, match=r"rpc_prot \(from .*node\.toml\)"):
        load_config(file=file, environment={})


def test_wrong_value_names_its_source() -> None:
    with pytest.raises(ConfigError, match=r"rpc_port \(from environment\).*'many'"):
        load_config(environment={"LOCKSTEP_RPC_PORT": "many"})
    with pytest.raises(ConfigError, match=r"rpc_port \(from flags\).*65536"):
        load_config({"rpc_port": 65_536}, environment={})


def test_every_wrong_value_is_named() -> None:
    with pytest.raises(ConfigError, match=r"rpc_port.*; block_time|block_time.*; rpc_"):
        load_config({"rpc_port": -1, "block_time": 0}, environment={})


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(file=tmp_path / "absent.toml", environment={})


def test_file_that_is_no_toml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_config(file=write(tmp_path, "rpc_port"), environment={})


def test_huge_file_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path, "#" * (MAX_CONFIG_BYTES + 1))
    with pytest.raises(ConfigError, match="larger than"):
        load_config(file=file, environment={})
