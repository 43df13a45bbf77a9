"""The remote signer: real sockets, refusals, restarts, old states, hostile callers."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from queue import Queue

import pytest
import trio
import trio.testing
from hypothesis import given, strategies as st

from chain.crypto import sha256
from consensus.beacon import verify_reveal
from consensus.votes import NIL, Subject, VoteKind, verify_signature
from node.doppelganger import Guard
from node.errors import (
    ConfigError,
    DoubleSignError,
    KeyFileError,
    ListenError,
    SignerUnavailableError,
)
from node.p2p.errors import PeerLostError
from node.p2p.frames import ByteStream
from node.p2p.identity import NodeKey
from node.proposals import ProposalFiles
from node.remote.address import (
    TcpListen,
    UnixAddress,
    parse_address,
    parse_listen,
)
from node.remote.client import RemoteSigner, SignerPlace, connector
from node.remote.messages import (
    MAX_MESSAGE_BYTES,
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
    decode_request,
    encode_answer,
    encode_request,
)
from node.remote.server import MAX_CONNECTIONS, Access, SignerServer, admit, run_server
from node.remote.wire import framed
from node.signer import LocalSigner
from node.signstate import STATE_FILE, Signed, mark_never_signed
from node.validatorkey import ValidatorKey
from tests.node.blocks import make_block
from tests.support.vectors import Vectors

pytestmark = pytest.mark.network

GENESIS = sha256(b"chain")
KEY = ValidatorKey.from_seed(sha256(b"secret"), bytes(63) + b"1")
A, B = sha256(b"a"), sha256(b"b")
PREVOTE, PRECOMMIT = VoteKind.PREVOTE, VoteKind.PRECOMMIT
NODE, SIGNER, STRANGER = (NodeKey(sha256(name)) for name in (b"n", b"s", b"x"))
START_SECONDS = 30
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


@pytest.fixture(autouse=True)
def hang_up() -> Iterator[None]:
    """Close what `asking` opened."""
    yield
    while ASKING:
        ASKING.pop().close()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The signer's directory."""
    made = tmp_path / "signer"
    made.mkdir()
    return made


@pytest.fixture
def start(tmp_path: Path, home: Path) -> Iterator[Start]:
    """Start signers; whatever the test leaves running is stopped."""
    running: list[Running] = []

    def begin(listen: object = None, *allowed: NodeKey) -> Running:
        where = UnixAddress(tmp_path / "socket") if listen is None else listen
        assert isinstance(where, UnixAddress | TcpListen)
        running.append(Running(home, where, *allowed))
        return running[-1]

    yield begin
    for each in running:
        with suppress(trio.RunFinishedError):
            each.stop()


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


@pytest.fixture(params=["unix", "tcp"])
def remote(
    request: pytest.FixtureRequest, tmp_path: Path, start: Start
) -> RemoteSigner:
    """A node's signer, over either kind of connection."""
    listen = None if request.param == "unix" else TcpListen("127.0.0.1", 0)
    return asking(tmp_path / "node", start(listen, NODE).address)


# -- as a signer ---------------------------------------------------------------------


def test_it_signs_like_a_local_one(remote: RemoteSigner, tmp_path: Path) -> None:
    assert remote.address == KEY.address
    assert remote.public == KEY.public
    assert (remote.last, remote.last_height) == (None, None)
    local = LocalSigner(tmp_path, GENESIS, KEY)
    for subject in (
        Subject(PREVOTE, 5, 0, A),
        Subject(PRECOMMIT, 5, 0, A, 1_000),
        Subject(PREVOTE, 5, 1, NIL),
    ):
        signed = remote.sign(subject)
        assert signed == local.sign(subject)
        verify_signature(GENESIS, subject, signed.signature, KEY.address)
        assert remote.last == signed
    assert remote.last_height == 5
    assert remote.reveal(9) == local.reveal(9)
    verify_reveal(GENESIS, 9, remote.reveal(9), KEY.beacon_key)


