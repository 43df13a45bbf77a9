"""Deterministic validators shared by the consensus tests."""

from chain.crypto import bls_public_key, public_key, sha256
from consensus.validators import Validator, ValidatorSet
from consensus.votes import Subject, Vote, VoteKind, sign_vote

GENESIS = sha256(b"a test chain")
OTHER_GENESIS = sha256(b"another test chain")
BLOCK = sha256(b"a block")
OTHER_BLOCK = sha256(b"another block")


def secret(number: int) -> bytes:
    return sha256(b"validator" + bytes((number,)))


def beacon_secret(number: int) -> int:
    return 1_000_003 + number


def validator(number: int, stake: int = 10**18) -> Validator:
    return Validator(
        public_key(secret(number)), bls_public_key(beacon_secret(number)), stake
    )


class Committee:
    """A validator set together with its members' secrets, by index."""

    def __init__(self, *stakes: int) -> None:
        members = {
            number: validator(number, stake) for number, stake in enumerate(stakes)
        }
        self.set = ValidatorSet.of(members.values())
        by_key = {member.public_key: number for number, member in members.items()}
        self.numbers = [by_key[member.public_key] for member in self.set.members]

    def secret(self, index: int) -> bytes:
        return secret(self.numbers[index])

    def beacon_secret(self, index: int) -> int:
        return beacon_secret(self.numbers[index])

    def vote(
        self,
        index: int,
        kind: VoteKind = VoteKind.PRECOMMIT,
        block_hash: bytes = BLOCK,
        *,
        height: int = 1,
        round_: int = 0,
        detail: int = 0,
        genesis_hash: bytes = GENESIS,
    ) -> Vote:
        subject = Subject(kind, height, round_, block_hash, detail)
        return sign_vote(genesis_hash, subject, index, self.secret(index))
