"""A signer in a thread, and nodes that ask it."""

import threading
from collections.abc import Callable
from pathlib import Path
from queue import Queue

import trio

from chain.crypto import sha256
from consensus.votes import Subject, VoteKind
from node.errors import ListenError
from node.p2p.identity import NodeKey
from node.proposals import ProposalFiles
from node.remote.address import TcpListen, UnixAddress, parse_address
from node.remote.client import RemoteSigner, SignerPlace, connector
from node.remote.server import Access, SignerServer, run_server
from node.signer import LocalSigner
from node.validatorkey import ValidatorKey

GENESIS = sha256(b"chain")
KEY = ValidatorKey.from_seed(sha256(b"secret"), bytes(63) + b"1")
A, B = sha256(b"a"), sha256(b"b")
PREVOTE, PRECOMMIT = VoteKind.PREVOTE, VoteKind.PRECOMMIT
NODE, SIGNER, STRANGER = (NodeKey(sha256(name)) for name in (b"n", b"s", b"x"))
START_SECONDS = 30
SUBJECT = Subject(PREVOTE, 5, 0, A)
ASKING: list[RemoteSigner] = []


class Running:
    """A signer in a thread of its own."""

    def __init__(
        self, directory: Path, listen: UnixAddress | TcpListen, *allowed: NodeKey
    ) -> None:
        self.signer = LocalSigner(directory, GENESIS, KEY)
        self._access = Access(SIGNER, {each.id for each in allowed})
        self._listen = listen
        self._started: Queue[
            tuple[str, trio.CancelScope, trio.lowlevel.TrioToken] | BaseException
        ] = Queue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        started = self._started.get(timeout=START_SECONDS)
        if isinstance(started, BaseException):
            raise started
        self.address, self._scope, self._token = started

    def _run(self) -> None:
        async def main() -> None:
            with trio.CancelScope() as scope:

                def ready(address: str) -> None:
                    token = trio.lowlevel.current_trio_token()
                    self._started.put((address, scope, token))

                server = SignerServer(self.signer)
                await run_server(server, self._listen, self._access, ready)

        try:
            trio.run(main)
        except ListenError as error:
            self._started.put(error)

    def stop(self) -> None:
        self._token.run_sync_soon(self._scope.cancel)
        self._thread.join(START_SECONDS)
        assert not self._thread.is_alive()


Start = Callable[..., Running]


def asking(
    directory: Path,
    address: str,
    identity: NodeKey = NODE,
    *,
    genesis_hash: bytes = GENESIS,
    seconds: float = 20.0,
) -> RemoteSigner:
    """A node's view of the signer at an address."""
    directory.mkdir(exist_ok=True)
    place = SignerPlace(
        address, connector(parse_address(address), identity), genesis_hash
    )
    remote = RemoteSigner(place, ProposalFiles(directory), seconds=seconds)
    ASKING.append(remote)
    return remote
