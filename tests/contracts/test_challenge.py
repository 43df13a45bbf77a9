"""The direct path: a challenge names a step, and a verdict decides it."""

from typing import Any

import pytest

from chain import addresses
from tests.contracts.chain import TOKEN, Chain, Receipt
from tests.contracts.conftest import STEPS, WRONG
from tests.contracts.play import (
    COMMITTED,
    FINALISED,
    LOST,
    PENDING,
    SEALED,
    SLASHED,
    STAKE,
    WITHHELD,
    WON,
    Game,
    refused,
    seal,
)
from tests.contracts.toy import cheating, honest

WINDOW, REVEALS, CLOCK = 20, 8, 20


# ── commit ───────────────────────────────────────────────────────────────────


def test_a_challenge_is_sealed(fraud: Game, alice: bytes) -> None:
    challenge_id = fraud.challenge(alice, WRONG)
    c = fraud.view(challenge_id)
    assert (c.status, c.challenger, c.job_id) == (SEALED, alice, fraud.job_id)
    assert fraud.chain.call("DisputeGame", "challenge_count") == 1
    assert fraud.chain.call("DisputeGame", "docket", fraud.trial).sealed == 1


def test_challenges_are_taken_until_the_window_closes(
    fraud: Game, alice: bytes
) -> None:
    fraud.chain.mine(WINDOW)
    fraud.challenge(alice, WRONG)
    fraud.chain.mine()
    refused("game: the window has closed", fraud.challenge, alice, WRONG)


def test_only_a_commitment_is_challenged(chain: Chain, alice: bytes) -> None:
    game = Game(chain, honest(STEPS))
    for act in (game.post, game.take):
        act()
        refused("game: not committed", game.challenge, alice, 0, TOKEN)
    game.commit()
    chain.mine(WINDOW + 1)
    game.finalise()
    refused("game: not committed", game.challenge, alice, 0)


def test_the_bond_is_twice_the_cost_of_a_dispute(fraud: Game, alice: bytes) -> None:
    gas = 3_000_000 + fraud.job.dispute_gas
    assert (
        fraud.chain.call("DisputeGame", "minimum_bond", fraud.job_id) == 2 * gas * 10**9
    )
    refused("game: bond too small", fraud.challenge, alice, WRONG, 2 * gas * 10**9 - 1)
    fraud.challenge(alice, WRONG, 2 * gas * 10**9)


def minimum(game: Game) -> int:
    return int(game.chain.call("DisputeGame", "minimum_bond", game.job_id))


def test_the_bond_grows_with_the_distinct_steps_under_challenge(
    fair: Game, alice: bytes, bob: bytes
) -> None:
    least = minimum(fair)
    first = fair.accuse(alice, 3)
    assert minimum(fair) == 2 * least
    fair.accuse(bob, 3)
    assert minimum(fair) == 2 * least
    third = fair.accuse(bob, 4)
    assert minimum(fair) == 3 * least
    fair.judge(4)
    fair.convict(third)
    assert minimum(fair) == 2 * least
    fair.judge(3)
    fair.convict(first)
    assert minimum(fair) == 2 * least  # bob still holds step 3


def test_the_bond_never_exceeds_the_stake(alice: bytes) -> None:
    chain = Chain(bond_gas_price=2 * 10**12)
    game = Game(chain, honest(STEPS)).start()
    alice = chain.fund("alice")
    least = minimum(game)
    assert least < STAKE < 2 * least
    game.accuse(alice, 3)
    assert minimum(game) == STAKE


# ── reveal ───────────────────────────────────────────────────────────────────


def test_a_reveal_names_the_step(fraud: Game, alice: bytes) -> None:
    challenge_id = fraud.challenge(alice, WRONG)
    fraud.chain.mine()
    revealed = fraud.reveal(challenge_id).event("ChallengeRevealed")
    assert (revealed.step, revealed.challenger) == (WRONG, alice)
    c = fraud.view(challenge_id)
    assert (c.status, c.start, c.end) == (PENDING, WRONG, WRONG + 1)
    refused("game: not sealed", fraud.reveal, challenge_id)


@pytest.mark.parametrize("delay", [1, 5])
def test_a_reveal_waits_for_its_delay(delay: int) -> None:
    chain = Chain(minimum_reveal_delay=delay)
    game = Game(chain, cheating(STEPS, WRONG)).start()
    challenge_id = game.challenge(chain.fund("alice"), WRONG)
    chain.mine(delay - 1)
    chain.mine(3, ticks=False)
    refused("game: too early", game.reveal, challenge_id)
    chain.mine()
    game.reveal(challenge_id)


def test_reveals_end_with_their_window(fraud: Game, alice: bytes, bob: bytes) -> None:
    early, late = fraud.challenge(alice, WRONG), fraud.challenge(bob, WRONG)
    fraud.chain.mine(WINDOW + REVEALS)
    fraud.reveal(early)
    fraud.chain.mine()
    refused("game: too late", fraud.reveal, late)


