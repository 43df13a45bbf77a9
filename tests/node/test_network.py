"""Engines and gossip together: blocks come, whoever is missing, misled or late."""

from dataclasses import replace
from pathlib import Path

import trio

from chain.transaction import decode as decode_transaction
from consensus.messages import Ballot, decode
from consensus.votes import Subject, Vote, VoteKind, sign_vote
from node.gossip import VOTE
from node.height import Assembly
from node.logbook import Received
from tests.node.network import Network, keys, make_network, run
from tests.node.tiny import ALICE, CHAIN_ID, transfer
from tests.support.clock import virtual_clock

SECONDS = 200.0


def play(network: Network, *steps: object, **options: object) -> None:
    """Run on a mock clock; `steps` is one coroutine function."""
    (story,) = steps

    async def main() -> None:
        with trio.fail_after(SECONDS):
            await run(network, story, **options)  # type: ignore[arg-type]  # as given

    trio.run(main, clock=virtual_clock())
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
    hidden: set[int] = set()

    def tamper(_: int, target: int, channel: int, payload: bytes) -> bytes | None:
        if channel != VOTE.id or target != 3:
            return payload
        match decode(payload):
            case Ballot(Vote(Subject(VoteKind.PRECOMMIT, height))):
                hidden.add(height)
                return None
            case _:
                return payload

    network.tamper = tamper

    async def story() -> None:
        await network.reach(3)

    play(network, story)
    assert hidden >= {1, 2, 3}


def test_votes_that_a_decision_overtook_still_accuse(tmp_path: Path) -> None:
    """Node 0 decides alone; what contradicts itself is queued behind its precommit."""
    network = make_network(tmp_path, 2, stakes=[10, 1])
    engine = network.nodes[0].engine
    other = keys(2)[1]

    def own_precommit() -> Vote | None:
        for item in engine._queue:
            if isinstance(item, Received) and isinstance(item.message, Ballot):
                vote = item.message.vote
                if vote.subject.kind is VoteKind.PRECOMMIT:
                    return vote
        return None

    async def story() -> None:
        while (own := own_precommit()) is None:
            await engine.changed.wait()
        height = engine.current
        assert height is not None
        index = height.validators.index_of(other.address)
        assert index is not None
        genesis = network.nodes[0].chain.database.genesis_hash()
        for block_hash in (b"\1" * 32, b"\2" * 32):
            subject = replace(own.subject, block_hash=block_hash)
            vote = sign_vote(genesis, subject, index, other.secret)
            engine.receive(Ballot(vote))
        while engine.current is height:
            await engine.changed.wait()
        accused = [each.validator for each in engine.evidence]
        assert accused == [other.address]

    play(network, story, engines=[0])


def test_what_changes_while_a_peer_is_told_disturbs_nothing(tmp_path: Path) -> None:
    """Every message that is sent makes another proposal appear meanwhile."""
    network = make_network(tmp_path, 2)
    disturbed: set[int] = set()

    def tamper(source: int, _: int, __: int, payload: bytes) -> bytes:
        height = network.nodes[source].engine.current
        if height is not None and len(height.assemblies) < 8:
            root = bytes((len(height.assemblies), *bytes(31)))
            height.assemblies.setdefault(root, Assembly(root, 1))
            disturbed.add(height.number)
        return payload

    network.tamper = tamper

    async def story() -> None:
        await network.reach(3)

    play(network, story)
    assert disturbed >= {1, 2, 3}
