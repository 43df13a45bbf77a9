"""How the nodes of a network reach each other, and how that is stopped."""

from collections.abc import Mapping
from typing import Protocol

from node.testnet import Ports

HERE = "127.0.0.1"


class Wires(Protocol):
    """The connections between nodes; `host:port` everywhere."""

    def prefix(self, node: int) -> tuple[str, ...]:
        """What comes before a command that runs where this node lives."""
        ...

    def rpc_host(self, node: int) -> str:
        """Where the runner finds its RPC."""
        ...

    def listen(self, node: int) -> str:
        """Where it waits for peers."""
        ...

    def dial(self, node: int, other: int) -> str:
        """Where a node finds another one."""
        ...

    def settings(self, node: int) -> Mapping[str, str]:
        """More settings of its configuration."""
        ...

    def cut(self, node: int) -> None:
        """From now on nothing passes between it and the others."""
        ...

    def heal(self, node: int) -> None:
        """It can be reached again."""
        ...

    def close(self) -> None:
        """Nobody uses it any more."""
        ...


class Direct:
    """All on one address; nothing can be cut."""

    def __init__(self, ports: Ports) -> None:
        """Node i waits for peers on `ports.p2p + i`."""
        self._ports = ports

    def prefix(self, node: int) -> tuple[str, ...]:
        """As `Wires.prefix`."""
        del node
        return ()

    def rpc_host(self, node: int) -> str:
        """As `Wires.rpc_host`."""
        del node
        return HERE

    def listen(self, node: int) -> str:
        """As `Wires.listen`."""
        return f"{HERE}:{self._ports.p2p + node}"

    def dial(self, node: int, other: int) -> str:
        """As `Wires.dial`."""
        del node
        return self.listen(other)

    def settings(self, node: int) -> Mapping[str, str]:
        """As `Wires.settings`."""
        del node
        return {}

    def cut(self, node: int) -> None:
        """As `Wires.cut`.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(f"node {node} has no wire that could be cut")

    def heal(self, node: int) -> None:
        """As `Wires.heal`: nothing is cut."""

    def close(self) -> None:
        """As `Wires.close`."""
