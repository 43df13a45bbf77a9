"""Configuration of a node: flags over environment over file over defaults.

One flat table of settings. A file is TOML with these very names as its keys; the
environment variable of a setting is its name in capitals after `LOCKSTEP_`; the
command line flag is its name with dashes. Unknown keys in a file are refused; unknown
`LOCKSTEP_` variables are not, because clients read variables of their own.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from node.doppelganger import DEFAULT_HEIGHTS, DEFAULT_SECONDS
from node.errors import ConfigError

ENVIRONMENT_PREFIX = "LOCKSTEP_"
MAX_CONFIG_BYTES = 64 * 1024


def _split_commas(value: object) -> object:
    """Turn "a, b" of an environment variable into ("a", "b")."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


Words = Annotated[tuple[str, ...], BeforeValidator(_split_commas)]


class NodeConfig(BaseModel):
    """Every setting of a node, with its default.

    Times are seconds, sizes are bytes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    chain: str = "devnet"
    """Name of a bundled chain specification, or the path of a JSON file."""
    data_dir: Path = Path("~/.lockstep/node")
    block_time: float = Field(default=1.0, ge=0.05, le=3600)
    """From the beginning of one height to the next, when all goes well."""
    timeout_propose: float = Field(default=4.0, ge=0.05, le=600)
    timeout_vote: float = Field(default=1.0, ge=0.05, le=600)
    timeout_delta: float = Field(default=0.5, ge=0, le=60)
    """Each further round of a height waits so much longer."""

    password_file: str = ""
    """A file whose first line is the password of the validator's encrypted key."""
    signer: str = ""
    """Another process that signs: unix:PATH or tcp:ID@HOST:PORT; empty: this one."""
    doppelganger_heights: int = Field(default=DEFAULT_HEIGHTS, ge=0, le=10_000)
    """For how many heights a validator listens when its last-sign-state may be old."""
    doppelganger_seconds: float = Field(default=DEFAULT_SECONDS, gt=0, le=86_400)
    """For how long it listens at one height, if it can only have been away."""

    p2p_listen: str = ""
    """host:port for other nodes; empty: none can connect."""
    p2p_advertise: str = ""
    """host:port where others reach this node, if it is not what they see."""
    p2p_persistent_peers: Words = ()
    """id@host:port of nodes that are dialled again for ever."""
    p2p_bootstrap: Words = ()
    """id@host:port of nodes to ask for others."""
    p2p_max_inbound: int = Field(default=40, ge=0, le=1_000)
    p2p_max_outbound: int = Field(default=10, ge=0, le=1_000)

    sync_trust_height: int = Field(default=0, ge=0)
    """An empty node begins at a snapshot of this height or a later one; 0: block 1."""
    sync_trust_hash: str = Field(default="", pattern=r"^(0x[0-9a-fA-F]{64})?$")
    """The hash of the block at that height, from somebody you trust."""
    sync_trust_period: int = Field(default=14 * 86_400, ge=1)
    """For how many seconds that block can be trusted; less than the unbonding time."""
    snapshot_interval: int = Field(default=0, ge=0)
    """Take a snapshot at the multiples of this height, for peers; 0: never."""
    snapshot_keep: int = Field(default=2, ge=1, le=8)
    pruning: Literal["archive", "recent"] = "archive"
    """Whether all blocks and states are kept, or recent ones."""
    prune_keep_blocks: int = Field(default=0, ge=0)
    """How many of the newest blocks stay; 0: as few as the chain allows."""
    prune_keep_states: int = Field(default=128, ge=16)
    """How many of the newest states stay."""
    prune_interval: int = Field(default=1_000, ge=1)
    """Prune when so many more states are here than stay."""

    rpc_host: str = "127.0.0.1"
    rpc_port: int = Field(default=8545, ge=0, le=65_535)
    rpc_cors_origins: Words = ()
    """Web origins that may call; empty sends no CORS header at all."""
    rpc_max_body: int = Field(default=2 * 1024 * 1024, ge=1024, le=64 * 1024 * 1024)
    rpc_max_batch: int = Field(default=100, ge=1, le=10_000)
    rpc_body_seconds: float = Field(default=30.0, gt=0, le=600)
    rpc_call_threads: int = Field(default=2, ge=1, le=64)
    rpc_call_queue: int = Field(default=64, ge=1, le=10_000)
    rpc_call_seconds: float = Field(default=10.0, gt=0, le=600)
    rpc_call_gas: int = Field(default=50_000_000, ge=21_000, le=10**12)
    rpc_log_range: int = Field(default=10_000, ge=1, le=10_000_000)
    rpc_log_results: int = Field(default=10_000, ge=1, le=1_000_000)

    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(default=0, ge=0, le=65_535)
    """GET /metrics on a port of its own; 0: only on that of the RPC."""

    mempool_transactions: int = Field(default=5_000, ge=1, le=1_000_000)
    mempool_bytes: int = Field(default=64 * 1024 * 1024, ge=1024 * 1024)
    mempool_per_sender: int = Field(default=64, ge=1, le=100_000)
    mempool_min_tip: int = Field(default=0, ge=0)

    log_format: Literal["console", "json"] = "console"
    log_level: Literal["debug", "info", "warning", "error"] = "info"


def _from_file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            text = stream.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read configuration file {path}: {error}") from error
    if len(text) > MAX_CONFIG_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_CONFIG_BYTES} bytes")
    try:
        return tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in NodeConfig.model_fields:
        variable = ENVIRONMENT_PREFIX + name.upper()
        if variable in environment:
            found[name] = environment[variable]
    return found


def load_config(
    flags: Mapping[str, Any] | None = None,
    *,
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> NodeConfig:
    """Merge the sources; the first that names a setting wins.

    Args:
        flags: Settings from the command line; a value of None means "not given".
        file: A TOML file, or None. `LOCKSTEP_CONFIG` names one when this is None.
        environment: The process environment; None reads `os.environ`.

    Raises:
        ConfigError: naming each wrong setting, its value and where it came from.
    """
    environment = os.environ if environment is None else environment
    if file is None and environment.get(ENVIRONMENT_PREFIX + "CONFIG"):
        file = Path(environment[ENVIRONMENT_PREFIX + "CONFIG"])
    sources: list[tuple[str, Mapping[str, Any]]] = []
    if file is not None:
        sources.append((str(file), _from_file(file)))
    sources.append(("environment", _from_environment(environment)))
    given = {k: v for k, v in (flags or {}).items() if v is not None}
    sources.append(("flags", given))

    merged: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for name, values in sources:
        merged.update(values)
        origin.update(dict.fromkeys(values, name))
    try:
        config = NodeConfig(**merged)
    except ValidationError as error:
        raise ConfigError(_explain(error, origin)) from error
    return config.model_copy(update={"data_dir": config.data_dir.expanduser()})


def _explain(error: ValidationError, origin: Mapping[str, str]) -> str:
    lines: list[str] = []
    for problem in error.errors():
        name = ".".join(str(part) for part in problem["loc"])
        where = origin.get(str(problem["loc"][0]), "defaults")
        lines.append(
            f"{name} (from {where}): {problem['msg']}, got {problem['input']!r}"
        )
    return "; ".join(lines)
