"""``bind``: an operator, its attributes and its buffers become a cheap call."""

import ctypes
import errno
from collections.abc import Callable, Mapping, Sequence

from ml_verifier.kernels.errors import BindingError
from ml_verifier.kernels.library import LIBRARY, Call
from ml_verifier.kernels.plan import Plan
from ml_verifier.kernels.planners import IN_PLACE, PLANNERS
from ml_verifier.kernels.request import (
    BFLOAT,
    FLOAT,
    Array,
    AttributeValue,
    Request,
    address,
)

MAX_SCRATCH_BYTES = 1 << 32  # of one scratch area
OPTIMISERS = frozenset(LIBRARY.lockstep_operator(name.encode()) for name in IN_PLACE)
CHECK = LIBRARY.lockstep_operator(b"require_finite")
CHECKED = 2  # of an optimiser's sizes: whether it checks its outputs


class BoundCall(Call):
    """A call that keeps the buffers alive whose addresses it holds."""

    buffers: tuple[Array, ...]


def prepare(plan: Plan) -> BoundCall:
    """Writes a plan into C memory and reserves the scratch that it needs.

    Raises:
        BindingError: it needs more scratch than any program may use.
        MemoryError: the scratch cannot be allocated.
    """
    call = BoundCall()
    call.operator_index = LIBRARY.lockstep_operator(plan.operator.encode())
    if call.operator_index < 0:
        raise BindingError(f"the library has no operator {plan.operator!r}")
    call.buffers = (*plan.inputs, *plan.outputs)
    call.inputs[: len(plan.inputs)] = [address(x) for x in plan.inputs]
    call.outputs[: len(plan.outputs)] = [address(x) for x in plan.outputs]
    call.size[: len(plan.sizes)] = list(plan.sizes)
    call.scalar[: len(plan.scalars)] = list(plan.scalars)
    status = LIBRARY.lockstep_prepare(ctypes.byref(call), MAX_SCRATCH_BYTES)
    if status == errno.ENOMEM:
        raise MemoryError(f"no memory for the scratch of {plan.operator}")
    if status != 0:
        raise BindingError(
            f"{plan.operator}: needs more than {MAX_SCRATCH_BYTES} bytes of scratch"
        )
    return call


def bind(
    name: str,
    attributes: Mapping[str, AttributeValue],
    inputs: Sequence[Array],
    outputs: Sequence[Array],
) -> Callable[[], int]:
    """Binds an operator to these very buffers.

    Args:
        name: an operator of ``ml_verifier.operators``.
        attributes: its attributes, complete.
        inputs: C-contiguous float32 or int64 arrays, read by each call.
        outputs: likewise, overwritten by each call; they share no memory with other
            buffers, except that an optimiser may write the buffers that it reads.

    Returns:
        A function of no arguments that runs the operator and returns 0, or 1 when it
        traps (an index out of range); then the outputs' contents are unspecified.

    Raises:
        BindingError: unknown operator, or buffers that do not fit it.
        MemoryError: its scratch cannot be allocated.
    """
    planner = PLANNERS.get(name)
    if planner is None:
        raise BindingError(f"no operator {name!r}; there are {', '.join(PLANNERS)}")
    request = Request(name, attributes, inputs, outputs)
    plan = planner(request)
    request.no_overlap(in_place=name in IN_PLACE)
    return Bound(prepare(plan))


class Bound:
    """One operator bound to its buffers."""

    __slots__ = ("_reference", "call")

    def __init__(self, call: BoundCall) -> None:
        self.call = call
        self._reference = ctypes.byref(call)

    def __call__(self) -> int:
        """Runs the operator; non-zero when it traps."""
        status: int = LIBRARY.lockstep_run(self._reference)
        return status


def finite(array: Array) -> Callable[[], int]:
    """Returns a call that traps when an element of this very buffer is not finite.

    Args:
        array: C-contiguous float32, or uint16 that holds bfloat16.

    Raises:
        BindingError: it is no such array.
    """
    request = Request("finite", {}, [array], [])
    request.expect(1, 0)
    dtype = BFLOAT if array.dtype == BFLOAT else FLOAT
    x = request.input(0, dtype=dtype)
    return Bound(prepare(Plan("require_finite", (x,), (), (x.size, dtype.itemsize))))


def _checking(optimiser: BoundCall, rest: list[BoundCall]) -> list[BoundCall]:
    """An optimiser and the calls after it, its outputs checked where they are made."""
    outputs = {address for address in optimiser.outputs if address}
    checks = rest[: len(outputs)]
    checked = {call.inputs[0] for call in checks if call.operator_index == CHECK}
    if checked != outputs:
        return [optimiser, *rest]
    checking = BoundCall.from_buffer_copy(optimiser)
    checking.buffers = optimiser.buffers
    checking.size[CHECKED] = 1
    return [checking, *rest[len(checks) :]]


def sequence(calls: Sequence[Callable[[], int]]) -> Callable[[], int]:
    """Returns one call that makes these, results of ``bind``, in order.

    It stops at the first that traps, and returns 1 then. An optimiser that is followed
    by checks that its outputs are finite makes them itself, in the same pass.

    Raises:
        BindingError: one of them does not come from ``bind``.
    """
    bound: list[BoundCall] = []
    for call in calls:
        if not isinstance(call, Bound):
            raise BindingError(f"expected a call of bind, got {call!r}")
        bound.append(call.call)
    for i in reversed(range(len(bound))):
        if bound[i].operator_index in OPTIMISERS:
            bound[i:] = _checking(bound[i], bound[i + 1 :])
    pointers = (ctypes.POINTER(Call) * len(bound))(
        *(ctypes.cast(ctypes.byref(call), ctypes.POINTER(Call)) for call in bound)
    )

    def run(kept: Sequence[BoundCall] = bound) -> int:
        status: int = LIBRARY.lockstep_run_all(pointers, len(kept))
        return status

    return run
