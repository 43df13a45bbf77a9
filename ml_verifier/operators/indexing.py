"""Reads and writes through indices along an axis, and order along the last one."""

from ml_verifier.operators.base import (
    MOVE,
    AttributeNames,
    Attributes,
    Operator,
    Types,
    expect,
    integer,
    is_f32,
    per_element,
    row,
)
from ml_verifier.types import MAX_RANK, DType, TensorType, f32, i64

MAX_SORTED = 4_096  # elements of a sorted row: evidence about one of them opens all
SORT_LENGTH = 16_384  # of the kernels' two buffers
SORT_MACS = 4  # one element of a sort for each doubling of its row, in MACs of time
WORD_BYTES = 8  # of an element while it is sorted
CHAIN_MACS = 8  # one addition that waits for the one before it


def _is_index(t: TensorType) -> bool:
    return t.dtype is DType.I64


def _axis(t: Types, a: Attributes) -> int:
    """Return the axis that is indexed; the first input has it."""
    axis = integer(a, "axis")
    expect(axis < len(t[0].shape), f"a first input that has axis {axis}", t)
    return axis


def _replaced(shape: tuple[int, ...], axis: int, *sizes: int) -> tuple[int, ...]:
    return (*shape[:axis], *sizes, *shape[axis + 1 :])


def _take(t: Types, a: Attributes) -> tuple[TensorType, ...]:
    shape = _replaced(t[0].shape, _axis(t, a), *t[1].shape)
    expect(_is_index(t[1]), "i64 indices", t)
    expect(len(shape) <= MAX_RANK, f"an output of rank at most {MAX_RANK}", t)
    return (TensorType(t[0].dtype, shape),)


def _scatter_rows(t: Types, a: Attributes) -> tuple[TensorType, ...]:
    axis, (g, index) = integer(a, "axis"), t
    end = axis + len(index.shape)
    ok = is_f32(g) and _is_index(index) and g.shape[axis:end] == index.shape
    expect(ok and end <= len(g.shape), f"f32 g with i64 indices at axis {axis}", t)
    expect(integer(a, "size") > 0, "a size above 0", t)
    expect(integer(a, "skip") < 2**32, "a skipped index of 32 bits", t)
    shape = (*g.shape[:axis], integer(a, "size"), *g.shape[end:])
    expect(len(shape) <= MAX_RANK, f"an output of rank at most {MAX_RANK}", t)
    return (f32(*shape),)


def _expect_along(t: Types, a: Attributes) -> None:
    """The indices are of the first input's shape, except for the axis."""
    axis, index = _axis(t, a), t[1]
    ok = _is_index(index) and len(index.shape) == len(t[0].shape)
    ok = ok and _replaced(t[0].shape, axis, index.shape[axis]) == index.shape
    expect(ok, f"i64 indices of the first input's shape but for axis {axis}", t)


def _gather(t: Types, a: Attributes) -> tuple[TensorType, ...]:
    _expect_along(t, a)
    return (TensorType(t[0].dtype, t[1].shape),)


def _scatter(t: Types, a: Attributes) -> tuple[TensorType, ...]:
    _expect_along(t, a)
    source = TensorType(t[0].dtype, t[1].shape)
    expect(t[2] == source, f"a source {source}", t)
    return (t[0],)


def _scatter_add(t: Types, a: Attributes) -> tuple[TensorType, ...]:
    expect(is_f32(t[0]), "an f32 base", t)
    return _scatter(t, a)


def _expect_rows(t: Types) -> None:
    expect(is_f32(t[0]) and t[0].shape, "f32 x[..., C]", t)


def _sort(t: Types, a: Attributes) -> tuple[TensorType, ...]:
    _expect_rows(t)
    expect(integer(a, "descending") in {0, 1}, "descending of 0 or 1", t)
    expect(t[0].shape[-1] <= MAX_SORTED, f"rows of at most {MAX_SORTED} elements", t)
    return (t[0], i64(*t[0].shape))


def _sort_macs(inputs: Types, _: Types, __: Attributes) -> int:
    return SORT_MACS * inputs[0].size * inputs[0].shape[-1].bit_length()


def _sort_scratch(_: Types, __: Types, ___: Attributes) -> int:
    """Bytes of two rows of words."""
    return 2 * WORD_BYTES * SORT_LENGTH


def _sort_traffic(inputs: Types, _: Types, __: Attributes) -> int:
    """Bytes of all words, in and out; between, they stay in the cache."""
    return 2 * WORD_BYTES * inputs[0].size


def _cumsum(t: Types, _: Attributes) -> tuple[TensorType, ...]:
    _expect_rows(t)
    return (t[0],)


def _reduced(t: Types, a: Attributes) -> tuple[int, ...]:
    """Return the shape without its last axis, or with 1 there."""
    _expect_rows(t)
    keep = integer(a, "keepdim")
    expect(keep in {0, 1} and t[0].shape[-1] > 0, "keepdim of 0 or 1, C above 0", t)
    return (*t[0].shape[:-1], 1) if keep else t[0].shape[:-1]


def _amax(t: Types, a: Attributes) -> tuple[TensorType, ...]:
    return (f32(*_reduced(t, a)),)


def _argmax(t: Types, a: Attributes) -> tuple[TensorType, ...]:
    return (i64(*_reduced(t, a)),)


_AXIS: AttributeNames = (("axis", "int"),)
_KEEP: AttributeNames = (("keepdim", "int"),)

ROWS: tuple[Operator, ...] = (
    row(86, "take", 2, _take, MOVE, _AXIS),
    row(
        87,
        "scatter_rows",
        2,
        _scatter_rows,
        MOVE,
        (*_AXIS, ("size", "int"), ("skip", "int")),
    ),
    row(88, "gather", 2, _gather, MOVE, _AXIS),
    row(89, "scatter_add", 3, _scatter_add, MOVE, _AXIS),
    row(92, "scatter", 3, _scatter, MOVE, _AXIS),
    row(
        93,
        "sort",
        1,
        _sort,
        _sort_macs,
        (("descending", "int"),),
        _sort_scratch,
        _sort_traffic,
    ),
    row(94, "cumsum", 1, _cumsum, per_element(CHAIN_MACS)),
    row(95, "amax", 1, _amax, MOVE, _KEEP),
    row(96, "argmax", 1, _argmax, per_element(2), _KEEP),
)
