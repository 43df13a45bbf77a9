"""Relays between the nodes, where network namespaces are not permitted.

For each two nodes there is a relay that one of them dials to reach the other. While
either is cut off, its relays hold what comes, and connections that come get no answer:
as when packets are lost and sent again. Nodes tell others an address where nobody
answers, so no connection goes around the relays.
"""

import socket
import threading
from collections.abc import Mapping
from contextlib import suppress

from node.testnet import Ports
from tests.testnets.wires import HERE

_CHUNK = 64 * 1024
_NOWHERE = f"{HERE}:9"  # the port of RFC 863, which nobody serves


class Relays:
    """The wires between nodes, as far as this process passes bytes on."""

    def __init__(self, nodes: int, ports: Ports) -> None:
        """Begin to listen."""
        self._ports = ports
        self._open = [_set_event() for _ in range(nodes)]
        self._listeners = {
            (node, other): socket.create_server((HERE, 0))
            for node in range(nodes)
            for other in range(nodes)
            if node != other
        }
        for pair, listener in self._listeners.items():
            _in_background(self._accept, pair, listener)

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
        return f"{HERE}:{self._listeners[node, other].getsockname()[1]}"

    def settings(self, node: int) -> Mapping[str, str]:
        """As `Wires.settings`."""
        del node
        return {"p2p_advertise": _NOWHERE}

    def cut(self, node: int) -> None:
        """As `Wires.cut`."""
        self._open[node].clear()

    def heal(self, node: int) -> None:
        """As `Wires.heal`."""
        self._open[node].set()

    def close(self) -> None:
        """As `Wires.close`: every relay ends with its connections."""
        for listener in self._listeners.values():
            listener.close()
        for node in range(len(self._open)):
            self.heal(node)

    def _accept(self, pair: tuple[int, int], listener: socket.socket) -> None:
        with suppress(OSError):  # closed
            while True:
                near, _ = listener.accept()
                _in_background(self._connect, pair, near)

    def _connect(self, pair: tuple[int, int], near: socket.socket) -> None:
        self._wait(pair)
        try:
            far = socket.create_connection((HERE, self._ports.p2p + pair[1]))
        except OSError:  # nobody is there, and the dialler shall see it
            near.close()
            return
        _in_background(self._pass, pair, near, far)
        self._pass(pair, far, near)

    def _pass(
        self, pair: tuple[int, int], source: socket.socket, target: socket.socket
    ) -> None:
        with suppress(OSError):  # either end is gone; so is the other, then
            while data := source.recv(_CHUNK):
                self._wait(pair)
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _wait(self, pair: tuple[int, int]) -> None:
        for node in pair:
            self._open[node].wait()


def _set_event() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


def _in_background(target: object, *arguments: object) -> None:
    threading.Thread(target=target, args=arguments, daemon=True).start()  # type: ignore[arg-type]  # a function
