from dataclasses import replace
from typing import Any

import pytest
from eth_abi.abi import encode
from hypothesis import given, strategies as st

from chain import addresses
from chain.crypto import keccak
from ml_verifier.judge import MAX_WITNESS_BYTES
from ml_verifier.merkle import Purpose, Tree, seal
from tests.contracts import toy
from tests.contracts.chain import GENESIS_HASH, TOKEN, Chain, Receipt, Reverted
from tests.contracts.play import (
    ASSIGNED,
    CANCELLED,
    COMMITTED,
    DIVERGED,
    EXPIRED,
    FINALISED,
    OPEN,
    PRICE,
    STAKE,
    Game,
    Terms,
    refused,
    state_leaf,
)
from tests.contracts.toy import ToyJudge, Trajectory, honest

WINDOW = 20


def new_game(chain: Chain, steps: int = 10, every: int = 1, **terms: Any) -> Game:  # noqa: ANN401  (of `Terms`)
    return Game(chain, honest(steps, every), Terms(**terms))


# ── posting ──────────────────────────────────────────────────────────────────


def test_post_takes_the_escrow_and_shows_the_costs(chain: Chain) -> None:
    game = new_game(chain)
    receipt = game.post()
    assert receipt.output == 1
    posted = receipt.event("JobPosted")
    assert posted.program_root == toy.program_root(toy.PROGRAM)
    assert (posted.work_units, posted.witness_bytes) == (1_000, 10_000)
    assert posted.terms.steps == 10
    assert game.state == OPEN
    assert chain.balance(addresses.JOB_MARKET) == PRICE
    # EIP-7623's floor of the call data outweighs 16 gas a byte and the verdict.
    assert game.job.dispute_gas == 300_000 + 40 * 10_000


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"maximum_price": 0, "floor_price": 0}, "market: no price"),
        ({"floor_price": PRICE + 1}, "market: floor above maximum"),
        ({"stake": PRICE - 1}, "market: stake below the price"),
        ({"records": 0}, "market: no records"),
        ({"steps": 0}, "market: steps out of range"),
        ({"steps": 2**40}, "market: steps out of range"),
        ({"steps": 2**64 - 1}, "market: steps out of range"),
        ({"commit_every": 0}, "market: commit_every out of range"),
        ({"commit_every": 11}, "market: commit_every out of range"),
        ({"training_ticks": 0}, "market: no time to train"),
    ],
)
def test_post_refuses_bad_terms(
    chain: Chain, change: dict[str, Any], reason: str
) -> None:
    game = new_game(chain)
    game.terms = replace(game.terms, **change)
    refused(reason, game.post)


def test_post_refuses_another_escrow(chain: Chain) -> None:
    game = new_game(chain)
    for value in (0, PRICE - 1, PRICE + 1):
        with pytest.raises(Reverted, match="escrow is not the maximum price"):
            chain.send(
                *(game.creator, "JobMarket", "post", toy.PROGRAM, game.terms.abi, ""),
                value=value,
            )


def test_post_refuses_what_the_precompile_refuses() -> None:
    game = new_game(Chain(ToyJudge(admission=None)))
    with pytest.raises(Reverted):
        game.post()


@pytest.mark.parametrize(
    ("witness", "gas", "reason"),
    [(1, 0, "market: witness too large"), (0, 1, "market: dispute too costly")],
)
def test_post_refuses_what_no_block_could_judge(
    witness: int, gas: int, reason: str
) -> None:
    judge = ToyJudge()
    assert judge.admission is not None
    limit = replace(
        judge.admission, witness_bytes=MAX_WITNESS_BYTES, replay_gas=12_000_000
    )
    game = new_game(Chain(judge))
    judge.admission = limit
    game.post()
    # Such a replay still fits one transaction.
    assert game.job.dispute_gas < 1 << 24
    judge.admission = replace(
        limit,
        witness_bytes=limit.witness_bytes + witness,
        replay_gas=limit.replay_gas + gas,
    )
    refused(reason, game.post)


def test_post_takes_the_largest_program(chain: Chain) -> None:
    game = new_game(chain)
    program = b"\xff" * 65_536
    send = (game.creator, "JobMarket", "post")
    chain.send(*send, program, game.terms.abi, "u" * 200, value=PRICE)
    with pytest.raises(Reverted):
        chain.send(*send, program + b"\xff", game.terms.abi, "", value=PRICE)