def test_a_copied_commitment_is_useless(fraud: Game, alice: bytes, bob: bytes) -> None:
    original = fraud.challenge(alice, WRONG)
    copied = fraud.chain.send(
        *(bob, "DisputeGame", "challenge_commit", fraud.job_id),
        fraud.view(original).commitment,
        value=minimum(fraud),
    ).output
    fraud.chain.mine()
    step, salt = fraud.challenges[original]
    send = (fraud.chain.send, bob, "DisputeGame", "challenge_reveal")
    refused("game: not what was committed", *send, copied, step, salt)
    refused("game: not the challenger", *send, original, step, salt)
    refused(
        "game: not what was committed",
        *(fraud.chain.send, alice, "DisputeGame", "challenge_reveal"),
        *(original, step + 1, salt),
    )
    fraud.reveal(original)


@pytest.mark.parametrize("step", [STEPS, STEPS + 1, 2**255, 2**256 - 2])
def test_a_step_that_does_not_exist_cannot_be_named(
    fraud: Game, alice: bytes, step: int
) -> None:
    challenge_id = fraud.challenge(alice, step)
    fraud.chain.mine()
    refused("game: no such step", fraud.reveal, challenge_id)


def test_a_commitment_is_for_one_job(chain: Chain, alice: bytes) -> None:
    first = Game(chain, cheating(STEPS, WRONG)).start()
    second = Game(chain, cheating(STEPS, WRONG)).start()
    sealed = seal(first.trial, alice, WRONG, bytes(32))
    challenge_id = chain.send(
        *(alice, "DisputeGame", "challenge_commit", second.job_id, sealed),
        value=minimum(second),
    ).output
    chain.mine()
    refused(
        "game: not what was committed",
        *(chain.send, alice, "DisputeGame", "challenge_reveal"),
        *(challenge_id, WRONG, bytes(32)),
    )


# ── the verdict ──────────────────────────────────────────────────────────────


def test_an_invalid_step_convicts(fraud: Game, alice: bytes) -> None:
    challenge_id = fraud.accuse(alice, WRONG)
    refused("game: not judged", fraud.convict, challenge_id)
    fraud.judge(WRONG)
    convicted = fraud.convict(challenge_id).event("SolverConvicted")
    assert (convicted.challenger, convicted.named) == (alice, WRONG)
    assert fraud.state == SLASHED
    assert fraud.view(challenge_id).status == WON
    assert fraud.credit("JobMarket", fraud.creator) == fraud.terms.maximum_price
    assert fraud.chain.balance(addresses.DISPUTE_GAME) == (
        STAKE + fraud.view(challenge_id).bond
    )
    refused("game: not pending", fraud.convict, challenge_id)
    fraud.chain.mine(100)
    refused("market: not committed", fraud.finalise)


