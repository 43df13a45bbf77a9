# pyright: basic
# torch.fx and torch.func carry no complete types; mypy --strict still applies.
"""Elementwise arithmetic and functions of one number."""

import math

import torch

from ml_verifier.capture.lowering import Call, Lowering, Rule, Rules
from ml_verifier.capture.operands import Operand, Tensor
from ml_verifier.capture.unsupported import Unsupported
from ml_verifier.operators.base import broadcast_shape
from ml_verifier.types import DType

aten = torch.ops.aten
prims = torch.ops.prims

_INTEGRAL = {"add": "int_add", "sub": "int_sub", "mul": "int_mul"}
_LOGICAL = {"add": "or", "mul": "and"}


def combined(
    low: Lowering, name: str, left: Operand, right: Operand, dtype: DType
) -> Tensor:
    """Return ``left name right`` as torch computes it for results of ``dtype``."""
    if dtype is DType.BF16:
        dtype = DType.F32
    left, right = low.cast(left, dtype), low.cast(right, dtype)
    if dtype is DType.I64:
        return low.add(_INTEGRAL[name], left, right)
    if dtype is DType.BOOL:
        if name not in _LOGICAL:
            raise Unsupported("of booleans: cast them to float first")
        return low.add(_LOGICAL[name], left, right)
    if name in {"mul", "div"} and low.uniform(right) == 1:
        left_shape = low.shape(left)
        if len(left_shape) >= low.rank(right):
            return low.broadcast(left, _shape(low, left, right))
    return low.add(name, left, right)


def _shape(low: Lowering, left: Operand, right: Operand) -> tuple[int, ...]:
    return broadcast_shape(low.shape(left), low.shape(right))


def floats(low: Lowering, operand: Operand) -> Tensor:
    """Return an operand as f32."""
    return low.cast(operand, DType.F32)


def unary(name: str) -> Rule:
    """Return the rule of a function that an operator computes."""

    def rule(low: Lowering, call: Call) -> Operand:
        return low.add(name, floats(low, call["self"]))

    return rule


def _binary(name: str) -> Rule:
    """Return the rule of an operation with torch's ``alpha``, where it has one."""

    def rule(low: Lowering, call: Call) -> Operand:
        other = call["other"]
        alpha = call.arguments.get("alpha", 1)
        if alpha != 1:
            other = combined(low, "mul", other, alpha, call.dtype)
        return combined(low, name, call["self"], other, call.dtype)

    return rule


def _rsub(low: Lowering, call: Call) -> Operand:
    if call["alpha"] != 1:
        raise Unsupported("alpha: scale the operand yourself")
    return combined(low, "sub", call["other"], call["self"], call.dtype)


def _neg(low: Lowering, call: Call) -> Operand:
    if call.dtype is DType.I64:
        return low.add("int_mul", call["self"], -1)
    return low.add("neg", call["self"])


def _abs(low: Lowering, call: Call) -> Operand:
    x = call["self"]
    if call.dtype is DType.I64:
        return low.add("where", low.add("lt", x, 0), low.add("int_mul", x, -1), x)
    return low.add("abs", x)


def _sign(low: Lowering, call: Call) -> Operand:
    if call.dtype is DType.I64:
        above, below = (
            low.cast(low.add(name, call["self"], 0), DType.I64) for name in ("gt", "lt")
        )
        return low.add("int_sub", above, below)
    return low.add("sign", call["self"])


def _rounding(name: str) -> Rule:
    def rule(low: Lowering, call: Call) -> Operand:
        if call.arguments.get("decimals", 0):
            raise Unsupported("decimals: scale before and after rounding")
        if call.dtype is DType.I64:
            operand: Operand = call["self"]
            return operand
        return low.add(name, call["self"])

    return rule


# ── division ─────────────────────────────────────────────────────────────────


def _div_mode(low: Lowering, call: Call) -> Operand:
    return _divided(low, call, call["rounding_mode"])


def _floor_divide(low: Lowering, call: Call) -> Operand:
    return _divided(low, call, "floor")


def _divided(low: Lowering, call: Call, mode: str | None) -> Operand:
    left, right = call["self"], call["other"]
    if call.dtype is not DType.I64:
        quotient = combined(low, "div", left, right, call.dtype)
        return low.add(mode, quotient) if mode else quotient
    left, right = low.cast(left, DType.I64), low.cast(right, DType.I64)
    if mode == "floor":
        return low.add("int_floordiv", left, right)
    flat = low.add("int_floordiv", _magnitude(low, left), _magnitude(low, right))
    opposite = low.add("xor", low.add("lt", left, 0), low.add("lt", right, 0))
    return low.add("where", opposite, low.add("int_mul", flat, -1), flat)


