"""One key in two places, states that were lost or restored: nobody signs twice."""

import copy
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from shutil import copytree

import pytest
import trio
from structlog.testing import capture_logs

from chain.store import Store
from consensus.messages import Ballot, decode
from consensus.validators import Validator as Member, ValidatorSet
from consensus.votes import VoteKind
from node.author import Validator
from node.doppelganger import Guard
from node.gossip import VOTE
from node.service import Node
from tests.node.network import Network, keys, make_network, run
from tests.node.tiny import ETHER, Clock, make_node
from tests.support.clock import virtual_clock

HEIGHTS = 3
PATIENCE = 10.0
SECONDS = 300.0


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Every node tells every block."""
    with capture_logs():
        yield


def guarded(node: Node) -> Guard:
    """Give a node that is to start the guard that the command line gives it."""
    validator = node.engine.author.validator
    assert validator is not None
    committed = node.chain.database.head().number
    guard = Guard(
        validator.signer,
        committed,
        heights=HEIGHTS,
        seconds=PATIENCE,
        now=trio.current_time,
    )
    guard.wait_while(node._behind)
    node.engine.author.validator = Validator(validator.signer, guard)
    return guard


def another(directory: Path, index: int, store: Store | None = None) -> Node:
    """One more node with the key of a validator of four."""
    secrets = keys(4)
    members = ValidatorSet.of(
        Member(key.public_key, key.beacon_key, ETHER) for key in secrets
    )
    return make_node(
        directory,
        store,
        clock=Clock(),
        key=secrets[index],
        validators=members,
        block_time=1.0,
    )


def signatures(network: Network, node: Node) -> list[int]:
    """The heights whose certificate holds a signature of this node's key."""
    address, database = node.engine.address, network.nodes[0].chain.database
    found: list[int] = []
    for header in database.headers(1, 1_000):
        certificate = database.certificate(header.hash)
        assert certificate is not None
        if address in {each.validator for each in certificate.signatures}:
            found.append(header.number)
    return found


def has_prevote_of(node: Node, index: int) -> bool:
    """Whether it knows how this validator prevoted at its height."""
    height = node.engine.current
    if height is None:
        return False
    votes = height.state.keeper.tally(0, VoteKind.PREVOTE).votes
    return index in {voter for voter, _ in votes}


def innocent(network: Network) -> bool:
    heads = [node.chain.database.head() for node in network.nodes]
    return not any(
        node.engine.evidence.usable(head)
        for node, head in zip(network.nodes, heads, strict=True)
    )


def test_the_second_of_two_nodes_with_one_key_never_signs(tmp_path: Path) -> None:
    network = make_network(tmp_path)
    second = another(tmp_path / "second", 3)
    guard = guarded(second)
    network.nodes.append(second)

    async def story() -> None:
        await network.reach(8)

    async def main() -> None:
        with trio.fail_after(SECONDS):
            await run(network, story)

    trio.run(main, clock=virtual_clock())
    network.agree()
    validator = second.engine.author.validator
    assert validator is not None
    assert validator.signer.last is None
    assert guard.reason is not None
    assert "another node runs with this key" in guard.reason
    assert innocent(network)
    assert signatures(network, second)  # by the first


def test_a_lost_state_listens_and_signs_when_nobody_else_does(tmp_path: Path) -> None:
    network = make_network(tmp_path)
    lost = another(tmp_path / "lost", 3)
    guard = guarded(lost)
    network.nodes[3] = lost

    async def story() -> None:
        await network.reach(14)

    async def main() -> None:
        with trio.fail_after(SECONDS):
            await run(network, story)

    trio.run(main, clock=virtual_clock())
    network.agree()
    assert guard.reason is None
    assert innocent(network)
    signed = signatures(network, lost)
    assert signed
    assert min(signed) > HEIGHTS


def test_a_machine_restored_from_a_backup_does_not_sign_the_past_again(
    tmp_path: Path,
) -> None:
    """Database, log and state are of one old moment; the network has gone on."""
    network = make_network(tmp_path)
    home = tmp_path / "3"

    async def until(height: int, *, heard: bool) -> None:
        async def story() -> None:
            async with trio.open_nursery() as nursery:
                for node in network.nodes:
                    nursery.start_soon(node.sync.run)
                await network.reach(height)
                while heard and not has_prevote_of(network.nodes[0], 3):
                    await network.nodes[0].engine.changed.wait()
                nursery.cancel_scope.cancel()

        with trio.fail_after(SECONDS):
            await run(network, story)

    def live(height: int, *, heard: bool = False) -> None:
        clock = virtual_clock()
        trio.run(partial(until, height, heard=heard), clock=clock)

    live(3)
    copytree(home, tmp_path / "backup")
    store = copy.deepcopy(network.nodes[3].chain.database.store)
    guards: list[Guard] = []

    def tamper(_: int, __: int, channel: int, payload: bytes) -> bytes | None:
        """Height 10 does not end before the restored machine is told of its vote."""
        if channel != VOTE.id or any(guard.reason for guard in guards):
            return payload
        message = decode(payload)
        if not isinstance(message, Ballot):
            return payload
        subject = message.vote.subject
        held = (subject.kind, subject.height) == (VoteKind.PRECOMMIT, 10)
        return None if held else payload

    network.tamper = tamper
    live(9, heard=True)
    signed_before = max(signatures(network, network.nodes[3]))
    reasons: list[str | None] = []
    for height in (16, 28):
        restored = another(tmp_path / "backup", 3, store)
        guards.append(guarded(restored))
        network.nodes[3] = restored
        live(height)
        reasons.append(guards[-1].reason)
        network.agree()
        assert innocent(network)
    # Peers may still have what the earlier self had signed last, and tell it.
    assert reasons[0] is None or "the state is an old one" in reasons[0]
    assert reasons[1] is None
    later = [
        each for each in signatures(network, network.nodes[3]) if each > signed_before
    ]
    assert later
    assert min(later) > signed_before + HEIGHTS


def test_nothing_is_signed_before_a_peer_tells_how_far_the_network_is(
    tmp_path: Path,
) -> None:
    """Who comes back on an old copy of everything may be the old height's proposer."""
    network = make_network(tmp_path)

    async def main() -> None:
        with trio.move_on_after(60.0):
            await run(network, trio.sleep_forever, pairs=[(0, 1)], engines=[0, 1, 2, 3])

    trio.run(main, clock=virtual_clock())
    validators = [node.engine.author.validator for node in network.nodes]
    signed = [each is not None and each.signer.last is not None for each in validators]
    assert signed == [True, True, False, False]


def test_a_chain_that_needs_who_was_only_away_goes_on(tmp_path: Path) -> None:
    """The third of four is back and listens when the fourth goes for good."""
    network = make_network(tmp_path)

    def live(height: int, engines: tuple[int, ...]) -> None:
        async def story() -> None:
            async with trio.open_nursery() as nursery:
                for index in engines:
                    nursery.start_soon(network.nodes[index].sync.run)
                await network.reach(height, engines)
                nursery.cancel_scope.cancel()

        async def main() -> None:
            with trio.fail_after(SECONDS):
                await run(network, story, engines=engines)

        trio.run(main, clock=virtual_clock())
        network.agree()

    live(3, (0, 1, 2, 3))
    live(6, (0, 1, 3))
    late = network.nodes[2]
    guard = guarded(late)
    guard.wait_while(lambda: late.chain.database.head().number < 6)
    live(9, (0, 1, 2))
    assert guard.reason is None
    assert innocent(network)
    assert max(signatures(network, late)) >= 8
