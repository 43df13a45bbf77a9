"""The store, the server and the client against honest and hostile sources."""

import hashlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from ipaddress import IPv4Address
from pathlib import Path
from socketserver import BaseRequestHandler, TCPServer

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from typing_extensions import override

from lockstep.artifacts import fetch
from lockstep.artifacts.fetch import Fetcher
from lockstep.artifacts.kinds import Expected, Kind
from lockstep.artifacts.server import Server, resumed
from lockstep.artifacts.store import CHUNK_BYTES, Store
from lockstep.errors import (
    ArtifactError,
    ArtifactUnavailable,
    ConfigurationError,
    NotServed,
    Redirected,
    RootMismatch,
    SourceUnreachable,
    TooLong,
    TooShort,
)

DATA = bytes(range(256)) * 9
ROOT = hashlib.sha256(DATA).digest()


def expected(data: bytes = DATA) -> Expected:
    root = hashlib.sha256(data).digest()
    return Expected(
        Kind.DATA,
        root,
        len(data),
        len(data),
        lambda got: hashlib.sha256(got).digest() == root,
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "artifacts"))


@pytest.fixture
def server(store: Store) -> Iterator[Server]:
    with closing(Server(store, "127.0.0.1:0")) as running:
        running.start()
        yield running


@pytest.fixture
def fetcher() -> Iterator[Fetcher]:
    with closing(Fetcher()) as client:
        yield client


def test_what_was_put_is_read_back(store: Store) -> None:
    store.put(Kind.DATA, ROOT, DATA)
    assert store.get(expected()) == DATA
    assert store.has(Kind.DATA, ROOT)
    assert not store.has(Kind.STATE, ROOT)
    assert store.roots(Kind.DATA) == [ROOT]
    assert store.size(Kind.DATA, ROOT) == len(DATA)


def test_memory_holds_artifacts_like_a_disk() -> None:
    store = Store("memory://bucket/artifacts")
    store.put(Kind.LEAVES, ROOT, DATA)
    assert store.roots(Kind.LEAVES) == [ROOT]
    assert b"".join(store.chunks(Kind.LEAVES, ROOT)) == DATA


def test_an_absent_artifact_is_named(store: Store) -> None:
    with pytest.raises(NotServed, match=f"data/{ROOT.hex()}"):
        store.get(expected())


@pytest.mark.parametrize(
    ("stored", "error"),
    [(DATA[:-1], TooShort), (DATA + b"x", TooLong), (DATA[::-1], RootMismatch)],
)
def test_a_damaged_disk_is_noticed(
    store: Store, stored: bytes, error: type[ArtifactError]
) -> None:
    store.put(Kind.DATA, ROOT, stored)
    with pytest.raises(error):
        store.get(expected())


def test_an_unknown_driver_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="cannot keep artifacts"):
        Store("nosuchthing://bucket")


@pytest.mark.network
def test_a_served_artifact_arrives(
    store: Store, server: Server, fetcher: Fetcher
) -> None:
    large = bytes(3 * CHUNK_BYTES + 17)
    wanted = expected(large)
    store.put(Kind.DATA, wanted.root, large)
    assert fetcher.fetch(wanted, [server.url]) == large


@pytest.mark.network
def test_what_one_client_says_does_not_end_the_server(
    store: Store, server: Server, fetcher: Fetcher
) -> None:
    """Settings of HTTP/2 that are none."""
    store.put(Kind.DATA, ROOT, DATA)
    host, port = server.bound.split(":")
    for _ in range(3):
        with socket.create_connection((host, int(port)), timeout=5) as client:
            client.sendall(
                b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n"
                b"Upgrade: h2c\r\nHTTP2-Settings: AAA\r\n\r\n"
            )
            while client.recv(1_024):
                pass
        assert fetcher.fetch(expected(), [server.url]) == DATA


@pytest.mark.network
def test_the_server_answers_roots_and_nothing_else(
    store: Store, server: Server
) -> None:
    store.put(Kind.DATA, ROOT, DATA)
    good = f"{server.url}/data/{ROOT.hex()}"
    assert requests.get(good, timeout=10).content == DATA
    head = requests.head(good, timeout=10)
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(DATA)))
    part = requests.get(good, headers={"Range": "bytes=0-9"}, timeout=10)
    assert (part.status_code, len(part.content)) == (200, len(DATA))
    assert requests.post(good, timeout=10).status_code == 405
    for path in (
        "",
        "data",
        f"data/{ROOT.hex().upper()}",
        f"data/{ROOT.hex()}.new",
        "data/" + "0" * 64,
        f"secrets/{ROOT.hex()}",
        f"data/../data/{ROOT.hex()[:-1]}",
        "data/..%2f..%2fkey",
    ):
        assert requests.get(f"{server.url}/{path}", timeout=10).status_code == 404, path


