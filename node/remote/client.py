"""The node's side: a signer that asks another process.

Calls block, for `seconds` at the most; the engine makes them in worker threads. A
connection that broke is made again within the same call, and the request repeated,
which is harmless: a signer gives the same signature for the same subject.

Blocks of proposals stay on this machine; the last-sign-state is the signer's. What the
signer was seen to have signed it must never forget: if it does, somebody has restored
an old state, and this node asks for nothing more.
"""

import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from typing_extensions import override

from consensus.beacon import verify_reveal
from consensus.errors import ConsensusError
from consensus.votes import Subject, verify_signature
from node.errors import DoubleSignError, SignerUnavailableError
from node.p2p.address import node_id
from node.p2p.errors import GarbageError
from node.p2p.identity import NodeKey
from node.p2p.noise import CipherState
from node.proposals import ProposalFiles
from node.remote.address import NoiseAddress, UnixAddress
from node.remote.messages import (
    VERSION,
    Answer,
    AskReveal,
    AskSignature,
    AskState,
    Hello,
    Made,
    Refusal,
    Refused,
    Request,
    Revealed,
    SignerProtocolError,
    State,
    Welcome,
    decode_answer,
    encode_request,
)
from node.remote.wire import (
    LENGTH,
    SECOND,
    frame_size,
    framed,
    handshake,
)
from node.signer import ProposingSigner
from node.signstate import Signed, order, shown
from node.validatorkey import PublicKeys

SECONDS: Final = 5.0
_Expected = TypeVar("_Expected", Welcome, State, Made, Revealed)


class Channel(Protocol):
    """A connection on which one message follows the other."""

    def send(self, message: bytes, deadline: float) -> None:
        """Send a message.

        Raises:
            OSError: broken, or the deadline (of `time.monotonic`) has passed.
        """
        ...

    def receive(self, deadline: float) -> bytes:
        """The next message.

        Raises:
            OSError: as `send`; also when the other side hung up.
            SignerProtocolError: it sent what no signer sends.
        """
        ...

    def close(self) -> None:
        """Hang up."""
        ...


Connect = Callable[[float], Channel]


