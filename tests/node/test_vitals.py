"""Health and readiness of a node, and what it knows of the network."""

import pytest

from chain.store import Store
from node.mempool import Account, Mempool, PoolLimits
from node.p2p.interface import PeerStatus
from node.rpc.identity import Identity, IdentityMethods, Surroundings
from node.rpc.reading import ChainReader
from node.vitals import Readiness, Restoration, Vitals, health, readiness
from tests.node.tiny import FORKS, KEY, VALIDATORS, found


def vitals(
    *,
    best: int = 10,
    catching_up: bool = False,
    peers: int | None = 3,
    silent: float = 0.0,
) -> Vitals:
    return Vitals(10, best, catching_up, peers, silent, 15.0)


@pytest.mark.parametrize(
    ("given", "status", "said"),
    [
        (vitals(), Readiness.READY, "ready"),
        (vitals(peers=None), Readiness.READY, "ready"),
        (
            vitals(best=30, catching_up=True),
            Readiness.CATCHING_UP,
            "20 blocks behind",
        ),
        (vitals(catching_up=True), Readiness.CATCHING_UP, "0 blocks behind"),
        (vitals(peers=0), Readiness.NOT_READY, "no peers"),
        (vitals(silent=16.0), Readiness.NOT_READY, "no block for 16 s"),
        (
            vitals(silent=16.0, catching_up=True),
            Readiness.NOT_READY,
            "no block for 16 s",
        ),
    ],
)
def test_readiness(given: Vitals, status: Readiness, said: str) -> None:
    assert readiness(given)[0] is status
    assert readiness(given)[1]["status"] == said


def test_a_silent_node_is_ill_and_one_without_peers_is_not() -> None:
    assert health(vitals(silent=15.0, peers=0)) == (
        True,
        {"status": "ok", "height": 10},
    )
    healthy, details = health(vitals(silent=15.6))
    assert not healthy
    assert details["status"] == "no block for 16 s"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (Restoration(0, 0, 0, 0), "no peers to restore a snapshot from"),
        (Restoration(7, 1, 9, 0), "no peers to restore a snapshot from"),
        (Restoration(0, 0, 0, 2), "waiting for peers with a usable snapshot"),
        (Restoration(7, 1, 9, 2), "restoring a snapshot: 1 of 9 chunks"),
    ],
)
def test_a_node_that_restores_a_snapshot_is_well_and_not_ready(
    given: Restoration, said: str
) -> None:
    healthy, details = given.health()
    assert healthy
    assert details == {"status": "ok", "height": 0, "restoring": given.height}
    status, details = given.readiness()
    assert status is Readiness.NOT_READY
    assert details == {
        "status": said,
        "height": 0,
        "best": given.height,
        "peers": given.peers,
    }


PEER = PeerStatus("ab" * 20, "abab@h:1", True, 1.25, 10, 20, 0, 0.5, "test/v1")  # noqa: FBT003


def methods(around: Surroundings | None) -> IdentityMethods:
    reader = ChainReader(found(Store.memory()), FORKS)
    pool = Mempool(PoolLimits(), lambda _: Account(0, 0))
    look = None if around is None else lambda: around
    return IdentityMethods(
        reader, pool, Identity("test", b"{}", VALIDATORS, None, 1.0, look)
    )


def test_a_node_alone_says_so() -> None:
    alone = methods(None)
    assert alone.syncing(()) is False
    assert alone.listening(()) is False
    assert alone.peers(()) == "0x0"
    status = alone.status(())
    assert isinstance(status, dict)
    assert status["peers"] == []
    assert status["catchingUp"] is False
    assert status["nextProposer"] is None
    assert status["bestKnown"] == "0x0"


def test_a_node_in_a_network_tells_what_it_sees() -> None:
    seen = methods(Surroundings((PEER,), True, True, 9, KEY.address))  # noqa: FBT003
    assert seen.syncing(()) == {
        "startingBlock": "0x1",
        "currentBlock": "0x0",
        "highestBlock": "0x9",
    }
    assert seen.listening(()) is True
    assert seen.peers(()) == "0x1"
    status = seen.status(())
    assert isinstance(status, dict)
    assert status["nextProposer"] == "0x" + KEY.address.hex()
    assert status["bestKnown"] == "0x9"
    assert status["peers"] == [
        {
            "id": "ab" * 20,
            "address": "abab@h:1",
            "outbound": True,
            "seconds": 1.2,
            "received": "0xa",
            "sent": "0x14",
            "pending": "0x0",
            "score": 0.5,
            "software": "test/v1",
        }
    ]
