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
from consensus.machine import Decide
from consensus.proposal import (
    Epoch,
    Plan,
    Proposal,
    check_block,
    check_proposal,
    plan,
    propose,
)
from consensus.votes import Subject, VoteKind, sign_vote
from tests.consensus.committee import GENESIS, OTHER_GENESIS, Committee

COMMITTEE = Committee(10**18, 10**18, 10**18)
EPOCH = Epoch.constant(GENESIS, COMMITTEE.set)


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


def certificate(block: Block) -> CommitCertificate:
    votes = tuple(
        COMMITTEE.vote(index, block_hash=block.hash, height=block.number)
        for index in range(3)
    )
    return certify(Decide(block.number, 0, block.hash, votes), COMMITTEE.set)


def proposal(
    parent: Header,
    parent_certificate: CommitCertificate | None = None,
    *,
    now: int = 2_000,
    round_: int = 0,
) -> Proposal:
    height = parent.number + 1
    turn = proposer(height, round_)
    reveal = make_reveal(GENESIS, height, COMMITTEE.beacon_secret(turn))
    planned = plan(
        EPOCH,
        parent,
        round_,
        now=now,
        reveal=reveal,
        parent_certificate=parent_certificate,
    )

    def sign(subject: Subject) -> bytes:
        return sign_vote(GENESIS, subject, turn, COMMITTEE.secret(turn)).signature

    return propose(planned, round_, build(parent), sign)


ROOT = header()
FIRST = proposal(ROOT)
SECOND = proposal(FIRST.block.header, certificate(FIRST.block))


def test_own_proposals_are_accepted() -> None:
    check_proposal(EPOCH, ROOT, FIRST)
    check_proposal(EPOCH, FIRST.block.header, SECOND)


def test_proposal_of_a_later_round_is_by_that_rounds_proposer() -> None:
    later = proposal(ROOT, round_=1)
    check_proposal(EPOCH, ROOT, later)
    assert later.block.header.coinbase != FIRST.block.header.coinbase


def test_timestamp_is_the_clock_or_one_past_the_parent() -> None:
    assert FIRST.block.header.timestamp == 2_000
    assert proposal(ROOT, now=5).block.header.timestamp == 1_001


def test_proposal_out_of_turn_is_refused() -> None:
    with pytest.raises(InvalidVote, match="expected signer"):
        check_proposal(EPOCH, ROOT, replace(FIRST, round=1))


def test_proposal_of_another_chain_is_refused() -> None:
    with pytest.raises(InvalidVote, match="expected signer"):
        check_proposal(
            Epoch.constant(OTHER_GENESIS, COMMITTEE.set),
            ROOT,
            FIRST,
        )


def test_signature_of_the_block_as_a_vote_is_no_proposal() -> None:
    turn = proposer(1)
    vote = COMMITTEE.vote(turn, VoteKind.PREVOTE, FIRST.block.hash)
    with pytest.raises(InvalidVote, match="expected signer"):
        check_proposal(EPOCH, ROOT, replace(FIRST, signature=vote.signature))


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("number", {"number": 3}),
        ("parentHash", {"parent_hash": bytes(32)}),
        ("timestamp", {"timestamp": 2_000}),
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
    block = SECOND.block
    spoiled = replace(block, header=replace(block.header, **change))  # type: ignore[arg-type]  # one field
    with pytest.raises(InvalidProposal, match=f"^{field}: expected") as caught:
        check_block(EPOCH, FIRST.block.header, spoiled)
    assert caught.value.field == field


def with_sidecar(block: Block, sidecar: Sidecar) -> Block:
    """The block with another sidecar, its root in the header made to fit."""
    fitting = replace(block.header, parent_beacon_block_root=sidecar.root())
    return replace(block, header=fitting, sidecar=sidecar)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("reveal", {"reveal": b""}),
        ("reveal", {"reveal": FIRST.block.sidecar.reveal}),
        ("certificate", {"parent_certificate": None}),
        ("certificate", {"parent_certificate": certificate(SECOND.block)}),
        ("evidence", {"evidence": (b"rubbish",)}),
    ],
    ids=["no reveal", "old reveal", "no certificate", "of another", "evidence"],
)
def test_each_changed_sidecar_part_is_refused(
    field: str, change: dict[str, object]
) -> None:
    sidecar = replace(SECOND.block.sidecar, **change)  # type: ignore[arg-type]  # one field
    with pytest.raises(InvalidProposal, match=f"^{field}: expected"):
        check_block(EPOCH, FIRST.block.header, with_sidecar(SECOND.block, sidecar))


def test_sidecar_that_the_header_does_not_commit_to_is_refused() -> None:
    block = replace(SECOND.block, sidecar=FIRST.block.sidecar)
    with pytest.raises(InvalidProposal, match="parentBeaconBlockRoot"):
        check_block(EPOCH, FIRST.block.header, block)


def test_certificate_for_genesis_is_refused() -> None:
    sidecar = replace(FIRST.block.sidecar, parent_certificate=certificate(FIRST.block))
    with pytest.raises(InvalidProposal, match="none for genesis"):
        check_block(EPOCH, ROOT, with_sidecar(FIRST.block, sidecar))
