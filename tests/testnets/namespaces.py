"""Every node in a network namespace of its own, so that packets can be stopped.

A node has two interfaces: one for its peers, one that only the runner uses for RPC, so
a node that is cut off from the others still answers the runner. All of it lives in
namespaces of the runner (`unshare`) and is gone when the runner is.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

_UNSHARE = (
    *("unshare", "--map-root-user", "--user", "--net", "--mount", "--pid"),
    *("--fork", "--kill-child", "--mount-proc"),
)
_MARK = "LOCKSTEP_TESTNETS_INSIDE"
_PEERS, _CONTROL = "peers", "control"
_ATTEMPT_SECONDS = 30


def is_inside() -> bool:
    """Whether this process was started by `run_inside`."""
    return os.environ.get(_MARK) == "1"


def refusal() -> str | None:
    """Why this machine does not let us make network namespaces; None: it does."""
    for tool in ("unshare", "ip"):
        if shutil.which(tool) is None:
            return f"there is no `{tool}` here (util-linux and iproute2 have them)"
    probe = (
        "mount -t tmpfs none /run && ip netns add a && ip link add b type bridge && "
        "ip link add c type veth peer name d netns a"
    )
    tried = subprocess.run(  # noqa: S603 - constants
        [*_UNSHARE, "sh", "-c", probe],
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

    def __init__(self, nodes: int) -> None:
        """Lay them."""
        _sh("mount", "-t", "tmpfs", "none", "/run")
        _ip("link", "set", "lo", "up")
        for bridge in (_PEERS, _CONTROL):
            _ip("link", "add", bridge, "type", "bridge")
            _ip("link", "set", bridge, "up")
        _ip("addr", "add", "10.78.0.254/24", "dev", _CONTROL)
        for node in range(nodes):
            self._join(node)

    def _join(self, node: int) -> None:
        name = f"node{node}"
        _ip("netns", "add", name)
        inside = ("-n", name)
        _ip(*inside, "link", "set", "lo", "up")
        for bridge, address in (
            (_PEERS, self.peer_host(node)),
            (_CONTROL, self.rpc_host(node)),
        ):
            outer = f"{bridge}{node}"
            _ip("link", "add", outer, "type", "veth", "peer", bridge, "netns", name)
            _ip("link", "set", outer, "master", bridge, "up")
            _ip(*inside, "addr", "add", f"{address}/24", "dev", bridge)
            _ip(*inside, "link", "set", bridge, "up")

    def peer_host(self, node: int) -> str:
        """Where other nodes find it."""
        return f"10.77.0.{node + 1}"

    def rpc_host(self, node: int) -> str:
        """Where the runner finds it."""
        return f"10.78.0.{node + 1}"

    def prefix(self, node: int) -> tuple[str, ...]:
        """What comes before a command that runs there."""
        return "ip", "netns", "exec", f"node{node}"

    def cut(self, node: int) -> None:
        """From now on packets to and from its peers vanish."""
        _ip("link", "set", f"{_PEERS}{node}", "down")

    def heal(self, node: int) -> None:
        """Packets pass again."""
        _ip("link", "set", f"{_PEERS}{node}", "up")


def _ip(*arguments: str) -> None:
    _sh("ip", *arguments)


def _sh(*command: str) -> None:
    subprocess.run(command, check=True, timeout=_ATTEMPT_SECONDS)  # noqa: S603
