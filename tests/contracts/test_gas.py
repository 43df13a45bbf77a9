"""Gas and interpreter steps of every move, bounded; run as a script, it prints them.

    python -m tests.contracts.test_gas

Figures hold for the toy judge, which charges 15,000 gas, 2 for each byte of the witness
and 10,000 for the verdict; a real program's replay costs more by its own model.
"""

import functools
import sys
from collections.abc import Callable

import pytest

from tests.contracts import toy
from tests.contracts.chain import Chain, Receipt
from tests.contracts.play import WITHHELD, Game, replay_data
from tests.contracts.toy import cheating, honest, witness

# Name -> most gas, most steps; measured figures, rounded up by a tenth or so.
BOUNDS = {
    "post": (560_000, 6_000),
    "take": (160_000, 4_000),
    "commit": (260_000, 12_000),
    "challenge_commit": (260_000, 7_000),
    "challenge_reveal": (390_000, 10_000),
    "open_node, 64 nodes": (220_000, 21_000),
    "open_node, 64 leaves": (260_000, 34_000),
    "descend": (170_000, 11_000),
    "replay, 30 KiB": (1_300_000, 10_000),
    "replay, 256 KiB": (10_600_000, 36_000),
    "convict": (240_000, 18_000),
    "settle": (260_000, 9_000),
    "claim": (140_000, 8_000),
    "post_inner, 63 roots": (190_000, 9_500),
    "descend_inner": (250_000, 12_000),
    "answer_tile, 32 KiB": (1_400_000, 12_000),
    "finalise": (140_000, 7_000),
}


def measured() -> dict[str, tuple[int, int]]:
    """Play a long direct dispute, a descent and a sparse one; return what each cost."""
    found: dict[str, tuple[int, int]] = {}

    def note(name: str, act: Callable[[], Receipt]) -> Receipt:
        receipt = act()
        found[name] = (receipt.gas, receipt.steps)
        return receipt

    steps, wrong = 5_000, 4_100
    game = Game(Chain(), cheating(steps, wrong))
    alice = game.chain.fund("alice")
    note("post", game.post)
    note("take", game.take)
    note("commit", game.commit)
    direct = game.challenge(alice, wrong)
    note("challenge_commit", lambda: game.commit_challenge(alice, WITHHELD))
    game.chain.mine()
    note("challenge_reveal", lambda: game.reveal(direct))
    withheld = direct + 1
    game.reveal(withheld)
    note("open_node, 64 nodes", lambda: game.open_node(13, 0))
    note("descend", lambda: game.follow(withheld, honest(steps)))
    game.answer(withheld)
    game.follow(withheld, honest(steps))
    note("open_node, 64 leaves", lambda: game.open_node(6, 3))
    for name, size in (("30 KiB", 30_720), ("256 KiB", 262_144)):
        pre, post = game.trajectory.states[wrong], bytes(32)
        if size == 262_144:
            post = game.trajectory.states[wrong + 1]
        data = replay_data(game.trial, wrong, pre, post, witness(pre, size))
        act = functools.partial(game.chain.send_raw, alice, "Evidence", data)
        note(f"replay, {name}", act)
    note("convict", lambda: game.convict(direct))
    note("settle", game.settle)
    note("claim", lambda: game.claim(direct))

    sparse = Game(Chain(), cheating(10_000, 4_321, every=10_000)).start()
    bob = sparse.chain.fund("bob")
    challenge_id = sparse.accuse(bob, 0)
    note("post_inner, 63 roots", lambda: sparse.post_inner(0, 10_000))
    note("descend_inner", lambda: sparse.follow(challenge_id, honest(10_000, 10_000)))

    fair = Game(Chain(), honest(10)).start()
    state, initial = fair.trajectory.states[3], fair.terms.initial_root
    fair.chain.send(
        *(fair.creator, "Demands", "demand_tile", fair.job_id, 3, 1, 2),
        toy.tile(initial, 1, 2),
        value=10**18,
    )
    note(
        "answer_tile, 32 KiB",
        lambda: fair.chain.send(
            *(fair.solver, "Demands", "answer_tile", fair.job_id, 3, 1, 2),
            *(state, fair.trajectory.path(3), toy.tile(state, 1, 2, 32_768)),
        ),
    )
    fair.chain.mine(21)
    note("finalise", fair.finalise)
    return found


@pytest.fixture(scope="module")
def costs() -> dict[str, tuple[int, int]]:
    """What each move cost."""
    return measured()


@pytest.mark.parametrize("move", BOUNDS)
def test_a_move_costs_no_more_than_it_did(
    costs: dict[str, tuple[int, int]], move: str
) -> None:
    gas, steps = costs[move]
    most_gas, most_steps = BOUNDS[move]
    assert gas <= most_gas
    assert steps <= most_steps


def test_every_move_is_bounded(costs: dict[str, tuple[int, int]]) -> None:
    assert set(costs) == set(BOUNDS)


if __name__ == "__main__":
    for move, (gas, steps) in measured().items():
        sys.stdout.write(f"| {move} | {gas:,} | {steps:,} |\n")
