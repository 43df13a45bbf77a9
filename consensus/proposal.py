"""What consensus fixes in a block, made by the proposer and checked by everyone.

| header field            | value                                                  |
|-------------------------|--------------------------------------------------------|
| parentHash, number      | follow the parent                                      |
| timestamp               | of the parent's certificate (`consensus.blocktime`)    |
| miner (coinbase)        | address of the proposer who built the block            |
| mixHash                 | sha256("lockstep/beacon", parent's mixHash, reveal)    |
| extraData               | hash of the next height's validator set                |
| parentBeaconBlockRoot   | root of the sidecar                                    |

and the sidecar carries the parent's commit certificate, the proposer's reveal for this
height, and evidence. Roots, gas and fees are the runtime's to check; so is what the
staking contract does about `Findings`, which follow from the sidecar alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chain.block import Block
from chain.header import Header
from chain.sidecar import CommitCertificate, Sidecar
from consensus.beacon import next_mix, verify_reveal
from consensus.blocktime import block_time
from consensus.certificate import verify_certificate
from consensus.errors import (
    InvalidCertificate,
    InvalidEvidence,
    InvalidProposal,
    InvalidReveal,
    InvalidVote,
)
from consensus.evidence import Evidence, Offence, verify_evidence
from consensus.validators import ValidatorSet
from consensus.votes import Subject, VoteKind, verify_signature

MAX_OFFENCES = 16


@dataclass(frozen=True, slots=True)
class Epoch:
    """Who votes. `following` is the set of the next height, `current` of this one.

    Attributes:
        genesis_hash: Of the chain.
        previous: Voted on the parent; its certificate is checked against it.
        current: Proposes and votes at this height.
        following: Its hash goes into `extraData`.
        evidence_age: How many heights back evidence may reach.
        voters: The set that voted at an earlier height within that age.
    """

    genesis_hash: bytes
    previous: ValidatorSet
    current: ValidatorSet
    following: ValidatorSet
    evidence_age: int = 0
    voters: Callable[[int], ValidatorSet] | None = None

    @classmethod
    def constant(cls, genesis_hash: bytes, validators: ValidatorSet) -> "Epoch":
        """The epoch of a chain whose validators never change."""
        return cls(genesis_hash, validators, validators, validators)


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that the runtime needs from consensus to build a block."""

    height: int
    timestamp: int
    coinbase: bytes
    mix_hash: bytes
    extra_data: bytes
    sidecar: Sidecar

    @property
    def parent_beacon_root(self) -> bytes:
        """The sidecar's root, which the header and EIP-4788 carry."""
        return self.sidecar.root()


@dataclass(frozen=True, slots=True)
class Findings:
    """What a block's sidecar says about validators, for the staking contract.

    Attributes:
        offences: One for each piece of evidence, in order.
        absent: Addresses of the parent's voters whose precommits its certificate
            lacks, in the order of the set.
    """

    offences: tuple[Offence, ...] = ()
    absent: tuple[bytes, ...] = ()


def plan(
    epoch: Epoch,
    parent: Header,
    proposer: bytes,
    *,
    reveal: bytes,
    parent_certificate: CommitCertificate | None,
    evidence: Sequence[Evidence] = (),
) -> Plan:
    """The consensus fields of the block on top of `parent`.

    Args:
        epoch: The validator sets around this height.
        parent: The committed head.
        proposer: Our address.
        reveal: Our BLS reveal for this height.
        parent_certificate: Of the parent; None on top of genesis.
        evidence: To be punished; the first `MAX_OFFENCES` are taken.
    """
    pieces = tuple(each.encode() for each in evidence[:MAX_OFFENCES])
    return Plan(
        height=parent.number + 1,
        timestamp=block_time(parent.timestamp, parent_certificate, epoch.previous),
        coinbase=proposer,
        mix_hash=next_mix(parent.mix_hash, reveal),
        extra_data=epoch.following.hash,
        sidecar=Sidecar(parent_certificate, reveal, pieces),
    )


def findings(epoch: Epoch, sidecar: Sidecar) -> Findings:
    """What the staking contract is told by a sidecar that was checked or planned."""
    certificate = sidecar.parent_certificate
    absent: tuple[bytes, ...] = ()
    if certificate is not None:
        present = {entry.validator for entry in certificate.signatures}
        absent = tuple(
            member.address
            for member in epoch.previous.members
            if member.address not in present
        )
    offences = tuple(Evidence.decode(piece).offence for piece in sidecar.evidence)
    return Findings(offences, absent)


