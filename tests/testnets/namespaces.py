"""Every node in a network namespace of its own, so that packets can be stopped.

A node has one interface, a wire to the namespace of the runner, which passes packets on
from one node to another. It has two addresses: one for its peers, one that only the
runner uses for RPC, so a node that is cut off from the others still answers the runner.
All of it lives in namespaces of the runner (`unshare`) and is gone when the runner is.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from node.testnet import Ports

_UNSHARE = (
    *("unshare", "--map-root-user", "--user", "--net", "--mount", "--pid"),
    *("--fork", "--kill-child", "--mount-proc"),
)
_MARK = "LOCKSTEP_TESTNETS_INSIDE"
_ATTEMPT_SECONDS = 30
_ROUTER = "10.77.0.254"
_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
_FIRST = "10"  # of the rules about packets, before those of the system
_PROBE = f"""
mount -t tmpfs none /run &&
echo 1 > {_FORWARD} &&
ip netns add a &&
ip link add c type veth peer name d netns a &&
ip rule add from 10.77.0.1 blackhole pref {_FIRST}
"""


def is_inside() -> bool:
    """Whether this process was started by `run_inside`."""
    return os.environ.get(_MARK) == "1"


def refusal() -> str | None:
    """Why this machine does not let us make network namespaces; None: it does."""
    for tool in ("unshare", "ip"):
        if shutil.which(tool) is None:
            return f"there is no `{tool}` here (util-linux and iproute2 have them)"
    tried = subprocess.run(  # noqa: S603 - constants
        [*_UNSHARE, "sh", "-c", _PROBE],
        capture_output=True,
        text=True,
        timeout=_ATTEMPT_SECONDS,
        check=False,
    )
    if tried.returncode == 0:
        return None
    return f"network namespaces are not permitted here: {tried.stderr.strip()}"


def run_inside(arguments: Sequence[str]) -> int:
    """Run `python -m tests.testnets` with these arguments in namespaces of its own."""
    return subprocess.run(  # noqa: S603 - our own module
        [*_UNSHARE, sys.executable, "-m", "tests.testnets", *arguments],
        env={**os.environ, _MARK: "1"},
        check=False,
    ).returncode


class Namespaces:
    """The wires between nodes; only inside."""

    def __init__(self, nodes: int, ports: Ports) -> None:
        """Lay them."""
        self._ports = ports
        _sh("mount", "-t", "tmpfs", "none", "/run")
        _ip("link", "set", "lo", "up")
        _FORWARD.write_text("1")
        for node in range(nodes):
            self._join(node)

    def _join(self, node: int) -> None:
        name, outer = f"node{node}", f"wire{node}"
        _ip("netns", "add", name)
        _ip("link", "add", outer, "type", "veth", "peer", "wire", "netns", name)
        inside = ("-n", name)
        _ip(*inside, "link", "set", "lo", "up")
        _ip("link", "set", outer, "up")
        _ip(*inside, "link", "set", "wire", "up")
        for host in (self._peer_host(node), self.rpc_host(node)):
            _ip("addr", "add", _ROUTER, "peer", host, "dev", outer)
            _ip(*inside, "addr", "add", host, "peer", _ROUTER, "dev", "wire")
        _ip(*inside, "route", "add", "10.77.0.0/24", "via", _ROUTER, "dev", "wire")

    def _peer_host(self, node: int) -> str:
        return f"10.77.0.{node + 1}"

    def rpc_host(self, node: int) -> str:
        """As `Wires.rpc_host`."""
        return f"10.78.0.{node + 1}"

    def prefix(self, node: int) -> tuple[str, ...]:
        """As `Wires.prefix`."""
        return "ip", "netns", "exec", f"node{node}"

    def listen(self, node: int) -> str:
        """As `Wires.listen`."""
        return f"{self._peer_host(node)}:{self._ports.p2p + node}"

    def dial(self, node: int, other: int) -> str:
        """As `Wires.dial`."""
        del node
        return self.listen(other)

    def settings(self, node: int) -> Mapping[str, str]:
        """As `Wires.settings`."""
        return {"rpc_host": self.rpc_host(node)}

    def cut(self, node: int) -> None:
        """As `Wires.cut`: packets vanish, and nobody is told."""
        self._rules("add", node)

    def heal(self, node: int) -> None:
        """As `Wires.heal`."""
        self._rules("del", node)

    def _rules(self, what: str, node: int) -> None:
        for way in ("from", "to"):
            host = self._peer_host(node)
            _ip("rule", what, way, host, "blackhole", "pref", _FIRST)

    def close(self) -> None:
        """As `Wires.close`: the namespaces go with the runner."""


def _ip(*arguments: str) -> None:
    _sh("ip", *arguments)


def _sh(*command: str) -> None:
    subprocess.run(command, check=True, timeout=_ATTEMPT_SECONDS)  # noqa: S603
