"""What is checked before a block is executed: each rule, and whose fault it is."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from chain.block import Block
from chain.header import Header
from chain.sidecar import Sidecar
from chain.store import Store
from node.errors import LedgerError
from node.sync.assembly import EncodedBlock
from node.sync.errors import BadBlockError, ForkError
from node.sync.sets import ValidatorSets
from node.sync.verification import Final, verify_block, verify_blocks
from tests.consensus.committee import Committee
from tests.node.sync.chains import Chain
from tests.node.tiny import VALIDATORS, found

COMMITTEE = Committee(1, 1, 1, 1)
CHAIN = Chain(committees={3: COMMITTEE})
CHAIN.grow(5)
GENESIS = CHAIN.database.genesis_hash()


def header(height: int) -> Header:
    return CHAIN.block(height).header


def verify(received: EncodedBlock, height: int = 3) -> Final:
    parent = header(height - 1)
    return verify_block(GENESIS, parent, CHAIN.voters(height), received)


def test_final_blocks_pass() -> None:
    for height in range(1, 6):
        final = verify(CHAIN.encoded(height), height)
        assert final.block == CHAIN.block(height)
        assert final.certificate == CHAIN.database.certificate(final.block.hash)


def _rewritten(height: int, **fields: object) -> EncodedBlock:
    """A block with another header, under the votes for the true one."""
    block = CHAIN.block(height)
    changed = replace(block.header, **fields)  # type: ignore[arg-type]
    other = Block(changed, block.transactions, block.sidecar)
    return replace(CHAIN.encoded(height), block=other.encode())


def _with_body(block: Block) -> EncodedBlock:
    return replace(CHAIN.encoded(3), block=block.encode())


def _without_a_vote(count: int) -> EncodedBlock:
    certificate = CHAIN.database.certificate(header(3).hash)
    assert certificate is not None
    fewer = replace(certificate, signatures=certificate.signatures[count:])
    return replace(CHAIN.encoded(3), certificate=fewer.encode())


def test_three_of_four_votes_are_enough() -> None:
    assert verify(_without_a_vote(1)).block == CHAIN.block(3)


@pytest.mark.parametrize(
    ("received", "reason"),
    [
        (lambda: replace(CHAIN.encoded(3), block=b"\xc0"), "list of 3"),
        (lambda: replace(CHAIN.encoded(3), certificate=b"x"), "certificate"),
        (lambda: CHAIN.encoded(4), "expected block 3, got block 4"),
        (
            lambda: replace(CHAIN.encoded(3), certificate=CHAIN.encoded(4).certificate),
            "got block 4",
        ),
        (lambda: _without_a_vote(2), "more than 2/3"),
        (lambda: _rewritten(3, gas_used=1), "expected block 3 0x"),
        (
            lambda: _with_body(replace(CHAIN.block(3), transactions=())),
            "transactionsRoot",
        ),
        (
            lambda: _with_body(replace(CHAIN.block(3), sidecar=Sidecar())),
            "parentBeaconBlockRoot",
        ),
    ],
    ids=["bytes", "cert", "height", "other", "votes", "header", "body", "sidecar"],
)
def test_anything_else_is_its_senders_fault(
    received: Callable[[], EncodedBlock], reason: str
) -> None:
    with pytest.raises(BadBlockError, match=reason):
        verify(received())


def test_a_final_block_with_another_parent_is_a_fork() -> None:
    other = replace(header(2), gas_used=1)
    with pytest.raises(ForkError, match=r"block 3 0x.* is final and follows"):
        verify_block(GENESIS, other, COMMITTEE.set, CHAIN.encoded(3))


def test_a_batch_is_checked_as_far_as_validators_are_known() -> None:
    sets = ValidatorSets(found(Store.memory()), VALIDATORS)
    batch = [CHAIN.encoded(height) for height in range(1, 6)]
    genesis = header(0)
    verdict = verify_blocks(GENESIS, genesis, sets.find, batch)
    assert [final.block.number for final in verdict.good] == [1, 2]
    assert verdict.bad is None
    verdict = verify_blocks(GENESIS, genesis, CHAIN.sets.find, batch)
    assert [final.block.number for final in verdict.good] == [1, 2, 3, 4, 5]
    batch[3] = replace(batch[3], block=b"\xc0")
    verdict = verify_blocks(GENESIS, genesis, CHAIN.sets.find, batch)
    assert [final.block.number for final in verdict.good] == [1, 2, 3]
    assert "block 4: block: expected a list of 3" in str(verdict.bad)


def test_sets_are_found_by_height() -> None:
    sets = ValidatorSets(CHAIN.database)
    assert sets.at(1) == sets.at(2) == VALIDATORS
    assert sets.at(3) == sets.at(6) == COMMITTEE.set
    for height in (0, 7):
        with pytest.raises(LedgerError, match=f"who votes at height {height}"):
            sets.at(height)
    empty = ValidatorSets(found(Store.memory()))
    with pytest.raises(LedgerError, match="missing from the database"):
        empty.at(1)