def verify_proposal(
    genesis_hash: bytes, subject: Subject, signature: bytes, validators: ValidatorSet
) -> None:
    """Check that the proposer of the subject's round signed it.

    Raises:
        InvalidVote: no proposal, or not the signature of whose turn it is.
    """
    if subject.kind is not VoteKind.PROPOSAL:
        raise InvalidVote("a vote is no proposal")
    turn = validators.proposer(subject.height, subject.round)
    verify_signature(genesis_hash, subject, signature, turn.address)


def check_block(epoch: Epoch, parent: Header, block: Block) -> Findings:
    """Check every rule of the table above, for a proposal or a committed block.

    Returns:
        What the staking contract must be told when the block is executed.

    Raises:
        InvalidProposal: naming the field, what was expected and what came.
    """
    header, sidecar = block.header, block.sidecar
    _equal("number", parent.number + 1, header.number)
    _equal("parentHash", parent.hash, header.parent_hash)
    _equal("extraData", epoch.following.hash, header.extra_data)
    _equal("parentBeaconBlockRoot", sidecar.root(), header.parent_beacon_block_root)
    _check_beacon(epoch, parent, block)
    _check_parent_certificate(epoch, parent, sidecar.parent_certificate)
    time = block_time(parent.timestamp, sidecar.parent_certificate, epoch.previous)
    _equal("timestamp", time, header.timestamp)
    _check_evidence(epoch, header.number, sidecar.evidence)
    return findings(epoch, sidecar)


def _check_beacon(epoch: Epoch, parent: Header, block: Block) -> None:
    header, reveal = block.header, block.sidecar.reveal
    index = epoch.current.index_of(header.coinbase)
    if index is None:
        raise InvalidProposal("miner", "a validator's address", header.coinbase)
    key = epoch.current.at(index).beacon_key
    try:
        verify_reveal(epoch.genesis_hash, header.number, reveal, key)
    except InvalidReveal as error:
        raise InvalidProposal("reveal", error, reveal) from error
    _equal("mixHash", next_mix(parent.mix_hash, reveal), header.mix_hash)


def _check_parent_certificate(
    epoch: Epoch, parent: Header, certificate: CommitCertificate | None
) -> None:
    if parent.number == 0:
        if certificate is not None:
            raise InvalidProposal("certificate", "none for genesis", certificate)
        return
    if certificate is None:
        raise InvalidProposal("certificate", f"one for block {parent.number}", "none")
    try:
        verify_certificate(
            epoch.genesis_hash,
            certificate,
            epoch.previous,
            height=parent.number,
            block_hash=parent.hash,
        )
    except InvalidCertificate as error:
        raise InvalidProposal("certificate", error, certificate.block_hash) from error


def _check_evidence(epoch: Epoch, height: int, pieces: tuple[bytes, ...]) -> None:
    if len(pieces) > MAX_OFFENCES:
        raise InvalidProposal("evidence", f"at most {MAX_OFFENCES}", len(pieces))
    offenders: set[bytes] = set()
    for piece in pieces:
        try:
            evidence = Evidence.decode(piece)
            check_evidence(epoch, height, evidence)
        except InvalidEvidence as error:
            raise InvalidProposal("evidence", error, piece) from error
        if evidence.validator in offenders:
            raise InvalidProposal("evidence", "one piece for each validator", piece)
        offenders.add(evidence.validator)


def check_evidence(epoch: Epoch, height: int, evidence: Evidence) -> None:
    """Check that evidence may be in the block at `height`.

    Raises:
        InvalidEvidence: too old, of a height that is not past, or no proof.
    """
    oldest = max(1, height - epoch.evidence_age)
    if not oldest <= evidence.height < height or epoch.voters is None:
        raise InvalidEvidence(
            f"expected a height of {oldest}..{height - 1}, got {evidence.height}"
        )
    verify_evidence(epoch.genesis_hash, evidence, epoch.voters(evidence.height))


def _equal(field: str, expected: object, got: object) -> None:
    if expected != got:
        raise InvalidProposal(field, expected, got)
