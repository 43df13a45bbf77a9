"""One of four validators lies as a proposer, or an outsider about a proposal."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import trio

from chain.block import Block
from chain.transaction import decode as decode_transaction
from consensus.beacon import make_reveal
from consensus.messages import Ballot, BlockPart, Proposal
from consensus.parts import Part, cut
from consensus.votes import NIL, Subject, VoteKind, sign_vote
from node.engine import Engine, Timeouts
from node.height import Height
from node.signer import proposal_subject
from node.validatorkey import ValidatorKey
from runtime.fees import next_base_fee
from tests.node.network import Network, keys, make_network
from tests.node.test_network import play
from tests.node.tiny import ALICE, CHAIN_ID, transfer

HOSTILE = keys(4)[3]
HONEST = [0, 1, 2]


def engines(network: Network) -> list[Engine]:
    return [network.nodes[index].engine for index in HONEST]


async def our_turn(network: Network, key: ValidatorKey = HOSTILE) -> Height:
    """Wait until the honest are at a height that this key proposes in round 0."""
    while True:
        heights = [engine.current for engine in engines(network)]
        if heights[0] is not None and all(
            each is not None and each.number == heights[0].number for each in heights
        ):
            turn = heights[0].validators.proposer(heights[0].number, 0)
            if turn.address == key.address:
                return heights[0]
        await trio.sleep(0.05)


def made(
    network: Network, *transactions: bytes, author: ValidatorKey = HOSTILE
) -> Block:
    """A valid block after the honest nodes' head, made with that key."""
    node = network.nodes[0]
    ledger, pool = node.chain.ledger, node.mempool
    parent = ledger.head
    fee = next_base_fee(ledger.forks.at(parent.number + 1), parent, 0)
    for raw in transactions:
        pool.add(decode_transaction(raw, CHAIN_ID), fee)
    reveal = make_reveal(ledger.genesis_hash, parent.number + 1, author.beacon_secret)
    certificate = ledger.certificate(parent)
    built = ledger.build(
        parent, author.address, reveal, certificate, [], pool.select(fee)
    )
    for raw in transactions:
        pool.discard(decode_transaction(raw, CHAIN_ID).hash)
    return built.executed.block


def signed(height: Height, subject: Subject, genesis: bytes) -> Ballot:
    index = height.validators.index_of(HOSTILE.address)
    assert index is not None
    return Ballot(sign_vote(genesis, subject, index, HOSTILE.secret))


def proposed(
    network: Network, height: Height, block: Block, parts_root: bytes | None = None
) -> Proposal:
    genesis = network.nodes[0].chain.database.genesis_hash()
    subject, encoded = proposal_subject(0, None, block)
    if parts_root is not None:
        subject = replace(subject, parts_root=parts_root)
    signature = signed(height, subject, genesis).vote.signature
    return Proposal(subject, len(cut(encoded)[1]), signature)


def deliver(engine: Engine, proposal: Proposal, parts: Iterable[Part]) -> None:
    engine.receive(proposal)
    for part in parts:
        subject = proposal.subject
        engine.receive(BlockPart(subject.height, subject.parts_root, part))


def vote_for(network: Network, height: Height, block_hash: bytes) -> None:
    """Prevote and precommit, to every honest node."""
    genesis = network.nodes[0].chain.database.genesis_hash()
    for kind in (VoteKind.PREVOTE, VoteKind.PRECOMMIT):
        subject = Subject(kind, height.number, 0, block_hash)
        for engine in engines(network):
            engine.receive(signed(height, subject, genesis))


def committed(network: Network, number: int) -> list[bytes | None]:
    return [network.nodes[i].chain.database.hash_at(number) for i in HONEST]


def test_whoever_passes_a_proposal_on_cannot_lie_about_its_parts(
    tmp_path: Path,
) -> None:
    """The count beside a proposal bears no signature."""
    network = make_network(tmp_path)
    large = transfer(ALICE, data=bytes(150_000), gas=2_000_000)

    async def story() -> None:
        height = await our_turn(network)
        block = made(network, large)
        parts = cut(block.encode())[1]
        assert len(parts) == 3
        proposal = proposed(network, height, block)
        orders: Sequence[Sequence[Part]] = (parts[::-1], parts, parts[1:] + parts[:1])
        for engine, count, order in zip(
            engines(network), (1, 40, 2), orders, strict=True
        ):
            deliver(engine, replace(proposal, count=count), order)
        await network.reach(height.number, HONEST)
        assert committed(network, height.number) == [block.hash] * 3

    play(network, story, engines=HONEST)


