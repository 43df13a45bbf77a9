"""Withheld leaves and sparse commitments: the solver opens, the challenger follows."""

import pytest

from ml_verifier import descent
from ml_verifier.merkle import Purpose
from tests.contracts.chain import Chain, Receipt
from tests.contracts.play import (
    COMMITTED,
    LOST,
    PENDING,
    SLASHED,
    WITHHELD,
    WON,
    Game,
    refused,
)
from tests.contracts.toy import Trajectory, cheating, honest

CLOCK = 20

# (T, commit_every, wrong step): roots of one and two levels, first and last leaves,
# leaves beside a boundary of 64, sparse segments shorter and longer than 64.
CASES = [
    (1, 1, 0),
    (10, 1, 0),
    (10, 1, 9),
    (63, 1, 62),
    (64, 1, 63),
    (200, 1, 62),
    (200, 1, 63),
    (200, 1, 64),
    (5_000, 1, 4_095),
    (5_000, 1, 4_999),
    (10, 10, 4),
    (10, 3, 9),
    (300, 70, 69),
    (300, 70, 70),
    (1_000, 300, 955),
    (9_000, 9_000, 4_321),
]


def trial(
    steps: int, every: int, wrong: int | None, **states: int
) -> tuple[Game, bytes]:
    shown = (
        honest(steps, every)
        if wrong is None
        else cheating(steps, wrong, every, **states)
    )
    game = Game(Chain(), shown).start()
    return game, game.chain.fund("alice")


@pytest.mark.parametrize(("steps", "every", "wrong"), CASES)
def test_withheld_leaves_do_not_save_a_cheater(
    steps: int, every: int, wrong: int
) -> None:
    game, alice = trial(steps, every, wrong)
    challenge_id = game.accuse(alice, WITHHELD)
    game.pursue(challenge_id, honest(steps, every))
    assert game.state == SLASHED
    assert game.view(challenge_id).start == wrong


@pytest.mark.parametrize(("steps", "every", "wrong"), [c for c in CASES if c[1] > 1])
def test_a_sparse_commitment_does_not_save_a_cheater(
    steps: int, every: int, wrong: int
) -> None:
    game, alice = trial(steps, every, wrong)
    challenge_id = game.accuse(alice, wrong - wrong % every)
    game.pursue(challenge_id, honest(steps, every))
    assert game.state == SLASHED


def test_a_trajectory_that_returns_to_the_truth_is_convicted() -> None:
    game, alice = trial(200, 1, 70, returns=90)
    challenge_id = game.accuse(alice, WITHHELD)
    game.pursue(challenge_id, honest(200))
    assert game.view(challenge_id).start == 70
    assert game.state == SLASHED


@pytest.mark.parametrize(("steps", "every"), [(10, 1), (200, 1), (300, 70)])
@pytest.mark.parametrize("pick", [1, 5, 9])
def test_an_honest_solver_survives_any_descent(
    steps: int, every: int, pick: int
) -> None:
    game, alice = trial(steps, every, None)
    challenge_id = game.accuse(alice, WITHHELD)
    while game.view(challenge_id).status == PENDING:
        if game.solver_moves(challenge_id):
            game.answer(challenge_id)
        elif game.view(challenge_id).awaits != bytes(32):
            game.descend(
                challenge_id,
                lambda children, level, _: min(
                    pick, len(children) if level == -1 else 3
                ),
            )
        else:
            game.judge(game.view(challenge_id).start)
            game.convict(challenge_id, game.solver)
    assert game.view(challenge_id).status == LOST
    game.chain.mine(21)
    game.finalise()


# ── who moves ────────────────────────────────────────────────────────────────


def test_the_challenger_waits_for_the_solver() -> None:
    game, alice = trial(200, 1, 70)
    challenge_id = game.accuse(alice, WITHHELD)
    refused("game: the solver is to move", game.follow, challenge_id, honest(200))
    game.answer(challenge_id)
    game.follow(challenge_id, honest(200))
    refused("game: the solver is to move", game.follow, challenge_id, honest(200))


def test_only_the_challenger_descends() -> None:
    game, alice = trial(10, 1, 4)
    challenge_id = game.accuse(alice, WITHHELD)
    game.answer(challenge_id)
    refused(
        "game: not the challenger",
        *(game.chain.send, game.solver, "DisputeGame", "descend"),
        *(challenge_id, 1, bytes(32), []),
    )


