from dataclasses import dataclass
from typing import Any

import pytest
from typing_extensions import override

from ml_verifier import descent
from ml_verifier.judge import ReplayCall
from tests.contracts import toy
from tests.contracts.chain import Chain, Reverted
from tests.contracts.conftest import STEPS, WRONG
from tests.contracts.play import Game, refused, replay_data
from tests.contracts.toy import ToyJudge, cheating, honest, witness

VALID = b"VALID".ljust(32, b"\0")
INVALID = b"INVALID".ljust(32, b"\0")


def answering(output: bytes) -> bytes:
    """Code that returns up to 64 bytes whatever it is asked."""
    padded = output.ljust(64, b"\0")
    return (
        b"\x7f" + padded[:32] + b"\x5f\x52" + b"\x7f" + padded[32:] + b"\x60\x20\x52"
        b"\x60" + bytes((len(output),)) + b"\x5f\xf3"
    )


# ── verdicts ─────────────────────────────────────────────────────────────────


def test_a_verdict_is_recorded_and_returned(fraud: Game) -> None:
    assert fraud.judge(WRONG - 1) == VALID
    assert fraud.verdict(WRONG - 1) == 1
    assert fraud.judge(WRONG) == INVALID
    assert fraud.verdict(WRONG) == 2
    assert fraud.verdict(WRONG + 1) == 0


def test_a_pair_is_judged_once(fraud: Game) -> None:
    fraud.judge(WRONG)
    refused("evidence: already judged", fraud.judge, WRONG)


def test_a_verdict_on_strange_states_says_nothing_about_the_job(fair: Game) -> None:
    pre = b"\x05" * 32
    data = replay_data(fair.trial, 3, pre, bytes(32), witness(pre))
    assert fair.chain.send_raw(fair.creator, "Evidence", data).output == INVALID
    assert fair.verdict(3) == 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"program_root": bytes(32)}, "evidence: another program"),
        ({"data_root": bytes(32)}, "evidence: other data"),
        ({"seed": toy.SEED + 1}, "evidence: another seed"),
        ({"records": 1}, "evidence: another number of records"),
    ],
)
def test_the_verdict_is_about_this_job(
    fraud: Game, change: dict[str, Any], reason: str
) -> None:
    pre, post = fraud.trajectory.states[WRONG : WRONG + 2]
    data = replay_data(fraud.trial, WRONG, pre, post, witness(pre), **change)
    refused(reason, fraud.chain.send_raw, fraud.creator, "Evidence", data)


def test_the_verdict_is_about_a_known_trial_and_step(fraud: Game) -> None:
    send = (fraud.chain.send_raw, fraud.creator, "Evidence")
    pre, post = fraud.trajectory.states[WRONG : WRONG + 2]
    unknown = replay_data(bytes(32), WRONG, pre, post, witness(pre))
    refused("evidence: unknown trial", *send, unknown)
    beyond = replay_data(fraud.trial, STEPS, pre, post, witness(pre))
    refused("evidence: no such step", *send, beyond)
    far = replay_data(fraud.trial, 2**256 - 1, pre, post, witness(pre))
    refused("evidence: no such step", *send, far)


def test_what_the_precompile_refuses_is_no_verdict(fraud: Game) -> None:
    pre, post = fraud.trajectory.states[WRONG : WRONG + 2]
    good = replay_data(fraud.trial, WRONG, pre, post, witness(pre))
    forged = replay_data(fraud.trial, WRONG, pre, post, witness(post))
    for data in (forged, good + bytes(32), good[:-32]):
        with pytest.raises(Reverted):
            fraud.chain.send_raw(fraud.creator, "Evidence", data)
    assert fraud.verdict(WRONG) == 0