def test_a_valid_step_ends_the_challenge(fair: Game, alice: bytes) -> None:
    """The solver need not wait for the challenger's clock."""
    challenge_id = fair.accuse(alice, 3)
    bond = fair.view(challenge_id).bond
    fair.judge(3, fair.solver)
    lost = fair.convict(challenge_id, fair.solver).event("ChallengeLost")
    assert (lost.compensation, lost.burned) == (bond // 2, bond - bond // 2)
    assert fair.view(challenge_id).status == LOST
    assert fair.credit("DisputeGame", fair.solver) == bond // 2
    assert fair.chain.burned == bond - bond // 2
    assert fair.state == COMMITTED
    fair.chain.mine(WINDOW + 1)
    fair.finalise()
    assert fair.state == FINALISED


def test_a_fact_is_shared_by_all_challenges(
    fair: Game, alice: bytes, bob: bytes
) -> None:
    ids = [fair.challenge(who, 3) for who in (alice, bob, alice)]
    fair.chain.mine()
    for challenge_id in ids:
        fair.reveal(challenge_id)
    fair.judge(3)
    for challenge_id in ids:
        fair.convict(challenge_id)
        assert fair.view(challenge_id).status == LOST


def forge(game: Game, challenge_id: int, **change: object) -> Receipt:
    start = game.view(challenge_id).start
    pre, post = game.trajectory.states[start : start + 2]
    given = {
        "pre": pre,
        "pre_path": game.trajectory.path(start),
        "post": post,
        "post_path": game.trajectory.path(start + 1),
        **change,
    }
    return game.chain.send(
        *(game.creator, "DisputeGame", "convict", challenge_id), *given.values()
    )


def test_forged_openings_convict_nobody(fair: Game, alice: bytes) -> None:
    """An INVALID verdict on strange states exists; no path leads to them."""
    challenge_id = fair.accuse(alice, 3)
    fair.judge(3)
    paths = fair.trajectory.path
    wrong: list[dict[str, Any]] = [
        {"post": b"\x01" * 32},
        {"pre": b"\x01" * 32},
        {"pre_path": paths(4)},
        {"post_path": paths(5), "post": fair.trajectory.states[5]},
        {"pre": fair.trajectory.states[4], "pre_path": paths(4)},
    ]
    for change in wrong:
        refused(
            "game: opening does not fit the root",
            lambda change=change: forge(fair, challenge_id, **change),
        )
    for path in ([], paths(3)[:-1], [*paths(3), bytes(32)]):
        refused(
            "merkle: wrong path length",
            lambda path=path: forge(fair, challenge_id, pre_path=path),
        )
    assert fair.state == COMMITTED


def test_a_challenge_is_about_its_own_step(fraud: Game, alice: bytes) -> None:
    """Someone else's fault cannot be put under another name."""
    challenge_id = fraud.accuse(alice, WRONG + 2)
    fraud.judge(WRONG)
    pre, post = fraud.trajectory.states[WRONG : WRONG + 2]
    refused(
        "game: opening does not fit the root",
        lambda: forge(fraud, challenge_id, pre=pre, post=post),
    )


def test_the_last_step_can_be_convicted(chain: Chain, alice: bytes) -> None:
    for steps in (1, 2, 7, 8):
        game = Game(chain, cheating(steps, steps - 1)).start()
        challenge_id = game.accuse(alice, steps - 1)
        game.judge(steps - 1)
        game.convict(challenge_id)
        assert game.state == SLASHED


def test_a_late_truth_still_convicts(fraud: Game, alice: bytes) -> None:
    """Time is claimed by `timeout`; until somebody does, the verdict counts."""
    challenge_id = fraud.accuse(alice, WRONG)
    fraud.chain.mine(CLOCK + 5)
    fraud.judge(WRONG)
    fraud.convict(challenge_id)
    assert fraud.state == SLASHED


# ── clocks ───────────────────────────────────────────────────────────────────


def test_who_reveals_nothing_loses_the_bond(fair: Game, alice: bytes) -> None:
    challenge_id = fair.challenge(alice, 3)
    fair.chain.mine(WINDOW + REVEALS)
    refused("game: the clocks still run", fair.timeout, challenge_id)
    fair.chain.mine()
    fair.timeout(challenge_id)
    bond = fair.view(challenge_id).bond
    assert fair.credit("DisputeGame", fair.solver) == bond // 2
    assert fair.chain.burned == bond - bond // 2
    refused("game: not pending", fair.timeout, challenge_id)


def test_sealed_challenges_do_not_hold_finality_beyond_the_reveals(
    fair: Game, alice: bytes
) -> None:
    ids = [fair.challenge(alice, step) for step in range(3)]
    fair.chain.mine(WINDOW + REVEALS)
    refused("market: not final", fair.finalise)
    fair.chain.mine()
    fair.finalise()
    for challenge_id in ids:  # what they lost can still be collected
        fair.timeout(challenge_id)
    bond = fair.view(ids[0]).bond
    assert fair.credit("DisputeGame", fair.solver) == 3 * (bond // 2)


def test_a_challenger_that_does_not_prove_runs_out_of_time(
    fair: Game, alice: bytes
) -> None:
    challenge_id = fair.accuse(alice, 3)
    fair.chain.mine(CLOCK)
    refused("game: the clocks still run", fair.timeout, challenge_id)
    fair.chain.mine(50, ticks=False)
    refused("game: the clocks still run", fair.timeout, challenge_id)
    fair.chain.mine()
    fair.timeout(challenge_id)
    assert fair.view(challenge_id).status == LOST
    assert fair.chain.call("DisputeGame", "docket", fair.trial).pending == 0
    fair.finalise()


def test_an_open_challenge_holds_finality(fair: Game, alice: bytes) -> None:
    challenge_id = fair.accuse(alice, 3)
    fair.chain.mine(WINDOW + REVEALS + 50)
    refused("market: not final", fair.finalise)
    fair.timeout(challenge_id)
    fair.finalise()


def test_unknown_challenges_are_refused(fair: Game, alice: bytes) -> None:
    for challenge_id in (0, 1, 2**256 - 1):
        refused("game: not pending", fair.timeout, challenge_id)
        refused(
            "game: not sealed",
            fair.chain.send,
            *(alice, "DisputeGame"),
            *("challenge_reveal", challenge_id, 0, bytes(32)),
        )
        refused("game: nothing to claim", fair.claim, challenge_id)


def test_only_staking_pays_the_game(fair: Game, alice: bytes) -> None:
    refused(
        "game: only slashed stakes",
        lambda: fair.chain.send_raw(alice, "DisputeGame", b"", value=1),
    )
    refused(
        "game: only the demands",
        *(fair.chain.send, alice, "DisputeGame", "convict_silent"),
        *(fair.job_id, alice),
    )


@pytest.mark.parametrize("step", [3, WITHHELD])
def test_honest_solver_is_not_convicted_by_its_own_verdicts(
    fair: Game, alice: bytes, step: int
) -> None:
    """Every step of an honest trajectory is judged VALID, whoever asks."""
    challenge_id = fair.accuse(alice, step)
    for position in range(STEPS):
        fair.judge(position, alice)
        assert fair.verdict(position) == 1
    if step == WITHHELD:
        fair.answer(challenge_id)
        fair.descend(challenge_id, lambda *_: 4)
    fair.convict(challenge_id)
    assert fair.view(challenge_id).status == LOST
