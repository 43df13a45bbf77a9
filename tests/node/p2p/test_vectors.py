"""Bytes of this protocol that another implementation can be held to."""

from node.p2p.address import PeerAddress, node_id
from node.p2p.connection import PING, PONG
from node.p2p.exchange import REQUEST, encode_addresses
from node.p2p.interface import CONTROL, Channel
from node.p2p.noise import MESSAGES, Handshake
from node.p2p.outbox import Outbox
from node.p2p.packets import HEADER
from node.p2p.preface import Preface, prologue
from tests.node.p2p.world import NETWORK, introduction
from tests.support.vectors import Vectors

CHANNEL = Channel(0x20, "votes", 100_000, 1e9, 1e12, 4, 1)


def handshake() -> tuple[list[bytes], list[bytes]]:
    """The messages of nodes 1 and 2, and the frames of their hellos."""
    preface = Preface(NETWORK).encode()
    own = [introduction(1), introduction(2)]
    sides = [
        Handshake(
            initiator=not index,
            prologue=prologue(preface, preface),
            static=each.key.secret,
            ephemeral=each.ephemeral,
        )
        for index, each in enumerate(own)
    ]
    messages: list[bytes] = []
    for turn in range(MESSAGES):
        messages.append(sides[turn % 2].write())
        sides[1 - turn % 2].read(messages[-1])
    hellos = [
        side.split()[0].encrypt(each.hello.encode())
        for side, each in zip(sides, own, strict=True)
    ]
    return messages, hellos


def test_vectors(vectors: Vectors) -> None:
    messages, hellos = handshake()
    outbox = Outbox([CHANNEL], 0.0)
    outbox.push_control(PING)
    outbox.push(CHANNEL.id, b"short")
    outbox.push(CHANNEL.id, bytes(70_000))
    frames = [outbox.frame(0.0)[0], outbox.frame(0.0)[0]]
    addresses = [
        PeerAddress(node_id(b"a"), "198.51.100.7", 26_656),
        PeerAddress(node_id(b"b"), "2001:db8::1", 1),
    ]
    nodes = [introduction(1), introduction(2)]
    vectors.check(
        "p2p",
        {
            "chain": NETWORK.chain_id,
            "genesis": NETWORK.genesis_hash.hex(),
            "preface": Preface(NETWORK).encode().hex(),
            "nodes": [
                {
                    "secret": node.key.secret.hex(),
                    "public": node.key.public_key.hex(),
                    "id": node.key.id.hex(),
                    "ephemeral": node.ephemeral.hex(),
                    "hello": node.hello.encode().hex(),
                }
                for node in nodes
            ],
            "noise": [message.hex() for message in messages],
            "hello_ciphertexts": [hello.hex() for hello in hellos],
            "pong_packet": (HEADER.pack(CONTROL, 0, 1) + PONG).hex(),
            "frame_heads": [frame[:40].hex() for frame in frames],
            "frame_sizes": [len(frame) for frame in frames],
            "exchange_request": REQUEST.hex(),
            "exchange_answer": encode_addresses(addresses).hex(),
        },
    )
