# pragma version 0.4.3
"""
@title merkle
@license Apache-2.0
@notice SHA-256 Merkle trees of the protocol, as `ml_verifier.merkle` builds them.
        leaf = sha256(0 || purpose || payload), node = sha256(1 || purpose || left ||
        right), root = sha256(2 || purpose || uint64(count) || top). The bottom level is
        padded with zero nodes to a power of two; an index below `count` is demanded
        everywhere, so padding cannot be named.
"""

# The purposes of the trees that contracts open (third byte of the domain).
RECORD: constant(Bytes[1]) = x"01"
TRAJECTORY: constant(Bytes[1]) = x"02"

MAX_DEPTH: constant(uint256) = 40
MAX_RECORD_BYTES: constant(uint256) = 16_384
# Descendants that one move opens: six levels of a tree.
LEVELS_PER_MOVE: constant(uint256) = 6
FAN_OUT: constant(uint256) = 64


@internal
@pure
def _depth(count: uint256) -> uint256:
    """
    @notice Levels between a leaf and the top of a tree of `count` leaves.
    """
    assert count <= 1 << MAX_DEPTH, "merkle: too many leaves"
    for levels: uint256 in range(MAX_DEPTH + 1):
        if count <= 1 << levels:
            return levels
    raise "merkle: too many leaves"


@internal
@pure
def _trajectory_leaf(state_root: bytes32) -> bytes32:
    """
    @notice Node of a state root at the bottom of a trajectory's tree.
    """
    return sha256(concat(x"00", TRAJECTORY, state_root))


@internal
@pure
def _record_leaf(record: Bytes[MAX_RECORD_BYTES]) -> bytes32:
    """
    @notice Node of a record at the bottom of a data tree.
    """
    return sha256(concat(x"00", RECORD, record))


@internal
@pure
def _climb(
    purpose: Bytes[1], node: bytes32, index: uint256, path: DynArray[bytes32, MAX_DEPTH]
) -> bytes32:
    """
    @notice Ancestor that `path` (siblings, bottom-up) leads to from `node`.
    """
    ancestor: bytes32 = node
    side: uint256 = index
    for sibling: bytes32 in path:
        if side & 1 == 1:
            ancestor = sha256(concat(x"01", purpose, sibling, ancestor))
        else:
            ancestor = sha256(concat(x"01", purpose, ancestor, sibling))
        side >>= 1
    return ancestor


@internal
@pure
def _fold(nodes: DynArray[bytes32, FAN_OUT]) -> bytes32:
    """
    @notice Trajectory node above `nodes`, whose number is a power of two.
    """
    level: DynArray[bytes32, FAN_OUT] = nodes
    width: uint256 = len(nodes)
    for _: uint256 in range(LEVELS_PER_MOVE):
        if width == 1:
            break
        width >>= 1
        for i: uint256 in range(width, bound=32):
            level[i] = sha256(concat(x"01", TRAJECTORY, level[2 * i], level[2 * i + 1]))
    return level[0]


@internal
@pure
def _seal(purpose: Bytes[1], count: uint256, top: bytes32) -> bytes32:
    """
    @notice Root of a tree: its top bound to its number of leaves.
    """
    return sha256(concat(x"02", purpose, convert(convert(count, uint64), bytes8), top))


@internal
@pure
def _root(
    purpose: Bytes[1],
    leaf: bytes32,
    index: uint256,
    count: uint256,
    path: DynArray[bytes32, MAX_DEPTH],
) -> bytes32:
    """
    @notice Root that `path` leads to from leaf node `index` of `count`.
    """
    assert index < count, "merkle: no such leaf"
    assert len(path) == self._depth(count), "merkle: wrong path length"
    return self._seal(purpose, count, self._climb(purpose, leaf, index, path))