def test_anyone_may_open_nodes_for_the_solver() -> None:
    game, alice = trial(200, 1, None)
    challenge_id = game.accuse(alice, WITHHELD)
    game.open_node(8, 0, game.chain.fund("helper"))
    assert not game.solver_moves(challenge_id)


def test_an_opening_answers_every_challenge_there() -> None:
    game, alice = trial(10, 1, None)
    ids = [game.challenge(alice, WITHHELD) for _ in range(5)]
    game.chain.mine()
    for challenge_id in ids:
        game.reveal(challenge_id)
    game.chain.mine(CLOCK)
    game.open_node(4, 0)
    game.chain.mine(CLOCK)
    for challenge_id in ids:
        solver, challenger, solver_moves = game.chain.call(
            "DisputeGame", "clocks", challenge_id
        )
        assert (solver, challenger, solver_moves) == (CLOCK, CLOCK, False)
        refused("game: the clocks still run", game.timeout, challenge_id)


def test_an_early_opening_costs_the_solver_no_time() -> None:
    game, alice = trial(10, 1, None)
    game.open_node(4, 0)
    game.chain.mine(15)
    challenge_id = game.accuse(alice, WITHHELD)
    game.chain.mine(3)
    assert game.chain.call("DisputeGame", "clocks", challenge_id) == (0, 3, False)


# ── time ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("every", [1, 10])
def test_a_silent_solver_is_convicted(every: int) -> None:
    game, alice = trial(10, every, None)
    challenge_id = game.accuse(alice, WITHHELD if every == 1 else 0)
    game.chain.mine(CLOCK)
    refused("game: the clocks still run", game.timeout, challenge_id)
    game.chain.mine()
    game.timeout(challenge_id)
    assert game.state == SLASHED
    assert game.view(challenge_id).status == WON


def test_a_silent_challenger_loses() -> None:
    game, alice = trial(10, 1, 4)
    challenge_id = game.accuse(alice, WITHHELD)
    game.answer(challenge_id)
    game.chain.mine(CLOCK + 1)
    refused("game: out of time", game.follow, challenge_id, honest(10))
    game.timeout(challenge_id)
    assert game.view(challenge_id).status == LOST
    assert game.state == COMMITTED


def test_clocks_add_up_over_the_moves() -> None:
    game, alice = trial(5_000, 1, None)
    challenge_id = game.accuse(alice, WITHHELD)
    game.chain.mine(11)
    game.answer(challenge_id)
    game.chain.mine(7)
    game.descend(challenge_id, lambda *_: 3)
    game.chain.mine(9)
    refused("game: the clocks still run", game.timeout, challenge_id)
    game.answer(challenge_id)  # 11 + 9 = 20: in time
    game.chain.mine(13)
    refused("game: the clocks still run", game.timeout, challenge_id)
    game.chain.mine()  # 7 + 14 = 21: too late
    game.timeout(challenge_id)
    assert game.view(challenge_id).status == LOST


def test_an_answer_after_its_time_does_not_help() -> None:
    game, alice = trial(5_000, 1, None)
    challenge_id = game.accuse(alice, WITHHELD)
    game.chain.mine(CLOCK + 1)
    game.answer(challenge_id)
    game.chain.mine(CLOCK + 1)  # both are out of time, the solver was first
    game.timeout(challenge_id)
    assert game.state == SLASHED


def test_full_blocks_burn_nobodys_time() -> None:
    game, alice = trial(10, 1, None)
    challenge_id = game.accuse(alice, WITHHELD)
    game.chain.mine(60, ticks=False)
    assert game.chain.call("DisputeGame", "clocks", challenge_id) == (0, 0, True)


# ── moves that do not exist ──────────────────────────────────────────────────


def follow_child(
    game: Game, challenge_id: int, k: int, child: bytes, path: list[bytes]
) -> Receipt:
    return game.chain.send(
        *(game.view(challenge_id).challenger, "DisputeGame", "descend"),
        *(challenge_id, k, child, path),
    )


def test_only_children_of_the_node_are_followed() -> None:
    game, alice = trial(5_000, 1, 70)
    challenge_id = game.accuse(alice, WITHHELD)
    game.answer(challenge_id)
    children = game.children(13, 0)
    path = descent.child_path(Purpose.TRAJECTORY, children, 5)
    move = (follow_child, game, challenge_id)
    refused("game: not a child of the node", *move, 6, children[5], path)
    refused("game: not a child of the node", *move, 5, children[6], path)
    refused("game: not a child of the node", *move, 5, children[5], path[::-1])
    refused("game: wrong path length", *move, 5, children[5], path[:-1])
    refused("game: no such child", *move, 64, children[5], path)
    refused("game: no such child", *move, 2**256 - 1, children[5], path)
    follow_child(game, challenge_id, 5, children[5], path)
    refused("game: the solver is to move", *move, 5, children[5], path)