def test_a_precommit_keeps_its_first_time(remote: RemoteSigner) -> None:
    first = remote.sign(Subject(PRECOMMIT, 5, 0, A, 1_000))
    assert remote.sign(Subject(PRECOMMIT, 5, 0, A, 2_000)) == first


@pytest.mark.parametrize(
    "refused", [Subject(PREVOTE, 5, 1, B), Subject(PREVOTE, 5, 0, A)]
)
def test_it_refuses_a_second_signature(remote: RemoteSigner, refused: Subject) -> None:
    signed = remote.sign(Subject(PREVOTE, 5, 1, A))
    with pytest.raises(DoubleSignError, match="already signed prevote at height 5"):
        remote.sign(refused)
    assert remote.sign(Subject(PREVOTE, 5, 1, A)) == signed


def test_blocks_of_proposals_stay_with_the_node(
    remote: RemoteSigner, tmp_path: Path, home: Path
) -> None:
    block = make_block(3)
    signed = remote.sign_proposal(0, None, block)
    assert signed.subject.block_hash == block.hash
    assert remote.pending_proposal(3, 0) == block
    assert remote.pending_proposal(3, 1) is None
    with pytest.raises(DoubleSignError):
        remote.sign_proposal(0, None, make_block(3, timestamp=77))
    assert remote.pending_proposal(3, 0) == block
    assert remote.sign_proposal(0, None, block) == signed
    assert (tmp_path / "node" / "proposal-3-0.rlp").exists()
    assert not list(home.glob("proposal-*"))
    (tmp_path / "node" / "proposal-3-0.rlp").unlink()
    with pytest.raises(KeyFileError, match="cannot read"):
        remote.pending_proposal(3, 0)


def test_the_state_is_the_signers(
    remote: RemoteSigner, home: Path, tmp_path: Path
) -> None:
    remote.sign(Subject(PREVOTE, 5, 1, A))
    assert (home / STATE_FILE).stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "node" / STATE_FILE).exists()


def test_the_guard_knows_what_a_remote_signer_knows(
    tmp_path: Path, start: Start, home: Path
) -> None:
    running = start()
    lost = asking(tmp_path / "node", running.address)
    assert not Guard(lost, 7).may_sign(8)
    lost.sign(Subject(PREVOTE, 8, 0, A))
    again = asking(tmp_path / "node", running.address)
    assert Guard(again, 7).may_sign(8)
    assert Guard(again, 8).may_sign(9)
    assert not Guard(again, 9).may_sign(10)
    running.stop()
    (home / STATE_FILE).unlink()
    mark_never_signed(home)
    assert asking(tmp_path / "node", start().address).last_height == 0


def test_two_nodes_of_one_signer_cannot_contradict_each_other(
    tmp_path: Path, start: Start
) -> None:
    running = start()
    one, other = (asking(tmp_path / name, running.address) for name in ("a", "b"))
    one.sign(Subject(PREVOTE, 5, 1, A))
    with pytest.raises(DoubleSignError):
        other.sign(Subject(PREVOTE, 5, 1, B))
    other.sign(Subject(PRECOMMIT, 5, 1, NIL, 1))
    with pytest.raises(DoubleSignError):
        one.sign(Subject(PRECOMMIT, 5, 1, A, 1))


def test_many_threads_ask_at_once(tmp_path: Path, start: Start) -> None:
    """Whoever comes first is signed; nothing contradicts it."""
    running = start()
    got: list[Signed] = []

    def ask(index: int) -> None:
        mine = asking(tmp_path / str(index), running.address)
        for height in range(1, 20):
            with suppress(DoubleSignError):
                got.append(mine.sign(Subject(PREVOTE, height, 0, (A, B)[index % 2])))

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got
    for each in got:
        assert not any(each.subject.contradicts(other.subject) for other in got)


# -- when it is away -----------------------------------------------------------------