# ── price, assignment ────────────────────────────────────────────────────────


def test_the_price_rises_to_the_maximum(chain: Chain) -> None:
    game = new_game(chain, floor_price=2 * TOKEN, auction_ticks=4)
    game.post()
    prices = []
    for _ in range(6):
        prices.append(chain.call("JobMarket", "price", game.job_id))
        chain.mine()
    assert prices == [n * TOKEN for n in (2, 4, 6, 8, 10, 10)]


def test_take_locks_the_stake_at_the_present_price(chain: Chain) -> None:
    game = new_game(chain, floor_price=2 * TOKEN, auction_ticks=4)
    game.post()
    chain.mine()
    assigned = game.take().event("JobAssigned")
    assert assigned.price == 4 * TOKEN
    assert assigned.deadline == chain.now + 10
    assert game.state == ASSIGNED
    assert chain.call("Staking", "locked_of", game.solver) == STAKE
    assert chain.call("Staking", "free_of", game.solver) == 0
    refused("market: not open", game.take)
    refused("market: not open", chain.call, "JobMarket", "price", game.job_id)


def test_one_stake_does_not_stand_for_two_jobs(chain: Chain) -> None:
    game = new_game(chain)
    game.post()
    game.take()
    second = game.post().output
    refused(
        "staking: not enough free stake",
        *(chain.send, game.solver, "JobMarket", "take", second, ""),
    )


def test_the_escrow_above_the_price_returns_with_the_commitment(chain: Chain) -> None:
    game = new_game(chain, floor_price=2 * TOKEN, auction_ticks=4)
    game.post()
    game.take()
    assert game.credit("JobMarket", game.creator) == 0
    game.commit()
    assert game.credit("JobMarket", game.creator) == 8 * TOKEN


# ── cancelling and expiring ──────────────────────────────────────────────────


def test_cancel_refunds_an_open_job(chain: Chain, alice: bytes) -> None:
    game = new_game(chain)
    game.post()
    cancel = (chain.send, game.creator, "JobMarket", "cancel", game.job_id)
    refused(
        "market: not the creator", chain.send, alice, "JobMarket", "cancel", game.job_id
    )
    chain.send(game.creator, "JobMarket", "cancel", game.job_id)
    assert game.state == CANCELLED
    assert chain.send(game.creator, "JobMarket", "withdraw").output == PRICE
    refused(
        "purse: nothing to withdraw", chain.send, game.creator, "JobMarket", "withdraw"
    )
    refused("market: not open", *cancel)
    refused("market: not open", game.take)


def test_a_taken_job_is_not_cancelled(fair: Game) -> None:
    refused(
        "market: not open",
        *(fair.chain.send, fair.creator, "JobMarket", "cancel", fair.job_id),
    )


def expire(game: Game) -> Receipt:
    return game.chain.send(game.creator, "JobMarket", "expire", game.job_id)


