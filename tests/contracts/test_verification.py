import pytest
from eth_abi.abi import encode

from chain.crypto import keccak
from tests.contracts.chain import Chain, Receipt
from tests.contracts.conftest import STEPS
from tests.contracts.play import Game, refused
from tests.contracts.toy import honest

DIGEST, SALT = b"\x0d" * 32, b"\x05" * 32


def sealed(
    game: Game, who: bytes, start: int, end: int, digest: bytes = DIGEST
) -> bytes:
    types = ["bytes32", "address", "uint256", "uint256", "bytes32", "bytes32"]
    return keccak(encode(types, [game.trial, who, start, end, digest, SALT]))


def commit(
    game: Game, who: bytes, start: int = 2, end: int = 5, **change: object
) -> Receipt:
    commitment = change.get("commitment", sealed(game, who, start, end))
    return game.chain.send(
        who, "Verification", "commit_digest", game.job_id, start, end, commitment
    )


def reveal(
    game: Game, who: bytes, start: int = 2, end: int = 5, digest: bytes = DIGEST
) -> Receipt:
    return game.chain.send(
        who, "Verification", "reveal_digest", game.job_id, start, end, digest, SALT
    )


def test_a_digest_is_committed_and_revealed(fair: Game, alice: bytes) -> None:
    commit(fair, alice)
    fair.chain.mine()
    event = reveal(fair, alice).event("DigestRevealed")
    assert (event.verifier, event.start, event.end, event.digest) == (
        *(alice, 2, 5),
        DIGEST,
    )
    proof = fair.chain.call("Verification", "proof", fair.job_id, alice, 2, 5)
    assert proof.digest == DIGEST
    refused("verification: already revealed", reveal, fair, alice)
    refused("verification: already committed", commit, fair, alice)


def test_a_copied_digest_is_useless(fair: Game, alice: bytes, bob: bytes) -> None:
    commit(fair, alice)
    commit(fair, bob, commitment=sealed(fair, alice, 2, 5))
    fair.chain.mine()
    refused("verification: not what was committed", reveal, fair, bob)
    refused("verification: not committed", reveal, fair, bob, 1)


def test_the_digest_is_the_one_committed(fair: Game, alice: bytes) -> None:
    commit(fair, alice)
    fair.chain.mine()
    refused("verification: not what was committed", reveal, fair, alice, 2, 5, SALT)
    refused("verification: no digest", reveal, fair, alice, 2, 5, bytes(32))


@pytest.mark.parametrize(
    ("start", "end"), [(3, 3), (4, 3), (0, STEPS + 1), (2**256 - 1, 2)]
)
def test_segments_lie_in_the_job(
    fair: Game, alice: bytes, start: int, end: int
) -> None:
    refused("verification: no such segment", commit, fair, alice, start, end)


def test_digests_have_their_time(fair: Game, alice: bytes, bob: bytes) -> None:
    commit(fair, alice)
    refused("verification: too early", reveal, fair, alice)
    fair.chain.mine(20)
    commit(fair, bob)
    fair.chain.mine()
    refused("verification: too late", commit, fair, bob, 3, 4)
    fair.chain.mine(7)
    reveal(fair, bob)
    fair.chain.mine()
    refused("verification: too late", reveal, fair, alice)


def test_only_a_commitment_is_verified(chain: Chain, alice: bytes) -> None:
    game = Game(chain, honest(STEPS))
    game.post()
    game.take()
    refused("verification: not committed", commit, game, alice)
