"""What the world state writes at the end of a block."""

from chain.crypto import keccak
from chain.database import ChainDatabase, node_key
from chain.header import EMPTY_TRIE_ROOT
from chain.store import Store
from runtime.world import World

SOMEBODY, NOBODY = b"\1" * 20, b"\2" * 20


def world() -> World:
    return World(ChainDatabase(Store.memory()), EMPTY_TRIE_ROOT)


def test_the_storage_of_an_account_is_written() -> None:
    made = world()
    made.set_balance(SOMEBODY, 1)
    made.set_storage(SOMEBODY, 1, 7)
    root, writes = made.commit()
    assert len(writes) == 2
    assert writes.keys() == {node_key(keccak(node)) for node in writes.values()}
    assert node_key(root) in writes


def test_storage_to_which_nothing_leads_is_not_written() -> None:
    """An account that is gone when the block ends, such as a contract destroyed in
    the transaction that made it.
    """
    made, plain = world(), world()
    for each in (made, plain):
        each.set_balance(SOMEBODY, 1)
    made.set_storage(NOBODY, 1, 7)
    assert made.commit() == plain.commit()
