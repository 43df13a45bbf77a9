"""What consensus fixes in a block, made by the proposer and checked by everyone.

| header field            | value                                                  |
|-------------------------|--------------------------------------------------------|
| parentHash, number      | follow the parent                                      |
| timestamp               | greater than the parent's, in seconds                  |
| miner (coinbase)        | address of the proposer who built the block            |
| mixHash                 | sha256("lockstep/beacon", parent's mixHash, reveal)    |
| extraData               | hash of the next height's validator set                |
| parentBeaconBlockRoot   | root of the sidecar                                    |

and the sidecar carries the parent's commit certificate, the proposer's reveal for this
height, and evidence. Roots, gas and fees are the runtime's to check.
"""

from collections.abc import Callable
from dataclasses import dataclass

from chain.block import Block
from chain.header import Header
from chain.sidecar import CommitCertificate, Sidecar
from consensus.beacon import next_mix, verify_reveal
from consensus.certificate import verify_certificate
from consensus.errors import InvalidCertificate, InvalidProposal, InvalidReveal
from consensus.validators import ValidatorSet
from consensus.votes import Subject, VoteKind, verify_signature


@dataclass(frozen=True, slots=True)
class Epoch:
    """Who votes. `following` is the set of the next height, `current` of this one.

    Attributes:
        genesis_hash: Of the chain.
        previous: Voted on the parent; its certificate is checked against it.
        current: Proposes and votes at this height.
        following: Its hash goes into `extraData`.
    """

    genesis_hash: bytes
    previous: ValidatorSet
    current: ValidatorSet
    following: ValidatorSet

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
class Proposal:
    """A block on its way to the validators, signed by the proposer of the round."""

    round: int
    block: Block
    signature: bytes

    @property
    def subject(self) -> Subject:
        """What the proposer signed."""
        block = self.block
        return Subject(VoteKind.PROPOSAL, block.number, self.round, block.hash)


def plan(
    epoch: Epoch,
    parent: Header,
    round_: int,
    *,
    now: int,
    reveal: bytes,
    parent_certificate: CommitCertificate | None,
) -> Plan:
    """The consensus fields of the block on top of `parent`.

    Args:
        epoch: The validator sets around this height.
        parent: The committed head.
        round_: The round in which we propose.
        now: The shell's clock in seconds; a clock that lags yields parent + 1.
        reveal: Our BLS reveal for this height.
        parent_certificate: Of the parent; None on top of genesis.
    """
    height = parent.number + 1
    return Plan(
        height=height,
        timestamp=max(now, parent.timestamp + 1),
        coinbase=epoch.current.proposer(height, round_).address,
        mix_hash=next_mix(parent.mix_hash, reveal),
        extra_data=epoch.following.hash,
        sidecar=Sidecar(parent_certificate, reveal, ()),
    )


def propose(
    plan_: Plan,
    round_: int,
    build: Callable[[Plan], Block],
    sign: Callable[[Subject], bytes],
) -> Proposal:
    """Build the planned block and sign it as this round's proposal.

    Args:
        plan_: From `plan`.
        round_: The round in which we propose.
        build: The runtime's builder, filling in transactions and roots.
        sign: The shell's signer; it must have made the signature durable.
    """
    block = build(plan_)
    subject = Subject(VoteKind.PROPOSAL, block.number, round_, block.hash)
    return Proposal(round_, block, sign(subject))


def check_proposal(epoch: Epoch, parent: Header, proposal: Proposal) -> None:
    """Check a proposal's signature, proposer and block.

    Raises:
        InvalidVote: the signature is not the round's proposer's.
        InvalidProposal: the block breaks a rule; see `check_block`.
    """
    block = proposal.block
    proposer = epoch.current.proposer(block.number, proposal.round)
    verify_signature(
        epoch.genesis_hash, proposal.subject, proposal.signature, proposer.address
    )
    check_block(epoch, parent, block)


def check_block(epoch: Epoch, parent: Header, block: Block) -> None:
    """Check every rule of the table above, for a proposal or a committed block.

    Raises:
        InvalidProposal: naming the field, what was expected and what came.
    """
    header, sidecar = block.header, block.sidecar
    _equal("number", parent.number + 1, header.number)
    _equal("parentHash", parent.hash, header.parent_hash)
    if header.timestamp <= parent.timestamp:
        expected = f"more than {parent.timestamp}"
        raise InvalidProposal("timestamp", expected, header.timestamp)
    _equal("extraData", epoch.following.hash, header.extra_data)
    _equal("parentBeaconBlockRoot", sidecar.root(), header.parent_beacon_block_root)
    _check_beacon(epoch, parent, block)
    _check_parent_certificate(epoch, parent, sidecar.parent_certificate)
    # Evidence has no effect on stake yet, so a block that carries some is refused:
    # bytes that nobody checks must not become final.
    _equal("evidence", 0, len(sidecar.evidence))


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


def _equal(field: str, expected: object, got: object) -> None:
    if expected != got:
        raise InvalidProposal(field, expected, got)
