"""JSON-RPC 2.0 envelopes: bytes in, requests out, and back. Pure.

A body is one request object or a batch (a non-empty list of them). Requests without
an `id` are notifications and get no answer. Whatever arrives, the result of reading
is a list of requests and errors, never an exception: a peer cannot make this module
fail with anything but `RpcError`.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NoReturn, cast

from node.rpc.errors import INVALID_REQUEST, PARSE_ERROR, RpcError

MAX_METHOD_CHARACTERS = 64
MAX_ID_CHARACTERS = 256
MAX_ID_NUMBER = 2**64
MAX_DEPTH = 32

# A string that never ends counts as one too, and nothing is tried twice: otherwise
# each of its quotes would begin another search to the end of the body.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_NESTING = [1 if byte in b"[{" else -1 for byte in range(256)]

RequestId = str | int | float | None


@dataclass(frozen=True, slots=True)
class Request:
    """One call. `answered` is false for a notification."""

    method: str
    params: Sequence[Any]
    id: RequestId
    answered: bool = True


@dataclass(frozen=True, slots=True)
class BadRequest:
    """A member of a body that is no request, and the error to answer with."""

    id: RequestId
    error: RpcError


@dataclass(frozen=True, slots=True)
class Body:
    """The members of an HTTP body; `batch` tells whether to answer with a list."""

    members: tuple[Request | BadRequest, ...]
    batch: bool


def _depth(body: bytes) -> int:
    """How deeply lists and objects nest, at least.

    The JSON scanner recurses in C, and py-evm raises Python's recursion limit above
    what the C stack holds: a body of brackets would end the process. So depth is
    bounded before anything is parsed.
    """
    brackets = _STRING.sub(b"", body).translate(None, _NOT_BRACKETS)
    return max(accumulate(map(_NESTING.__getitem__, brackets)), default=0)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def read_body(body: bytes, *, max_batch: int) -> Body:
    """Parse a body.

    Raises:
        RpcError: when the body as a whole cannot be read: not JSON, an empty batch,
            or a batch with more than `max_batch` members.
    """
    if _depth(body) > MAX_DEPTH:
        raise RpcError(
            PARSE_ERROR, f"parse error: nested more than {MAX_DEPTH} levels deep"
        )
    try:
        document = json.loads(body.decode(), parse_constant=_refuse_constant)
    except ValueError as error:
        raise RpcError(PARSE_ERROR, f"parse error: {error}") from None
    if not isinstance(document, list):
        return Body((_read_member(document),), batch=False)
    members = cast("list[object]", document)
    if not members:
        raise RpcError(INVALID_REQUEST, "empty batch")
    if len(members) > max_batch:
        raise RpcError(
            INVALID_REQUEST, f"batch too large: {len(members)} of at most {max_batch}"
        )
    return Body(tuple(_read_member(member) for member in members), batch=True)


def _read_id(value: object) -> RequestId:
    """An acceptable id, or None when it is none."""
    match value:
        case bool():
            return None
        case str():
            return value if len(value) <= MAX_ID_CHARACTERS else None
        case int():
            return value if abs(value) <= MAX_ID_NUMBER else None
        case float():
            return value if math.isfinite(value) else None
        case _:
            return None


def _read_member(member: object) -> Request | BadRequest:
    if not isinstance(member, dict):
        return BadRequest(None, RpcError(INVALID_REQUEST, "invalid request"))
    fields = cast("dict[str, object]", member)
    request_id = _read_id(fields.get("id"))
    problem = _problem(fields, request_id)
    if problem is not None:
        message = f"invalid request: {problem}"
        return BadRequest(request_id, RpcError(INVALID_REQUEST, message))
    params = cast("list[Any] | None", fields.get("params"))
    return Request(
        method=str(fields["method"]),
        params=params or (),
        id=request_id,
        answered="id" in fields,
    )


def _problem(fields: dict[str, object], request_id: RequestId) -> str | None:
    if fields.get("jsonrpc") != "2.0":
        return 'jsonrpc must be "2.0"'
    if fields.get("id") is not None and request_id is None:
        return "id must be a short string or a number"
    method = fields.get("method")
    if not isinstance(method, str) or not 0 < len(method) <= MAX_METHOD_CHARACTERS:
        return "method must be a short string"
    params = fields.get("params")
    if params is not None and not isinstance(params, list):
        return "params must be a list"
    return None


def result_object(request_id: RequestId, result: object) -> dict[str, Any]:
    """The response to a call that succeeded."""
    return {"jsonrpc": "2.0", "id": request_id, "result": result}


def error_object(request_id: RequestId, error: RpcError) -> dict[str, Any]:
    """The response to a call that failed."""
    return {"jsonrpc": "2.0", "id": request_id, "error": error.as_object()}


def write_body(document: object) -> bytes:
    """Compact JSON. ASCII only, so that a lone surrogate in an id stays harmless."""
    return json.dumps(document, separators=(",", ":")).encode()
