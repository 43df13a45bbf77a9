"""Block sync against the executor alone: two nodes, two processes, one TCP connection.

The server is a process of its own. The client syncs the chain from it over an
encrypted connection, verifying every certificate, and imports each block into LevelDB;
the peer in the comparison is `import_block` with the same commits, from the same bytes,
without network and certificates. Both start from an empty database in the same run.
"""

import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import trio

from benchmarks.harness import Figure
from chain.block import Block
from chain.crypto import keccak
from chain.database import ChainDatabase
from chain.sidecar import CommitCertificate
from chain.store import Store
from node.p2p.address import PeerAddress
from node.p2p.identity import NodeKey
from node.p2p.settings import Network, Settings, Timing
from node.p2p.switch import Switch
from node.sync.blocks import BlockSync
from node.sync.sets import ValidatorSets
from runtime.block import import_block
from tests.consensus.committee import Committee
from tests.node.sync.chains import Chain
from tests.node.tiny import CHAIN_ID, FORKS, VALIDATORS, found

ROUNDS = 3
COMMITTEE = Committee(1, 1, 1, 1)
TARGET = 0.8


def _chain(blocks: int, transfers: int) -> Chain:
    chain = Chain(committees={2: COMMITTEE})
    receivers = [keccak(bytes((i % 256, i // 256)))[:20] for i in range(transfers)]
    chain.grow(blocks, receivers)  # as data: transfers that differ
    return chain


def _commit(
    database: ChainDatabase, block: Block, certificate: CommitCertificate
) -> None:
    rules = FORKS.at(block.number)
    executed = import_block(rules, database, database.head(), block)
    database.commit(
        executed.block, executed.receipts, executed.writes, certificate=certificate
    )


def _founded(folder: str) -> ChainDatabase:
    database = found(Store.open(folder))
    sets = (VALIDATORS, COMMITTEE.set)
    database.put_validators({each.hash: each.encode() for each in sets})
    return database


def _alone(encoded: list[tuple[bytes, bytes]]) -> float:
    """Seconds of decoding, executing and committing, and nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        database = _founded(folder)
        start = time.perf_counter()
        for block, certificate in encoded:
            _commit(
                database, Block.decode(block), CommitCertificate.decode(certificate)
            )
        seconds = time.perf_counter() - start
        database.store.close()
    return seconds


def _switch(sync: BlockSync, number: int, *others: PeerAddress) -> Switch:
    return Switch(
        NodeKey(bytes(31) + bytes((number,))),
        Network(CHAIN_ID, bytes(32)),
        Settings(
            listen=None if others else "127.0.0.1:0",
            persistent=others,
            timing=Timing(retry_first=0.05),
        ),
        (sync,),
    )


async def _refuse(*_: object) -> None:
    await trio.lowlevel.checkpoint()
    raise AssertionError("the server has everything")


def _serve(blocks: int, transfers: int, pipe: Connection) -> None:
    chain = _chain(blocks, transfers)
    pipe.send(
        [(e.block, e.certificate) for e in map(chain.encoded, range(1, blocks + 1))]
    )

    async def main() -> None:
        sync = BlockSync(chain.database, chain.sets.find, _refuse)
        switch = _switch(sync, 1)
        async with trio.open_nursery() as nursery:
            address = await nursery.start(switch.run)
            pipe.send(str(address))
            await trio.to_thread.run_sync(pipe.recv)
            nursery.cancel_scope.cancel()

    trio.run(main)


async def _synced(database: ChainDatabase, address: PeerAddress, blocks: int) -> float:
    async def import_one(block: Block, certificate: CommitCertificate) -> None:
        await trio.to_thread.run_sync(_commit, database, block, certificate)
        if block.number == blocks:
            done.set()

    done = trio.Event()
    sync = BlockSync(database, ValidatorSets(database).find, import_one)
    switch = _switch(sync, 2, address)
    start = time.perf_counter()
    async with trio.open_nursery() as nursery:
        await nursery.start(switch.run)
        nursery.start_soon(sync.run)
        await done.wait()
        seconds = time.perf_counter() - start
        nursery.cancel_scope.cancel()
    return seconds


def _through_sockets(address: PeerAddress, blocks: int) -> float:
    """Seconds from the first dial to the last commit."""
    with tempfile.TemporaryDirectory() as folder:
        database = _founded(folder)
        seconds = trio.run(_synced, database, address, blocks)
        database.store.close()
    return seconds


def _measured(name: str, blocks: int, transfers: int) -> Figure:
    context = multiprocessing.get_context("spawn")
    pipe, far = context.Pipe()
    server = context.Process(target=_serve, args=(blocks, transfers, far), daemon=True)
    server.start()
    encoded: list[tuple[bytes, bytes]] = pipe.recv()
    address = PeerAddress.parse(pipe.recv())
    subjects: tuple[Callable[[], float], ...] = (
        lambda: _alone(encoded),
        lambda: _through_sockets(address, blocks),
    )
    rounds = [[subject() for subject in subjects] for _ in range(ROUNDS)]
    pipe.send(None)
    server.join()
    alone, synced = (statistics.median(times) for times in zip(*rounds, strict=True))
    return Figure(
        name,
        blocks / synced,
        "blocks/s",
        f"import_block alone, {blocks / alone:.4g} blocks/s; must be {TARGET:.0%}",
        alone / synced,
    )


def figures() -> list[Figure]:
    """Blocks per second for full, ordinary and empty blocks."""
    return [
        _measured("sync, blocks of 500 transfers", 24, 500),
        _measured("sync, blocks of 50 transfers", 100, 50),
        _measured("sync, empty blocks", 1_000, 0),
    ]
