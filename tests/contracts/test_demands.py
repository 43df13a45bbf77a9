from dataclasses import replace

import pytest

from chain import addresses
from ml_verifier.merkle import Purpose, Tree, leaf
from tests.contracts import toy
from tests.contracts.chain import Chain, Receipt, Reverted
from tests.contracts.conftest import STEPS, WRONG
from tests.contracts.play import (
    COMMITTED,
    SLASHED,
    STAKE,
    Game,
    refused,
)
from tests.contracts.toy import Trajectory, honest

WINDOW, CLOCK = 20, 20
BOND = 2 * 1_500_000 * 10**9
PENDING, ANSWERED, SILENT, REFUNDED = range(1, 5)


def demand_record(game: Game, who: bytes, record: int, bond: int = BOND) -> int:
    receipt = game.chain.send(
        who, "Demands", "demand_record", game.job_id, record, value=bond
    )
    return int(receipt.output)


def answer_record(game: Game, who: bytes, record: int, **change: object) -> Receipt:
    given = {
        "payload": toy.DATA[record],
        "path": toy.data_tree().path(record),
        **change,
    }
    return game.chain.send(
        who, "Demands", "answer_record", game.job_id, record, *given.values()
    )


def demand_tile(
    game: Game,
    who: bytes,
    position: int,
    slot: int = 1,
    tile: int = 2,
    opening: bytes | None = None,
) -> int:
    if opening is None:
        opening = toy.tile(game.terms.initial_root, slot, tile)
    receipt = game.chain.send(
        *(who, "Demands", "demand_tile", game.job_id, position, slot, tile, opening),
        value=BOND,
    )
    return int(receipt.output)


def answer_tile(
    game: Game,
    who: bytes,
    position: int,
    slot: int = 1,
    tile: int = 2,
    **change: object,
) -> Receipt:
    state = game.trajectory.states[position]
    given = {
        "state": state,
        "path": game.trajectory.path(position),
        "opening": toy.tile(state, slot, tile),
        **change,
    }
    return game.chain.send(
        *(who, "Demands", "answer_tile", game.job_id, position, slot, tile),
        *given.values(),
    )


def timeout(game: Game, demand_id: int) -> Receipt:
    return game.chain.send(game.creator, "Demands", "timeout", demand_id)


def status(game: Game, demand_id: int) -> int:
    return int(game.chain.call("Demands", "demand", demand_id).status)


# ── records ──────────────────────────────────────────────────────────────────


def test_an_answer_earns_the_bond(fair: Game, alice: bytes) -> None:
    demand_id = demand_record(fair, alice, 3)
    assert fair.chain.call("Demands", "unanswered", fair.trial) == 1
    answered = answer_record(fair, fair.solver, 3).event("DemandAnswered")
    assert (answered.demand_id, answered.bond) == (demand_id, BOND)
    assert status(fair, demand_id) == ANSWERED
    assert fair.credit("Demands", fair.solver) == BOND
    fair.chain.mine(WINDOW + 1)
    fair.finalise()
    refused("demands: not pending", timeout, fair, demand_id)


def test_anyone_may_answer(fair: Game, alice: bytes, bob: bytes) -> None:
    demand_record(fair, alice, 3)
    answer_record(fair, bob, 3)
    assert fair.credit("Demands", bob) == BOND
    refused("demands: not pending", answer_record, fair, fair.solver, 3)


@pytest.mark.parametrize("record", range(len(toy.DATA)))
def test_every_record_can_be_answered(fair: Game, alice: bytes, record: int) -> None:
    demand_id = demand_record(fair, alice, record)
    answer_record(fair, fair.solver, record)
    assert status(fair, demand_id) == ANSWERED


@pytest.mark.parametrize("record", [5, 7, 2**256 - 1])
def test_records_that_do_not_exist_are_not_demanded(
    fair: Game, alice: bytes, record: int
) -> None:
    """Padding leaves could never be answered."""
    refused("demands: no such record", demand_record, fair, alice, record)


def test_a_record_is_demanded_once(fair: Game, alice: bytes, bob: bytes) -> None:
    demand_record(fair, alice, 3)
    refused("demands: already demanded", demand_record, fair, bob, 3)
    answer_record(fair, fair.solver, 3)
    refused("demands: already demanded", demand_record, fair, bob, 3)


