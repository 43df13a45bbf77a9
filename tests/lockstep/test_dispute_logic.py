"""The pure parts of a dispute: what is found, what is opened, what is followed."""

from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from lockstep.client.views import (
    WITHHELD,
    Challenge,
    ChallengeStatus,
    Clocks,
    Job,
    JobState,
    JobTerms,
)
from lockstep.solver.appraisal import Conditions, lateness, objections
from lockstep.solver.defence import (
    OpenNode,
    PostInner,
    answer_record,
    answer_tile,
    bound_path,
    node_children,
    owed_opening,
)
from lockstep.training import Run
from lockstep.whistleblower.finding import compare, differing_part
from lockstep.whistleblower.opened import OpenedTree
from ml_verifier import descent, merkle
from ml_verifier.commitment import verify_opening
from ml_verifier.errors import Malformed
from ml_verifier.merkle import Purpose, verify_path
from ml_verifier.trajectory import Trajectory
from tests.lockstep.workload import work


def roots(count: int, wrong_from: int | None = None) -> tuple[bytes, ...]:
    """Made-up state roots, other ones from some position on."""
    return tuple(
        bytes([1 if wrong_from is not None and i >= wrong_from else 0])
        + i.to_bytes(31, "big")
        for i in range(count)
    )


def trajectory(steps: int, every: int, wrong_leaf: int | None = None) -> Trajectory:
    count = -(-steps // every) + 1
    return Trajectory(steps, every, roots(count, wrong_leaf))


def challenge(level: int, index: int, start: int, end: int) -> Challenge:
    return Challenge(
        id=1,
        job_id=1,
        challenger="0x" + "11" * 20,
        bond=1,
        commitment=bytes(32),
        committed_at=1,
        committed_block=1,
        status=ChallengeStatus.PENDING,
        named=WITHHELD,
        weight=1,
        awaits=b"\1" * 32,
        level=level,
        index=index,
        start=start,
        end=end,
        moved_at=1,
        challenger_spent=0,
        solver_spent=0,
    )


def test_a_right_commitment_has_no_finding() -> None:
    mine = trajectory(20, 1)
    assert compare(mine, mine.root, None) is None


@pytest.mark.parametrize(("every", "leaf", "named"), [(1, 13, 12), (7, 2, 7)])
def test_the_first_bad_place_is_named(every: int, leaf: int, named: int) -> None:
    mine, theirs = trajectory(20, every), trajectory(20, every, leaf)
    found = compare(mine, theirs.root, theirs.leaves)
    assert found is not None
    assert (found.leaf, found.named) == (leaf, named)


def test_unpublished_leaves_are_named_as_withheld() -> None:
    found = compare(trajectory(20, 1), trajectory(20, 1, 5).root, None)
    assert found is not None
    assert (found.leaf, found.named) == (None, WITHHELD)


@given(st.integers(2, 400), st.data())
def test_the_differing_part_ends_in_the_first_wrong_root(
    length: int, data: st.DataObject
) -> None:
    start = 5
    wrong = data.draw(st.integers(start + 1, start + length))
    mine, theirs = roots(start + length + 1), roots(start + length + 1, wrong)
    positions = descent.inner_positions(start, start + length)
    part = differing_part(
        mine, start, start + length, [theirs[position] for position in positions]
    )
    ends = [start, *positions, start + length]
    assert ends[part] < wrong <= ends[part + 1]


@given(st.integers(1, 5000), st.data())
def test_a_descent_reaches_the_first_wrong_leaf_with_both_paths(
    steps: int, data: st.DataObject
) -> None:
    """Whatever the size, opened nodes lead to the difference and give its proofs."""
    wrong = data.draw(st.integers(1, steps))
    mine, theirs = trajectory(steps, 1), trajectory(steps, 1, wrong)
    opened: dict[tuple[int, int, bytes], list[bytes]] = {}

    def openings(level: int, index: int, node: bytes) -> list[bytes] | None:
        return opened.get((level, index, node))

    level, index, node = theirs.tree.depth, 0, theirs.root
    while level > 0:
        tree = OpenedTree(theirs.root, mine, openings)
        assert tree.move(level, index) is None, "nothing to follow before it is open"
        children = descent.descendants(theirs.tree, level, index)
        below = descent.child_level(level)
        if below == 0:
            first = index << level
            leaves = list(theirs.leaves[first : first + len(children)])
            children = leaves + [merkle.EMPTY] * (len(children) - len(leaves))
        opened[level, index, node] = children
        move = OpenedTree(theirs.root, mine, openings).move(level, index)
        assert move is not None
        level, index, node = below, (index << (level - below)) + move.child, move.node
    assert index == wrong
    tree = OpenedTree(theirs.root, mine, openings)
    for leaf in (wrong - 1, wrong):
        assert tree.leaf(leaf) == theirs.leaves[leaf]
        assert tree.path(leaf) == theirs.path(leaf)
        verify_path(
            Purpose.TRAJECTORY,
            theirs.root,
            steps + 1,
            leaf,
            tree.leaf(leaf),
            tree.path(leaf),
        )


def test_a_path_that_nobody_opened_is_not_invented() -> None:
    steps = 200
    mine, theirs = trajectory(steps, 1), trajectory(steps, 1, 10)
    depth = theirs.tree.depth
    top = descent.descendants(theirs.tree, depth, 0)

    def openings(level: int, _index: int, _node: bytes) -> list[bytes] | None:
        return top if level == depth else None

    with pytest.raises(Malformed, match="leaf 150 is not known"):
        OpenedTree(theirs.root, mine, openings).path(150)


@pytest.fixture
def finished(tmp_path: Path) -> Run:
    run = Run(work(100), tmp_path)
    while not run.done:
        run.step()
    return run


MOVES, WAITS = Clocks(0, 0, solver_moves=True), Clocks(0, 0, solver_moves=False)


def test_a_node_is_opened_by_what_hashes_to_it(finished: Run) -> None:
    tree = finished.trajectory().tree
    owed = owed_opening(challenge(7, 0, 0, 0), MOVES, finished)
    assert isinstance(owed, OpenNode)
    assert (
        descent.fold_descendants(Purpose.TRAJECTORY, owed.children)
        == (tree.levels[7][0])
    )
    leaves = node_children(finished, 1, 50)
    assert leaves == [finished.roots[100], merkle.EMPTY]


def test_nothing_is_opened_out_of_turn(finished: Run) -> None:
    assert owed_opening(challenge(7, 0, 0, 0), WAITS, finished) is None


def test_a_segment_is_opened_by_its_inner_roots(finished: Run) -> None:
    owed = owed_opening(challenge(0, 0, 10, 14), MOVES, finished)
    assert owed == PostInner(10, 14, finished.roots[11:14])


def test_demands_are_answered_by_openings(finished: Run) -> None:
    dataset = finished.work.dataset
    record = answer_record(finished, 4)
    verify_path(
        Purpose.RECORD, dataset.root, dataset.records, 4, record.payload, record.path
    )
    tile = answer_tile(finished, 17, 1, 0)
    verify_opening(finished.roots[17], 1, 0, tile.opening)
    verify_path(
        Purpose.TRAJECTORY,
        finished.trajectory().root,
        101,
        17,
        tile.state_root,
        tile.path,
    )


def test_a_state_between_leaves_has_no_path(tmp_path: Path) -> None:
    run = Run(work(10, 4), tmp_path)
    while not run.done:
        run.step()
    assert bound_path(run, 3) == []
    assert bound_path(run, 4) == run.trajectory().path(1)
    assert bound_path(run, 10) == run.trajectory().path(3)


def open_job() -> Job:
    terms = JobTerms(bytes(32), 1, 1, bytes(32), 10, 1, 5, 10, 10, 10, 20, reopen=False)
    return Job(
        id=1,
        creator="0x" + "aa" * 20,
        solver="0x" + "00" * 20,
        state=JobState.OPEN,
        program_root=bytes(32),
        terms=terms,
        opened_at=0,
        price=0,
        deadline=0,
        root=bytes(32),
        final_root=bytes(32),
        committed_at=0,
        trial=bytes(32),
        steps_done=0,
        dispute_gas=0,
    )


@pytest.mark.parametrize(
    ("price", "funds", "conditions", "said"),
    [
        (9, 20, Conditions(), None),
        (9, 20, Conditions(minimum_price=9, maximum_stake=20), None),
        (9, 20, Conditions(creators=frozenset({"0x" + "aa" * 20})), None),
        (9, 20, Conditions(creators=frozenset({"0x" + "bb" * 20})), "creator"),
        (9, 20, Conditions(minimum_price=10), "pays 9 wei, not 10 yet"),
        (9, 20, Conditions(maximum_stake=19), "above 19"),
        (9, 19, Conditions(), "we have 19"),
        (9, 20, Conditions(minimum_rate=3 * 10**12), None),
        (9, 20, Conditions(minimum_rate=3 * 10**12 + 1), "for 10^12 work units"),
    ],
)
def test_a_job_is_wanted_or_told_why_not(
    price: int, funds: int, conditions: Conditions, said: str | None
) -> None:
    found = objections(open_job(), price, 3, funds, conditions)
    assert (found == []) == (said is None)
    assert said is None or said in found[0]


def test_a_job_must_fit_its_deadline_twice() -> None:
    assert lateness(100, 10.0, 20.0) is None
    assert "takes 10 s here" in (lateness(100, 10.0, 19.0) or "")