@pytest.mark.network
def test_an_address_in_use_is_named(server: Server, store: Store) -> None:
    with pytest.raises(ConfigurationError, match="choose another port"):
        Server(store, server.url.removeprefix("http://"))


@pytest.mark.parametrize("bind", ["nowhere", "127.0.0.1", "127.0.0.1:port", ":80x"])
def test_a_malformed_address_is_named(store: Store, bind: str) -> None:
    with pytest.raises(ConfigurationError, match="expected host:port"):
        Server(store, bind)


Answer = Callable[[BaseHTTPRequestHandler], None]


def headers(handler: BaseHTTPRequestHandler, status: int, **fields: str) -> None:
    handler.send_response(status)
    for name, value in fields.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()


def sends(body: bytes, **fields: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        headers(handler, 200, **fields)
        handler.wfile.write(body)

    return answer


def redirects(handler: BaseHTTPRequestHandler) -> None:
    headers(handler, 302, Location="http://127.0.0.1:1/elsewhere")


def says(raw: bytes) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(raw)

    return answer


def redirects_without_end(handler: BaseHTTPRequestHandler) -> None:
    redirects(handler)
    while True:
        handler.wfile.write(bytes(1 << 16))


@contextmanager
def listening(
    handler: type[BaseRequestHandler], tls: ssl.SSLContext | None = None
) -> Iterator[str]:
    with TCPServer(("127.0.0.1", 0), handler) as running:
        if tls is not None:
            running.socket = tls.wrap_socket(running.socket, server_side=True)
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"127.0.0.1:{running.server_address[1]}"
        finally:
            running.shutdown()
            thread.join()


@contextmanager
def source(answer: Answer, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """A source that answers every request by `answer`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                answer(self)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # refused early: the point of the test

        @override
        def log_message(self, *arguments: object) -> None: ...

    with listening(Handler, tls) as address:
        yield f"http{'s' if tls else ''}://{address}"


@contextmanager
def dripping(start: bytes, drip: bytes) -> Iterator[str]:
    """The address of a source that sends `start`, then `drip` until we hang up."""

    class Handler(BaseRequestHandler):
        @override
        def handle(self) -> None:
            self.request.sendall(start)
            self.request.settimeout(0.01)
            connected = True
            while connected:
                try:
                    connected = bool(self.request.recv(1 << 16))
                except TimeoutError:
                    self.request.sendall(drip)

    with listening(Handler) as address:
        yield address


HOSTILE: dict[str, tuple[Answer, type[ArtifactError]]] = {
    "announces too much": (sends(b"", Content_Length="99999999999"), TooLong),
    "announces too little": (sends(b"", Content_Length="3"), TooShort),
    "sends too much": (sends(DATA + bytes(1 << 22)), TooLong),
    "sends too little": (sends(DATA[:-1]), TooShort),
    "breaks off": (
        sends(DATA[:9], Content_Length=str(len(DATA))),
        SourceUnreachable,
    ),
    "sends other bytes": (sends(DATA[::-1]), RootMismatch),
    "redirects": (redirects, Redirected),
    "fails": (lambda handler: headers(handler, 500), NotServed),
    "has nothing": (lambda handler: headers(handler, 404), NotServed),
    "compresses": (sends(b"\x1f\x8b", Content_Encoding="gzip"), NotServed),
    "announces more digits than int() reads": (
        sends(b"", Content_Length="9" * 5000),
        SourceUnreachable,
    ),
    "announces as many digits beside chunks": (
        sends(b"", Content_Length="9" * 5000, Transfer_Encoding="chunked"),
        SourceUnreachable,
    ),
    "sends a negative chunk": (
        says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabc"),
        SourceUnreachable,
    ),
    "redirects to no address": (
        lambda handler: headers(handler, 302, Location="http://[::"),
        Redirected,
    ),
    "redirects without end": (redirects_without_end, Redirected),
    "has a head that the e-mail parser chokes on": (
        sends(DATA[::-1], Content_Type="multipart/mixed; boundary*=a; boundary*0=b"),
        RootMismatch,
    ),
    "sends a head without end": (
        says(b"HTTP/1.1 200 OK\r\nX: " + bytes(1 << 20)),
        SourceUnreachable,
    ),
    "speaks no HTTP": (says(b"garbage\r\n\r\n"), SourceUnreachable),
    "says nothing": (says(b""), SourceUnreachable),
}


@pytest.mark.network
@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_source_is_refused_by_name(fetcher: Fetcher, case: str) -> None:
    answer, error = HOSTILE[case]
    with source(answer) as url, pytest.raises(error):
        fetcher.fetch_from(expected(), url)


OK = b"HTTP/1.1 200 OK\r\n"
SLOW: dict[str, tuple[str, bytes, bytes]] = {
    "silence": ("http", b"", b""),
    "the status line": ("http", b"HTTP/1.1 200 ", b"O"),
    "a header": ("http", OK + b"X: ", b"x"),
    "headers": ("http", OK, b"X: x\r\n"),
    "answers before the answer": ("http", b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "the body": ("http", OK + b"Content-Length: 2304\r\n\r\n", b"x"),
    "the body after a burst": (
        "http",
        OK + b"Content-Length: 2304\r\n\r\n" + DATA[:1000],
        b"x",
    ),
    "a chunk size": ("http", OK + b"Transfer-Encoding: chunked\r\n\r\n1", b"0"),
    "chunk extensions": (
        "http",
        OK + b"Transfer-Encoding: chunked\r\n\r\n900;",
        b"x",
    ),
    "trailers": (
        "http",
        OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n",
        b"X: x\r\n",
    ),
    "the handshake": ("https", b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc", b"x"),
}


@pytest.mark.network
@pytest.mark.parametrize("case", SLOW)
def test_a_source_that_drips_is_cut_off(
    fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.setattr(fetch, "_GRACE_SECONDS", 0.15)
    scheme, start, drip = SLOW[case]
    with (
        dripping(start, drip) as address,
        pytest.raises(SourceUnreachable, match="TimeoutError"),
    ):
        fetcher.fetch_from(expected(), f"{scheme}://{address}")


@pytest.mark.network
def test_a_secured_source_is_believed_only_with_a_known_certificate(
    fetcher: Fetcher, tmp_path: Path
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(pem)
    with source(sends(DATA), theirs) as url:
        with pytest.raises(SourceUnreachable, match="SSLCertVerificationError"):
            fetcher.fetch_from(expected(), url)
        fetcher._tls.load_verify_locations(pem)
        assert fetcher.fetch_from(expected(), url) == DATA


def test_time_is_earned_by_bytes_and_saved_up_to_the_grace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(fetch, "monotonic", lambda: now)
    monkeypatch.setattr(fetch, "_GRACE_SECONDS", 30)
    monkeypatch.setattr(fetch, "_SLOWEST_BYTES_PER_SECOND", 100)
    pace = fetch._Pace()
    pace.earn(1 << 30)
    assert pace.left() == 30
    now = 29.0
    pace.earn(500)
    assert pace.left() == 6
    now = 35.0
    with pytest.raises(TimeoutError):
        pace.left()


@pytest.mark.network
def test_a_name_with_many_silent_addresses_is_given_up(
    fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    def silent(_address: object, seconds: float) -> None:
        nonlocal asked
        asked += 1
        threading.Event().wait(min(seconds, 0.05))
        raise TimeoutError

    found = [(0, 0, 0, "", ("192.0.2.1", 80))] * 1000
    monkeypatch.setattr(fetch, "_GRACE_SECONDS", 0.15)
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: found)
    monkeypatch.setattr("socket.create_connection", silent)
    with pytest.raises(SourceUnreachable, match="TimeoutError"):
        fetcher.fetch_from(expected(), "http://many.example")
    assert asked <= 4


@pytest.mark.network
def test_the_next_source_is_asked(
    store: Store, server: Server, fetcher: Fetcher
) -> None:
    store.put(Kind.DATA, ROOT, DATA)
    with source(redirects) as one, source(HOSTILE["sends a negative chunk"][0]) as two:
        assert fetcher.fetch(expected(), [one, "", two, server.url]) == DATA


@pytest.mark.network
def test_when_nobody_serves_every_failure_is_told(
    server: Server, fetcher: Fetcher
) -> None:
    with source(redirects) as hostile, pytest.raises(ArtifactUnavailable) as caught:
        fetcher.fetch(expected(), [hostile, server.url, "http://127.0.0.1:1"])
    assert [type(failure) for failure in caught.value.failures] == [
        Redirected,
        NotServed,
        SourceUnreachable,
    ]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://host",
        "file:///etc/passwd",
        "http://",
        "http://user:password@host",
        "http://host/?q=",
        "http://[::1",
        "http://host#f",
    ],
)
def test_only_plain_web_addresses_are_asked(fetcher: Fetcher, url: str) -> None:
    with pytest.raises(SourceUnreachable, match="is not a source"):
        fetcher.fetch_from(expected(), url)


def test_an_absurd_size_is_never_fetched(fetcher: Fetcher) -> None:
    huge = Expected(Kind.DATA, ROOT, 0, 1 << 50, lambda _: True)
    with pytest.raises(TooLong, match="are never fetched"):
        fetcher.fetch_from(huge, "http://127.0.0.1:1")


@pytest.mark.network
def test_a_restarted_server_is_found_where_it_was(store: Store, tmp_path: Path) -> None:
    note = tmp_path / "address"
    with closing(resumed(store, "127.0.0.1:0", None, note)) as first:
        first.start()
    with closing(resumed(store, "127.0.0.1:0", None, note)) as second:
        second.start()
        assert second.url == first.url
        with pytest.raises(ConfigurationError, match="choose another port"):
            resumed(store, "127.0.0.1:0", None, note)