def test_a_signer_that_was_restarted_is_found_again(
    tmp_path: Path, start: Start
) -> None:
    running = start()
    remote = asking(tmp_path / "node", running.address)
    signed = remote.sign(Subject(PREVOTE, 5, 1, A))
    running.stop()
    with pytest.raises(SignerUnavailableError, match="lockstep signer run"):
        remote.sign(Subject(PRECOMMIT, 5, 1, A, 7))
    start()
    assert remote.sign(Subject(PREVOTE, 5, 1, A)) == signed
    remote.sign(Subject(PRECOMMIT, 5, 1, A, 7))


def test_no_signer_at_all(tmp_path: Path) -> None:
    for address in (f"unix:{tmp_path}/absent", f"tcp:{SIGNER.id.hex()}@127.0.0.1:1"):
        with pytest.raises(SignerUnavailableError, match="does not answer"):
            asking(tmp_path / "node", address)


def test_a_signer_that_is_silent_costs_a_bounded_time(tmp_path: Path) -> None:
    path = tmp_path / "silent"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.bind(str(path))
        silent.listen(4)
        with pytest.raises(SignerUnavailableError, match="timed out"):
            asking(tmp_path / "node", f"unix:{path}", seconds=0.2)


def test_an_older_state_is_noticed(tmp_path: Path, start: Start, home: Path) -> None:
    """Somebody restores the signer's directory while the node lives on."""
    running = start()
    remote = asking(tmp_path / "node", running.address)
    remote.sign(Subject(PREVOTE, 5, 1, A))
    backup = (home / STATE_FILE).read_bytes()
    remote.sign(Subject(PREVOTE, 6, 0, A))
    running.stop()
    (home / STATE_FILE).write_bytes(backup)
    start()
    for _ in range(2):
        with pytest.raises(SignerUnavailableError, match="state is an old one"):
            remote.sign(Subject(PREVOTE, 6, 0, B))


