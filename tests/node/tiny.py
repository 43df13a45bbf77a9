"""A chain with accounts and nothing else: no contracts, one validator."""

from dataclasses import dataclass
from pathlib import Path

from chain.block import Block
from chain.crypto import address_of, public_key, sha256
from chain.database import ChainDatabase
from chain.header import EMPTY_TRIE_ROOT, Header
from chain.sidecar import Sidecar
from chain.store import Store
from chain.transaction import Unsigned
from consensus.validators import Validator as Member, ValidatorSet
from node.author import Validator
from node.config import NodeConfig, load_config
from node.doppelganger import Guard
from node.service import Chain, Node
from node.signer import LocalSigner
from node.validatorkey import ValidatorKey
from node.wal import WriteAheadLog
from runtime.rules import ForkSchedule, Rules
from runtime.world import World

CHAIN_ID = 4242
GENESIS_TIME = 1_000
ETHER = 10**18
KEY = ValidatorKey.from_seed(sha256(b"validator"), sha256(b"a") + sha256(b"b"))
ALICE, BOB, CAROL = (sha256(name) for name in (b"alice", b"bob", b"carol"))
FORKS = ForkSchedule.constant(Rules(CHAIN_ID))
VALIDATORS = ValidatorSet.of([Member(KEY.public_key, KEY.beacon_key, ETHER)])
# Returns its call data's first word doubled; reverts with the word when it is odd.
DOUBLER = b"\x22" * 20
DOUBLER_CODE = bytes.fromhex(
    "5f35600181166011578001" + "5f5260205ff3" + "5b5f5260205ffd"
)
# Logs one topic, its call data's first word, with no data.
LOGGER = b"\x33" * 20
LOGGER_CODE = bytes.fromhex("5f355f5fa1" + "00")


def address(secret: bytes) -> bytes:
    return address_of(public_key(secret))


def found(store: Store, validators: ValidatorSet = VALIDATORS) -> ChainDatabase:
    """Commit the genesis block into an empty store."""
    database = ChainDatabase(store)
    world = World(database, EMPTY_TRIE_ROOT)
    for secret in (ALICE, BOB, CAROL):
        world.set_balance(address(secret), 1_000 * ETHER)
    world.set_nonce(DOUBLER, 1)
    world.set_code(DOUBLER, DOUBLER_CODE)
    world.set_nonce(LOGGER, 1)
    world.set_code(LOGGER, LOGGER_CODE)
    return commit_genesis(database, world, validators)


def commit_genesis(
    database: ChainDatabase, world: World, validators: ValidatorSet = VALIDATORS
) -> ChainDatabase:
    """Commit block 0 with the accounts of a world."""
    root, writes = world.commit()
    header = Header(
        parent_hash=bytes(32),
        coinbase=bytes(20),
        state_root=root,
        transactions_root=EMPTY_TRIE_ROOT,
        receipts_root=EMPTY_TRIE_ROOT,
        logs_bloom=bytes(256),
        number=0,
        gas_limit=30_000_000,
        gas_used=0,
        timestamp=GENESIS_TIME,
        extra_data=validators.hash,
        mix_hash=bytes(32),
        base_fee_per_gas=10**9,
        parent_beacon_block_root=Sidecar().root(),
    )
    database.commit(Block(header), (), writes)
    return database


@dataclass
class Clock:
    """A wall clock that stands still unless it is set."""

    seconds: float = GENESIS_TIME + 100.0

    def __call__(self) -> float:
        return self.seconds


def config(**settings: object) -> NodeConfig:
    flags = {"rpc_port": 0, "block_time": 3600.0} | settings
    return load_config(flags, environment={})


def make_node(
    directory: Path,
    store: Store | None = None,
    clock: Clock | None = None,
    key: ValidatorKey = KEY,
    validators: ValidatorSet = VALIDATORS,
    **settings: object,
) -> Node:
    """A node on a store (founded when empty), signing in `directory`."""
    store = Store.memory() if store is None else store
    database = ChainDatabase(store)
    if database.is_empty():
        database = found(store, validators)
    directory.mkdir(exist_ok=True)
    signer = LocalSigner(directory, database.genesis_hash(), key)
    chain = Chain(database, b'{"chain_id": 4242}', FORKS, validators)
    wal = WriteAheadLog(directory / "wal")
    validator = Validator(signer, Guard(signer, 0, heights=0))
    return Node(config(**settings), chain, validator, wal, now=clock or Clock())


def transfer(
    secret: bytes = ALICE,
    nonce: int = 0,
    *,
    to: bytes | None = b"\x11" * 20,
    value: int = 1,
    gas: int = 21_000,
    fee: int = 10 * 10**9,
    tip: int = 10**9,
    data: bytes = b"",
) -> bytes:
    return Unsigned(
        chain_id=CHAIN_ID,
        nonce=nonce,
        gas=gas,
        max_fee_per_gas=fee,
        max_priority_fee_per_gas=tip,
        to=to,
        value=value,
        data=data,
    ).sign(secret)
