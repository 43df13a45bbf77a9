"""Gets an artifact from the first source that really has it.

A source is whatever URL a stranger wrote on the chain, so nothing it says is believed:
the length is bounded before a byte is read, reading stops one byte past the bound,
compression and redirects are refused, a trickle is cut off by a deadline, and the
bytes are checked against the root. A source that fails any of it is skipped with a
named error and the next one is asked.

The answer is parsed by h11 over a socket of our own. The client of the standard
library, and what is built on it, parses heads by the rules of e-mail, which a stranger
makes raise a TypeError; follows what a redirect says even when told not to; and lets
each byte renew the time it waits.
"""

import socket
import ssl
from collections.abc import Iterable
from time import monotonic
from urllib.parse import SplitResult, quote, urlsplit

import certifi
import h11

from lockstep.artifacts.kinds import MAX_ARTIFACT_BYTES, Expected
from lockstep.artifacts.store import CHUNK_BYTES
from lockstep.errors import (
    ArtifactError,
    ArtifactUnavailable,
    NotServed,
    Redirected,
    SourceUnreachable,
    TooLong,
    TooShort,
)

__all__ = ["Fetcher"]

_CONNECT_SECONDS = 5
_SLOWEST_BYTES_PER_SECOND = 1 << 14
_GRACE_SECONDS = 30
_URL_CHARACTERS = "!#$%&'()*+,/:;=?@[]~"


class Fetcher:
    """An HTTP client for artifacts; `close` it after use."""

    def __init__(self) -> None:
        self._tls = ssl.create_default_context(cafile=certifi.where())

    def close(self) -> None:
        """Do nothing: no connection outlives the artifact it was opened for."""

    def fetch(self, expected: Expected, sources: Iterable[str]) -> bytes:
        """The artifact, from the first source that delivers it.

        Raises:
            ArtifactUnavailable: no source does; carries one error for each.
        """
        failures: list[ArtifactError] = []
        for source in dict.fromkeys(source for source in sources if source):
            try:
                return self.fetch_from(expected, source)
            except ArtifactError as error:
                failures.append(error)
        raise ArtifactUnavailable(expected.path, failures)

    def fetch_from(self, expected: Expected, source: str) -> bytes:
        """The artifact from this very source.

        Raises:
            ArtifactError: one of its kinds, saying what the source did.
        """
        if expected.largest > MAX_ARTIFACT_BYTES:
            raise TooLong(
                f"{expected.path} would have up to {expected.largest:,} bytes; more "
                f"than {MAX_ARTIFACT_BYTES:,} are never fetched"
            )
        url = f"{_checked(source)}/{expected.path}"
        try:
            data = self._get(urlsplit(url), expected, url)
        except (OSError, ValueError, h11.ProtocolError) as error:
            # A ValueError is a number too long to be read, or a name no host can have.
            raise SourceUnreachable(
                f"{url} did not answer in time, or broke off: {type(error).__name__}"
            ) from error
        expected.check(data, url)
        return data

    def _get(self, parts: SplitResult, expected: Expected, url: str) -> bytes:
        pace = _Pace()
        with _connect(parts, pace) as line:
            if parts.scheme == "http":
                return _exchange(line, pace, parts, expected, url)
            line.settimeout(pace.left())
            with self._tls.wrap_socket(line, server_hostname=parts.hostname) as secured:
                return _exchange(secured, pace, parts, expected, url)


class _Pace:
    """How long a source may still take.

    Only bytes of the artifact earn time, and no more than the grace is ever saved up:
    whatever a source does, it is cut off when it falls that far behind the slowest
    rate, and the whole takes at most the grace and the artifact at that rate.
    """

    def __init__(self) -> None:
        self._due = monotonic() + _GRACE_SECONDS

    def earn(self, received: int) -> None:
        self._due = min(
            self._due + received / _SLOWEST_BYTES_PER_SECOND,
            monotonic() + _GRACE_SECONDS,
        )

    def left(self) -> float:
        """Seconds, more than zero.

        To be set as the socket's timeout before every single operation: one operation
        never outlives its timeout, neither a handshake nor sending everything.

        Raises:
            TimeoutError: the source is too slow.
        """
        left = self._due - monotonic()
        if left <= 0:
            raise TimeoutError
        return left


def _connect(parts: SplitResult, pace: _Pace) -> socket.socket:
    """A connection to the first address that accepts one.

    Only looking up the name is not under the deadline; the system's resolver has its
    own. The addresses are, one by one: a stranger's name can have thousands.
    """
    port = parts.port
    if port is None:
        port = 443 if parts.scheme == "https" else 80
    failure = OSError("no address")
    for *_, address in socket.getaddrinfo(
        parts.hostname, port, type=socket.SOCK_STREAM
    ):
        seconds = min(_CONNECT_SECONDS, pace.left())
        try:
            return socket.create_connection((str(address[0]), port), seconds)
        except OSError as error:
            failure = error
    raise failure


def _exchange(
    line: socket.socket, pace: _Pace, parts: SplitResult, expected: Expected, url: str
) -> bytes:
    """At most one byte more than the artifact can have, so that the check sees it."""
    http = h11.Connection(h11.CLIENT)
    request = h11.Request(
        method="GET",
        target=quote(parts.path, safe=_URL_CHARACTERS),
        headers=[
            (b"Host", parts.netloc.encode("idna")),
            (b"User-Agent", b"lockstep"),
            (b"Accept-Encoding", b"identity"),
            (b"Connection", b"close"),
        ],
    )
    line.settimeout(pace.left())
    line.sendall((http.send(request) or b"") + (http.send(h11.EndOfMessage()) or b""))
    body = bytearray()
    while len(body) <= expected.largest:
        event = http.next_event()
        if event is h11.NEED_DATA:
            line.settimeout(pace.left())
            http.receive_data(line.recv(CHUNK_BYTES))
        elif isinstance(event, h11.Response):
            _check_head(event, expected, url)
        elif isinstance(event, h11.Data):
            body += event.data
            pace.earn(len(event.data))
        elif not isinstance(event, h11.InformationalResponse):
            break
    return bytes(body[: expected.largest + 1])


def _checked(source: str) -> str:
    """The source's URL without a trailing slash."""
    try:
        parts = urlsplit(source)
        usable = parts.scheme in {"http", "https"} and parts.hostname is not None
        plain = parts.username is None and not parts.query and not parts.fragment
    except ValueError:
        usable = plain = False
    if not (usable and plain):
        raise SourceUnreachable(
            f"{source!r} is not a source: expected http(s)://host[:port][/path]"
        )
    return source.rstrip("/")


def _check_head(response: h11.Response, expected: Expected, url: str) -> None:
    if 300 <= response.status_code < 400:
        raise Redirected(f"{url} answered with a redirect ({response.status_code})")
    if response.status_code != 200:
        raise NotServed(f"{url} answered {response.status_code}, expected 200")
    fields = dict(response.headers)
    if fields.get(b"content-encoding", b"identity") != b"identity":
        raise NotServed(f"{url} answered compressed, expected plain bytes")
    if b"content-length" not in fields:
        return
    announced = int(fields[b"content-length"])
    if announced > expected.largest:
        raise TooLong(
            f"{url} announced {announced:,} bytes, expected at most "
            f"{expected.largest:,}"
        )
    if announced < expected.smallest:
        raise TooShort(
            f"{url} announced {announced:,} bytes, expected at least "
            f"{expected.smallest:,}"
        )