def test_a_demand_needs_its_bond(fair: Game, alice: bytes) -> None:
    assert fair.chain.call("Demands", "minimum_bond") == BOND
    refused("demands: bond too small", demand_record, fair, alice, 3, BOND - 1)


def test_forged_answers_are_refused(fair: Game, alice: bytes) -> None:
    demand_record(fair, alice, 3)
    tree = toy.data_tree()
    for change in (
        {"payload": b"another record"},
        {"path": tree.path(2)},
        {"payload": toy.DATA[2], "path": tree.path(2)},
    ):
        refused(
            "demands: opening does not fit the root",
            lambda change=change: answer_record(fair, fair.solver, 3, **change),
        )
    refused(
        "merkle: wrong path length",
        lambda: answer_record(fair, fair.solver, 3, path=tree.path(3)[:-1]),
    )
    refused("demands: not pending", answer_record, fair, fair.solver, 2)


def test_the_largest_record_can_be_answered(chain: Chain, alice: bytes) -> None:
    record = b"\xff" * 16_384
    tree = Tree(Purpose.RECORD, [leaf(Purpose.RECORD, record)])
    game = Game(chain, honest(STEPS))
    game.terms = replace(game.terms, data_root=tree.root, records=1)
    game.start()
    demand_record(game, alice, 0)
    receipt = chain.send(
        *(game.solver, "Demands", "answer_record", game.job_id, 0, record, [])
    )
    assert receipt.gas < 1_500_000


# ── tiles ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("position", [0, 1, STEPS - 1, STEPS])
def test_a_tile_of_any_committed_state(fair: Game, alice: bytes, position: int) -> None:
    demand_id = demand_tile(fair, alice, position)
    refused("demands: already demanded", demand_tile, fair, alice, position)
    answer_tile(fair, fair.solver, position)
    assert status(fair, demand_id) == ANSWERED


def test_sparse_commitments_answer_for_what_they_commit_to(
    chain: Chain, alice: bytes
) -> None:
    game = Game(chain, honest(STEPS, every=4)).start()
    for position in (0, 4, 8, 10):
        demand_tile(game, alice, position)
        answer_tile(game, game.solver, position)
    for position in (1, 9, 11, 12, 2**256 - 1):
        refused("demands: not a committed state", demand_tile, game, alice, position)


def test_a_tile_that_does_not_exist_is_not_demanded(fair: Game, alice: bytes) -> None:
    """The demander shows the same tile of h_0: else nobody could answer."""
    other = toy.tile(fair.terms.initial_root, 0, 0)
    for slot, tile, opening in (
        (toy.SLOTS, 2, None),
        (1, toy.TILES, None),
        (1, 2, other),
        (1, 2, b""),
    ):
        with pytest.raises(Reverted):
            demand_tile(fair, alice, 3, slot, tile, opening)


def test_forged_tiles_are_refused(fair: Game, alice: bytes) -> None:
    demand_tile(fair, alice, 3)
    other = fair.trajectory.states[4]
    refused(
        "demands: opening does not fit the root",
        lambda: answer_tile(
            fair, fair.solver, 3, state=other, opening=toy.tile(other, 1, 2)
        ),
    )
    for opening in (b"", b"\x01" * 32, toy.tile(other, 1, 2)):
        with pytest.raises(Reverted):
            answer_tile(fair, fair.solver, 3, opening=opening)
    refused(
        "demands: not pending",
        *(answer_tile, fair, fair.solver, 3, 0, 0),
    )


def test_the_trap_has_no_tiles_and_need_not_show_any(
    chain: Chain, alice: bytes
) -> None:
    good = honest(3).states
    states = [*good, *[toy.trap(good[-1])] * (STEPS - 3)]
    game = Game(chain, Trajectory(states)).start()
    demand_tile(game, alice, STEPS)
    demand_tile(game, alice, 3)
    with pytest.raises(Reverted):
        answer_tile(game, game.solver, STEPS, opening=bytes(32))
    with pytest.raises(Reverted):
        answer_tile(game, game.solver, 3, opening=good[2])
    answer_tile(game, game.solver, STEPS, opening=good[-1])
    answer_tile(game, game.solver, 3)


