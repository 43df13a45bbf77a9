"""A light client against a running node."""

from consensus.light import Policy
from lockstep.client.raw import RawNode
from lockstep.light import LightClient
from tests.node.conftest import RunningNode
from tests.node.tiny import GENESIS_TIME


def test_headers_of_a_running_node_are_verified(running: RunningNode) -> None:
    running.mine(5)
    node, witness = RawNode(running.url), RawNode(running.url)
    try:
        genesis_hash, head = node.genesis_hash(), node.head()
        for sequential in (False, True):
            client = LightClient(
                node, [witness], Policy(100_000), sequential=sequential
            )
            found = client.verify(0, genesis_hash, now=GENESIS_TIME + 1_000)
            assert found.header == node.header(head)
            assert found.fetched == (head if sequential else 1)
            assert [each.agrees for each in found.witnesses] == [True]
    finally:
        node.close()
        witness.close()
