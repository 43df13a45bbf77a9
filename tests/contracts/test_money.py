"""Who gets what when a solver is convicted, and that nobody gains by cheating."""

import pytest

from chain import addresses
from tests.contracts.chain import TOKEN, Chain, Reverted
from tests.contracts.conftest import STEPS, WRONG
from tests.contracts.play import (
    CLAIMED,
    PENDING,
    SEALED,
    SLASHED,
    STAKE,
    WITHHELD,
    WON,
    Game,
    refused,
)
from tests.contracts.toy import cheating, honest

WINDOW, REVEALS, CLOCK = 20, 8, 20


def cost(game: Game) -> int:
    return (3_000_000 + int(game.job.dispute_gas)) * 10**9


def award(game: Game) -> int:
    return (STAKE - cost(game)) // 2


def test_one_whistleblower_takes_gas_and_share(fraud: Game, alice: bytes) -> None:
    before = fraud.chain.balance(alice)
    challenge_id = fraud.accuse(alice, WRONG)
    fraud.judge(WRONG, alice)
    fraud.convict(challenge_id)
    settled = fraud.settle().event("Settled")
    assert settled.compensation == cost(fraud)
    assert settled.award == award(fraud)
    assert settled.compensation + settled.award + settled.burned == STAKE
    assert fraud.chain.burned == settled.burned
    claimed = fraud.claim(challenge_id).event("ChallengeClaimed")
    assert (claimed.bond, claimed.share) == (2 * cost(fraud), award(fraud))
    fraud.chain.send(alice, "DisputeGame", "withdraw")
    assert fraud.chain.balance(alice) == before + cost(fraud) + award(fraud)
    assert fraud.chain.balance(addresses.DISPUTE_GAME) == 0
    assert fraud.credit("JobMarket", fraud.creator) == fraud.terms.maximum_price


def test_nothing_is_paid_twice(fraud: Game, alice: bytes) -> None:
    challenge_id = fraud.accuse(alice, WRONG)
    refused("game: not convicted", fraud.settle)
    refused("game: not settled", fraud.claim, challenge_id)
    fraud.judge(WRONG)
    fraud.convict(challenge_id)
    refused("game: not settled", fraud.claim, challenge_id)
    fraud.settle()
    refused("game: already settled", fraud.settle)
    fraud.claim(challenge_id)
    assert fraud.view(challenge_id).status == CLAIMED
    refused("game: nothing to claim", fraud.claim, challenge_id)
    fraud.chain.send(alice, "DisputeGame", "withdraw")
    refused(
        "purse: nothing to withdraw",
        *(fraud.chain.send, alice, "DisputeGame", "withdraw"),
    )


def test_the_creator_is_refunded_before_anybody_settles(
    fraud: Game, alice: bytes
) -> None:
    challenge_id = fraud.accuse(alice, WRONG)
    fraud.judge(WRONG)
    fraud.convict(challenge_id)
    before = fraud.chain.balance(fraud.creator)
    fraud.chain.send(fraud.creator, "JobMarket", "withdraw")
    assert fraud.chain.balance(fraud.creator) == before + fraud.terms.maximum_price