def test_the_largest_opening_passes(fair: Game, alice: bytes) -> None:
    """A 64x64 tile of int64 is 32 KiB, and its paths."""
    limit = 32_768
    initial, state = fair.terms.initial_root, fair.trajectory.states[3]
    demand_tile(fair, alice, 3, opening=toy.tile(initial, 1, 2, limit))
    receipt = answer_tile(fair, fair.solver, 3, opening=toy.tile(state, 1, 2, limit))
    assert receipt.gas < 1_500_000


# ── time ─────────────────────────────────────────────────────────────────────


def test_silence_convicts(fair: Game, alice: bytes) -> None:
    demand_id = demand_record(fair, alice, 3)
    fair.chain.mine(CLOCK)
    refused("demands: the clock still runs", timeout, fair, demand_id)
    refused("market: not final", fair.finalise)
    fair.chain.mine()
    refused("demands: too late", answer_record, fair, fair.solver, 3)
    silent = timeout(fair, demand_id).event("DemandSilent")
    assert fair.state == SLASHED
    assert status(fair, demand_id) == SILENT
    assert fair.credit("Demands", alice) == BOND
    fair.settle()
    claimed = fair.claim(silent.challenge_id).event("ChallengeClaimed")
    gas = (3_000_000 + fair.job.dispute_gas) * 10**9
    assert (claimed.bond, claimed.share) == (0, (STAKE - gas) // 2)
    assert fair.credit("DisputeGame", alice) == gas + claimed.share
    assert fair.chain.balance(addresses.DEMANDS) == BOND
    refused("demands: not pending", timeout, fair, demand_id)
    refused(
        "demands: not pending", fair.chain.send, alice, "Demands", "refund", demand_id
    )


def test_an_answer_in_the_last_tick_counts(fair: Game, alice: bytes) -> None:
    demand_id = demand_record(fair, alice, 3)
    fair.chain.mine(CLOCK)
    fair.chain.mine(50, ticks=False)
    answer_record(fair, fair.solver, 3)
    assert status(fair, demand_id) == ANSWERED
    assert fair.state == COMMITTED


def test_a_demand_holds_finality(fair: Game, alice: bytes) -> None:
    fair.chain.mine(WINDOW)
    demand_record(fair, alice, 3)
    fair.chain.mine(5)
    refused("demands: the window has closed", demand_record, fair, alice, 2)
    refused("market: not final", fair.finalise)
    answer_record(fair, fair.solver, 3)
    fair.finalise()


def test_a_conviction_refunds_demands(fraud: Game, alice: bytes, bob: bytes) -> None:
    demand_id = demand_record(fraud, alice, 3)
    refund = (fraud.chain.send, bob, "Demands", "refund", demand_id)
    refused("demands: not convicted", *refund)
    challenge_id = fraud.accuse(bob, WRONG)
    fraud.judge(WRONG)
    fraud.convict(challenge_id)
    refused("demands: not committed", answer_record, fraud, fraud.solver, 3)
    fraud.chain.mine(CLOCK + 1)
    refused("game: not committed", timeout, fraud, demand_id)
    fraud.chain.send(bob, "Demands", "refund", demand_id)
    assert status(fraud, demand_id) == REFUNDED
    assert fraud.credit("Demands", alice) == BOND
    refused("demands: not pending", *refund)
    refused("demands: not committed", demand_record, fraud, alice, 2)


def test_a_named_step_leads_over_silence(fraud: Game, bob: bytes) -> None:
    """A cheater that demands from himself does not get the share."""
    demand_id = demand_record(fraud, fraud.solver, 3)
    fraud.chain.mine(CLOCK)
    challenge_id = fraud.challenge(bob, WRONG)
    fraud.chain.mine()
    timeout(fraud, demand_id)
    fraud.reveal(challenge_id)
    fraud.judge(WRONG)
    fraud.convict(challenge_id)
    fraud.settle()
    assert fraud.claim(challenge_id).event("ChallengeClaimed").share > 0
    assert fraud.claim(2).event("ChallengeClaimed").share == 0


def test_unknown_demands_are_refused(fair: Game) -> None:
    for demand_id in (0, 1, 2**256 - 1):
        refused("demands: not pending", timeout, fair, demand_id)
