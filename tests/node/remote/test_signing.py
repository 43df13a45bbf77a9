"""The remote signer is a signer: the same signatures, the same refusals, one state."""

import threading
from contextlib import suppress
from pathlib import Path

import pytest

from consensus.beacon import verify_reveal
from consensus.votes import NIL, Subject, verify_signature
from node.doppelganger import Guard
from node.errors import DoubleSignError, KeyFileError
from node.remote.client import RemoteSigner
from node.signer import LocalSigner
from node.signstate import STATE_FILE, Signed, mark_never_signed
from tests.node.blocks import make_block
from tests.node.remote.running import (
    GENESIS,
    KEY,
    PRECOMMIT,
    PREVOTE,
    A,
    B,
    Start,
    asking,
)

pytestmark = pytest.mark.network


def test_it_signs_like_a_local_one(remote: RemoteSigner, tmp_path: Path) -> None:
    assert remote.address == KEY.address
    assert remote.public == KEY.public
    assert (remote.last, remote.last_height) == (None, None)
    local = LocalSigner(tmp_path, GENESIS, KEY)
    for subject in (
        Subject(PREVOTE, 5, 0, A),
        Subject(PRECOMMIT, 5, 0, A, 1_000),
        Subject(PREVOTE, 5, 1, NIL),
    ):
        signed = remote.sign(subject)
        assert signed == local.sign(subject)
        verify_signature(GENESIS, subject, signed.signature, KEY.address)
        assert remote.last == signed
    assert remote.last_height == 5
    assert remote.reveal(9) == local.reveal(9)
    verify_reveal(GENESIS, 9, remote.reveal(9), KEY.beacon_key)


def test_a_precommit_keeps_its_first_time(remote: RemoteSigner) -> None:
    first = remote.sign(Subject(PRECOMMIT, 5, 0, A, 1_000))
    assert remote.sign(Subject(PRECOMMIT, 5, 0, A, 2_000)) == first


@pytest.mark.parametrize(
    "refused", [Subject(PREVOTE, 5, 1, B), Subject(PREVOTE, 5, 0, A)]
)
def test_it_refuses_a_second_signature(remote: RemoteSigner, refused: Subject) -> None:
    signed = remote.sign(Subject(PREVOTE, 5, 1, A))
    with pytest.raises(DoubleSignError, match="already signed prevote at height 5"):
        remote.sign(refused)
    assert remote.sign(Subject(PREVOTE, 5, 1, A)) == signed


def test_blocks_of_proposals_stay_with_the_node(
    remote: RemoteSigner, tmp_path: Path, home: Path
) -> None:
    block = make_block(3)
    signed = remote.sign_proposal(0, None, block)
    assert signed.subject.block_hash == block.hash
    assert remote.pending_proposal(3, 0) == block
    assert remote.pending_proposal(3, 1) is None
    with pytest.raises(DoubleSignError):
        remote.sign_proposal(0, None, make_block(3, timestamp=77))
    assert remote.pending_proposal(3, 0) == block
    assert remote.sign_proposal(0, None, block) == signed
    assert (tmp_path / "node" / "proposal-3-0.rlp").exists()
    assert not list(home.glob("proposal-*"))
    (tmp_path / "node" / "proposal-3-0.rlp").unlink()
    with pytest.raises(KeyFileError, match="cannot read"):
        remote.pending_proposal(3, 0)


def test_the_state_is_the_signers(
    remote: RemoteSigner, home: Path, tmp_path: Path
) -> None:
    remote.sign(Subject(PREVOTE, 5, 1, A))
    assert (home / STATE_FILE).stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "node" / STATE_FILE).exists()


def test_the_guard_knows_what_a_remote_signer_knows(
    tmp_path: Path, start: Start, home: Path
) -> None:
    running = start()
    lost = asking(tmp_path / "node", running.address)
    assert not Guard(lost, 7).may_sign(8)
    lost.sign(Subject(PREVOTE, 8, 0, A))
    again = asking(tmp_path / "node", running.address)
    assert Guard(again, 7).may_sign(8)
    assert Guard(again, 8).may_sign(9)
    assert not Guard(again, 9).may_sign(10)
    running.stop()
    (home / STATE_FILE).unlink()
    mark_never_signed(home)
    assert asking(tmp_path / "node", start().address).last_height == 0


def test_two_nodes_of_one_signer_cannot_contradict_each_other(
    tmp_path: Path, start: Start
) -> None:
    running = start()
    one, other = (asking(tmp_path / name, running.address) for name in ("a", "b"))
    one.sign(Subject(PREVOTE, 5, 1, A))
    with pytest.raises(DoubleSignError):
        other.sign(Subject(PREVOTE, 5, 1, B))
    other.sign(Subject(PRECOMMIT, 5, 1, NIL, 1))
    with pytest.raises(DoubleSignError):
        one.sign(Subject(PRECOMMIT, 5, 1, A, 1))


def test_many_threads_ask_at_once(tmp_path: Path, start: Start) -> None:
    """Whoever comes first is signed; nothing contradicts it."""
    running = start()
    got: list[Signed] = []

    def ask(index: int) -> None:
        mine = asking(tmp_path / str(index), running.address)
        for height in range(1, 20):
            with suppress(DoubleSignError):
                got.append(mine.sign(Subject(PREVOTE, height, 0, (A, B)[index % 2])))

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got
    for each in got:
        assert not any(each.subject.contradicts(other.subject) for other in got)