class _Stream:
    """Exact reads and writes of a socket under a deadline."""

    def __init__(
        self, family: int, address: str | tuple[str, int], until: float
    ) -> None:
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._limit(until)
            self.socket.connect(address)
        except OSError:
            self.socket.close()
            raise

    def _limit(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("no time left")
        self.socket.settimeout(left)

    def send(self, data: bytes, deadline: float) -> None:
        self._limit(deadline)
        self.socket.sendall(data)

    def exactly(self, size: int, deadline: float) -> bytes:
        data = bytearray()
        while len(data) < size:
            self._limit(deadline)
            more = self.socket.recv(size - len(data))
            if not more:
                raise ConnectionResetError("the signer hung up")
            data += more
        return bytes(data)

    def frame(self, deadline: float, *, exactly: int | None = None) -> bytes:
        size = frame_size(self.exactly(LENGTH, deadline), exactly=exactly)
        return self.exactly(size, deadline)

    def close(self) -> None:
        self.socket.close()


class _Plain(Channel):
    """Over a Unix socket."""

    def __init__(self, stream: _Stream) -> None:
        self._stream = stream

    @override
    def send(self, message: bytes, deadline: float) -> None:
        self._stream.send(framed(message), deadline)

    @override
    def receive(self, deadline: float) -> bytes:
        return self._stream.frame(deadline)

    @override
    def close(self) -> None:
        self._stream.close()


class _Encrypted(Channel):
    """Over TCP."""

    def __init__(
        self, stream: _Stream, outgoing: CipherState, incoming: CipherState
    ) -> None:
        self._stream = stream
        self._outgoing = outgoing
        self._incoming = incoming

    @override
    def send(self, message: bytes, deadline: float) -> None:
        self._stream.send(framed(self._outgoing.encrypt(message)), deadline)

    @override
    def receive(self, deadline: float) -> bytes:
        try:
            return self._incoming.decrypt(self._stream.frame(deadline))
        except GarbageError as error:
            raise SignerProtocolError(str(error)) from error

    @override
    def close(self) -> None:
        self._stream.close()


def connector(address: UnixAddress | NoiseAddress, identity: NodeKey | None) -> Connect:
    """How to reach the signer at an address.

    Args:
        address: Where it is.
        identity: Who this node is; needed over TCP.
    """

    def unix(deadline: float) -> Channel:
        path = str(address.path) if isinstance(address, UnixAddress) else ""
        return _Plain(_Stream(socket.AF_UNIX, path, deadline))

    def tcp(deadline: float) -> Channel:
        if identity is None or not isinstance(address, NoiseAddress):
            raise TypeError("a signer over TCP needs to know who asks")
        return _dial(address, identity, deadline)

    return unix if isinstance(address, UnixAddress) else tcp


def _dial(address: NoiseAddress, identity: NodeKey, deadline: float) -> Channel:
    peer = address.peer
    found = socket.getaddrinfo(peer.host, peer.port, type=socket.SOCK_STREAM)
    family, _, _, _, place = found[0]
    stream = _Stream(family, (str(place[0]), int(place[1])), deadline)
    try:
        stream.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return _secured(stream, identity, peer.id, deadline)
    except (OSError, SignerProtocolError):
        stream.close()
        raise
    except GarbageError as error:
        stream.close()
        raise SignerProtocolError(str(error)) from error


def _secured(
    stream: _Stream, identity: NodeKey, expected: bytes, deadline: float
) -> Channel:
    """The handshake; this side's identity is told to the expected one only."""
    noise = handshake(
        initiator=True, static=identity.secret, ephemeral=secrets.token_bytes(32)
    )
    stream.send(framed(noise.write()), deadline)
    noise.read(stream.frame(deadline, exactly=SECOND))
    met = node_id(noise.remote_static)
    if met != expected:
        raise SignerProtocolError(f"expected signer {expected.hex()}, met {met.hex()}")
    stream.send(framed(noise.write()), deadline)
    return _Encrypted(stream, *noise.split())


@dataclass(frozen=True, slots=True)
class SignerPlace:
    """Which signer to ask.

    Attributes:
        name: Of it, for people.
        connect: Opens a connection before a deadline.
        genesis_hash: Of the chain.
    """

    name: str
    connect: Connect
    genesis_hash: bytes


class RemoteSigner(ProposingSigner):
    """See the module."""

    def __init__(
        self, place: SignerPlace, proposals: ProposalFiles, *, seconds: float = SECONDS
    ) -> None:
        """Reach the signer for the first time.

        Args:
            place: Which one.
            proposals: Where blocks that this node proposes are kept.
            seconds: How long a call may take.

        Raises:
            SignerUnavailableError: it does not answer, or signs for another chain.
        """
        super().__init__(proposals)
        self._place = place
        self._seconds = seconds
        self._lock = threading.Lock()
        self._channel: Channel | None = None
        self._public: PublicKeys | None = None
        self._newest: Subject | None = None
        self._known = False
        self._latest: Sequence[Signed] = ()
        self.latest()

    @property
    def public(self) -> PublicKeys:
        """The public keys of the validator."""
        if self._public is None:
            raise SignerUnavailableError(f"{self._place.name} was never reached")
        return self._public

    @property
    @override
    def address(self) -> bytes:
        return self.public.address

    @property
    @override
    def last(self) -> Signed | None:
        return self._latest[-1] if self._latest else None

    @property
    @override
    def last_height(self) -> int | None:
        if self._latest:
            return self._latest[-1].subject.height
        return 0 if self._known else None

    @override
    def latest(self) -> Sequence[Signed]:
        return self._ask(AskState(), State).signed

    @override
    def sign(self, subject: Subject) -> Signed:
        signed = self._ask(AskSignature(subject), Made).signed
        if order(signed.subject) != order(subject) or signed.subject.contradicts(
            subject
        ):
            raise SignerUnavailableError(
                f"{self._place.name} was asked for {shown(subject)} and signed "
                f"{shown(signed.subject)}"
            )
        self._verify(signed)
        self._note((signed,))
        return signed

    @override
    def reveal(self, height: int) -> bytes:
        reveal = self._ask(AskReveal(height), Revealed).reveal
        try:
            verify_reveal(
                self._place.genesis_hash, height, reveal, self.public.beacon_key
            )
        except ConsensusError as error:
            raise SignerUnavailableError(f"{self._place.name}: {error}") from error
        return reveal

    def close(self) -> None:
        """Hang up."""
        with self._lock:
            self._hang_up()

    # -- one request -----------------------------------------------------------

    def _ask(self, request: Request, expected: type[_Expected]) -> _Expected:
        """The answer of that kind.

        Raises:
            DoubleSignError: the signer refuses.
            SignerUnavailableError: it does not answer, or with something else.
        """
        name = self._place.name
        with self._lock:
            answer = self._answered(request)
        match answer:
            case Refused(Refusal.DOUBLE_SIGN, text):
                raise DoubleSignError(f"{name}: {text}")
            case Refused(code, text):
                raise SignerUnavailableError(f"{name}: {text} ({code.name.lower()})")
            case _ if isinstance(answer, expected):
                return answer
            case _:
                raise SignerUnavailableError(
                    f"{name} answered with {type(answer).__name__}, "
                    f"expected {expected.__name__}"
                )

    def _answered(self, request: Request) -> Answer:
        deadline = time.monotonic() + self._seconds
        fresh = self._channel is None
        try:
            try:
                return self._exchanged(request, deadline)
            except OSError:
                if fresh:
                    raise
            # It was an old connection that broke; a new one may do.
            return self._exchanged(request, deadline)
        except (OSError, SignerProtocolError) as error:
            why = str(error) or type(error).__name__
            raise SignerUnavailableError(
                f"{self._place.name} does not answer: {why}; is `lockstep signer run` "
                "running, and does it allow this node to ask?"
            ) from error

    def _exchanged(self, request: Request, deadline: float) -> Answer:
        try:
            channel = self._channel
            if channel is None:
                channel = self._channel = self._place.connect(deadline)
                self._greet(channel, deadline)
            answer = _exchange(channel, request, deadline)
            if isinstance(answer, State):
                self._take_state(answer)
        except BaseException:
            # An answer that comes late must not be taken for that of the next request.
            self._hang_up()
            raise
        return answer

    def _greet(self, channel: Channel, deadline: float) -> None:
        """Learn whose signer it is, and that it hasn't forgotten anything."""
        hello = Hello(VERSION, self._place.genesis_hash)
        match _exchange(channel, hello, deadline):
            case Welcome(public):
                if self._public not in (None, public):
                    raise SignerProtocolError("it is now the signer of another key")
                self._public = public
            case Refused(_, text):
                raise SignerProtocolError(text)
            case _:
                raise SignerProtocolError("it did not greet")
        match _exchange(channel, AskState(), deadline):
            case State() as state:
                self._take_state(state)
            case _:
                raise SignerProtocolError("it did not tell its state")

    def _take_state(self, state: State) -> None:
        newest = self._newest
        last = state.signed[-1].subject if state.signed else None
        if newest is not None and (last is None or order(last) < order(newest)):
            known = "nothing" if last is None else shown(last)
            raise SignerProtocolError(
                f"it has signed {shown(newest)} and knows of {known} only: its "
                "last-sign-state is an old one, or it is a second signer of this key. "
                "Nothing is asked of it until this node is started again"
            )
        self._known = state.known
        self._note(state.signed)
        self._latest = state.signed

    def _note(self, signed: Sequence[Signed]) -> None:
        for each in signed:
            if self._newest is None or order(each.subject) > order(self._newest):
                self._newest = each.subject
                self._latest = (each,)

    def _verify(self, signed: Signed) -> None:
        try:
            verify_signature(
                self._place.genesis_hash,
                signed.subject,
                signed.signature,
                self.public.address,
            )
        except ConsensusError as error:
            raise SignerUnavailableError(f"{self._place.name}: {error}") from error

    def _hang_up(self) -> None:
        if self._channel is not None:
            channel, self._channel = self._channel, None
            channel.close()


def _exchange(channel: Channel, request: Request, deadline: float) -> Answer:
    channel.send(encode_request(request), deadline)
    return decode_answer(channel.receive(deadline))