def test_a_late_solver_pays_and_the_creator_is_refunded(chain: Chain) -> None:
    game = new_game(chain)
    game.post()
    refused("market: not assigned", expire, game)
    game.take()
    chain.mine(10)
    refused("market: not late", expire, game)
    chain.mine()
    refused("market: too late", game.commit)
    event = expire(game).event("JobExpired")
    assert (event.penalty, event.reopened) == (STAKE // 10, False)
    assert game.state == EXPIRED
    assert chain.burned == STAKE // 10
    assert chain.call("Staking", "free_of", game.solver) == STAKE - STAKE // 10
    assert game.credit("JobMarket", game.creator) == PRICE
    refused("market: not assigned", expire, game)


def test_a_job_reopens_if_its_terms_say_so(chain: Chain) -> None:
    game = new_game(chain, reopen=True, floor_price=TOKEN, auction_ticks=9)
    game.post()
    chain.mine(3)
    game.take()
    chain.mine(11)
    expire(game)
    assert game.state == OPEN
    assert game.job.solver == addresses.ZERO
    assert chain.call("JobMarket", "price", game.job_id) == TOKEN
    refused("market: not assigned", game.commit)
    chain.mine(9)
    game.take()
    game.commit()
    chain.mine(WINDOW + 1)
    game.finalise()
    assert game.credit("JobMarket", game.solver) == PRICE


def test_full_blocks_do_not_make_a_solver_late(chain: Chain) -> None:
    game = new_game(chain)
    game.post()
    game.take()
    chain.mine(50, ticks=False)
    refused("market: not late", expire, game)
    game.commit()
    chain.mine(50)
    refused("market: not assigned", expire, game)


# ── the commitment ───────────────────────────────────────────────────────────


def test_commit_at_the_last_tick(chain: Chain) -> None:
    game = new_game(chain)
    game.post()
    game.take()
    chain.mine(10)
    committed = game.commit().event("JobCommitted")
    assert game.state == COMMITTED
    assert committed.trial == game.trial
    assert chain.call("JobMarket", "job_of", game.trial) == game.job_id
    refused("market: not assigned", game.commit)


def test_only_the_solver_commits(chain: Chain) -> None:
    game = new_game(chain)
    game.post()
    game.take()
    game.solver = game.creator
    refused("market: not the solver", game.commit)


@given(steps=st.integers(1, 140), every=st.integers(1, 140))
def test_commit_opens_both_ends_of_any_tree(steps: int, every: int) -> None:
    game = new_game(Chain(), steps, min(every, steps))
    game.start()
    assert game.state == COMMITTED


def test_commit_refuses_another_first_or_last_state(chain: Chain) -> None:
    game = new_game(chain)
    game.post()
    game.take()
    tree = game.trajectory.tree
    last = game.trajectory.states[-1]
    send = (chain.send, game.solver, "JobMarket", "commit", game.job_id)
    elsewhere = Trajectory([b"\x01" * 32, *game.trajectory.states[1:]])
    reason = "market: opening does not fit the root"
    refused(reason, game.commit, elsewhere)
    refused(reason, *send, tree.root, bytes(32), tree.path(0), tree.path(10))
    refused(reason, *send, bytes(32), last, tree.path(0), tree.path(10))
    refused(reason, *send, tree.root, last, tree.path(0), tree.path(9))
    short, long = tree.path(10)[:-1], [*tree.path(10), bytes(32)]
    for path in (short, long):
        refused(
            "merkle: wrong path length",
            *(*send, tree.root, last, tree.path(0), path),
        )


def test_commit_refuses_another_length(chain: Chain) -> None:
    game = new_game(chain)
    game.post()
    game.take()
    refused("market: opening does not fit the root", game.commit, honest(11))
    refused("merkle: wrong path length", game.commit, honest(20))


def test_commit_refuses_a_tree_that_is_not_padded(chain: Chain) -> None:
    """A stranger's node where padding belongs would trap honest challengers."""
    game = new_game(chain, 64)
    game.post()
    game.take()
    leaves = [state_leaf(h) for h in game.trajectory.committed]
    for junk in (65, 80, 127):
        padded = [*leaves, *[bytes(32)] * (junk - 65), b"\x01" * 32]
        tree = Tree(Purpose.TRAJECTORY, padded)
        top = tree.levels[-1][0]
        assert len(tree.levels) == 8
        refused(
            "trajectory: not padded",
            *(chain.send, game.solver, "JobMarket", "commit", game.job_id),
            seal(Purpose.TRAJECTORY, 65, top),
            game.trajectory.states[-1],
            tree.path(0),
            tree.path(64),
        )


def test_the_trial_binds_chain_market_job_and_root(fair: Game) -> None:
    expected = keccak(
        encode(
            ["bytes32", "address", "uint256", "bytes32"],
            [
                GENESIS_HASH,
                addresses.JOB_MARKET,
                fair.job_id,
                fair.trajectory.tree.root,
            ],
        )
    )
    assert fair.trial == expected


# ── finality ─────────────────────────────────────────────────────────────────


def test_finalise_pays_after_the_window(fair: Game) -> None:
    chain = fair.chain
    chain.mine(WINDOW)
    refused("market: not final", fair.finalise)
    chain.mine()
    event = fair.finalise().event("JobFinalised")
    assert (event.state, event.paid, event.refunded) == (FINALISED, PRICE, 0)
    assert chain.call("Staking", "free_of", fair.solver) == STAKE
    assert chain.call("Staking", "locked_of", fair.solver) == 0
    assert chain.send(fair.solver, "JobMarket", "withdraw").output == PRICE
    refused("market: not committed", fair.finalise)


def test_full_blocks_do_not_close_the_window(fair: Game) -> None:
    fair.chain.mine(100, ticks=False)
    refused("market: not final", fair.finalise)


def test_nothing_is_finalised_before_its_commitment(chain: Chain) -> None:
    game = new_game(chain)
    refused("market: not committed", game.finalise)
    game.post()
    refused("market: not committed", game.finalise)
    game.take()
    refused("market: not committed", game.finalise)


def test_only_the_dispute_game_convicts(fair: Game) -> None:
    refused(
        "market: only the dispute game",
        *(fair.chain.send, fair.creator, "JobMarket", "convict", fair.job_id),
    )


# ── divergence ───────────────────────────────────────────────────────────────


def diverging(steps: int, good: int, every: int = 1) -> Trajectory:
    """The true trajectory of a program that fails after `good` steps."""
    states = list(honest(good).states)
    states += [toy.trap(states[-1])] * (steps - good)
    return Trajectory(states, every)


def diverge(game: Game, leaf: int, *, state: bytes | None = None) -> Receipt:
    shown = game.trajectory
    roots = shown.committed
    good = next(p for p, h in enumerate(shown.states) if h == shown.states[-1]) - 1
    return game.chain.send(
        *(game.creator, "JobMarket", "diverge", game.job_id, leaf),
        *(state or roots[leaf], shown.tree.path(leaf)),
        *(shown.tree.path(min(leaf + 1, len(roots) - 1)), shown.states[good]),
    )


@pytest.mark.parametrize("good", [0, 1, 3, 9])
def test_a_diverged_job_pays_the_steps_done(chain: Chain, good: int) -> None:
    game = Game(chain, diverging(10, good)).start()
    event = diverge(game, good).event("DivergenceRecorded")
    assert event.steps_done == good
    refused("market: already recorded", diverge, game, good)
    chain.mine(WINDOW + 1)
    game.finalise()
    assert game.state == DIVERGED
    assert game.credit("JobMarket", game.solver) == PRICE * good // 10
    assert game.credit("JobMarket", game.creator) == PRICE - PRICE * good // 10
    assert chain.call("Staking", "free_of", game.solver) == STAKE


def test_a_sparse_divergence_pays_whole_segments(chain: Chain) -> None:
    game = Game(chain, diverging(10, 5, every=4)).start()
    diverge(game, 1)
    assert game.job.steps_done == 4


def test_divergence_needs_the_trap(fair: Game) -> None:
    refused("market: not a trap", diverge, fair, 3)


@pytest.mark.parametrize(
    ("leaf", "reason"),
    [
        (2, "market: opening does not fit the root"),
        (4, "market: already the trap"),
        (10, "market: already the trap"),
    ],
)
def test_divergence_is_where_the_trap_begins(
    chain: Chain, leaf: int, reason: str
) -> None:
    game = Game(chain, diverging(10, 3)).start()
    refused(reason, diverge, game, leaf)


def test_divergence_cannot_be_put_beyond_the_end(chain: Chain) -> None:
    """A path says nothing about the bits of an index above its length."""
    game = Game(chain, diverging(10, 3)).start()
    shown = game.trajectory
    refused(
        "merkle: no such leaf",
        *(chain.send, game.solver, "JobMarket", "diverge", game.job_id, 3 + 16),
        *(shown.states[3], shown.path(3), shown.path(4), shown.states[3]),
    )


def test_divergence_needs_the_state_before(chain: Chain) -> None:
    game = Game(chain, diverging(10, 3)).start()

    def forged() -> None:
        diverge(game, 3, state=b"\x07" * 32)

    refused("market: opening does not fit the root", forged)


def test_divergence_comes_before_finality(chain: Chain) -> None:
    game = Game(chain, diverging(10, 3)).start()
    chain.mine(WINDOW + 1)
    game.finalise()
    refused("market: not committed", diverge, game, 3)
    assert game.credit("JobMarket", game.solver) == PRICE
