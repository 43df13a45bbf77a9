# pragma version 0.4.3
"""
@title facts
@license Apache-2.0
@notice Keys of the permanent facts of a trial. Each begins with the tag of its kind,
        and a trial is itself a hash over (genesis hash, JobMarket, job, commitment).
"""

NODE: constant(uint256) = 1
SEGMENT: constant(uint256) = 2
VERDICT: constant(uint256) = 3
RECORD: constant(uint256) = 4
TILE: constant(uint256) = 5


@internal
@pure
def _node(trial: bytes32, level: uint256, index: uint256, node: bytes32) -> bytes32:
    """
    @notice Node (level, index) of the commitment's tree is opened; the topmost node is
            named by the root.
    """
    return keccak256(abi_encode(NODE, trial, level, index, node))


@internal
@pure
def _segment(trial: bytes32, start: uint256, end: uint256) -> bytes32:
    """
    @notice The solver has posted states between `start` and `end`.
    """
    return keccak256(abi_encode(SEGMENT, trial, start, end))


@internal
@pure
def _verdict(
    trial: bytes32, position: uint256, pre_root: bytes32, post_root: bytes32
) -> bytes32:
    """
    @notice The step at `position` from `pre_root` is judged against `post_root`.
    """
    return keccak256(abi_encode(VERDICT, trial, position, pre_root, post_root))


@internal
@pure
def _record(trial: bytes32, record: uint256) -> bytes32:
    """
    @notice A record of the data has been shown.
    """
    return keccak256(abi_encode(RECORD, trial, record))


@internal
@pure
def _tile(
    trial: bytes32, position: uint256, slot: uint256, tile: uint256
) -> bytes32:
    """
    @notice A tile of the state at `position` has been shown.
    """
    return keccak256(abi_encode(TILE, trial, position, slot, tile))
