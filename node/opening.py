"""From a data directory to a node that can run."""

import json
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from chain.database import ChainDatabase
from chain.errors import ChainError
from genesis import ChainSpec, SpecError, ValidatorEntry, open_chain
from node.author import Validator
from node.config import NodeConfig
from node.datadir import DataDirectory
from node.dbrepair import open_store
from node.disk import SYSTEM
from node.doppelganger import Guard
from node.errors import ConfigError, DataDirectoryError
from node.evidence_file import EvidenceFile
from node.keydir import Password, password_in
from node.p2p.identity import load_node_key
from node.pool_journal import PoolJournal
from node.proposals import ProposalFiles
from node.remote.address import parse_address
from node.remote.client import RemoteSigner, SignerPlace, connector
from node.service import Chain, Node
from node.signer import LocalSigner, Signer
from node.signstate import mark_never_signed
from node.sync.restore import unfinished
from node.validatorkey import ValidatorKey
from node.wal import WriteAheadLog
from node.watching import WatchedStore
from runtime.backends import require_conforming_kernels, require_fast_backends


def encode_spec(spec: ChainSpec) -> bytes:
    """The JSON of a specification, the same for the same specification.

    `ChainSpec.parse` reads it back to an equal value.
    """
    document: dict[str, Any] = {
        "name": spec.name,
        "chain_id": spec.chain_id,
        "genesis_time": spec.genesis_time,
        "mix_hash": "0x" + spec.mix_hash.hex(),
        "base_fee": str(spec.base_fee),
        "forks": dict(spec.forks),
        "contracts": list(spec.contracts),
        "parameters": dict(spec.parameters),
        "alloc": {
            "0x" + address.hex(): str(amount) for address, amount in spec.alloc.items()
        },
        "consensus": dict(spec.consensus.parameters),
        "validators": [_encode_validator(each) for each in spec.validators],
    }
    return json.dumps(document, indent=1).encode() + b"\n"


def _encode_validator(entry: ValidatorEntry) -> dict[str, str]:
    fields = {
        "public_key": "0x" + entry.public_key.hex(),
        "beacon_key": "0x" + entry.beacon_key.hex(),
        "stake": str(entry.stake),
    }
    if entry.operator is not None:
        fields["operator"] = "0x" + entry.operator.hex()
    return fields


def initialise(
    directory: DataDirectory,
    spec: ChainSpec,
    key: ValidatorKey | None,
    *,
    never_signed: bool = True,
) -> None:
    """Make a directory the home of a chain, and of a validator when a key is given.

    Doing it again with the same arguments changes nothing. With `never_signed` the key
    is known to be a new one: it need not listen before it signs (`node.doppelganger`).

    Raises:
        DataDirectoryError: it is the home of another chain.
        KeyFileError: it has another validator's key.
    """
    directory.store_specification(encode_spec(spec))
    if key is not None and directory.validator_key() != key:
        directory.store_validator_key(key)
        if never_signed:
            mark_never_signed(directory.validator)


@contextmanager
def opened_chain(
    directory: DataDirectory,
) -> Generator[tuple[ChainSpec, ChainDatabase]]:
    """The chain of a directory, its database open while the context lasts.

    Raises:
        DataDirectoryError: not initialised, of another chain, or unreadable.
    """
    content = directory.specification()
    if content is None:
        raise DataDirectoryError(
            f"{directory.path} holds no chain; make one with `lockstep init "
            f"--data-dir {directory.path}`"
        )
    origin = str(directory.path / "chain.json")
    try:
        spec = ChainSpec.parse(content, origin)
        store = open_store(directory.database)
    except (SpecError, ChainError) as error:
        raise DataDirectoryError(str(error)) from error
    try:
        try:
            if unfinished(store) is not None:
                raise DataDirectoryError(
                    f"{directory.path}: a snapshot is being restored here; go on with "
                    "the same command, or begin with an empty directory"
                )
            database = open_chain(spec, WatchedStore(store))
        except (SpecError, ChainError) as error:
            raise DataDirectoryError(str(error)) from error
        yield spec, database
    finally:
        store.close()


@contextmanager
def opened_node(
    config: NodeConfig, directory: DataDirectory, *, ask: Password | None = None
) -> Generator[Node]:
    """The node of a directory; a validator's if it holds a key, else a follower's.

    Args:
        config: Settings.
        directory: Locked.
        ask: For the password of the validator's key, if `config` names no file.

    Raises:
        DataDirectoryError: as `opened_chain`.
        KeyFileError: the validator's key or signing state is damaged.
        PoolJournalError: the journal of transactions is another kind of file.
        WalError: the write-ahead log cannot be used.
        BackendMissing: a fast library was replaced by a slow one.
        NonConforming: the kernels compute other bits than the specification's.
    """
    require_fast_backends()
    require_conforming_kernels()
    with opened_chain(directory) as (spec, database):
        chain = Chain(
            database,
            encode_spec(spec),
            spec.rules,
            spec.validator_set,
            epoch_blocks=spec.consensus.epoch_blocks if spec.elects else 0,
            evidence_age=spec.consensus.evidence_age_blocks,
        )
        wal = WriteAheadLog(directory.path / "wal")
        signer = _signer(config, directory, database.genesis_hash(), ask)
        validator = None
        if signer is not None:
            committed = max(database.head().number, wal.ended)
            guard = Guard(
                signer,
                committed,
                heights=config.doppelganger_heights,
                seconds=config.doppelganger_seconds,
            )
            validator = Validator(signer, guard)
        journal = PoolJournal(directory.path / "mempool.journal")
        identity = None
        if config.p2p_listen or config.p2p_persistent_peers or config.p2p_bootstrap:
            identity = load_node_key(directory.path, secrets.token_bytes)
        try:
            node = Node(config, chain, validator, wal, identity, journal=journal)
            evidence = EvidenceFile(directory.path / "evidence")
            node.engine.evidence.keep_in(evidence, database.head())
            yield node
        finally:
            wal.close()
            journal.close()


def _signer(
    config: NodeConfig,
    directory: DataDirectory,
    genesis_hash: bytes,
    ask: Password | None,
) -> Signer | None:
    """The signer of this directory's key; None for a node that only follows."""
    if config.signer:
        return _remote_signer(config.signer, directory, genesis_hash)
    if config.password_file:
        ask = partial(password_in, Path(config.password_file).expanduser())
    key = directory.validator_key() if ask is None else directory.validator_key(ask)
    if key is None:
        return None
    return LocalSigner(directory.validator, genesis_hash, key)


def _remote_signer(
    text: str, directory: DataDirectory, genesis_hash: bytes
) -> RemoteSigner:
    if directory.keys.holds_key:
        raise ConfigError(
            f"{directory.validator} holds a validator's key, and `signer` names "
            "another process that signs: move one of them away"
        )
    address = parse_address(text)
    identity = load_node_key(directory.path, secrets.token_bytes)
    place = SignerPlace(text, connector(address, identity), genesis_hash)
    SYSTEM.make_directory(directory.validator)
    return RemoteSigner(place, ProposalFiles(directory.validator))
