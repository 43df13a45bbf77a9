"""Requests, answers and addresses of the remote signer as bytes and text."""

from contextlib import suppress

import pytest
from hypothesis import given, strategies as st

from consensus.votes import NIL, Subject, VoteKind
from node.errors import ConfigError
from node.remote.address import parse_address, parse_listen
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
from node.signstate import Signed
from tests.node.remote.running import GENESIS, KEY, PRECOMMIT, SIGNER, A, B
from tests.support.vectors import Vectors

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
