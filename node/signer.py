"""The validator's signer: no two signatures of ours ever contradict each other.

Before a signature leaves this module, it is in the last-sign-state file, on the disk.
The file holds every signature of the latest (height, round). Asked again for one of
these subjects, the signer returns the stored signature; asked for anything else that is
not later in (height, round, kind) order, it refuses. So a process that was killed at
any instant and started again cannot equivocate.

A proposal is stored next to it before it is signed, because after a crash the only
block we may still propose for that height and round is the one that we signed.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chain.block import MAX_BLOCK_BYTES, Block
from chain.crypto import sign
from chain.errors import Malformed
from consensus.errors import ConsensusError
from consensus.parts import cut
from consensus.votes import Subject, VoteKind, sign_digest
from node.errors import DoubleSignError, KeyFileError
from node.files import read_private, write_durably

STATE_FILE = "last-sign.json"
PROPOSAL_FILE = "last-proposal.rlp"
_MAX_STATE_BYTES = 4_096

Write = Callable[[Path, bytes], None]


@dataclass(frozen=True, slots=True)
class Signed:
    """A subject that was signed, and its signature."""

    subject: Subject
    signature: bytes


def _order(subject: Subject) -> tuple[int, int, int]:
    return subject.height, subject.round, subject.kind


def _place(subject: Subject) -> tuple[int, int]:
    return subject.height, subject.round


class Signer:
    """Signs for one validator on one chain, backed by a directory."""

    def __init__(
        self,
        directory: Path,
        genesis_hash: bytes,
        secret: bytes,
        *,
        write: Write = write_durably,
    ) -> None:
        """Read the last-sign-state, if there is one.

        Args:
            directory: Private to this validator.
            genesis_hash: Of the chain; a state of another chain is refused.
            secret: 32 bytes secp256k1.
            write: How a file is replaced durably; tests crash in it.

        Raises:
            KeyFileError: the state file is damaged or of another chain.
        """
        self._directory = directory
        self._genesis_hash = genesis_hash
        self._secret = secret
        self._write = write
        self._signed = self._load()

    @property
    def last(self) -> Signed | None:
        """The latest signature, or None when nothing was signed yet."""
        return self._signed[-1] if self._signed else None

    def sign(self, subject: Subject) -> Signed:
        """The signature of a subject, once it is safe to let it out.

        A precommit that was signed with another time is returned as it was signed.

        Raises:
            DoubleSignError: something else was signed for this place, or a later one.
        """
        for each in self._signed:
            if _order(each.subject) == _order(subject) and not each.subject.contradicts(
                subject
            ):
                return each
        last = self.last
        if last is not None and _order(subject) <= _order(last.subject):
            raise DoubleSignError(
                f"refusing to sign {_shown(subject)}: "
                f"already signed {_shown(last.subject)}"
            )
        made = Signed(
            subject, sign(sign_digest(self._genesis_hash, subject), self._secret)
        )
        same_place = last is not None and _place(last.subject) == _place(subject)
        kept = self._signed if same_place else ()
        signed = (*kept, made)
        self._write(self._directory / STATE_FILE, self._encode(signed))
        self._signed = signed
        return made

    def sign_proposal(
        self, round_: int, polka_round: int | None, block: Block
    ) -> Signed:
        """Store a block that we propose, then sign it as the proposal of its round.

        Raises:
            DoubleSignError: another proposal, or a later subject, was signed.
        """
        encoded = block.encode()
        subject = Subject(
            VoteKind.PROPOSAL,
            block.number,
            round_,
            block.hash,
            0 if polka_round is None else polka_round + 1,
            cut(encoded)[0],
        )
        last = self.last
        if last is None or _order(subject) > _order(last.subject):
            self._write(self._directory / PROPOSAL_FILE, encoded)
        return self.sign(subject)

    def pending_proposal(self, height: int, round_: int) -> Block | None:
        """The block that we signed as the proposal of that round, if it was the last.

        Raises:
            KeyFileError: a proposal was signed there and the block is gone.
        """
        mine = next(
            (
                each.subject
                for each in self._signed
                if each.subject.kind is VoteKind.PROPOSAL
                and _place(each.subject) == (height, round_)
            ),
            None,
        )
        if mine is None:
            return None
        path = self._directory / PROPOSAL_FILE
        content = read_private(path, limit=MAX_BLOCK_BYTES)
        try:
            block = Block.decode(content)
        except Malformed as error:
            raise KeyFileError(f"{path} is damaged: {error}") from error
        if mine.block_hash != block.hash:
            raise KeyFileError(
                f"{path} holds block 0x{block.hash.hex()}, but {_shown(mine)} was "
                f"signed; restore the file that belongs to {STATE_FILE}"
            )
        return block

    def _encode(self, signed: Sequence[Signed]) -> bytes:
        subject = signed[-1].subject
        document = {
            "genesis_hash": self._genesis_hash.hex(),
            "height": subject.height,
            "round": subject.round,
            "signatures": [
                {
                    "kind": each.subject.kind.name.lower(),
                    "block_hash": each.subject.block_hash.hex(),
                    "detail": each.subject.detail,
                    "parts_root": each.subject.parts_root.hex(),
                    "signature": each.signature.hex(),
                }
                for each in signed
            ],
        }
        return json.dumps(document, indent=1).encode() + b"\n"

    def _load(self) -> tuple[Signed, ...]:
        path = self._directory / STATE_FILE
        if not path.exists():
            return ()
        content = read_private(path, limit=_MAX_STATE_BYTES)
        try:
            document: dict[str, Any] = dict(json.loads(content))
            genesis_hash = bytes.fromhex(document["genesis_hash"])
            signed = _read_signed(document)
        except (ValueError, LookupError, TypeError, ConsensusError) as error:
            raise KeyFileError(
                f"{path} is damaged ({error!r}); signing without it could contradict "
                "an earlier signature"
            ) from error
        if genesis_hash != self._genesis_hash:
            raise KeyFileError(
                f"{path} is of chain 0x{genesis_hash.hex()}, "
                f"this chain is 0x{self._genesis_hash.hex()}"
            )
        return signed


def _read_signed(document: dict[str, Any]) -> tuple[Signed, ...]:
    height, round_ = int(document["height"]), int(document["round"])
    signed = tuple(
        Signed(
            Subject(
                VoteKind[str(each["kind"]).upper()],
                height,
                round_,
                bytes.fromhex(each["block_hash"]),
                int(each["detail"]),
                bytes.fromhex(each["parts_root"]),
            ),
            bytes.fromhex(each["signature"]),
        )
        for each in document["signatures"]
    )
    orders = [_order(each.subject) for each in signed]
    if not orders or orders != sorted(set(orders)):
        raise ValueError("signatures are missing or not in order")
    return signed


def _shown(subject: Subject) -> str:
    return (
        f"{subject.kind.name.lower()} at height {subject.height} round "
        f"{subject.round} for 0x{subject.block_hash.hex()}"
    )
