"""Several nodes in this process, joined by memory channels instead of sockets."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import trio

from chain.crypto import sha256
from consensus.validators import Validator as Member, ValidatorSet
from node.service import Node
from node.validatorkey import ValidatorKey
from tests.node.tiny import ETHER, Clock, make_node

Tamper = Callable[[int, int, int, bytes], bytes | None]


def keys(count: int) -> list[ValidatorKey]:
    return [
        ValidatorKey.from_seed(
            sha256(b"node %d" % i), sha256(b"a%d" % i) + sha256(b"b%d" % i)
        )
        for i in range(count)
    ]


class Wire:
    """One direction of a connection, as the sender's `Peer`."""

    def __init__(self, network: "Network", source: int, target: int) -> None:
        self.network = network
        self.source, self.target = source, target
        self.id = target.to_bytes(20)
        self.address = f"node {target}"
        self.outbound = source < target
        self.sender, self.receiver = trio.open_memory_channel[tuple[int, bytes]](1_024)

    async def send(self, channel: int, payload: bytes) -> None:
        passed = self.network.passes(self.source, self.target, channel, payload)
        if passed is not None:
            self.network.messages += 1
            await self.sender.send((channel, passed))

    def try_send(self, channel: int, payload: bytes) -> bool:
        passed = self.network.passes(self.source, self.target, channel, payload)
        if passed is not None:
            try:
                self.sender.send_nowait((channel, passed))
            except trio.WouldBlock:
                return False
        return True


@dataclass
class Network:
    """Nodes and who can hear whom."""

    nodes: list[Node]
    groups: list[set[int]] = field(default_factory=list)
    tamper: Tamper | None = None
    messages: int = 0

    def passes(
        self, source: int, target: int, channel: int, payload: bytes
    ) -> bytes | None:
        if self.groups and not any({source, target} <= each for each in self.groups):
            return None
        if self.tamper is not None:
            return self.tamper(source, target, channel, payload)
        return payload

    def heights(self) -> list[int]:
        return [node.chain.database.head().number for node in self.nodes]

    async def reach(self, height: int, who: Sequence[int] | None = None) -> None:
        """Wait until these nodes have committed that height."""
        for index in range(len(self.nodes)) if who is None else who:
            node = self.nodes[index]
            while node.chain.database.head().number < height:
                await node.engine.changed.wait()

    def agree(self) -> None:
        """Every two nodes have the same chain as far as both have one."""
        shortest = min(self.heights())
        for number in range(shortest + 1):
            hashes = {node.chain.database.hash_at(number) for node in self.nodes}
            assert len(hashes) == 1, f"height {number}"


def make_network(
    directory: Path, count: int = 4, *, stakes: Sequence[int] | None = None
) -> Network:
    secrets = keys(count)
    members = ValidatorSet.of(
        Member(key.public_key, key.beacon_key, ETHER * stake)
        for key, stake in zip(secrets, stakes or [1] * count, strict=True)
    )
    clock = Clock()
    nodes = [
        make_node(
            directory / str(index),
            clock=clock,
            key=key,
            validators=members,
            block_time=1.0,
        )
        for index, key in enumerate(secrets)
    ]
    return Network(nodes)


async def run(
    network: Network,
    play: Callable[[], Awaitable[None]],
    *,
    pairs: Sequence[tuple[int, int]] | None = None,
    engines: Sequence[int] | None = None,
) -> None:
    """Run all engines, fully joined or as `pairs` say, while `play` goes on."""
    count = len(network.nodes)
    reactors = [node.reactors() for node in network.nodes]
    mesh = [(one, other) for one in range(count) for other in range(one)]
    async with trio.open_nursery() as nursery:
        for index in range(count) if engines is None else engines:
            nursery.start_soon(network.nodes[index].engine.run, 1.0)
        for a, b in pairs or mesh:
            for kind in range(len(reactors[a])):
                forth, back = Wire(network, a, b), Wire(network, b, a)
                nursery.start_soon(reactors[a][kind].attend, forth, back.receiver)
                nursery.start_soon(reactors[b][kind].attend, back, forth.receiver)
        await play()
        nursery.cancel_scope.cancel()
