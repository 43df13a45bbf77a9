"""Witnesses of a snapshot's block: they agree, cannot tell, lie, or prove a fork."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from chain.errors import Malformed
from chain.header import Header
from chain.sidecar import CommitCertificate
from consensus.light import LightBlock, Policy
from node.p2p.errors import PeerFaultError, PeerStalledError
from node.sync.errors import LightAttackError, SyncError
from node.sync.lightmessages import Ask, decode
from node.sync.lightsearch import Rules
from node.sync.lightsync import Inbox, LightSync, light_block
from node.vouching import Vouching
from tests.node.sync.chains import Wire, until, wired
from tests.node.sync.test_snapshots import chain
from tests.node.tiny import GENESIS_TIME

TRUSTED = 2
TARGET = 15
SINCE = 13  # where the other history begins
NOW = GENESIS_TIME + 100.0

Read = Callable[[int], LightBlock | None]

true: Read = partial(light_block, chain().database)


@cache
def forged(height: int, since: int = SINCE) -> LightBlock | None:
    """The same validators signed another history, from a height on."""
    block = true(height)
    if block is None or height < since:
        return block
    below = forged(height - 1, since)
    assert below is not None
    header = replace(
        block.header, parent_hash=below.header.hash, gas_used=block.header.gas_used + 1
    )
    certificate = chain().secrets.certificate(
        chain().database.genesis_hash(),
        replace(chain().block(height), header=header),
        block.validators,
    )
    return replace(block, parent=below.header, header=header, certificate=certificate)


def unsigned(height: int) -> LightBlock | None:
    """Another history that nobody signed."""
    block = forged(height)
    if block is None or height < SINCE:
        return block
    return replace(block, certificate=replace(block.certificate, signatures=()))


def unrelated(height: int) -> LightBlock | None:
    return forged(height, TRUSTED)


def two_faced(height: int) -> LightBlock | None:
    """Another header of the target, and then the true one."""
    told.append(height)
    return forged(height) if told.count(TARGET) == 1 else true(height)


told: list[int] = []


def nothing(height: int) -> LightBlock | None:
    del height
    return None


Peer = Read | None  # None: says nothing at all


async def serve(read: Peer, wire: Wire, inbox: Inbox) -> None:
    if read is not None:
        await LightSync(read).attend(wire, inbox)
    async for _, payload in inbox:
        assert isinstance(decode(payload), Ask)


class Heard:
    """What came of it: a hash, or an error; and who was dropped for what."""

    def __init__(self, peers: Mapping[bytes, Peer], evidence: Path) -> None:
        self.faults: dict[bytes, Exception] = {}
        self.evidence = evidence
        self.attack: LightAttackError | None = None
        self._peers = peers
        self._present: list[bytes] = []

    async def _attended(self, sync: LightSync, name: bytes, read: Peer) -> None:
        here, inbox, there, at_peer = wired(b"node", name)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, read, there, at_peer)
            self._present.append(name)
            try:
                await sync.attend(here, inbox)
            except* (PeerFaultError, PeerStalledError, Malformed) as group:
                self.faults[name] = group.exceptions[0]
            nursery.cancel_scope.cancel()

    async def ask(self, late: Mapping[bytes, Peer]) -> bytes | None:
        told.clear()
        sync = LightSync(lambda _: None, patience=0.3)
        rules = Rules(
            chain().database.genesis_hash(), Policy(period=1_000), lambda: NOW
        )
        root = (TRUSTED, chain().block(TRUSTED).hash)
        vouching = Vouching(sync, rules, root, self.evidence)
        found: bytes | None = None
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                try:
                    await self._join(nursery, sync, self._peers)
                    found = await vouching.block_hash(TARGET)
                    await self._join(nursery, sync, late)
                    await vouching.confirm(TARGET)
                    await trio.testing.wait_all_tasks_blocked()
                except LightAttackError as error:
                    self.attack = error
                nursery.cancel_scope.cancel()
        return found

    async def _join(
        self, nursery: trio.Nursery, sync: LightSync, peers: Mapping[bytes, Peer]
    ) -> None:
        for name, read in peers.items():
            nursery.start_soon(self._attended, sync, name, read)
            await until(lambda name=name: name in self._present)  # type: ignore[misc]  # bound now
            await trio.testing.wait_all_tasks_blocked()


def heard(
    tmp_path: Path,
    peers: Mapping[bytes, Peer],
    late: Mapping[bytes, Peer] | None = None,
) -> tuple[bytes | None, dict[bytes, Exception], list[str]]:
    """The hash, the faults, and the events of the log."""
    asked = Heard(peers, tmp_path / "attack.json")
    with capture_logs() as lines:
        found = trio.run(asked.ask, late or {})
    assert asked.attack is None
    assert not asked.evidence.exists()
    return found, asked.faults, [line["event"] for line in lines]


def hash_at(height: int) -> bytes:
    return chain().block(height).hash


def test_witnesses_that_agree(tmp_path: Path) -> None:
    found, faults, lines = heard(tmp_path, {b"a": true, b"b": true, b"c": true})
    assert (found, faults) == (hash_at(TARGET), {})
    assert lines == ["other peers confirm"] * 2


def test_without_a_second_peer_it_goes_on_with_a_warning(tmp_path: Path) -> None:
    found, faults, lines = heard(tmp_path, {b"a": true})
    assert (found, faults) == (hash_at(TARGET), {})
    assert len(lines) == 2
    assert all("no second peer confirms" in line for line in lines)


def test_a_witness_that_comes_later_is_asked_at_the_end(tmp_path: Path) -> None:
    found, _, lines = heard(tmp_path, {b"a": true}, {b"b": true})
    assert found == hash_at(TARGET)
    assert "no second peer confirms" in lines[0]
    assert lines[1:] == ["other peers confirm"]


@pytest.mark.parametrize("witness", [nothing, unrelated], ids=["lacks it", "unrelated"])
def test_a_witness_that_cannot_tell_does_not_count(
    witness: Read, tmp_path: Path
) -> None:
    found, faults, lines = heard(tmp_path, {b"a": true, b"b": witness})
    assert (found, faults) == (hash_at(TARGET), {})
    assert lines[0] == "a witness does not count"
    assert "no second peer confirms" in lines[1]


@pytest.mark.parametrize(
    ("witness", "reason"),
    [(unsigned, "signed block"), (two_faced, "two things of one height")],
)
def test_a_witness_that_proves_nothing_is_banned(
    witness: Read, reason: str, tmp_path: Path
) -> None:
    peers: dict[bytes, Peer] = {b"a": true, b"b": witness, b"c": true}
    found, faults, lines = heard(tmp_path, peers)
    assert found == hash_at(TARGET)
    assert isinstance(faults[b"b"], PeerFaultError)
    assert reason in str(faults[b"b"]) or "more than 2/3" in str(faults[b"b"])
    assert lines[-1] == "other peers confirm"


def test_a_silent_witness_is_dropped(tmp_path: Path) -> None:
    found, faults, _ = heard(tmp_path, {b"a": true, b"b": None, b"c": true})
    assert found == hash_at(TARGET)
    assert isinstance(faults[b"b"], PeerStalledError)


Peers = Mapping[bytes, Peer]
ATTACKS: Mapping[str, tuple[Peers, Peers, Read]] = {
    "witness": ({b"a": true, b"b": forged}, {}, true),
    "primary": ({b"a": forged, b"b": true}, {}, forged),
    "among others": ({b"a": true, b"b": nothing, b"c": forged, b"d": true}, {}, true),
    "late": ({b"a": true, b"b": true}, {b"c": forged}, true),
}


@pytest.mark.parametrize(
    ("peers", "late", "first"), ATTACKS.values(), ids=list(ATTACKS)
)
def test_a_second_certified_header_stops_everything(
    peers: Peers, late: Peers, first: Read, tmp_path: Path
) -> None:
    asked = Heard(peers, tmp_path / "attack.json")
    trio.run(asked.ask, late)
    assert isinstance(asked.attack, SyncError)
    document = json.loads(asked.evidence.read_text())
    height = document["first"]["header"]["number"]
    other = forged if first is true else true
    for name, read in (("first", first), ("second", other)):
        block = read(height)
        assert block is not None
        found = Header.decode(bytes.fromhex(document[name]["header"]["encoded"][2:]))
        assert found == block.header
        encoded = bytes.fromhex(document[name]["certificate"][2:])
        assert CommitCertificate.decode(encoded) == block.certificate
        assert "0x" + block.header.hash.hex() in str(asked.attack)
    assert document["common"]["number"] < SINCE <= height
    assert document["equivocators"]
    for said in ("attack on the light client", str(asked.evidence), "sync_trust_hash"):
        assert said in str(asked.attack)


def test_evidence_that_cannot_be_stored_is_logged(tmp_path: Path) -> None:
    asked = Heard({b"a": true, b"b": forged}, tmp_path / "none" / "attack.json")
    with capture_logs() as lines:
        trio.run(asked.ask, {})
    assert "certified twice" in str(asked.attack)
    (line,) = [each for each in lines if each["event"] == "evidence was not stored"]
    assert json.loads(line["evidence"])["first"]["header"]["number"] >= SINCE


def test_the_trusted_block_needs_no_witness(tmp_path: Path) -> None:
    async def main() -> bytes | None:
        rules = Rules(chain().database.genesis_hash(), Policy(1_000), lambda: NOW)
        root = (TRUSTED, hash_at(TRUSTED))
        vouching = Vouching(LightSync(lambda _: None), rules, root, tmp_path / "none")
        await vouching.confirm(TRUSTED)
        assert await vouching.block_hash(TARGET) is None
        return await vouching.block_hash(TRUSTED)

    with capture_logs() as lines:
        assert trio.run(main) == hash_at(TRUSTED)
    assert lines == []
