"""The signer: no crash at any instant makes two contradicting signatures."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from chain.crypto import address_of, public_key, sha256
from consensus.votes import NIL, Subject, VoteKind, verify_signature
from node.errors import DoubleSignError, KeyFileError
from node.files import write_durably
from node.signer import PROPOSAL_FILE, STATE_FILE, Signer
from tests.node.blocks import make_block as block

GENESIS = sha256(b"chain")
SECRET = sha256(b"secret")
A, B = sha256(b"a"), sha256(b"b")
PREVOTE, PRECOMMIT = VoteKind.PREVOTE, VoteKind.PRECOMMIT


def signer(directory: Path) -> Signer:
    return Signer(directory, GENESIS, SECRET)


def test_signature_verifies_and_the_state_is_private(tmp_path: Path) -> None:
    subject = Subject(PREVOTE, 5, 0, A)
    signature = signer(tmp_path).sign(subject).signature
    verify_signature(GENESIS, subject, signature, address_of(public_key(SECRET)))
    assert (tmp_path / STATE_FILE).stat().st_mode & 0o777 == 0o600


def test_same_subject_gets_the_same_signature_after_a_restart(tmp_path: Path) -> None:
    subject = Subject(PREVOTE, 5, 0, A)
    assert signer(tmp_path).sign(subject) == signer(tmp_path).sign(subject)


@pytest.mark.parametrize(
    "later",
    [
        Subject(PRECOMMIT, 5, 1, B),
        Subject(PREVOTE, 5, 2, B),
        Subject(VoteKind.PROPOSAL, 6, 0, B),
    ],
)
def test_later_subjects_are_signed(tmp_path: Path, later: Subject) -> None:
    mine = signer(tmp_path)
    mine.sign(Subject(PREVOTE, 5, 1, A))
    mine.sign(later)
    assert mine.last is not None
    assert mine.last.subject == later


@pytest.mark.parametrize(
    "refused",
    [
        Subject(PREVOTE, 5, 1, B),
        Subject(PREVOTE, 5, 1, NIL),
        Subject(VoteKind.PROPOSAL, 5, 1, A),
        Subject(PRECOMMIT, 5, 0, A),
        Subject(PRECOMMIT, 4, 9, A),
    ],
)
@pytest.mark.parametrize("restart", [False, True])
def test_contradictions_and_the_past_are_refused(
    tmp_path: Path, refused: Subject, *, restart: bool
) -> None:
    mine = signer(tmp_path)
    mine.sign(Subject(PREVOTE, 5, 1, A))
    if restart:
        mine = signer(tmp_path)
    with pytest.raises(DoubleSignError, match="already signed prevote at height 5"):
        mine.sign(refused)


def test_earlier_signatures_of_the_round_are_given_again(tmp_path: Path) -> None:
    mine = signer(tmp_path)
    prevote, precommit = Subject(PREVOTE, 5, 1, NIL), Subject(PRECOMMIT, 5, 1, NIL)
    signatures = [mine.sign(prevote), mine.sign(precommit)]
    again = signer(tmp_path)
    assert [again.sign(prevote), again.sign(precommit)] == signatures
    with pytest.raises(DoubleSignError):
        again.sign(Subject(PREVOTE, 5, 1, A))
    again.sign(Subject(PREVOTE, 5, 2, A))
    with pytest.raises(DoubleSignError):
        again.sign(prevote)


def test_a_precommit_asked_for_with_another_time_is_given_as_it_was(
    tmp_path: Path,
) -> None:
    first = signer(tmp_path).sign(Subject(PRECOMMIT, 5, 1, A, 1_000))
    assert signer(tmp_path).sign(Subject(PRECOMMIT, 5, 1, A, 2_000)) == first
    with pytest.raises(DoubleSignError):
        signer(tmp_path).sign(Subject(PRECOMMIT, 5, 1, B, 1_000))


def test_state_of_another_chain_is_refused(tmp_path: Path) -> None:
    signer(tmp_path).sign(Subject(PREVOTE, 5, 1, A))
    with pytest.raises(KeyFileError, match="of chain"):
        Signer(tmp_path, sha256(b"other"), SECRET)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace("prevote", "vote"),
        lambda text: text.replace('"height": 5', '"height": -5'),
        lambda _: "[]",
        lambda _: "{}",
        lambda _: "7",
        lambda text: text.replace("signatures", "signature"),
        lambda text: re.sub(r"\[.*\]", "[]", text, flags=re.DOTALL),
    ],
    ids=["cut", "kind", "height", "list", "empty", "number", "renamed", "none"],
)
def test_damaged_state_is_refused(tmp_path: Path, spoil: Callable[[str], str]) -> None:
    signer(tmp_path).sign(Subject(PREVOTE, 5, 1, A))
    path = tmp_path / STATE_FILE
    path.write_text(spoil(path.read_text()))
    with pytest.raises(KeyFileError, match="damaged"):
        signer(tmp_path)


def test_state_that_others_can_read_is_refused(tmp_path: Path) -> None:
    signer(tmp_path).sign(Subject(PREVOTE, 5, 1, A))
    (tmp_path / STATE_FILE).chmod(0o644)
    with pytest.raises(KeyFileError, match="chmod 600"):
        signer(tmp_path)


def test_signed_proposal_is_found_again(tmp_path: Path) -> None:
    mine = signer(tmp_path)
    mine.sign_proposal(0, None, block(3))
    mine.sign(Subject(PREVOTE, 3, 0, block(3).hash))
    assert signer(tmp_path).pending_proposal(3, 0) == block(3)
    assert signer(tmp_path).pending_proposal(4, 0) is None


def test_second_proposal_for_a_height_is_refused_and_the_first_kept(
    tmp_path: Path,
) -> None:
    mine = signer(tmp_path)
    mine.sign_proposal(0, None, block(3, timestamp=1))
    with pytest.raises(DoubleSignError):
        mine.sign_proposal(0, None, block(3, timestamp=2))
    assert mine.pending_proposal(3, 0) == block(3, timestamp=1)


def test_missing_or_foreign_proposal_file_is_named(tmp_path: Path) -> None:
    mine = signer(tmp_path)
    mine.sign_proposal(0, None, block(3, timestamp=1))
    write_durably(tmp_path / PROPOSAL_FILE, block(3, timestamp=2).encode())
    with pytest.raises(KeyFileError, match="restore the file"):
        mine.pending_proposal(3, 0)
    write_durably(tmp_path / PROPOSAL_FILE, b"rubbish")
    with pytest.raises(KeyFileError, match="damaged"):
        mine.pending_proposal(3, 0)
    (tmp_path / PROPOSAL_FILE).unlink()
    with pytest.raises(KeyFileError, match="cannot read"):
        mine.pending_proposal(3, 0)


class PowerLoss(Exception):
    """The machine stops."""


class Disk:
    """Writes files until it stops, before or after the write it is asked for."""

    def __init__(self, writes: int, *, after: bool) -> None:
        self.left = writes
        self.after = after

    def __call__(self, path: Path, content: bytes) -> None:
        if self.left == 0 and not self.after:
            raise PowerLoss
        write_durably(path, content)
        if self.left == 0:
            raise PowerLoss
        self.left -= 1


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("crash", range(12))
def test_no_crash_leads_to_a_contradiction(
    tmp_path: Path, crash: int, *, after: bool
) -> None:
    """Every signature that ever left, over two lives, is one per place."""
    left: dict[tuple[int, int, int], bytes] = {}
    committed: set[int] = set()

    def live(mine: Signer, timestamp: int) -> None:
        for height in (1, 2, 3):
            if height in committed:
                continue
            pending = mine.pending_proposal(height, 0)
            proposed = block(height, timestamp) if pending is None else pending
            for kind in (VoteKind.PROPOSAL, PREVOTE, PRECOMMIT):
                if kind is VoteKind.PROPOSAL:
                    signed = mine.sign_proposal(0, None, proposed)
                else:
                    signed = mine.sign(Subject(kind, height, 0, proposed.hash))
                signature = signed.signature
                assert left.setdefault((height, 0, kind), signature) == signature
            committed.add(height)

    disk = Disk(crash, after=after)
    try:
        live(Signer(tmp_path, GENESIS, SECRET, write=disk), timestamp=100)
    except PowerLoss:
        live(Signer(tmp_path, GENESIS, SECRET), timestamp=200)
    assert len(left) == 9
