"""Raw facts of a node over JSON-RPC: headers, certificates, validator sets as bytes.

No web3: what comes back is decoded by the chain's own codecs and verified by whoever
asked. Answers are bounded before they are parsed.
"""

import json
import re
from collections.abc import Mapping
from itertools import accumulate
from typing import Any, cast

import requests

from chain.errors import Malformed
from chain.header import Header
from chain.sidecar import CommitCertificate
from consensus.errors import InvalidValidatorSet
from consensus.validators import ValidatorSet
from lockstep.errors import ChainError, NodeUnreachable

__all__ = ["RawNode"]

_SECONDS = 30
# A certificate or set of 1,024 validators, in hexadecimal and as objects.
_MAX_ANSWER_BYTES = 4 << 20
_PIECE = 1 << 16
_MAX_DEPTH = 16
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_NESTING = [1 if byte in b"[{" else -1 for byte in range(256)]


class RawNode:
    """One node by URL; it is believed nothing."""

    def __init__(self, url: str) -> None:
        """Remember the URL; nothing is sent yet."""
        self.url = url
        self._session = requests.Session()

    def close(self) -> None:
        """Hang up."""
        self._session.close()

    def head(self) -> int:
        """The height of the newest block."""
        found = self._call("eth_blockNumber")
        if not isinstance(found, str) or not found.startswith("0x"):
            raise self._unusable("eth_blockNumber", found)
        try:
            return int(found, 16)
        except ValueError:
            raise self._unusable("eth_blockNumber", found) from None

    def genesis_hash(self) -> bytes:
        """The hash of block 0."""
        return self._bytes("lockstep_genesisHash", self._call("lockstep_genesisHash"))

    def header(self, height: int) -> Header:
        """The header at a height."""
        method = "debug_getRawHeader"
        data = self._bytes(method, self._call(method, hex(height)))
        try:
            return Header.decode(data)
        except Malformed as error:
            raise self._unusable(method, error) from error

    def certificate(self, height: int) -> CommitCertificate:
        """The certificate of the block at a height."""
        method = "lockstep_certificate"
        data = self._encoded(method, height)
        try:
            return CommitCertificate.decode(data)
        except Malformed as error:
            raise self._unusable(method, error) from error

    def validators(self, height: int) -> ValidatorSet:
        """The set that votes at a height, up to one above the head."""
        method = "lockstep_validators"
        data = self._encoded(method, height)
        try:
            return ValidatorSet.decode(data)
        except InvalidValidatorSet as error:
            raise self._unusable(method, error) from error

    def status(self) -> Mapping[str, object]:
        """What the node says of itself (`lockstep_status`)."""
        found = self._call("lockstep_status")
        if not isinstance(found, dict):
            raise self._unusable("lockstep_status", found)
        return cast("dict[str, object]", found)

    def _encoded(self, method: str, height: int) -> bytes:
        found = self._call(method, hex(height))
        if found is None:
            raise ChainError(
                f"the node at {self.url} has no answer to {method} for block {height}"
            )
        if not isinstance(found, dict):
            raise self._unusable(method, found)
        return self._bytes(method, cast("dict[str, object]", found).get("encoded"))

    def _bytes(self, method: str, found: object) -> bytes:
        if not isinstance(found, str) or not found.startswith("0x"):
            raise self._unusable(method, found)
        try:
            return bytes.fromhex(found[2:])
        except ValueError:
            raise self._unusable(method, found) from None

    def _unusable(self, method: str, found: object) -> ChainError:
        return ChainError(
            f"the node at {self.url} gave an unusable answer to {method}: "
            f"{str(found)[:200]!r}"
        )

    def _call(self, method: str, *params: object) -> object:
        body = json.dumps(
            {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        )
        try:
            with self._session.post(
                self.url,
                data=body,
                headers={"Content-Type": "application/json"},
                timeout=_SECONDS,
                stream=True,
            ) as response:
                response.raise_for_status()
                found = self._bounded(response)
            answer: Any = _parsed(found)
        except requests.RequestException as error:
            raise NodeUnreachable(
                f"no node answers at {self.url} ({type(error).__name__}); give another "
                "URL"
            ) from error
        except ValueError as error:
            raise self._unusable(method, error) from error
        if not isinstance(answer, dict):
            raise self._unusable(method, answer)
        fields = cast("dict[str, object]", answer)
        if "error" in fields:
            raise ChainError(
                f"the node at {self.url} refused {method}: {str(fields['error'])[:200]}"
            )
        return fields.get("result")

    def _bounded(self, response: requests.Response) -> bytes:
        body = bytearray()
        for piece in response.iter_content(_PIECE):
            body += piece
            if len(body) > _MAX_ANSWER_BYTES:
                raise ChainError(
                    f"the node at {self.url} sent more than {_MAX_ANSWER_BYTES} bytes"
                )
        return bytes(body)


def _parsed(body: bytes) -> object:
    """The JSON of an answer; depth is bounded first, since the parser recurses in C.

    Raises:
        ValueError: no JSON, or nested too deeply.
    """
    brackets = _STRING.sub(b"", body).translate(None, _NOT_BRACKETS)
    if max(accumulate(map(_NESTING.__getitem__, brackets)), default=0) > _MAX_DEPTH:
        raise ValueError(f"nested more than {_MAX_DEPTH} levels deep")
    return json.loads(body)