def test_parts_that_are_no_block_say_nothing_about_the_block(tmp_path: Path) -> None:
    """Two proposals of one block: node 0 gets parts that are rubbish."""
    network = make_network(tmp_path)

    async def story() -> None:
        height = await our_turn(network)
        block = made(network)
        root, rubbish = cut(b"rubbish")
        bad = proposed(network, height, block, root)
        good, parts = proposed(network, height, block), cut(block.encode())[1]
        first, *others = engines(network)
        deliver(first, bad, rubbish)
        for engine in others:
            deliver(engine, good, parts)
        vote_for(network, height, block.hash)
        # From now on node 3 is silent, so that all the others are needed.
        await network.reach(height.number + 3, HONEST)
        assert committed(network, height.number) == [block.hash] * 3

    play(network, story, engines=HONEST)


def test_parts_of_another_block_say_nothing_about_the_block(tmp_path: Path) -> None:
    network = make_network(tmp_path)

    async def story() -> None:
        height = await our_turn(network)
        block, other = made(network), made(network, transfer(ALICE))
        assert block.hash != other.hash
        root, wrong = cut(other.encode())
        first, *others = engines(network)
        deliver(first, proposed(network, height, block, root), wrong)
        for engine in others:
            deliver(engine, proposed(network, height, block), cut(block.encode())[1])
        vote_for(network, height, block.hash)
        await network.reach(height.number + 3, HONEST)
        assert committed(network, height.number) == [block.hash] * 3

    play(network, story, engines=HONEST)


def test_who_was_shown_another_proposal_gets_the_block_that_was_decided(
    tmp_path: Path,
) -> None:
    network = make_network(tmp_path)

    async def story() -> None:
        height = await our_turn(network)
        block, other = made(network), made(network, transfer(ALICE))
        first, *others = engines(network)
        deliver(first, proposed(network, height, other), cut(other.encode())[1])
        for engine in others:
            deliver(engine, proposed(network, height, block), cut(block.encode())[1])
        vote_for(network, height, block.hash)
        while not len(first.evidence):
            await first.changed.wait()
        assert [each.validator for each in first.evidence] == [HOSTILE.address]
        await network.reach(height.number + 3, HONEST)
        assert committed(network, height.number) == [block.hash] * 3

    play(network, story, engines=HONEST)


def test_a_proposer_cannot_choose_whose_reveal_it_uses(tmp_path: Path) -> None:
    """A friend's key would give it another value of the beacon to choose from."""
    network = make_network(tmp_path)
    friend = keys(4)[2]

    async def story() -> None:
        height = await our_turn(network)
        block = made(network, author=friend)
        proposal, parts = proposed(network, height, block), cut(block.encode())[1]
        for engine in engines(network):
            deliver(engine, proposal, parts)
        await network.reach(height.number, HONEST)
        assert block.hash not in committed(network, height.number)

    play(network, story, engines=HONEST)


def test_who_comes_back_many_rounds_late_is_taken_along(tmp_path: Path) -> None:
    """Node 3 votes nil while node 2 sees nothing; then node 3 is silent."""
    network = make_network(tmp_path)
    genesis = network.nodes[0].chain.database.genesis_hash()
    late = 12
    for engine in engines(network):
        engine._timeouts = Timeouts(0.4, 0.2, 0.0)

    def nil_votes(engine: Engine) -> None:
        height = engine.current
        assert height is not None
        for kind in (VoteKind.PREVOTE, VoteKind.PRECOMMIT):
            subject = Subject(kind, height.number, height.state.round, NIL)
            engine.receive(signed(height, subject, genesis))

    async def story() -> None:
        await network.reach(1, HONEST)
        network.groups = [{0, 1}]
        awake = engines(network)[:2]
        while min(engine.round for engine in awake) < late:
            for engine in awake:
                if engine.current is not None:
                    nil_votes(engine)
            await trio.sleep(0.2)
        stopped = network.heights()
        network.groups = []
        await network.reach(max(stopped) + 1, HONEST)

    play(network, story, engines=HONEST)
