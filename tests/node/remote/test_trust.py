"""A signer that is away, was set back, is another one, fails or lies."""

import socket
from pathlib import Path

import pytest

from chain.crypto import sha256
from consensus.votes import Subject
from node.errors import SignerUnavailableError
from node.proposals import ProposalFiles
from node.remote.client import RemoteSigner, SignerPlace
from node.remote.messages import (
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
    State,
    Welcome,
    decode_request,
    encode_answer,
)
from node.signstate import STATE_FILE, Signed
from node.validatorkey import ValidatorKey
from tests.node.remote.running import (
    GENESIS,
    KEY,
    PRECOMMIT,
    PREVOTE,
    SIGNER,
    SUBJECT,
    A,
    B,
    Start,
    asking,
)

pytestmark = pytest.mark.network


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
    monkeypatch.setattr("tests.node.remote.running.KEY", other)
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
