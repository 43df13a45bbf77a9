"""JSON-RPC envelopes: what is a request, and what every rubbish is answered with."""

import json
import time
from typing import Any

import pytest
from hypothesis import given, strategies as st

from node.rpc.envelope import MAX_DEPTH, BadRequest, Request, read_body, write_body
from node.rpc.errors import INVALID_REQUEST, PARSE_ERROR, RpcError


def one(document: object) -> Request | BadRequest:
    body = read_body(json.dumps(document).encode(), max_batch=10)
    assert not body.batch
    (member,) = body.members
    return member


def call(**changes: object) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []} | changes


def test_request_is_read() -> None:
    assert one(call(params=[1, "x"])) == Request("eth_chainId", [1, "x"], 1)


@pytest.mark.parametrize("request_id", ["a", 0, 1.5, None, 2**53])
def test_ids_that_json_allows_are_echoed(request_id: object) -> None:
    member = one(call(id=request_id))
    assert isinstance(member, Request)
    assert member.id == request_id
    assert member.answered


def test_request_without_id_is_a_notification() -> None:
    document = call()
    del document["id"]
    member = one(document)
    assert isinstance(member, Request)
    assert not member.answered


def test_missing_params_are_none_at_all() -> None:
    document = call()
    del document["params"]
    member = one(document)
    assert isinstance(member, Request)
    assert member.params == ()


@pytest.mark.parametrize(
    "document",
    [
        1,
        "x",
        None,
        call(jsonrpc="1.0"),
        call(method=1),
        call(method=""),
        call(method="x" * 65),
        call(params={"a": 1}),
        call(id=[]),
        call(id=True),
        call(id="x" * 257),
        call(id=2**65),
    ],
    ids=str,
)
def test_what_is_no_request_is_invalid(document: object) -> None:
    member = one(document)
    assert isinstance(member, BadRequest)
    assert member.error.code == INVALID_REQUEST


def test_infinite_id_is_not_echoed() -> None:
    body = b'{"jsonrpc":"2.0","id":1e999,"method":"m"}'
    (member,) = read_body(body, max_batch=1).members
    assert isinstance(member, BadRequest)
    assert member.id is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"NaN",
        b"[Infinity]",
        b"1" * 5_000,
    ],
    ids=["empty", "cut", "utf8", "deep", "deep2", "nan", "infinity", "huge"],
)
def test_what_is_no_json_is_a_parse_error(body: bytes) -> None:
    with pytest.raises(RpcError, match="parse error") as caught:
        read_body(body, max_batch=10)
    assert caught.value.code == PARSE_ERROR


def test_a_string_that_never_ends_is_read_once() -> None:
    """Each quote in it must not begin another search for its end."""
    body = b'{"id":"' + b'\\"' * 12_000
    began = time.process_time()
    with pytest.raises(RpcError, match="parse error"):
        read_body(body, max_batch=1)
    assert time.process_time() - began < 0.5


def test_nesting_is_bounded_before_parsing() -> None:
    deepest = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    assert read_body(deepest, max_batch=1).batch
    for body in (b"[" + deepest + b"]", b'{"a":' * 40, b"[" * 2_000_000):
        with pytest.raises(RpcError, match="nested more than 32 levels"):
            read_body(body, max_batch=1)


@pytest.mark.parametrize(
    "text", ["[" * 100, '"' + "[" * 100, "\\" + "{" * 100, "\n" + "[" * 50]
)
def test_brackets_in_strings_do_not_nest(text: str) -> None:
    assert one(call(params=[text])) == Request("eth_chainId", [text], 1)


def test_batches_are_bounded() -> None:
    body = json.dumps([call()] * 10).encode()
    assert len(read_body(body, max_batch=10).members) == 10
    with pytest.raises(RpcError, match="batch too large: 10 of at most 9"):
        read_body(body, max_batch=9)
    with pytest.raises(RpcError, match="empty batch"):
        read_body(b"[]", max_batch=9)


def test_bad_member_does_not_spoil_a_batch() -> None:
    body = json.dumps([call(), 7]).encode()
    good, bad = read_body(body, max_batch=10).members
    assert isinstance(good, Request)
    assert isinstance(bad, BadRequest)


def test_lone_surrogate_survives() -> None:
    body = b'{"jsonrpc":"2.0","id":"\\ud800","method":"m"}'
    (member,) = read_body(body, max_batch=1).members
    assert write_body(member.id) == b'"\\ud800"'


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_no_body_raises_anything_else(body: bytes) -> None:
    try:
        members = read_body(body, max_batch=4).members
    except RpcError as error:
        write_body(error.as_object())
        return
    for member in members:
        json.loads(write_body(member.id))
