"""Golden cases of movement, conversion, comparison, integers, randomness, and lion."""

from collections.abc import Sequence

from ml_verifier.conformance.case import Attributes
from ml_verifier.conformance.inputs import (
    Bfloats,
    Bools,
    Floats,
    Golden,
    Input,
    Integers,
)
from ml_verifier.types import DType

F32, I64, BF16, BOOL = (int(code) for code in DType)
N = 1000
CUBE = (5, 7, 9)
WINDOW = {"starts": (0, 2, 1), "ends": (5, 7, 9), "steps": (1, 2, 3)}
FRAME = {"before": (0, 2, 1), "after": (3, 0, 2)}
BYTES = bytes(range(1, 25))


def _broadcasting(dtype: type[Floats | Integers | Bools]) -> tuple[Input, Input]:
    return dtype((6, 1, 35)), dtype((5, 1))


def _flat(dtype: type[Floats | Integers | Bools]) -> tuple[Input, Input]:
    return dtype((N,)), dtype((N,))


MOVEMENT: Sequence[Golden] = (
    Golden("slice", (Floats(CUBE),), WINDOW),
    Golden(
        "slice",
        (Bools((40, 30)),),
        {"starts": (3, 0), "ends": (40, 9), "steps": (4, 1)},
    ),
    Golden("pad", (Floats(CUBE),), {**FRAME, "value": -1.5}),
    Golden("pad", (Bfloats(CUBE),), {**FRAME, "value": 0.0}),
    Golden("concat", (Floats((4, 2, 9)), Floats((4, 7, 9))), {"axis": 1}),
    Golden("concat", (Bools((3,)), Bools((50,)), Bools((7,))), {"axis": 0}),
    Golden("flip", (Floats(CUBE),), {"axes": (0, 2)}),
    Golden("flip", (Integers(CUBE),), {"axes": (1,)}),
    Golden("literal", (), {"dtype": F32, "shape": (2, 3), "data": BYTES}),
    Golden("literal", (), {"dtype": BOOL, "shape": (3,), "data": b"\1\0\1"}),
    Golden("iota", (), {"size": N}),
    Golden("cast", (Floats((N,), -99.0, 99.0),), {"dtype": I64}),
    Golden("cast", (Floats((N,)),), {"dtype": BF16}),
    Golden("cast", (Floats((N,)),), {"dtype": BOOL}),
    Golden("cast", (Integers((N,)),), {"dtype": F32}),
    Golden("cast", (Integers((N,)),), {"dtype": BF16}),
    Golden("cast", (Integers((N,)),), {"dtype": BOOL}),
    Golden("cast", (Bfloats((N,)),), {"dtype": F32}),
    Golden("cast", (Bfloats((N,), -99.0, 99.0),), {"dtype": I64}),
    Golden("cast", (Bfloats((N,)),), {"dtype": BOOL}),
    Golden("cast", (Bools((N,)),), {"dtype": F32}),
    Golden("cast", (Bools((N,)),), {"dtype": I64}),
    Golden("cast", (Bools((N,)),), {"dtype": BF16}),
    *(
        Golden(name, inputs, {})
        for name in ("eq", "ne", "lt", "le", "gt", "ge")
        for inputs in (_broadcasting(Floats), _flat(Integers))
    ),
    *(Golden(name, _broadcasting(Bools), {}) for name in ("and", "or", "xor")),
    Golden("not", (Bools((N,)),), {}),
    Golden("where", (Bools((7, 33)), Floats((5, 7, 33)), Floats(())), {}),
    Golden("where", (Bools((5, 1, 33)), Bfloats((7, 1)), Bfloats((5, 7, 33))), {}),
    *(
        Golden(f"int_{name}", inputs, {})
        for name in ("add", "sub", "mul", "floordiv", "remainder")
        for inputs in (_broadcasting(Integers), _flat(Integers))
    ),
)

LION: Attributes = {
    "lr": 2.0**-7,
    "beta1": 0.875,
    "beta2": 0.9375,
    "weight_decay": 0.125,
}
SEED_AND_STEP = (Integers(()), Integers(()))

RANDOMNESS: Sequence[Golden] = (
    Golden(
        "uniform",
        SEED_AND_STEP,
        {"shape": (7, 143), "low": -1.5, "high": 2.0, "stream": 5},
    ),
    Golden(
        "dropout_mask", SEED_AND_STEP, {"shape": (N,), "p": 0.375, "stream": 2**32 - 1}
    ),
    Golden("lion", (*(Floats((N,)) for _ in range(3)), Floats((), 0.0, 1.0)), LION),
)

BIG = 100_003
MANY: Sequence[Golden] = (
    Golden("broadcast", (Bools((301, 1)),), {"shape": (301, 333)}),
    Golden(
        "pad", (Floats((299, 333)),), {"before": (1, 2), "after": (0, 5), "value": 1.0}
    ),
    Golden("concat", (Floats((301, 77)), Floats((301, 300))), {"axis": 1}),
    Golden("flip", (Floats((BIG,)),), {"axes": (0,)}),
    Golden("cast", (Floats((BIG,)),), {"dtype": BF16}),
    Golden("where", (Bools((300, 333)), Floats((3, 300, 333)), Floats(())), {}),
    Golden(
        "dropout_mask", SEED_AND_STEP, {"shape": (BIG,), "p": 2.0**-20, "stream": 0}
    ),
    Golden("int_floordiv", (Integers((BIG,)), Integers((BIG,))), {}),
)