@pytest.mark.parametrize(
    "output",
    [b"", b"INVALID", INVALID[:31], INVALID + b"\0", INVALID * 2, bytes(32)],
)
def test_only_32_bytes_that_say_so_are_a_verdict(output: bytes) -> None:
    chain = Chain()
    liar = chain.install("liar", answering(output))
    chain = Chain(ml_verifier=liar)
    chain.install("liar", answering(output))
    game = Game(chain, cheating(STEPS, WRONG))
    # The market asks the same liar for admission, so it needs an answer of five words.
    chain.install("liar", b"\x60\xa0\x5f\xf3")
    game.start()
    chain.install("liar", answering(output))
    pre, post = game.trajectory.states[WRONG : WRONG + 2]
    data = replay_data(
        *(game.trial, WRONG, pre, post, witness(pre)), program_root=bytes(32)
    )
    refused("evidence: no verdict", chain.send_raw, game.creator, "Evidence", data)
    chain.install("liar", answering(INVALID))
    assert chain.send_raw(game.creator, "Evidence", data).output == INVALID


@dataclass
class DeafJudge(ToyJudge):
    """A judge that needs more gas than a transaction has."""

    @override
    def replay_gas(self, call: ReplayCall) -> int:
        return 16_600_000 + len(call.witness)


def test_out_of_gas_convicts_nobody() -> None:
    game = Game(Chain(DeafJudge()), cheating(STEPS, WRONG)).start()
    with pytest.raises(Reverted):
        game.judge(WRONG)
    assert game.verdict(WRONG) == 0


@pytest.mark.parametrize("size", [32, 30_720, 262_144])
def test_a_witness_of_any_admitted_size_passes(fraud: Game, size: int) -> None:
    pre, post = fraud.trajectory.states[WRONG : WRONG + 2]
    data = replay_data(fraud.trial, WRONG, pre, post, witness(pre, size))
    assert fraud.chain.send_raw(fraud.creator, "Evidence", data).output == INVALID


def test_a_larger_witness_does_not(fraud: Game) -> None:
    pre, post = fraud.trajectory.states[WRONG : WRONG + 2]
    data = replay_data(fraud.trial, WRONG, pre, post, witness(pre, 262_145))
    with pytest.raises(Reverted):
        fraud.chain.send_raw(fraud.creator, "Evidence", data)


@pytest.mark.parametrize("data", [b"", b"\x01", bytes(260), b"\x01" * 300])
def test_evidence_knows_no_other_call(fair: Game, data: bytes) -> None:
    refused(
        "evidence: unknown call",
        *(fair.chain.send_raw, fair.creator, "Evidence", data),
    )


def test_evidence_takes_no_money(fraud: Game) -> None:
    pre, post = fraud.trajectory.states[WRONG : WRONG + 2]
    data = replay_data(fraud.trial, WRONG, pre, post, witness(pre))
    for call in (b"", data):
        with pytest.raises(Reverted):
            fraud.chain.send_raw(fraud.creator, "Evidence", call, value=1)


# ── opened nodes ─────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("steps", "depth"), [(1, 1), (10, 4), (63, 6), (64, 7)])
def test_anyone_opens_the_root(steps: int, depth: int, alice: bytes) -> None:
    del alice
    chain = Chain()
    game = Game(chain, honest(steps)).start()
    opened = game.open_node(depth, 0, chain.fund("alice")).event("NodeOpened")
    root = game.trajectory.tree.root
    assert opened.node == root
    fact = chain.call("Evidence", "node_fact", game.trial, depth, 0, root)
    assert chain.call("Evidence", "recorded_at", fact) == chain.now
    refused("evidence: already recorded", game.open_node, depth, 0)


def test_nodes_below_hash_to_the_levels_of_the_tree() -> None:
    game = Game(Chain(), honest(100)).start()
    levels = game.trajectory.tree.levels
    for index in (0, 50):  # two leaves each, and one beside the padding
        opened = game.open_node(1, index).event("NodeOpened")
        assert opened.node == levels[1][index]