def _magnitude(low: Lowering, x: Operand) -> Tensor:
    return low.add("where", low.add("lt", x, 0), low.add("int_mul", x, -1), x)


def _remainder(low: Lowering, call: Call) -> Operand:
    left, right = call["self"], call["other"]
    if call.dtype is DType.I64:
        return low.add(
            "int_remainder", low.cast(left, DType.I64), low.cast(right, DType.I64)
        )
    return _rest(low, left, right, "floor")


def _fmod(low: Lowering, call: Call) -> Operand:
    if call.dtype is DType.I64:
        raise Unsupported("of integers: use torch.remainder")
    return _rest(low, call["self"], call["other"], "trunc")


def _rest(low: Lowering, left: Operand, right: Operand, rounding: str) -> Tensor:
    left, right = floats(low, left), floats(low, right)
    whole = low.add(rounding, low.add("div", left, right))
    return low.add("sub", left, low.add("mul", whole, right))


def _reciprocal(low: Lowering, call: Call) -> Operand:
    return low.add("div", 1.0, floats(low, call["self"]))


# ── powers and logarithms ────────────────────────────────────────────────────


def _pow(low: Lowering, call: Call) -> Operand:
    return power(low, call["self"], call["exponent"])


def power(low: Lowering, base: Operand, exponent: float) -> Tensor:
    """Return base ** exponent as products and a square root."""
    doubled = 2 * exponent
    if doubled != int(doubled) or abs(exponent) > 64:
        raise Unsupported(
            f"exponent {exponent}: only multiples of a half up to 64; for positive x "
            "write torch.exp(exponent * torch.log(x))"
        )
    if low.dtype(base) is DType.I64 and isinstance(exponent, int) and exponent >= 0:
        return _product(low, base, exponent, "int_mul", 1)
    base = floats(low, base)
    whole = _product(low, base, int(abs(exponent)), "mul", 1.0)
    if int(doubled) % 2:
        root = low.add("sqrt", base)
        whole = root if abs(exponent) < 1 else low.add("mul", whole, root)
    return low.add("div", 1.0, whole) if exponent < 0 else whole


def _product(
    low: Lowering, base: Operand, count: int, multiply: str, one: float
) -> Tensor:
    """Return the product of ``count`` bases by squaring, lowest bit first."""
    result: Tensor = low.filled(one, low.dtype(base), low.shape(base))
    found = False
    while count:
        if count % 2:
            result = (
                low.add(multiply, result, base)
                if found
                else low.cast(base, low.dtype(base))
            )
            found = True
        count //= 2
        if count:
            base = low.add(multiply, base, base)
    return result


def _log_to(base: float) -> Rule:
    def rule(low: Lowering, call: Call) -> Operand:
        return low.add("div", low.add("log", floats(low, call["self"])), math.log(base))

    return rule


def _exp2(low: Lowering, call: Call) -> Operand:
    return low.add("exp", low.add("mul", floats(low, call["self"]), math.log(2)))


def log1p(low: Lowering, x: Operand) -> Tensor:
    """Return log(1 + x), accurate near zero (Kahan's quotient)."""
    above = low.add("add", x, 1.0)
    quotient = low.add("div", x, low.add("sub", above, 1.0))
    scaled = low.add("mul", low.add("log", above), quotient)
    infinite = low.add("eq", above, math.inf)
    near = low.add("where", low.add("eq", above, 1.0), x, scaled)
    return low.add("where", infinite, above, near)


def expm1(low: Lowering, x: Operand) -> Tensor:
    """Return exp(x) - 1, accurate near zero (Kahan's quotient)."""
    power_ = low.add("exp", x)
    less = low.add("sub", power_, 1.0)
    scaled = low.add("div", low.add("mul", less, x), low.add("log", power_))
    near = low.add("where", low.add("eq", power_, 1.0), x, scaled)
    edge = low.add("or", low.add("eq", less, -1.0), low.add("eq", power_, math.inf))
    return low.add("where", edge, less, near)


def _log1p(low: Lowering, call: Call) -> Operand:
    return log1p(low, floats(low, call["self"]))


def _expm1(low: Lowering, call: Call) -> Operand:
    return expm1(low, floats(low, call["self"]))


def _erfc(low: Lowering, call: Call) -> Operand:
    return low.add("sub", 1.0, low.add("erf", floats(low, call["self"])))