def test_padding_is_not_followed() -> None:
    game, alice = trial(10, 1, 4)
    challenge_id = game.accuse(alice, WITHHELD)
    game.answer(challenge_id)
    for k in (11, 15):
        refused("game: padding", follow_child, game, challenge_id, k, bytes(32), [])
    game, alice = trial(4_500, 1, 70)  # whole subtrees of padding
    challenge_id = game.accuse(alice, WITHHELD)
    game.answer(challenge_id)
    refused("game: padding", follow_child, game, challenge_id, 63, bytes(32), [])


def test_no_step_ends_in_the_first_state() -> None:
    game, alice = trial(10, 1, 4)
    challenge_id = game.accuse(alice, WITHHELD)
    game.answer(challenge_id)
    refused(
        "game: the first leaf is right",
        follow_child,
        game,
        challenge_id,
        0,
        bytes(32),
        [],
    )


def test_a_direct_challenge_has_no_node() -> None:
    game, alice = trial(10, 1, 4)
    challenge_id = game.accuse(alice, 4)
    refused("game: not at a node", follow_child, game, challenge_id, 1, bytes(32), [])
    refused(
        "game: not at a segment",
        *(game.chain.send, alice, "DisputeGame", "descend_inner"),
        *(challenge_id, [], 0),
    )


def test_a_segment_is_not_judged_whole() -> None:
    game, alice = trial(10, 5, 4)
    challenge_id = game.accuse(alice, 0)
    refused("game: not at a single step", game.convict, challenge_id)
    game.answer(challenge_id)
    refused("game: not at a single step", game.convict, challenge_id)
    refused("game: not at a node", follow_child, game, challenge_id, 1, bytes(32), [])


@pytest.mark.parametrize("step", [1, 4, 6, 9])
def test_sparse_challenges_name_the_start_of_a_segment(step: int) -> None:
    game, alice = trial(10, 5, 4)
    challenge_id = game.challenge(alice, step)
    game.chain.mine()
    refused("game: not the start of a segment", game.reveal, challenge_id)


def test_inner_roots_are_those_posted() -> None:
    game, alice = trial(10, 5, 4)
    challenge_id = game.accuse(alice, 0)
    refused("game: the solver is to move", game.follow, challenge_id, honest(10, 5))
    game.answer(challenge_id)
    roots = game.inner(0, 5)
    send = (game.chain.send, alice, "DisputeGame", "descend_inner", challenge_id)
    refused("game: not the roots posted", *send, roots[:-1], 0)
    refused("game: not the roots posted", *send, roots[::-1], 0)
    refused("game: no such part", *send, roots, 5)
    refused("game: no such part", *send, roots, 2**256 - 1)
    refused(
        "game: not the challenger",
        *(game.chain.send, game.solver, "DisputeGame", "descend_inner"),
        *(challenge_id, roots, 0),
    )
    game.chain.send(alice, "DisputeGame", "descend_inner", challenge_id, roots, 4)
    assert (game.view(challenge_id).start, game.view(challenge_id).end) == (4, 5)


def test_inner_roots_bind_the_solver() -> None:
    """The pair judged inside a segment is the one posted, and no other."""
    game, alice = trial(10, 5, 2)
    challenge_id = game.accuse(alice, 0)
    game.answer(challenge_id)
    game.follow(challenge_id, honest(10, 5))
    game.judge(2)
    pre, post = game.trajectory.states[2:4]
    truth = honest(10).states[3]
    send = (game.chain.send, alice, "DisputeGame", "convict", challenge_id)
    refused("game: not the root posted", *send, pre, [], truth, [])
    refused("game: not the root posted", *send, truth, [], post, [])
    refused("game: not the root posted", *send, bytes(32), [], bytes(32), [])
    refused("game: not a committed state", *send, pre, [bytes(32)], post, [])
    game.convict(challenge_id)
    assert game.state == SLASHED


def test_a_cheater_that_posts_true_inner_roots_is_convicted_at_the_leaf() -> None:
    steps, every = 10, 5
    game, alice = trial(steps, every, 4)
    shown = [*honest(5).states[:5], *game.trajectory.states[5:]]
    game.trajectory = Trajectory(shown, every)
    challenge_id = game.accuse(alice, 0)
    game.pursue(challenge_id, honest(steps, every))
    assert game.state == SLASHED