def test_what_is_forged_opens_another_node(fair: Game) -> None:
    chain = fair.chain
    children = fair.children(4, 0)
    children[3] = b"\x01" * 32
    opened = chain.send(
        *(fair.solver, "Evidence", "open_node", fair.job_id, 4, 0, children)
    ).event("NodeOpened")
    assert opened.node != fair.trajectory.tree.root
    fair.open_node(4, 0)


@pytest.mark.parametrize(
    ("level", "index", "count", "reason"),
    [
        (0, 0, 1, "evidence: no such level"),
        (5, 0, 32, "evidence: no such level"),
        (2**255, 0, 64, "evidence: no such level"),
        (4, 1, 16, "evidence: no such node"),
        (1, 8, 2, "evidence: no such node"),
        (4, 0, 8, "evidence: wrong number of children"),
        (4, 0, 0, "evidence: wrong number of children"),
        (4, 0, 32, "evidence: wrong number of children"),
        (1, 6, 2, "evidence: padding"),
    ],
)
def test_nodes_that_do_not_exist_are_not_opened(
    fair: Game, level: int, index: int, count: int, reason: str
) -> None:
    children = [b"\x01" * 32] * count
    refused(
        reason,
        *(fair.chain.send, fair.solver, "Evidence", "open_node"),
        *(fair.job_id, level, index, children),
    )


def test_padding_is_zero(fair: Game) -> None:
    children = fair.children(4, 0)
    children[-1] = b"\x01" * 32
    refused(
        "evidence: padding",
        *(fair.chain.send, fair.solver, "Evidence", "open_node"),
        *(fair.job_id, 4, 0, children),
    )


def test_nothing_is_opened_before_the_commitment(chain: Chain) -> None:
    game = Game(chain, honest(STEPS))
    game.post()
    game.take()
    refused("evidence: no commitment", game.open_node, 4, 0)
    refused("evidence: no commitment", game.post_inner, 0, 4)


# ── inner roots ──────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("start", "end"), [(0, 2), (0, 64), (0, 65), (64, 200), (100, 101)]
)
def test_the_solver_posts_inner_roots_once(start: int, end: int) -> None:
    chain = Chain()
    game = Game(chain, honest(200, every=200)).start()
    event = game.post_inner(start, end).event("InnerPosted")
    positions = descent.inner_positions(start, end)
    assert list(event.roots) == [game.trajectory.states[p] for p in positions]
    refused("evidence: already recorded", game.post_inner, start, end)


def test_only_the_solver_posts_inner_roots(chain: Chain, alice: bytes) -> None:
    game = Game(chain, honest(STEPS, every=5)).start()
    refused(
        "evidence: not the solver",
        *(chain.send, alice, "Evidence", "post_inner"),
        *(game.job_id, 0, 5, game.inner(0, 5)),
    )


@pytest.mark.parametrize(
    ("start", "end", "count", "reason"),
    [
        (0, 5, 3, "evidence: wrong number of roots"),
        (0, 5, 5, "evidence: wrong number of roots"),
        (0, 200, 62, "evidence: wrong number of roots"),
        (5, 5, 0, "evidence: no such segment"),
        (6, 5, 0, "evidence: no such segment"),
        (199, 201, 1, "evidence: no such segment"),
        (2**256 - 2, 2**256 - 1, 0, "evidence: no such segment"),
    ],
)
def test_inner_roots_fit_their_segment(
    start: int, end: int, count: int, reason: str
) -> None:
    game = Game(Chain(), honest(200, every=200)).start()
    refused(
        reason,
        *(game.chain.send, game.solver, "Evidence", "post_inner"),
        *(game.job_id, start, end, [b"\1" * 32] * count),
    )


def test_a_zero_inner_root_binds_nobody_and_is_refused() -> None:
    """Zero means "not posted": a pair that ends in it could never be convicted."""
    game = Game(Chain(), honest(10, every=10)).start()
    roots = game.inner(0, 10)
    roots[4] = bytes(32)
    refused(
        "evidence: no root",
        *(game.chain.send, game.solver, "Evidence", "post_inner"),
        *(game.job_id, 0, 10, roots),
    )
