"""A chain to prune: its states come back, and share much of what they hold."""

from chain import rlp
from chain.database import ChainDatabase
from chain.header import EMPTY_TRIE_ROOT
from chain.store import Store
from node.pruning import Plan, Pruned
from node.sync.walk import ACCOUNTS, CODE, below
from node.upkeep import prune_all
from node.watching import WatchedStore
from runtime.world import World
from tests.node.sync.chains import Chain
from tests.node.tiny import ALICE, ETHER, address, commit_genesis

BLOCKS = 24
# Stores the second word of its call data at the first.
STORER = bytes.fromhex("6020355f355500")
PLAN = Plan(11, 17)


def storing(store: Store) -> ChainDatabase:
    """A genesis with a contract that stores, where transfers go."""
    database = ChainDatabase(store)
    world = World(database, EMPTY_TRIE_ROOT)
    world.set_balance(address(ALICE), 1_000 * ETHER)
    world.set_nonce(b"\x11" * 20, 1)
    world.set_code(b"\x11" * 20, STORER)
    return commit_genesis(database, world)


def setting(slot: int, value: int) -> bytes:
    """Call data; long, because the gas of a transfer goes by it."""
    return slot.to_bytes(32) + value.to_bytes(32) + bytes(600)


def more(chain: Chain, count: int = 1) -> None:
    """Blocks that change a storage trie to what it was two blocks ago."""
    for _ in range(count):
        number = chain.database.head().number
        chain.grow(1, [setting(slot, 1 + number % 2) for slot in (1, 2, 3)])


def made(blocks: int = BLOCKS, store: Store | None = None) -> Chain:
    chain = Chain(storing(WatchedStore(store or Store.memory())))
    more(chain, blocks)
    return chain


def done(chain: Chain, plan: Plan, *, dry: bool = False) -> Pruned:
    return prune_all(chain.database, plan, dry=dry)


def nodes_of(database: ChainDatabase, number: int) -> set[bytes]:
    """The hashes of all nodes of a state; fails when one is missing."""
    header = database.header_at(number)
    assert header is not None
    stack, found = [(ACCOUNTS, header.state_root)], set[bytes]()
    while stack:
        kind, digest = stack.pop()
        if kind == CODE:
            database.code(digest)
            continue
        found.add(digest)
        stack += below(kind, rlp.decode(database.node(digest)))
    return found


def exact(database: ChainDatabase, lowest: int) -> None:
    """Exactly the nodes of genesis and the states from `lowest` on are here."""
    head = database.head().number
    wanted = nodes_of(database, 0)
    for number in range(lowest, head + 1):
        wanted |= nodes_of(database, number)
    assert {key[1:] for key, _ in database.store.scan(b"s")} == wanted
