"""The data directories of a network whose nodes all run on one machine.

Every node gets a directory of its own with a configuration file, a fresh validator's
key and a fresh node key, and knows all others as persistent peers. The specification
is a given one with these validators in the place of its own; the public mnemonic's
account i operates validator i.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from genesis import ChainSpec, ValidatorEntry
from genesis.accounts import VALIDATOR_STAKE, account
from node.datadir import DataDirectory
from node.errors import DataDirectoryError
from node.files import write_durably
from node.opening import initialise
from node.p2p.address import PeerAddress
from node.p2p.identity import load_node_key
from node.validatorkey import ValidatorKey

CONFIG_FILE = "config.toml"


@dataclass(frozen=True, slots=True)
class Ports:
    """Node i listens on `p2p + i` for peers and on `rpc + i` for clients."""

    p2p: int
    rpc: int


@dataclass(frozen=True, slots=True)
class Member:
    """One node of the network.

    Attributes:
        directory: Its data directory, with `config.toml` in it.
        address: Where its peers find it.
        rpc: URL of its RPC.
        validator: Its address as a validator; None for a node without a vote.
    """

    directory: Path
    address: PeerAddress
    rpc: str
    validator: bytes | None


def make_testnet(
    directory: Path,
    spec: ChainSpec,
    validators: int,
    ports: Ports,
    settings: Mapping[str, str | int | float],
    *,
    followers: int = 0,
) -> tuple[ChainSpec, Sequence[Member]]:
    """Write the directories `node0`, `node1`, ... below `directory`.

    Args:
        directory: Made if needed; must hold no network yet.
        spec: Where the chain's name, accounts and parameters come from.
        validators: How many nodes have a vote, with equal stakes.
        ports: Where they listen, on 127.0.0.1.
        settings: More lines for every configuration file.
        followers: How many nodes without a vote come after the validators.

    Raises:
        DataDirectoryError: there is something in the way.
    """
    homes = [directory / f"node{index}" for index in range(validators + followers)]
    for home in homes:
        if home.exists():
            raise DataDirectoryError(
                f"{home} exists already; remove it or choose another directory"
            )
    keys = [
        ValidatorKey.from_seed(secrets.token_bytes(32), secrets.token_bytes(64))
        for _ in range(validators)
    ]
    spec = spec.with_validators(
        ValidatorEntry.of(
            key.public_key, key.beacon_key, VALIDATOR_STAKE, account(index).address
        )
        for index, key in enumerate(keys)
    )
    members: list[Member] = []
    for index, home in enumerate(homes):
        key = keys[index] if index < validators else None
        with DataDirectory(home) as opened:
            initialise(opened, spec, key)
            identity = load_node_key(home, secrets.token_bytes)
        members.append(
            Member(
                home,
                PeerAddress(identity.id, "127.0.0.1", ports.p2p + index),
                f"http://127.0.0.1:{ports.rpc + index}",
                None if key is None else key.address,
            )
        )
    for index, member in enumerate(members):
        others = [str(each.address) for each in members if each is not member]
        lines = {
            "data_dir": str(member.directory.absolute()),
            "p2p_listen": f"127.0.0.1:{ports.p2p + index}",
            "p2p_persistent_peers": others,
            "rpc_port": ports.rpc + index,
            **settings,
        }
        content = "".join(
            f"{name} = {json.dumps(value)}\n" for name, value in lines.items()
        )
        write_durably(member.directory / CONFIG_FILE, content.encode())
    return spec, members
