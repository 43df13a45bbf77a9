"""Consensus fields of a block: as planned accepted, each change refused."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from chain.block import Block
from chain.header import EMPTY_TRIE_ROOT, Header
from chain.sidecar import CommitCertificate, Sidecar
from consensus.beacon import make_reveal
from consensus.certificate import certify
from consensus.errors import InvalidProposal, InvalidVote
from consensus.evidence import Evidence
from consensus.machine import Decide
from consensus.proposal import (
    MAX_OFFENCES,
    Epoch,
    Findings,
    Plan,
    check_block,
    plan,
    verify_proposal,
)
from consensus.votes import Subject, VoteKind, sign_vote
from tests.consensus.committee import GENESIS, OTHER_GENESIS, Committee

COMMITTEE = Committee(10**18, 10**18, 10**18)
OUTGOING = Committee(5, 4, 3, 2)  # voted on height 1
EPOCH = Epoch(
    GENESIS,
    COMMITTEE.set,
    COMMITTEE.set,
    COMMITTEE.set,
    evidence_age=2,
    voters=lambda height: OUTGOING.set if height == 1 else COMMITTEE.set,
)


def header(parent: Header | None = None, **fields: object) -> Header:
    values: dict[str, object] = {
        "parent_hash": bytes(32) if parent is None else parent.hash,
        "number": 0 if parent is None else parent.number + 1,
        "coinbase": bytes(20),
        "state_root": EMPTY_TRIE_ROOT,
        "transactions_root": EMPTY_TRIE_ROOT,
        "receipts_root": EMPTY_TRIE_ROOT,
        "logs_bloom": bytes(256),
        "gas_limit": 30_000_000,
        "gas_used": 0,
        "timestamp": 1_000,
        "extra_data": COMMITTEE.set.hash,
        "mix_hash": bytes(32),
        "base_fee_per_gas": 10**9,
        "parent_beacon_block_root": Sidecar().root(),
    }
    return Header(**(values | fields))  # type: ignore[arg-type]  # field by field


def build(parent: Header) -> Callable[[Plan], Block]:
    def fill(wanted: Plan) -> Block:
        sealed = header(
            parent,
            coinbase=wanted.coinbase,
            timestamp=wanted.timestamp,
            mix_hash=wanted.mix_hash,
            extra_data=wanted.extra_data,
            parent_beacon_block_root=wanted.parent_beacon_root,
        )
        return Block(sealed, (), wanted.sidecar)

    return fill


def proposer(height: int, round_: int = 0) -> int:
    return COMMITTEE.set.members.index(COMMITTEE.set.proposer(height, round_))


def certificate(block: Block, *who: int) -> CommitCertificate:
    votes = tuple(
        COMMITTEE.vote(
            index, block_hash=block.hash, height=block.number, detail=2_000_900 + index
        )
        for index in who or range(3)
    )
    return certify(Decide(block.number, 0, block.hash, votes), COMMITTEE.set)


def next_block(
    parent: Header,
    parent_certificate: CommitCertificate | None = None,
    *,
    evidence: tuple[Evidence, ...] = (),
    round_: int = 0,
) -> Block:
    height = parent.number + 1
    turn = proposer(height, round_)
    reveal = make_reveal(GENESIS, height, COMMITTEE.beacon_secret(turn))
    planned = plan(
        EPOCH,
        parent,
        COMMITTEE.set.at(turn).address,
        reveal=reveal,
        parent_certificate=parent_certificate,
        evidence=evidence,
    )
    return build(parent)(planned)


ROOT = header()
FIRST = next_block(ROOT)
SECOND = next_block(FIRST.header, certificate(FIRST))
THIRD = next_block(SECOND.header, certificate(SECOND))


def double(
    committee: Committee = COMMITTEE, index: int = 0, height: int = 2
) -> Evidence:
    return Evidence.of(
        committee.vote(index, height=height),
        committee.vote(index, block_hash=bytes(32), height=height),
        committee.set,
    )


def test_own_blocks_are_accepted_and_nobody_is_blamed() -> None:
    assert check_block(EPOCH, ROOT, FIRST) == Findings()
    assert check_block(EPOCH, FIRST.header, SECOND) == Findings()
    later = next_block(ROOT, round_=1)
    assert check_block(EPOCH, ROOT, later) == Findings()
    assert later.header.coinbase != FIRST.header.coinbase


def test_the_time_is_the_median_of_the_parents_votes() -> None:
    assert FIRST.header.timestamp == ROOT.timestamp
    assert SECOND.header.timestamp == 2_000
    assert THIRD.header.timestamp == 2_000


def test_votes_that_the_certificate_lacks_are_found() -> None:
    committee = Committee(*[10**18] * 4)
    epoch = Epoch.constant(GENESIS, committee.set)
    votes = tuple(committee.vote(i, block_hash=FIRST.hash) for i in (0, 1, 3))
    found = certify(Decide(1, 0, FIRST.hash, votes), committee.set)
    reveal = make_reveal(GENESIS, 2, committee.beacon_secret(0))
    planned = plan(
        epoch,
        FIRST.header,
        committee.set.at(0).address,
        reveal=reveal,
        parent_certificate=found,
    )
    block = build(FIRST.header)(planned)
    absent = check_block(
        epoch,
        FIRST.header,
        replace(block, header=replace(block.header, extra_data=committee.set.hash)),
    ).absent
    assert absent == (committee.set.at(2).address,)


def test_evidence_makes_offences() -> None:
    proofs = (double(), double(OUTGOING, 3, height=1))
    block = next_block(SECOND.header, certificate(SECOND), evidence=proofs)
    offences = check_block(EPOCH, SECOND.header, block).offences
    assert offences == tuple(each.offence for each in proofs)


@pytest.mark.parametrize(
    "evidence",
    [
        (double(height=3),),
        (double(height=0),),
        (double(OUTGOING, 3),),
        (double(), double()),
        (double(),) * (MAX_OFFENCES + 1),
    ],
    ids=["not past", "genesis", "no validator then", "twice", "too many"],
)
def test_evidence_that_may_not_be_there_is_refused(
    evidence: tuple[Evidence, ...],
) -> None:
    sidecar = Sidecar(
        certificate(SECOND),
        THIRD.sidecar.reveal,
        tuple(each.encode() for each in evidence),
    )
    with pytest.raises(InvalidProposal, match=r"^evidence: expected"):
        check_block(EPOCH, SECOND.header, with_sidecar(THIRD, sidecar))


def test_evidence_grows_too_old() -> None:
    fourth = next_block(
        THIRD.header, certificate(THIRD), evidence=(double(OUTGOING, 1, height=1),)
    )
    with pytest.raises(InvalidProposal, match=r"expected a height of 2\.\.3, got 1"):
        check_block(EPOCH, THIRD.header, fourth)


def signed_proposal(round_: int, index: int, genesis_hash: bytes = GENESIS) -> bytes:
    subject = Subject(VoteKind.PROPOSAL, 1, round_, FIRST.hash)
    return sign_vote(genesis_hash, subject, index, COMMITTEE.secret(index)).signature


def test_only_whose_turn_it_is_may_propose() -> None:
    for round_ in range(4):
        subject = Subject(VoteKind.PROPOSAL, 1, round_, FIRST.hash)
        turn = proposer(1, round_)
        verify_proposal(GENESIS, subject, signed_proposal(round_, turn), COMMITTEE.set)
        with pytest.raises(InvalidVote, match="expected signer"):
            verify_proposal(
                GENESIS,
                subject,
                signed_proposal(round_, (turn + 1) % 3),
                COMMITTEE.set,
            )


def test_proposal_of_another_chain_or_kind_is_refused() -> None:
    subject = Subject(VoteKind.PROPOSAL, 1, 0, FIRST.hash)
    foreign = signed_proposal(0, proposer(1), OTHER_GENESIS)
    with pytest.raises(InvalidVote, match="expected signer"):
        verify_proposal(GENESIS, subject, foreign, COMMITTEE.set)
    vote = COMMITTEE.vote(proposer(1), VoteKind.PREVOTE, FIRST.hash)
    with pytest.raises(InvalidVote, match="no proposal"):
        verify_proposal(GENESIS, vote.subject, vote.signature, COMMITTEE.set)
    with pytest.raises(InvalidVote, match="expected signer"):
        verify_proposal(GENESIS, subject, vote.signature, COMMITTEE.set)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("number", {"number": 3}),
        ("parentHash", {"parent_hash": bytes(32)}),
        ("timestamp", {"timestamp": 2_001}),
        ("miner", {"coinbase": bytes(20)}),
        (
            "reveal",
            {"coinbase": COMMITTEE.set.proposer(2, 1).address},
        ),
        ("mixHash", {"mix_hash": bytes(32)}),
        ("extraData", {"extra_data": bytes(32)}),
        ("parentBeaconBlockRoot", {"parent_beacon_block_root": bytes(32)}),
    ],
)
def test_each_changed_header_field_is_refused(
    field: str, change: dict[str, object]
) -> None:
    block = SECOND
    spoiled = replace(block, header=replace(block.header, **change))  # type: ignore[arg-type]  # one field
    with pytest.raises(InvalidProposal, match=f"^{field}: expected") as caught:
        check_block(EPOCH, FIRST.header, spoiled)
    assert caught.value.field == field


def with_sidecar(block: Block, sidecar: Sidecar) -> Block:
    """The block with another sidecar, its root in the header made to fit."""
    fitting = replace(block.header, parent_beacon_block_root=sidecar.root())
    return replace(block, header=fitting, sidecar=sidecar)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("reveal", {"reveal": b""}),
        ("reveal", {"reveal": FIRST.sidecar.reveal}),
        ("certificate", {"parent_certificate": None}),
        ("certificate", {"parent_certificate": certificate(SECOND)}),
        ("evidence", {"evidence": (b"rubbish",)}),
    ],
    ids=["no reveal", "old reveal", "no certificate", "of another", "evidence"],
)
def test_each_changed_sidecar_part_is_refused(
    field: str, change: dict[str, object]
) -> None:
    sidecar = replace(SECOND.sidecar, **change)  # type: ignore[arg-type]  # one field
    with pytest.raises(InvalidProposal, match=f"^{field}: expected"):
        check_block(EPOCH, FIRST.header, with_sidecar(SECOND, sidecar))


def test_sidecar_that_the_header_does_not_commit_to_is_refused() -> None:
    block = replace(SECOND, sidecar=FIRST.sidecar)
    with pytest.raises(InvalidProposal, match="parentBeaconBlockRoot"):
        check_block(EPOCH, FIRST.header, block)


def test_certificate_for_genesis_is_refused() -> None:
    sidecar = replace(FIRST.sidecar, parent_certificate=certificate(FIRST))
    with pytest.raises(InvalidProposal, match="none for genesis"):
        check_block(EPOCH, ROOT, with_sidecar(FIRST, sidecar))