def test_the_group_shares_by_bond(fraud: Game, alice: bytes, bob: bytes) -> None:
    """Splitting a bond gains nothing; more than the stake counts as the stake."""
    carol = fraud.chain.fund("carol")
    ids = [
        fraud.challenge(alice, WRONG, TOKEN),
        fraud.challenge(bob, WRONG, 3 * TOKEN),
        fraud.challenge(carol, WRONG, 5 * STAKE),
    ]
    fraud.chain.mine()
    for challenge_id in ids:
        fraud.reveal(challenge_id)
    fraud.judge(WRONG)
    fraud.convict(ids[0])
    fraud.settle()
    shares = [fraud.claim(i).event("ChallengeClaimed").share for i in ids]
    whole = 4 * TOKEN + STAKE
    assert shares == [award(fraud) * b // whole for b in (TOKEN, 3 * TOKEN, STAKE)]


def test_a_copied_name_shares_nothing(fraud: Game, alice: bytes, bob: bytes) -> None:
    """Bob reads Alice's reveal, names the same step and even convicts first."""
    original = fraud.accuse(alice, WRONG)
    copied = fraud.accuse(bob, WRONG, STAKE)
    fraud.judge(WRONG, alice)
    fraud.convict(copied, bob)
    settled = fraud.settle().event("Settled")
    assert settled.compensation == 0
    assert settled.award == award(fraud) + cost(fraud)
    assert fraud.claim(copied).event("ChallengeClaimed").share == 0
    claimed = fraud.claim(original).event("ChallengeClaimed")
    assert claimed.share == award(fraud) + cost(fraud)
    assert fraud.credit("DisputeGame", bob) == STAKE  # his bond, no more


def test_a_reveal_in_the_block_of_the_first_is_in_the_group(
    fraud: Game, alice: bytes, bob: bytes
) -> None:
    ids = [fraud.challenge(who, WRONG) for who in (alice, bob)]
    fraud.chain.mine()
    for challenge_id in ids:
        assert fraud.reveal(challenge_id).event("ChallengeRevealed").weight > 0


def test_a_commitment_in_the_block_of_the_first_reveal_is_not(
    fraud: Game, alice: bytes, bob: bytes
) -> None:
    first = fraud.challenge(alice, WRONG)
    fraud.chain.mine()
    fraud.reveal(first)
    late = fraud.challenge(bob, WRONG)
    fraud.chain.mine()
    assert fraud.reveal(late).event("ChallengeRevealed").weight == 0


def test_a_conviction_refunds_everyone_else(fraud: Game, alice: bytes) -> None:
    """Revealed at another step, at the root, and not even revealed."""
    people = [fraud.chain.fund(n) for n in ("bob", "carol", "dave", "erin")]
    ids = [
        fraud.challenge(who, step)
        for who, step in zip(people, (7, WITHHELD, 2, WRONG), strict=True)
    ]
    fraud.chain.mine()
    for challenge_id in ids[:2]:
        fraud.reveal(challenge_id)
    winner = fraud.accuse(alice, WRONG)
    fraud.judge(WRONG)
    fraud.convict(winner)
    for challenge_id in ids[:2]:
        reason = "game: the clocks still run"
        refused(reason, fraud.timeout, challenge_id)
    fraud.chain.mine(WINDOW + REVEALS + 2 * CLOCK)
    for challenge_id in ids[2:]:
        refused("game: already convicted", fraud.timeout, challenge_id)
    fraud.settle()
    for who, challenge_id in zip(people, ids, strict=True):
        bond = fraud.view(challenge_id).bond
        fraud.claim(challenge_id)
        assert fraud.credit("DisputeGame", who) == bond


def test_nobody_loses_to_a_convicted_solver(
    fraud: Game, alice: bytes, bob: bytes
) -> None:
    """A wrong challenger whose step is VALID, and one whose time is over."""
    wrong = fraud.accuse(bob, 2)
    fraud.judge(2)
    winner = fraud.accuse(alice, WRONG)
    fraud.judge(WRONG)
    fraud.convict(winner)
    refused("game: already convicted", fraud.convict, wrong)
    fraud.chain.mine(CLOCK + 1)
    refused("game: already convicted", fraud.timeout, wrong)
    fraud.chain.mine(2 * CLOCK)
    fraud.settle()
    fraud.claim(wrong)
    assert fraud.credit("DisputeGame", bob) == fraud.view(wrong).bond


def test_who_lost_does_not_share(fraud: Game, alice: bytes, bob: bytes) -> None:
    """A cheater that names the step first, to fall silent, dilutes nobody."""
    own, hers = fraud.challenge(bob, WRONG, STAKE), fraud.challenge(alice, WRONG)
    fraud.chain.mine()
    fraud.reveal(own)
    fraud.chain.mine(CLOCK + 1)
    fraud.timeout(own)
    fraud.reveal(hers)
    fraud.judge(WRONG)
    fraud.convict(hers)
    fraud.settle()
    assert fraud.claim(hers).event("ChallengeClaimed").share == award(fraud)
    refused("game: nothing to claim", fraud.claim, own)


def test_without_a_group_the_leader_takes_the_share() -> None:
    """The step was named before Alice came, by one who has lost since."""
    chain = Chain(challenge_window=60)
    game = Game(chain, cheating(STEPS, WRONG)).start()
    alice, bob = chain.fund("alice"), chain.fund("bob")
    own = game.accuse(bob, WRONG)
    chain.mine(CLOCK + 1)
    game.timeout(own)
    hers = game.accuse(alice, WRONG)
    assert game.view(hers).weight == 0
    game.judge(WRONG)
    game.convict(hers)
    settled = game.settle().event("Settled")
    assert (settled.compensation, settled.award_weight) == (cost(game), 0)
    assert game.claim(hers).event("ChallengeClaimed").share == award(game)


# ── the smallest step ────────────────────────────────────────────────────────


@pytest.fixture
def twice(chain: Chain) -> Game:
    """A job with two faked steps, `WRONG` and 7."""
    states = list(cheating(STEPS, WRONG).states[:8])
    states += cheating(STEPS, 7).states[8:]
    game = Game(chain, cheating(STEPS, WRONG))
    game.trajectory = type(game.trajectory)(states)
    return game.start()


def test_the_smallest_convicted_step_leads(
    twice: Game, alice: bytes, bob: bytes
) -> None:
    """A cheater that convicts himself at a later step gets nothing by it."""
    own, other = twice.challenge(bob, 7), twice.challenge(alice, WRONG)
    twice.chain.mine()
    twice.reveal(own)
    twice.judge(7)
    twice.convict(own)
    refused("game: challenges may still be revealed", twice.settle)
    twice.reveal(other)
    refused("game: a smaller step may still be convicted", twice.settle)
    twice.judge(WRONG)
    twice.convict(other)
    twice.settle()
    assert twice.claim(own).event("ChallengeClaimed").share == 0
    assert twice.claim(other).event("ChallengeClaimed").share == award(twice)
    assert twice.credit("DisputeGame", alice) == (
        award(twice) + cost(twice) + twice.view(other).bond
    )


def test_a_larger_step_no_longer_matters(twice: Game, alice: bytes, bob: bytes) -> None:
    small, large = twice.challenge(alice, WRONG), twice.challenge(bob, 7)
    sealed = twice.challenge(bob, 8)
    twice.chain.mine()
    twice.reveal(small)
    twice.reveal(large)
    for position in (WRONG, 7):
        twice.judge(position)
    twice.convict(small)
    refused("game: already convicted", twice.convict, large)
    refused("game: already convicted", twice.reveal, sealed)


def test_whoever_knew_the_step_may_join_after_the_conviction(
    fraud: Game, alice: bytes, bob: bytes
) -> None:
    late = fraud.challenge(bob, WRONG)
    first = fraud.accuse(alice, WRONG)
    fraud.judge(WRONG)
    fraud.convict(first)
    refused("game: challenges may still be revealed", fraud.settle)
    fraud.reveal(late)
    fraud.settle()
    for challenge_id in (first, late):
        assert fraud.claim(challenge_id).event("ChallengeClaimed").share == (
            award(fraud) // 2
        )
    refused("game: not sealed", fraud.reveal, late)


def test_a_sealed_challenge_delays_settling_no_longer_than_the_reveals(
    fraud: Game, alice: bytes, bob: bytes
) -> None:
    fraud.challenge(bob, 2)
    winner = fraud.accuse(alice, WRONG)
    fraud.judge(WRONG)
    fraud.convict(winner)
    fraud.chain.mine(WINDOW + REVEALS - 1)
    refused("game: challenges may still be revealed", fraud.settle)
    fraud.chain.mine()
    fraud.settle()


def test_a_smaller_claim_delays_settling_no_longer_than_its_clocks(
    fraud: Game, alice: bytes, bob: bytes
) -> None:
    fraud.accuse(bob, 2)
    winner = fraud.accuse(alice, WRONG)
    fraud.judge(WRONG)
    fraud.convict(winner)
    fraud.chain.mine(2 * CLOCK)
    refused("game: a smaller step may still be convicted", fraud.settle)
    fraud.chain.mine()
    fraud.settle()


def test_a_smaller_segment_goes_on_after_a_conviction(chain: Chain) -> None:
    """The convicted solver falls silent, so time convicts it again, further down."""
    alice, bob = chain.fund("alice"), chain.fund("bob")
    states = list(cheating(10, 3).states[:7]) + list(cheating(10, 6).states[7:])
    game = Game(chain, cheating(10, 3, every=5))
    game.trajectory = type(game.trajectory)(states, 5)
    game.start()
    small, large = game.challenge(alice, 0), game.challenge(bob, 5)
    chain.mine()
    game.reveal(small)
    game.reveal(large)
    game.answer(large)
    game.descend(large, lambda *_: 1)
    game.judge(6)
    game.convict(large)
    refused("game: a smaller step may still be convicted", game.settle)
    chain.mine(CLOCK + 1)
    game.timeout(small)
    assert game.view(small).status == WON
    game.settle()
    assert game.claim(large).event("ChallengeClaimed").share == 0


# ── withheld ─────────────────────────────────────────────────────────────────


def test_those_who_said_withheld_share_a_conviction_by_descent(
    fraud: Game, alice: bytes, bob: bytes
) -> None:
    ids = [fraud.challenge(who, WITHHELD) for who in (alice, bob)]
    fraud.chain.mine()
    for challenge_id in ids:
        fraud.reveal(challenge_id)
    fraud.pursue(ids[0], honest(STEPS))
    assert fraud.view(ids[1]).status == PENDING
    fraud.settle()
    for challenge_id in ids:
        assert fraud.claim(challenge_id).event("ChallengeClaimed").share == (
            award(fraud) // 2
        )


def test_a_named_step_leads_over_a_descent(
    fraud: Game, alice: bytes, bob: bytes
) -> None:
    descent, direct = fraud.challenge(alice, WITHHELD), fraud.challenge(bob, WRONG)
    fraud.chain.mine()
    fraud.reveal(descent)
    fraud.reveal(direct)
    fraud.pursue(descent, honest(STEPS))
    refused("game: a smaller step may still be convicted", fraud.settle)
    fraud.convict(direct)
    fraud.settle()
    assert fraud.claim(descent).event("ChallengeClaimed").share == 0
    assert fraud.claim(direct).event("ChallengeClaimed").share == award(fraud)


def test_a_second_descent_changes_nothing(
    fraud: Game, alice: bytes, bob: bytes
) -> None:
    first, second = fraud.challenge(alice, WITHHELD), fraud.challenge(bob, WITHHELD)
    fraud.chain.mine()
    fraud.reveal(first)
    fraud.reveal(second)
    fraud.pursue(first, honest(STEPS))
    fraud.follow(second, honest(STEPS))
    refused("game: already convicted", fraud.convict, second)


# ── cheaters against themselves ──────────────────────────────────────────────


@pytest.mark.parametrize("share", [0, 5_000, 6_000])
@pytest.mark.parametrize("gas_price", [1, 10**9, 10**15])
@pytest.mark.parametrize("bond", [1, 100])
def test_a_cheater_who_challenges_himself_loses(
    share: int, gas_price: int, bond: int
) -> None:
    """Over a third of the stake is gone, whatever bonds and gas prices are."""
    chain = Chain(whistleblower_share_bps=share, bond_gas_price=gas_price)
    game = Game(chain, cheating(STEPS, WRONG)).start()
    game.chain.fund("solver", 10**6 * TOKEN)
    least = int(chain.call("DisputeGame", "minimum_bond", game.job_id))
    before = chain.balance(game.solver) + STAKE
    challenge_id = game.accuse(game.solver, WRONG, bond * least)
    game.judge(WRONG)
    game.convict(challenge_id)
    game.settle()
    game.claim(challenge_id)
    chain.send(game.solver, "DisputeGame", "withdraw")
    assert 3 * (before - chain.balance(game.solver)) > STAKE
    assert game.state == SLASHED


def test_an_honest_solver_gains_nothing_by_challenging_itself(fair: Game) -> None:
    before = fair.chain.balance(fair.solver)
    challenge_id = fair.accuse(fair.solver, 3)
    fair.judge(3)
    fair.convict(challenge_id)
    fair.chain.send(fair.solver, "DisputeGame", "withdraw")
    assert fair.chain.balance(fair.solver) < before


def test_a_share_above_60_percent_is_not_deployed() -> None:
    refused("game: share above 60 %", lambda: Chain(whistleblower_share_bps=6_001))
    refused("game: no time to reveal", lambda: Chain(minimum_reveal_delay=9))
    refused(
        "game: reveals in the block of the commit",
        lambda: Chain(minimum_reveal_delay=0),
    )
    refused("game: no time to move", lambda: Chain(move_clock=0))
    refused("market: penalty above the stake", lambda: Chain(late_penalty_bps=10_001))


# ── pulling payments ─────────────────────────────────────────────────────────


def test_a_recipient_that_refuses_blocks_only_itself(fraud: Game) -> None:
    grump = fraud.chain.install("grump", b"\x5f\x5f\xfd")  # reverts always
    fraud.chain.fund("grump")
    alice = fraud.chain.fund("alice")
    ids = [fraud.challenge(who, WRONG) for who in (grump, alice)]
    fraud.chain.mine()
    for challenge_id in ids:
        fraud.reveal(challenge_id)
    fraud.judge(WRONG)
    fraud.convict(ids[0])
    fraud.settle()
    for challenge_id in ids:
        fraud.claim(challenge_id)
    with pytest.raises(Reverted):
        fraud.chain.send(grump, "DisputeGame", "withdraw")
    assert fraud.credit("DisputeGame", grump) > 0
    fraud.chain.send(alice, "DisputeGame", "withdraw")


def test_a_withdrawal_cannot_be_entered_again(fraud: Game) -> None:
    """A contract that calls `withdraw` whenever it is paid gets its credit once."""
    selector = b"\x3c\xcf\xd6\x0b"  # withdraw()
    game = addresses.DISPUTE_GAME
    # PUSH4 selector; MSTORE at 0; CALL(gas, game, 0, 28, 4, 0, 0); stop whatever.
    code = (
        b"\x63" + selector + b"\x5f\x52"
        b"\x5f\x5f\x60\x04\x60\x1c\x5f\x73" + game + b"\x5a\xf1\x00"
    )
    thief = fraud.chain.install("thief", code)
    fraud.chain.fund("thief")
    before = fraud.chain.balance(thief)
    alice = fraud.chain.fund("alice")
    mine, hers = fraud.challenge(thief, WRONG), fraud.challenge(alice, WRONG)
    fraud.chain.mine()
    fraud.reveal(mine)
    fraud.reveal(hers)
    fraud.judge(WRONG)
    fraud.convict(mine)
    fraud.settle()
    fraud.claim(mine)
    fraud.claim(hers)
    owed = fraud.credit("DisputeGame", thief)
    assert owed > 0
    bond = fraud.view(mine).bond
    fraud.chain.send(thief, "DisputeGame", "withdraw")
    assert fraud.chain.balance(thief) == before - bond + owed
    assert fraud.credit("DisputeGame", thief) == 0
    assert fraud.view(mine).status == CLAIMED
    assert fraud.view(hers).status != SEALED
