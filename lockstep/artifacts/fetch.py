"""Gets an artifact from the first source that really has it.

A source is whatever URL a stranger wrote on the chain, so nothing it says is believed:
the length is bounded before a byte is read, reading stops one byte past the bound,
compression and redirects are refused, a trickle is cut off by a deadline, and the
bytes are checked against the root. A source that fails any of it is skipped with a
named error and the next one is asked.
"""

import time
from collections.abc import Iterable
from urllib.parse import urlsplit

import requests
import urllib3

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
_SILENCE_SECONDS = 20
_SLOWEST_BYTES_PER_SECOND = 1 << 14
_GRACE_SECONDS = 30


class Fetcher:
    """An HTTP client for artifacts; `close` it after use."""

    def __init__(self) -> None:
        self._session = requests.Session()
        # Without this a .netrc of this machine would be offered to strangers' hosts.
        self._session.trust_env = False

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

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
            with self._session.get(
                url,
                stream=True,
                allow_redirects=False,
                timeout=(_CONNECT_SECONDS, _SILENCE_SECONDS),
                headers={"Accept-Encoding": "identity"},
            ) as response:
                _check_head(response, expected, url)
                data = _body(response, expected, url)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise SourceUnreachable(
                f"{url} did not answer, or broke off: {type(error).__name__}"
            ) from error
        expected.check(data, url)
        return data


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


def _check_head(response: requests.Response, expected: Expected, url: str) -> None:
    if response.is_redirect or 300 <= response.status_code < 400:
        raise Redirected(f"{url} answered with a redirect ({response.status_code})")
    if response.status_code != requests.codes.ok:
        raise NotServed(f"{url} answered {response.status_code}, expected 200")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise NotServed(f"{url} answered compressed, expected plain bytes")
    announced = response.headers.get("Content-Length", "")
    if not announced.isascii() or not announced.isdigit():
        return
    if int(announced) > expected.largest:
        raise TooLong(
            f"{url} announced {int(announced):,} bytes, expected at most "
            f"{expected.largest:,}"
        )
    if int(announced) < expected.smallest:
        raise TooShort(
            f"{url} announced {int(announced):,} bytes, expected at least "
            f"{expected.smallest:,}"
        )


def _body(response: requests.Response, expected: Expected, url: str) -> bytes:
    """At most one byte more than the artifact can have, so that the check sees it."""
    deadline = (
        time.monotonic() + _GRACE_SECONDS + expected.largest / _SLOWEST_BYTES_PER_SECOND
    )
    body = bytearray()
    while len(body) <= expected.largest:
        wanted = min(CHUNK_BYTES, expected.largest + 1 - len(body))
        piece = response.raw.read(wanted, decode_content=False)
        if not piece:
            break
        body += piece
        if time.monotonic() > deadline:
            raise SourceUnreachable(
                f"{url} is slower than {_SLOWEST_BYTES_PER_SECOND:,} bytes per second"
            )
    return bytes(body)
