"""Engines and gossip together: blocks come, whoever is missing, misled or late."""

from pathlib import Path

import trio
import trio.testing

from chain.transaction import decode as decode_transaction
from consensus.messages import Ballot, decode, encode
from node.gossip import VOTE
from tests.node.network import Network, make_network, run
from tests.node.tiny import ALICE, CHAIN_ID, transfer

SECONDS = 200.0


def play(network: Network, *steps: object, **options: object) -> None:
    """Run on a mock clock; `steps` is one coroutine function."""
    (story,) = steps

    async def main() -> None:
        with trio.fail_after(SECONDS):
            await run(network, story, **options)  # type: ignore[arg-type]  # as given

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.05))
    network.agree()


def test_four_validators_make_blocks(tmp_path: Path) -> None:
    network = make_network(tmp_path)
    network.nodes[2].mempool.add(decode_transaction(transfer(ALICE), CHAIN_ID), 10**9)

    async def story() -> None:
        await network.reach(6)

    play(network, story)
    database = network.nodes[0].chain.database
    proposers = {header.coinbase for header in database.headers(1, 6)}
    assert len(proposers) > 2
    blocks = [database.block(header.hash) for header in database.headers(1, 6)]
    assert sum(len(block.transactions) for block in blocks) == 1


def test_a_chain_of_connections_is_enough(tmp_path: Path) -> None:
    network = make_network(tmp_path)

    sent = decode_transaction(transfer(ALICE), CHAIN_ID)
    network.nodes[3].mempool.add(sent, 10**9)

    async def story() -> None:
        while any(node.mempool.get(sent.hash) is None for node in network.nodes[:3]):
            await network.nodes[0].engine.changed.wait()
        await network.reach(3)

    play(network, story, pairs=[(0, 1), (1, 2), (2, 3)])
    assert not any(len(node.mempool) for node in network.nodes)


def test_one_of_four_may_be_missing(tmp_path: Path) -> None:
    network = make_network(tmp_path)

    async def story() -> None:
        await network.reach(4, [0, 1, 2])

    play(network, story, engines=[0, 1, 2])
    assert network.heights()[3] == 0


def test_a_partition_stops_the_chain_and_healing_starts_it(tmp_path: Path) -> None:
    network = make_network(tmp_path)

    async def story() -> None:
        await network.reach(1)
        network.groups = [{0, 1}, {2, 3}]
        await trio.sleep(20)
        stopped = network.heights()
        await trio.sleep(20)
        assert network.heights() == stopped
        network.groups = []
        await network.reach(max(stopped) + 2)

    play(network, story)


def test_a_node_that_missed_a_decision_gets_it_from_any_peer(tmp_path: Path) -> None:
    """No precommit ever reaches node 3, only certificates do."""
    network = make_network(tmp_path)

    def tamper(_: int, target: int, channel: int, payload: bytes) -> bytes | None:
        if channel != VOTE.id:
            return payload
        message = decode(payload)
        hidden = isinstance(message, Ballot) and message.vote.subject.kind == 3
        return None if hidden and target == 3 else encode(message)

    network.tamper = tamper

    async def story() -> None:
        await network.reach(3)

    play(network, story)
