"""Trajectories, their leaves, and the descent over them."""

from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from ml_verifier import descent
from ml_verifier.errors import MalformedData
from ml_verifier.merkle import Purpose
from ml_verifier.trajectory import (
    Trajectory,
    committed_positions,
    first_difference,
    leaf_count,
)


def roots(count: int, salt: int = 0) -> tuple[bytes, ...]:
    return tuple((i + (salt << 64)).to_bytes(32, "big") for i in range(count))


@given(st.integers(1, 500), st.integers(1, 600))
def test_committed_positions_start_at_0_and_end_at_the_last_step(
    steps: int, every: int
) -> None:
    positions = committed_positions(steps, every)
    assert positions[0] == 0
    assert positions[-1] == steps
    assert sorted(set(positions)) == positions
    assert len(positions) == leaf_count(steps, every)


def test_published_leaves_of_the_wrong_size_are_refused() -> None:
    trajectory = Trajectory(10, 4, roots(4))
    assert Trajectory.from_bytes(10, 4, trajectory.to_bytes()) == trajectory
    with pytest.raises(MalformedData, match="128 bytes of leaves, got 127"):
        Trajectory.from_bytes(10, 4, trajectory.to_bytes()[:-1])
    with pytest.raises(MalformedData, match="expected 4 leaves"):
        Trajectory(10, 4, roots(5))


def test_first_difference() -> None:
    assert first_difference(roots(5), roots(5)) is None
    changed = (*roots(5)[:2], bytes([1]) * 32, *roots(5)[3:])
    assert first_difference(roots(5), changed) == 2


@given(st.integers(1, 9000), st.data())
def test_the_descent_reaches_the_first_wrong_leaf(
    steps: int, data: st.DataObject
) -> None:
    bad = data.draw(st.integers(1, steps))
    mine = Trajectory(steps, 1, roots(steps + 1))
    theirs = Trajectory(steps, 1, (*roots(bad), *roots(steps + 1, 1)[bad:]))
    level, index, moves = mine.tree.depth, 0, 0
    while level > 0:
        children = descent.descendants(theirs.tree, level, index)
        node = theirs.tree.levels[level][index]
        assert descent.fold_descendants(Purpose.TRAJECTORY, children) == node
        child = descent.first_different_child(mine.tree, level, index, children)
        assert child is not None
        path = descent.child_path(Purpose.TRAJECTORY, children, child)
        assert len(path) == level - descent.child_level(level)
        index = (index << (level - descent.child_level(level))) + child
        level = descent.child_level(level)
        moves += 1
    assert index == bad
    assert moves <= 3


@given(st.integers(0, 10**6), st.integers(1, 10**5))
def test_inner_positions_shrink_every_segment(start: int, length: int) -> None:
    inner = descent.inner_positions(start, start + length)
    ends = [start, *inner, start + length]
    assert len(inner) == min(64, length) - 1
    assert all(a < b for a, b in pairwise(ends))
    assert max(b - a for a, b in pairwise(ends)) <= -(-length // 64)
