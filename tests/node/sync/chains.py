"""Chains with certificates, and nodes that sync them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import trio

from chain.block import Block
from chain.database import ChainDatabase
from chain.header import Header
from chain.sidecar import CommitCertificate, CommitSignature, Sidecar
from chain.store import Store
from chain.transaction import decode
from consensus.validators import ValidatorSet
from consensus.votes import Subject, VoteKind, sign_vote
from node.p2p.interface import Peer
from node.sync.assembly import EncodedBlock
from node.sync.blocks import BLOCKS, BlockSync, Inbox, Pace
from node.sync.lightsync import LIGHT
from node.sync.messages import Message, decode as decode_message, encode
from node.sync.scheduler import Limits
from node.sync.sets import ValidatorSets
from node.sync.snapshotsync import SNAPSHOTS
from runtime.block import BlockAttributes, BlockBuilder, ExecutedBlock, import_block
from tests.consensus.committee import Committee
from tests.node.tiny import ALICE, FORKS, KEY, VALIDATORS, found, transfer

QUICK = Pace(status=0.02, tick=0.02)


class Secrets:
    """Who can sign for a validator set."""

    def __init__(self, *committees: Committee) -> None:
        self._secrets = {VALIDATORS.at(0).address: KEY.secret}
        for committee in committees:
            for index, member in enumerate(committee.set.members):
                self._secrets[member.address] = committee.secret(index)

    def certificate(
        self, genesis_hash: bytes, block: Block, validators: ValidatorSet
    ) -> CommitCertificate:
        entries: list[CommitSignature] = []
        for index, member in enumerate(validators.members):
            subject = Subject(
                VoteKind.PRECOMMIT, block.number, 0, block.hash, 1_000 + index
            )
            secret = self._secrets[member.address]
            vote = sign_vote(genesis_hash, subject, index, secret)
            entries.append(
                CommitSignature(member.address, subject.detail, vote.signature)
            )
        return CommitCertificate(block.number, 0, block.hash, tuple(entries))


def execute(database: ChainDatabase, parent: Header, block: Block) -> ExecutedBlock:
    return import_block(FORKS.at(block.number), database, parent, block)


@dataclass
class Chain:
    """A chain that grows by our hand.

    Attributes:
        committees: The set that votes from a height on; the genesis' set before.
    """

    database: ChainDatabase = field(default_factory=lambda: found(Store.memory()))
    committees: dict[int, Committee] = field(default_factory=dict[int, Committee])
    nonce: int = 0

    def __post_init__(self) -> None:
        self.secrets = Secrets(*self.committees.values())
        self.sets = ValidatorSets(self.database, VALIDATORS)
        self.database.put_validators({VALIDATORS.hash: VALIDATORS.encode()})

    def voters(self, height: int) -> ValidatorSet:
        below = [each for each in self.committees if each <= height]
        return self.committees[max(below)].set if below else VALIDATORS

    def grow(self, count: int = 1, data: Sequence[bytes] = (b"",)) -> None:
        """More blocks, each with a transfer for each piece of data."""
        for _ in range(count):
            parent = self.database.head()
            height = parent.number + 1
            following = self.voters(height + 1)
            parent_certificate = self.database.certificate(parent.hash)
            builder = BlockBuilder(
                FORKS.at(height),
                self.database,
                parent,
                BlockAttributes(
                    timestamp=parent.timestamp + 1,
                    coinbase=KEY.address,
                    mix_hash=bytes(32),
                    extra_data=following.hash,
                    sidecar=Sidecar(parent_certificate),
                ),
            )
            for piece in data:
                gas = 21_000 + 40 * len(piece)
                raw = transfer(ALICE, self.nonce, data=piece, gas=gas, value=height)
                builder.apply(decode(raw, FORKS.chain_id))
                self.nonce += 1
            executed = builder.seal()
            certificate = self.secrets.certificate(
                self.database.genesis_hash(), executed.block, self.voters(height)
            )
            self.database.commit(
                executed.block,
                executed.receipts,
                executed.writes,
                certificate=certificate,
                validators={following.hash: following.encode()},
            )

    def block(self, height: int) -> Block:
        block = self.database.block_at(height)
        assert block is not None
        return block

    def encoded(self, height: int) -> EncodedBlock:
        block = self.block(height)
        certificate = self.database.certificate(block.hash)
        assert certificate is not None
        return EncodedBlock(height, block.encode(), certificate.encode())


class Follower:
    """A node that starts at genesis, and imports what sync brings."""

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        sets: Callable[[int], ValidatorSet] = lambda _: VALIDATORS,
        store: Store | None = None,
    ) -> None:
        opened = store or Store.memory()
        self.database = ChainDatabase(opened)
        if self.database.is_empty():
            self.database = found(opened)
        self.imported: list[int] = []
        self._voters = sets
        find = ValidatorSets(self.database, VALIDATORS).find
        self.sync = BlockSync(
            self.database, find, self.import_block, limits=limits, pace=QUICK
        )

    async def import_block(self, block: Block, certificate: CommitCertificate) -> None:
        parent = self.database.head()
        if block.number != parent.number + 1:
            return
        executed = await trio.to_thread.run_sync(execute, self.database, parent, block)
        following = self._voters(block.number + 1)
        self.database.commit(
            block,
            executed.receipts,
            executed.writes,
            certificate=certificate,
            validators={following.hash: following.encode()},
        )
        self.imported.append(block.number)


class Wire:
    """One end of a connection in memory: a `Peer`, by hand."""

    def __init__(
        self, ident: bytes, out: trio.MemorySendChannel[tuple[int, bytes]]
    ) -> None:
        self.id = ident
        self.address = ident.hex() + "@memory:1"
        self.outbound = True
        self._out = out

    async def send(self, channel: int, payload: bytes) -> None:
        limits = {each.id: each.max_bytes for each in (BLOCKS, SNAPSHOTS, LIGHT)}
        assert 0 < len(payload) <= limits[channel]
        await self._out.send((channel, payload))

    def try_send(self, channel: int, payload: bytes) -> bool:
        try:
            self._out.send_nowait((channel, payload))
        except (trio.WouldBlock, trio.BrokenResourceError):
            return False
        return True

    async def say(self, message: Message) -> None:
        await self.send(BLOCKS.id, encode(message))


def wired(here: bytes, there: bytes) -> tuple[Wire, Inbox, Wire, Inbox]:
    """Two ends and their inboxes: what `here` sees, then what `there` sees."""
    to_there, at_there = trio.open_memory_channel[tuple[int, bytes]](BLOCKS.queue)
    to_here, at_here = trio.open_memory_channel[tuple[int, bytes]](BLOCKS.queue)
    return Wire(there, to_there), at_here, Wire(here, to_here), at_there


async def hear(inbox: Inbox) -> Message:
    _, payload = await inbox.receive()
    return decode_message(payload)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that other tasks do."""
    with trio.fail_after(30):
        while not condition():  # noqa: ASYNC110 - looks, never guesses
            await trio.sleep(0.005)


__all__ = ["Chain", "Follower", "Peer", "Wire", "execute", "hear", "until", "wired"]
