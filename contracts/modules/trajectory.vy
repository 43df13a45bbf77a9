# pragma version 0.4.3
"""
@title trajectory
@license Apache-2.0
@notice The committed states of a trajectory h_0 .. h_T: every `commit_every`-th and the
        last are leaves, in order, of the tree whose root the solver commits to.
"""

from contracts.modules import merkle


@internal
@pure
def _leaf_count(steps: uint256, commit_every: uint256) -> uint256:
    """
    @notice Number of committed states.
    """
    return (steps + commit_every - 1) // commit_every + 1


@internal
@pure
def _is_committed(position: uint256, steps: uint256, commit_every: uint256) -> bool:
    """
    @notice Whether the state at `position` is a leaf.
    """
    return position == steps or (position < steps and position % commit_every == 0)


@internal
@pure
def _root(
    state_root: bytes32,
    index: uint256,
    count: uint256,
    path: DynArray[bytes32, merkle.MAX_DEPTH],
) -> bytes32:
    """
    @notice Root that `path` leads to from `state_root` as leaf `index` of `count`.
    """
    leaf: bytes32 = merkle._trajectory_leaf(state_root)
    return merkle._root(merkle.TRAJECTORY, leaf, index, count, path)


@internal
@pure
def _root_at(
    state_root: bytes32,
    position: uint256,
    steps: uint256,
    commit_every: uint256,
    path: DynArray[bytes32, merkle.MAX_DEPTH],
) -> bytes32:
    """
    @notice Root that `path` leads to from `state_root` as the state at `position`,
            which must be committed.
    """
    index: uint256 = (position + commit_every - 1) // commit_every
    return self._root(state_root, index, self._leaf_count(steps, commit_every), path)


@internal
@pure
def _check_padding(count: uint256, last_path: DynArray[bytes32, merkle.MAX_DEPTH]):
    """
    @notice Refuse unless everything behind the last leaf, whose path is given, is
            padding. Else a tree could differ from an honest one where no leaf does, and
            a challenger that descends would find nothing to point at.
    """
    padding: bytes32 = empty(bytes32)
    side: uint256 = count - 1
    for sibling: bytes32 in last_path:
        if side & 1 == 0:
            assert sibling == padding, "trajectory: not padded"
        padding = sha256(concat(x"01", merkle.TRAJECTORY, padding, padding))
        side >>= 1
