"""The validator's signer: no two signatures of ours ever contradict each other.

`Signer` is what the engine asks. `LocalSigner` has the keys in this process and its
state in a directory: a signature is in the last-sign-state, on the disk, before it
leaves (`node.signstate`), and the block of a proposal is stored before it is signed
(`node.proposals`). So a process that was killed at any instant and started again
cannot equivocate. `node.remote` asks another process, which does the same.
"""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from typing_extensions import override

from chain.block import Block
from chain.crypto import sign
from consensus.beacon import make_reveal
from consensus.parts import cut
from consensus.votes import Subject, VoteKind, sign_digest
from node.disk import SYSTEM, Disk
from node.proposals import ProposalFiles
from node.signstate import STATE_FILE, Signed, SignState, find, order
from node.validatorkey import ValidatorKey

__all__ = ["STATE_FILE", "LocalSigner", "ProposingSigner", "Signed", "Signer"]


class Signer(Protocol):
    """Signs for one validator on one chain.

    Calls may block; they come from one thread at a time. Each may raise
    `NotSignedError`, after which life goes on without that signature, or
    `KeyFileError`, after which it doesn't.
    """

    @property
    def address(self) -> bytes:
        """The validator's, 20 bytes."""
        ...

    @property
    def last(self) -> Signed | None:
        """The latest signature, or None when nothing is known to be signed."""
        ...

    @property
    def last_height(self) -> int | None:
        """Of the latest signature; 0 for a key that never signed; None: unknown."""
        ...

    def sign(self, subject: Subject) -> Signed:
        """The signature of a subject, once it is safe to let it out.

        A precommit that was signed with another time is returned as it was signed.

        Raises:
            DoubleSignError: something else was signed for this place, or a later one.
        """
        ...

    def sign_proposal(
        self, round_: int, polka_round: int | None, block: Block
    ) -> Signed:
        """Store a block that we propose, then sign it as the proposal of its round.

        Raises:
            DoubleSignError: another proposal, or a later subject, was signed.
        """
        ...

    def reveal(self, height: int) -> bytes:
        """The 96-byte reveal of the beacon for a height."""
        ...

    def pending_proposal(self, height: int, round_: int) -> Block | None:
        """The block that we signed as the proposal of that round, if it was the last.

        Raises:
            KeyFileError: a proposal was signed there and the block is gone.
        """
        ...


def proposal_subject(
    round_: int, polka_round: int | None, block: Block
) -> tuple[Subject, bytes]:
    """What the proposer of a block signs, and the block's bytes."""
    encoded = block.encode()
    subject = Subject(
        VoteKind.PROPOSAL,
        block.number,
        round_,
        block.hash,
        0 if polka_round is None else polka_round + 1,
        cut(encoded)[0],
    )
    return subject, encoded


class ProposingSigner(Signer):
    """What every signer does about proposals; their blocks are on this machine.

    Raises of its methods, besides those of `Signer`: KeyFileError when the disk
    refuses.
    """

    def __init__(self, proposals: ProposalFiles) -> None:
        """Keep blocks there."""
        self._proposals = proposals

    @abstractmethod
    def latest(self) -> Sequence[Signed]:
        """Every signature of the latest (height, round), oldest first."""

    @override
    def sign_proposal(
        self, round_: int, polka_round: int | None, block: Block
    ) -> Signed:
        subject, encoded = proposal_subject(round_, polka_round, block)
        latest = self.latest()
        if find(latest, subject) is None:
            over = latest[-1].subject.height if latest else 0
            self._proposals.store(block.number, round_, encoded, over=over)
        return self.sign(subject)

    @override
    def pending_proposal(self, height: int, round_: int) -> Block | None:
        wanted = height, round_, VoteKind.PROPOSAL
        for each in self.latest():
            if order(each.subject) == wanted:
                block_hash = each.subject.block_hash
                return self._proposals.load(height, round_, block_hash)
        return None


class LocalSigner(ProposingSigner):
    """Signs with keys of this process, backed by a directory."""

    def __init__(
        self,
        directory: Path,
        genesis_hash: bytes,
        key: ValidatorKey,
        *,
        disk: Disk = SYSTEM,
    ) -> None:
        """Read the last-sign-state, if there is one.

        Args:
            directory: Private to this validator.
            genesis_hash: Of the chain; a state of another chain is refused.
            key: The validator's.
            disk: The file system.

        Raises:
            KeyFileError: the state file is damaged or of another chain.
        """
        super().__init__(ProposalFiles(directory, disk=disk))
        self.genesis_hash = genesis_hash
        self.public = key.public
        self._key = key
        self._state = SignState(directory, genesis_hash, disk=disk)

    @property
    @override
    def address(self) -> bytes:
        return self.public.address

    @property
    @override
    def last(self) -> Signed | None:
        return self._state.last

    @property
    @override
    def last_height(self) -> int | None:
        return self._state.height

    @override
    def latest(self) -> Sequence[Signed]:
        return self._state.signed

    @override
    def sign(self, subject: Subject) -> Signed:
        found = self._state.find(subject)
        if found is not None:
            return found
        digest = sign_digest(self.genesis_hash, subject)
        made = Signed(subject, sign(digest, self._key.secret))
        self._state.record(made)
        return made

    @override
    def reveal(self, height: int) -> bytes:
        return make_reveal(self.genesis_hash, height, self._key.beacon_secret)
