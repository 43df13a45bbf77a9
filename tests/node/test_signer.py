"""The signer: no crash at any instant makes two contradicting signatures."""

import errno
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from chain.block import Block
from chain.crypto import sha256
from consensus.beacon import verify_reveal
from consensus.votes import NIL, Subject, VoteKind, verify_signature
from node.errors import DoubleSignError, KeyFileError
from node.files import write_durably
from node.signer import STATE_FILE, LocalSigner
from node.signstate import Signed, mark_never_signed
from node.validatorkey import ValidatorKey
from tests.node.blocks import make_block as block
from tests.node.fakedisk import NOTHING, FakeDisk

GENESIS = sha256(b"chain")
KEY = ValidatorKey.from_seed(sha256(b"secret"), bytes(63) + b"1")
A, B = sha256(b"a"), sha256(b"b")
PREVOTE, PRECOMMIT = VoteKind.PREVOTE, VoteKind.PRECOMMIT


def signer(directory: Path) -> LocalSigner:
    return LocalSigner(directory, GENESIS, KEY)


def test_signature_verifies_and_the_state_is_private(tmp_path: Path) -> None:
    subject = Subject(PREVOTE, 5, 0, A)
    signature = signer(tmp_path).sign(subject).signature
    verify_signature(GENESIS, subject, signature, KEY.address)
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
        LocalSigner(tmp_path, sha256(b"other"), KEY)


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
    path = tmp_path / "proposal-3-0.rlp"
    write_durably(path, block(3, timestamp=2).encode())
    with pytest.raises(KeyFileError, match="restore the file"):
        mine.pending_proposal(3, 0)
    write_durably(path, b"rubbish")
    with pytest.raises(KeyFileError, match="damaged"):
        mine.pending_proposal(3, 0)
    path.unlink()
    with pytest.raises(KeyFileError, match="cannot read"):
        mine.pending_proposal(3, 0)


def test_every_round_has_its_proposal_until_the_height_is_over(tmp_path: Path) -> None:
    def found() -> list[str]:
        return [each.name for each in sorted(tmp_path.glob("*.rlp"))]

    mine = signer(tmp_path)
    for round_ in (0, 1):
        mine.sign_proposal(round_, None, block(3, timestamp=round_))
    assert found() == ["proposal-3-0.rlp", "proposal-3-1.rlp"]
    assert mine.pending_proposal(3, 1) == block(3, timestamp=1)
    mine.sign_proposal(0, None, block(4))
    mine.sign_proposal(0, None, block(5))
    assert found() == ["proposal-4-0.rlp", "proposal-5-0.rlp"]


def test_a_proposal_says_which_polka_it_rests_on(tmp_path: Path) -> None:
    mine = signer(tmp_path)
    assert mine.sign_proposal(3, 1, block(3)).subject.polka_round == 1
    with pytest.raises(DoubleSignError):
        mine.sign_proposal(3, 2, block(3))
    with pytest.raises(DoubleSignError):
        mine.sign_proposal(3, None, block(3))


def test_reveals_are_the_beacon_keys(tmp_path: Path) -> None:
    verify_reveal(GENESIS, 7, signer(tmp_path).reveal(7), KEY.beacon_key)


def test_what_is_known_of_the_past(tmp_path: Path) -> None:
    assert (signer(tmp_path).last, signer(tmp_path).last_height) == (None, None)
    mark_never_signed(tmp_path)
    assert (signer(tmp_path).last, signer(tmp_path).last_height) == (None, 0)
    signer(tmp_path).sign(Subject(PREVOTE, 5, 1, A))
    mark_never_signed(tmp_path)
    assert signer(tmp_path).last_height == 5


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_refuses_lets_no_signature_out(code: int) -> None:
    """Whichever operation fails, the call can be repeated, and nothing is forgotten."""

    def propose(made: LocalSigner, at: Block) -> Signed:
        return made.sign_proposal(0, None, at)

    def prevote(made: LocalSigner, at: Block) -> Signed:
        return made.sign(Subject(PREVOTE, at.number, 0, at.hash))

    home, index, operations = Path("/validator"), 0, 0
    while index <= operations:
        disk = FakeDisk(faults={index: code})
        failures = 0
        left: list[Signed] = []
        for height in (1, 2):
            proposed = block(height)
            for ask in (propose, prevote):
                made = LocalSigner(home, GENESIS, KEY, disk=disk)
                try:
                    left.append(ask(made, proposed))
                except KeyFileError as error:
                    failures += "nothing was signed" in str(error)
                    left.append(ask(made, proposed))
                again = LocalSigner(
                    home, GENESIS, KEY, disk=disk.after_power_loss(NOTHING)
                )
                assert again.last == left[-1]
        assert failures == (index < len(disk.operations))
        index, operations = index + 1, len(disk.operations)
    assert operations > 20
