from chain import addresses
from tests.contracts.chain import GENESIS_HASH, Chain, encode_call
from tests.contracts.play import refused


def test_ticks_only_after_blocks_with_room(chain: Chain) -> None:
    before = chain.now
    chain.mine(3)
    chain.mine(5, ticks=False)
    assert chain.now == before + 3


def test_keeps_the_first_genesis_hash(chain: Chain) -> None:
    ticks = True
    again = encode_call("Clock", "tick", ticks, b"\x01" * 32)
    chain.send_raw(addresses.SYSTEM, "Clock", again)
    assert chain.call("Clock", "genesis_hash") == GENESIS_HASH


def test_nobody_else_ticks(chain: Chain, alice: bytes) -> None:
    refused(
        "clock: only the system ticks",
        *(chain.send, alice, "Clock", "tick", True, GENESIS_HASH),
    )
