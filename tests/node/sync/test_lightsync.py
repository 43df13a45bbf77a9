"""Light blocks between nodes: the rules over the wire, and bad peers of each kind."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import pytest
import trio
import trio.testing
from hypothesis import given, strategies as st

from chain import rlp
from chain.errors import Malformed
from chain.header import Header
from consensus.light import LightBlock, Policy
from node.p2p.errors import PeerFaultError, PeerStalledError
from node.sync.errors import SyncError
from node.sync.lightmessages import (
    MAX_MESSAGE_BYTES,
    Absent,
    Ask,
    Light,
    LightMessage,
    decode,
    encode,
)
from node.sync.lightsearch import Rules
from node.sync.lightsync import LIGHT, Inbox, LightSync, light_block
from tests.node.sync.chains import Wire, until, wired
from tests.node.sync.test_snapshots import chain
from tests.node.tiny import GENESIS_TIME
from tests.support.vectors import Vectors

TARGET = 15
POLICY = Policy(period=1_000)
BadPeer = Callable[[Wire, Inbox], Awaitable[None]]


def block(height: int) -> LightBlock:
    found = light_block(chain().database, height)
    assert found is not None
    return found


SAMPLES: dict[str, LightMessage] = {
    "ask": Ask(300),
    "light block": Light(block(7)),
    "absent": Absent(9),
}


def test_vectors(vectors: Vectors) -> None:
    rows = {name: "0x" + encode(each).hex() for name, each in SAMPLES.items()}
    vectors.check("light_messages", rows)


@pytest.mark.parametrize("message", SAMPLES.values(), ids=list(SAMPLES))
def test_round_trip(message: LightMessage) -> None:
    assert decode(encode(message)) == message


ITEMS = Light(block(7)).items()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "unknown kind of nothing"),
        (b"\4\xc0", "unknown kind 04"),
        (b"\1" + rlp.encode([b""]), "genesis has no light block"),
        (b"\2" + rlp.encode(ITEMS[:4]), "list of 5"),
        (b"\2" + rlp.encode([*ITEMS[:4], b"x"]), "validator"),
        (b"\2" + rlp.encode([b"x", *ITEMS[1:]]), "expected"),
        (b"\3" + rlp.encode([b"\1", b"\1"]), "list of 1"),
        (b"\3" + bytes(MAX_MESSAGE_BYTES), "are possible"),
    ],
)
def test_refusals(data: bytes, reason: str) -> None:
    with pytest.raises(Malformed, match=reason):
        decode(data)


@given(st.binary(max_size=200), st.integers(0, 4))
def test_whatever_decodes_has_one_encoding(data: bytes, kind: int) -> None:
    data = bytes((kind,)) + data
    try:
        message = decode(data)
    except Malformed:
        return
    assert encode(message) == data


def test_light_blocks_that_are_not_here_whole() -> None:
    database = chain().database
    assert light_block(database, 16) is None
    assert light_block(database, 0) is None
    assert light_block(database, 1) is not None


def answering(answer: Callable[[int], tuple[LightMessage, ...]]) -> BadPeer:
    async def peer(wire: Wire, inbox: Inbox) -> None:
        async for _, payload in inbox:
            message = decode(payload)
            assert isinstance(message, Ask)
            for each in answer(message.height):
                await wire.send(LIGHT.id, encode(each))

    return peer


async def honest(wire: Wire, inbox: Inbox) -> None:
    await LightSync(partial(light_block, chain().database)).attend(wire, inbox)


Found = tuple[Header | None, dict[bytes, Exception], list[bytes]]


def verified(
    peers: dict[bytes, BadPeer],
    *,
    trusted: int = 2,
    target: int = TARGET,
    now: float = GENESIS_TIME + 100,
) -> Found:
    """What comes of verifying with these peers, asked in this order."""
    faults: dict[bytes, Exception] = {}
    sync = LightSync(lambda _: None, patience=0.3)
    present: list[bytes] = []

    async def attended(name: bytes, peer: BadPeer) -> None:
        here, inbox, there, at_peer = wired(b"node", name)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer, there, at_peer)
            present.append(name)
            try:
                await sync.attend(here, inbox)
            except* (PeerFaultError, PeerStalledError, Malformed) as group:
                faults[name] = group.exceptions[0]
            nursery.cancel_scope.cancel()

    async def main() -> Header | None:
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                for name, peer in peers.items():
                    nursery.start_soon(attended, name, peer)
                    await until(lambda name=name: name in present)  # type: ignore[misc]  # bound now
                    await trio.testing.wait_all_tasks_blocked()
                rules = Rules(chain().database.genesis_hash(), POLICY, lambda: now)
                root = (trusted, chain().block(trusted).hash)
                found = await sync.verify(rules, root, target)
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
        return None if found is None else found.search.latest.header

    return trio.run(main), faults, present


@pytest.mark.parametrize("target", [3, 5, 6, 12, TARGET])
def test_any_later_header_is_verified(target: int) -> None:
    header, faults, _ = verified({b"one": honest}, target=target)
    assert header == chain().block(target).header
    assert faults == {}


def test_what_nobody_has_is_not_verified() -> None:
    assert verified({b"one": honest}, target=99)[0] is None
    assert verified({}, target=3)[0] is None


def forged(height: int) -> tuple[LightMessage, ...]:
    """A header that nobody signed."""
    true = block(height)
    header = replace(true.header, gas_used=1)
    return (Light(replace(true, header=header) if height == TARGET else true),)


def uncertified(height: int) -> tuple[LightMessage, ...]:
    true = block(height)
    few = replace(true.certificate, signatures=true.certificate.signatures[:1])
    return (Light(replace(true, certificate=few) if height == TARGET else true),)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (forged, "light block"),
        (uncertified, "light block"),
        (lambda height: (Light(block(height - 1)),), "nobody asked for it"),
        (lambda height: (Light(block(height)),) * 2, "nobody asked for it"),
        (lambda _: (Absent(9),), "nobody asked for it"),
        (lambda _: (Light(block(3)),), "nobody asked for it"),
    ],
    ids=["forged", "uncertified", "another", "twice", "absent", "first"],
)
def test_who_lies_is_banned_and_the_next_one_asked(
    answer: Callable[[int], tuple[LightMessage, ...]], reason: str
) -> None:
    header, faults, _ = verified({b"bad": answering(answer), b"good": honest})
    assert header == chain().block(TARGET).header
    assert isinstance(faults[b"bad"], PeerFaultError)
    assert reason in str(faults[b"bad"])
    assert b"good" not in faults


def test_another_block_at_the_trusted_height_is_nobodys_fault() -> None:
    def answer(height: int) -> tuple[LightMessage, ...]:
        true = block(height)
        return (Light(replace(true, header=replace(true.header, gas_used=1))),)

    header, faults, _ = verified({b"other": answering(answer), b"good": honest})
    assert header == chain().block(TARGET).header
    assert faults == {}


def test_a_silent_peer_is_dropped() -> None:
    header, faults, _ = verified({b"bad": answering(lambda _: ()), b"good": honest})
    assert header == chain().block(TARGET).header
    assert isinstance(faults[b"bad"], PeerStalledError)


def test_a_peer_that_lacks_it_is_passed_over() -> None:
    lacking = answering(lambda height: (Absent(height),))
    header, faults, _ = verified({b"poor": lacking, b"good": honest})
    assert header == chain().block(TARGET).header
    assert faults == {}


def test_trust_expires() -> None:
    with pytest.raises(BaseExceptionGroup) as caught:
        verified({b"one": honest}, now=GENESIS_TIME + 10_000)
    assert caught.group_contains(SyncError, match="the trust period is 1000 s")


def test_a_peer_that_asks_too_much_is_banned() -> None:
    async def flood(wire: Wire, inbox: Inbox) -> None:
        del inbox
        for _ in range(64):
            await wire.send(LIGHT.id, encode(Ask(1)))
        await trio.sleep_forever()

    _, faults, _ = verified({b"bad": flood})
    assert "asks at once" in str(faults[b"bad"])