def _tan(low: Lowering, call: Call) -> Operand:
    x = floats(low, call["self"])
    return low.add("div", low.add("sin", x), low.add("cos", x))


def _hyperbolic(join: str) -> Rule:
    def rule(low: Lowering, call: Call) -> Operand:
        x = floats(low, call["self"])
        both = low.add(join, low.add("exp", x), low.add("exp", low.add("neg", x)))
        return low.add("mul", both, 0.5)

    return rule


def _power_of_number(low: Lowering, call: Call) -> Operand:
    """Return base ** x as exp(x * log(base))."""
    base = call["self"]
    if base <= 0:
        raise Unsupported(f"base {base}: only positive ones")
    return low.add("exp", low.add("mul", floats(low, call["exponent"]), math.log(base)))


def _refused_power(_: Lowering, __: Call) -> Operand:
    raise Unsupported(
        "an exponent that is a tensor: write torch.exp(exponent * torch.log(base))"
    )


# ── the larger, the smaller ──────────────────────────────────────────────────


def extreme(
    low: Lowering, name: str, left: Operand, right: Operand, dtype: DType
) -> Tensor:
    """Return the elementwise ``maximum`` or ``minimum``."""
    if dtype is DType.I64:
        left, right = low.cast(left, dtype), low.cast(right, dtype)
        order = low.add("gt" if name == "maximum" else "lt", left, right)
        return low.add("where", order, left, right)
    return low.add(name, floats(low, left), floats(low, right))


def _extreme(name: str) -> Rule:
    def rule(low: Lowering, call: Call) -> Operand:
        return extreme(low, name, call["self"], call["other"], call.dtype)

    return rule


def _clamp(low: Lowering, call: Call) -> Operand:
    result: Operand = call["self"]
    for name, bound in (("maximum", "min"), ("minimum", "max")):
        limit = call.arguments.get(bound)
        if limit is not None:
            result = extreme(low, name, result, limit, call.dtype)
    return result


RULES: Rules = {
    aten.add.Tensor: _binary("add"),
    aten.add.Scalar: _binary("add"),
    aten.sub.Tensor: _binary("sub"),
    aten.sub.Scalar: _binary("sub"),
    aten.rsub.Tensor: _rsub,
    aten.rsub.Scalar: _rsub,
    aten.mul.Tensor: _binary("mul"),
    aten.mul.Scalar: _binary("mul"),
    aten.div.Tensor: _binary("div"),
    aten.div.Scalar: _binary("div"),
    aten.div.Tensor_mode: _div_mode,
    aten.div.Scalar_mode: _div_mode,
    aten.floor_divide.default: _floor_divide,
    aten.floor_divide.Scalar: _floor_divide,
    aten.remainder.Tensor: _remainder,
    aten.remainder.Scalar: _remainder,
    aten.fmod.Tensor: _fmod,
    aten.fmod.Scalar: _fmod,
    aten.reciprocal.default: _reciprocal,
    aten.neg.default: _neg,
    aten.abs.default: _abs,
    aten.sign.default: _sign,
    aten.sgn.default: _sign,
    aten.floor.default: _rounding("floor"),
    aten.ceil.default: _rounding("ceil"),
    aten.trunc.default: _rounding("trunc"),
    aten.round.default: _rounding("round"),
    aten.round.decimals: _rounding("round"),
    aten.exp.default: unary("exp"),
    aten.exp2.default: _exp2,
    aten.expm1.default: _expm1,
    aten.log.default: unary("log"),
    aten.log2.default: _log_to(2),
    aten.log10.default: _log_to(10),
    aten.log1p.default: _log1p,
    aten.sqrt.default: unary("sqrt"),
    aten.rsqrt.default: unary("rsqrt"),
    aten.pow.Tensor_Scalar: _pow,
    aten.pow.Tensor_Tensor: _refused_power,
    aten.pow.Scalar: _power_of_number,
    aten.erf.default: unary("erf"),
    aten.erfc.default: _erfc,
    aten.sin.default: unary("sin"),
    aten.cos.default: unary("cos"),
    aten.tan.default: _tan,
    aten.sinh.default: _hyperbolic("sub"),
    aten.cosh.default: _hyperbolic("add"),
    aten.maximum.default: _extreme("maximum"),
    aten.minimum.default: _extreme("minimum"),
    aten.clamp.default: _clamp,
    aten.clamp.Tensor: _clamp,
    aten.clamp_min.default: _clamp,
    aten.clamp_min.Tensor: _clamp,
    aten.clamp_max.default: _clamp,
    aten.clamp_max.Tensor: _clamp,
}