def test_a_signer_of_another_chain_or_key_is_refused(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = start()
    with pytest.raises(SignerUnavailableError, match="this signer is of chain"):
        asking(tmp_path / "node", running.address, genesis_hash=B)
    remote = asking(tmp_path / "node", running.address)
    running.stop()
    other = ValidatorKey.from_seed(sha256(b"other"), bytes(63) + b"2")
    monkeypatch.setattr("tests.node.test_remote_signer.KEY", other)
    start()
    with pytest.raises(SignerUnavailableError, match="signer of another key"):
        remote.sign(Subject(PREVOTE, 6, 0, B))


def test_a_disk_that_fails_is_told_and_nothing_is_signed(
    tmp_path: Path, start: Start, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = asking(tmp_path / "node", start().address)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("node.signstate.write_durably", full)
    with pytest.raises(SignerUnavailableError, match=r"No space left.*nothing was"):
        remote.sign(Subject(PREVOTE, 5, 0, A))
    assert not (home / STATE_FILE).exists()
    monkeypatch.undo()
    remote.sign(Subject(PREVOTE, 5, 0, B))


class Lying:
    """A channel to a signer that answers as it likes."""

    def __init__(self, answers: dict[type[Request], Answer]) -> None:
        self._answers = answers
        self._next: list[bytes] = []

    def send(self, message: bytes, deadline: float) -> None:
        del deadline
        request = decode_request(message)
        self._next.append(encode_answer(self._answers[type(request)]))

    def receive(self, deadline: float) -> bytes:
        del deadline
        return self._next.pop()

    def close(self) -> None:
        self._next.clear()


SUBJECT = Subject(PREVOTE, 5, 0, A)
HONEST: dict[type[Request], Answer] = {
    Hello: Welcome(KEY.public),
    AskState: State(known=True, signed=()),
}


@pytest.mark.parametrize(
    ("request_", "answer", "said"),
    [
        (AskSignature, Made(Signed(SUBJECT, bytes(65))), "signature of PREVOTE"),
        (AskSignature, Made(Signed(Subject(PREVOTE, 5, 0, B), bytes(65))), "was asked"),
        (AskSignature, Made(Signed(Subject(PREVOTE, 6, 0, A), bytes(65))), "was asked"),
        (AskSignature, Revealed(bytes(96)), "answered with Revealed"),
        (AskReveal, Revealed(bytes(96)), "not the signature"),
        (AskReveal, Refused(Refusal.FAILED, "tired"), r"tired \(failed\)"),
    ],
)
def test_a_lying_signer_is_not_believed(
    tmp_path: Path, request_: type[Request], answer: Answer, said: str
) -> None:
    def connect(_: float) -> Lying:
        return Lying({**HONEST, request_: answer})

    remote = RemoteSigner(
        SignerPlace("liar", connect, GENESIS), ProposalFiles(tmp_path)
    )
    use = remote.sign if request_ is AskSignature else remote.reveal
    with pytest.raises(SignerUnavailableError, match=said):
        use(SUBJECT if request_ is AskSignature else 5)  # type: ignore[arg-type]  # a pair


# -- who may ask ---------------------------------------------------------------------


def test_over_tcp_only_known_nodes_ask_and_only_the_known_signer(
    tmp_path: Path, start: Start
) -> None:
    running = start(TcpListen("127.0.0.1", 0), NODE)
    with pytest.raises(SignerUnavailableError, match="allow this node"):
        asking(tmp_path / "node", running.address, STRANGER)
    other = running.address.replace(SIGNER.id.hex(), STRANGER.id.hex())
    with pytest.raises(SignerUnavailableError, match="expected signer"):
        asking(tmp_path / "node", other)
    asking(tmp_path / "node", running.address).sign(SUBJECT)


def test_the_socket_is_private(tmp_path: Path, start: Start) -> None:
    start()
    assert (tmp_path / "socket").stat().st_mode & 0o777 == 0o600


def test_another_user_is_refused(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where the file system would let him in."""
    running = start()

    class Credentials:
        size = 12

        @staticmethod
        def unpack(_: bytes) -> tuple[int, int, int]:
            return (1, 65_534, 65_534)

    monkeypatch.setattr("node.remote.server._CREDENTIALS", Credentials)
    with pytest.raises(SignerUnavailableError):
        asking(tmp_path / "node", running.address)


def test_a_dead_socket_is_replaced_and_a_live_one_is_not(
    tmp_path: Path, start: Start
) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))
    running = start()
    asking(tmp_path / "node", running.address).sign(SUBJECT)
    with pytest.raises(ListenError, match="Address already in use"):
        start()
    asking(tmp_path / "node", running.address).sign(SUBJECT)
    (tmp_path / "file").write_text("precious")
    with pytest.raises(ListenError, match="Address already in use"):
        start(UnixAddress(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "precious"


HELLO = framed(encode_request(Hello(1, GENESIS)))


@pytest.mark.parametrize(
    "sent",
    [
        b"\xff\xff" + bytes(100),
        b"\0\0",
        framed(b"garbage"),
        framed(encode_request(AskState())),
        framed(encode_request(AskReveal(1))),
        framed(encode_request(Hello(2, GENESIS))),
        framed(encode_request(Hello(1, B))),
        HELLO + HELLO,
        HELLO + framed(bytes(MAX_MESSAGE_BYTES)),
        HELLO[:5],
    ],
    ids=[
        "huge",
        "empty",
        "garbage",
        "no hello",
        "reveal first",
        "version",
        "chain",
        "twice",
        "zeros",
        "cut",
    ],
)
def test_hostile_bytes_end_their_own_connection_only(
    tmp_path: Path, start: Start, sent: bytes
) -> None:
    running = start()
    good = asking(tmp_path / "node", running.address)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as bad:
        bad.connect(str(tmp_path / "socket"))
        bad.sendall(sent)
        bad.shutdown(socket.SHUT_WR)
        bad.settimeout(START_SECONDS)
        with suppress(ConnectionResetError):
            while bad.recv(4_096):
                pass
    good.sign(SUBJECT)


@given(st.binary(max_size=300))
def test_bytes_that_are_no_handshake(data: bytes) -> None:
    """In memory, because there are many."""

    async def main() -> None:
        mine, theirs = trio.testing.memory_stream_pair()
        await theirs.send_all(data)
        await theirs.aclose()
        with pytest.raises((PeerLostError, SignerProtocolError)):
            await admit(ByteStream(mine), SIGNER, {NODE.id})

    trio.run(main)


def test_connections_are_bounded(tmp_path: Path, start: Start) -> None:
    running = start()
    many = [asking(tmp_path / "node", running.address) for _ in range(MAX_CONNECTIONS)]
    with pytest.raises(SignerUnavailableError):
        asking(tmp_path / "node", running.address)
    many[0].close()
    many[0].sign(SUBJECT)  # with a connection of its own again
    many[1].close()


# -- bytes ---------------------------------------------------------------------------

SIGNED = Signed(Subject(VoteKind.PROPOSAL, 7, 2, A, 2, B), bytes(range(65)))
REQUESTS: list[Request] = [
    Hello(1, GENESIS),
    AskState(),
    AskSignature(SIGNED.subject),
    AskSignature(Subject(PRECOMMIT, 2**64 - 1, 2**32 - 1, NIL, 1_700_000_000_000)),
    AskReveal(9),
]
ANSWERS: list[Answer] = [
    Welcome(KEY.public),
    State(known=False, signed=()),
    State(known=True, signed=(SIGNED, SIGNED, SIGNED)),
    Made(SIGNED),
    Revealed(bytes(96)),
    Refused(Refusal.DOUBLE_SIGN, "refusing"),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=range(len(REQUESTS)))
def test_requests_have_bytes(request_: Request) -> None:
    assert decode_request(encode_request(request_)) == request_


@pytest.mark.parametrize("answer", ANSWERS, ids=range(len(ANSWERS)))
def test_answers_have_bytes(answer: Answer) -> None:
    data = encode_answer(answer)
    assert decode_answer(data) == answer
    assert len(data) <= MAX_MESSAGE_BYTES


def test_long_reasons_are_cut() -> None:
    for text in ("x" * 10_000, "x" + "ä" * 10_000):
        data = encode_answer(Refused(Refusal.FAILED, text))
        assert len(data) <= MAX_MESSAGE_BYTES
        decode_answer(data)


@given(st.one_of(st.binary(max_size=200), st.binary().map(lambda b: b"\xc8" + b)))
def test_garbage_is_refused_by_both_sides(data: bytes) -> None:
    with suppress(SignerProtocolError):
        assert encode_request(decode_request(data)) == data
    with suppress(SignerProtocolError):
        assert encode_answer(decode_answer(data)) == data


@given(st.data())
def test_a_changed_byte_is_another_message_or_none(data: st.DataObject) -> None:
    request = data.draw(st.sampled_from(REQUESTS))
    content = bytearray(encode_request(request))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    with suppress(SignerProtocolError):
        assert decode_request(bytes(content)) != request


@pytest.mark.parametrize(
    "text", ["", "unix:", "tcp:", "tcp:1.2.3.4:5", "http://x", "tcp:aa@h:1", "/path"]
)
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match=r"expected|signer"):
        parse_address(text)


@pytest.mark.parametrize("text", ["", "unix:", "tcp:", "tcp:host", "/path"])
def test_listening_addresses_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match="listen"):
        parse_listen(text)


@pytest.mark.parametrize(
    "text", ["unix:/run/x", f"tcp:{SIGNER.id.hex()}@[::1]:5", "tcp:[::1]:7"]
)
def test_addresses_are_written_as_they_are_read(text: str) -> None:
    parse = parse_listen if "@" not in text else parse_address
    assert str(parse(text)) == text


def test_vectors(vectors: Vectors) -> None:
    vectors.check(
        "remote_signer",
        {
            "requests": [
                {"what": type(each).__name__, "bytes": encode_request(each).hex()}
                for each in REQUESTS
            ],
            "answers": [
                {"what": type(each).__name__, "bytes": encode_answer(each).hex()}
                for each in ANSWERS
            ],
        },
    )
