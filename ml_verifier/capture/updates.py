"""One optimiser's step for one parameter, as operators.

``docs/creator.md`` lists the sequences of operations. Hyperparameters are constants of
the program, rounded once to float32; ``rate`` is the group's learning rate times the
schedule's factor where an optimiser has no operator of its own.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ml_verifier.capture.expression import Expression
from ml_verifier.capture.schedules import Clock

Group: TypeAlias = Mapping[str, Any]
Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """What one update reads.

    Attributes:
        group: The parameter group's options.
        lr: The group's learning rate without any schedule.
        factor: The schedule's factor of this step, f32[].
        clock: Knows how many steps were taken before.
        corrections: 1 - beta^t of each beta that the recipe corrects for.
        parameter: f32, as are the gradient and the moments.
        gradient: Of the parameter's shape.
        moments: The optimiser's tensors of this parameter, by name.
    """

    group: Group
    lr: float
    factor: Expression
    clock: Clock
    corrections: tuple[Expression, ...]
    parameter: Expression
    gradient: Expression
    moments: Mapping[str, Expression]

    @property
    def rate(self) -> Expression:
        """The group's lr times the factor, one rounding."""
        return self.factor * self.lr

    def outputs(
        self, operator: str, *inputs: Expression, **attributes: float
    ) -> tuple[Expression, ...]:
        """Append a fused update; returns the parameter and each moment after it."""
        builder = self.parameter.builder
        first = builder.add(operator, *(i.number for i in inputs), **attributes)
        count = 1 + len(self.moments)
        return tuple(Expression(builder, first + i) for i in range(count))


def sgd(step: Step) -> tuple[Expression, ...]:
    """One ``sgd``; without momentum its moment is a constant of zeros."""
    group, builder = step.group, step.parameter.builder
    zeros = builder.constant(0.0, step.parameter.shape) if not step.moments else 0
    momentum = step.moments.get("momentum", Expression(builder, zeros))
    return step.outputs(
        "sgd",
        *(step.parameter, step.gradient, momentum, step.factor),
        lr=step.lr,
        momentum=float(group["momentum"]),
        weight_decay=float(group["weight_decay"]),
        nesterov=int(group["nesterov"]),
    )


def adam(step: Step) -> tuple[Expression, ...]:
    """One ``adamw``; Adam's weight decay joins the gradient before: g + p * wd."""
    group, gradient = step.group, step.gradient
    decay = float(group["weight_decay"])
    decoupled = bool(group["decoupled_weight_decay"])
    if decay and not decoupled:
        gradient += step.parameter * decay
    return step.outputs(
        "adamw",
        *(step.parameter, gradient, *step.moments.values()),
        *(*step.corrections, step.factor),
        lr=step.lr,
        beta1=float(group["betas"][0]),
        beta2=float(group["betas"][1]),
        eps=float(group["eps"]),
        weight_decay=decay if decoupled else 0.0,
    )


def lion(step: Step) -> tuple[Expression, ...]:
    """One ``lion``."""
    group = step.group
    return step.outputs(
        "lion",
        *(step.parameter, step.gradient, step.moments["momentum"], step.factor),
        lr=step.lr,
        beta1=float(group["betas"][0]),
        beta2=float(group["betas"][1]),
        weight_decay=float(group["weight_decay"]),
    )


def muon(step: Step) -> tuple[Expression, ...]:
    """Orthogonalised momentum: m += (g - m) * (1 - mu); u = g + (m - g) * mu or m.

    p * (1 - rate * wd) - NS(u) * (rate * ratio), ratio from the shape of p.
    """
    group, gradient = step.group, step.gradient
    rate, mu = step.rate, float(group["momentum"])
    momentum = step.moments["momentum"]
    momentum += (gradient - momentum) * (1 - mu)
    update = gradient + (momentum - gradient) * mu if group["nesterov"] else momentum
    update = newton_schulz(
        update, group["ns_coefficients"], group["ns_steps"], group["eps"]
    )
    rows, columns = step.parameter.shape
    ratio = (
        0.2 * math.sqrt(max(rows, columns))
        if group["adjust_lr_fn"] == "match_rms_adamw"
        else math.sqrt(max(1, rows / columns))
    )
    kept = step.parameter * (1.0 - rate * float(group["weight_decay"]))
    return kept - update * (rate * ratio), momentum


def newton_schulz(
    matrix: Expression,
    coefficients: tuple[float, float, float],
    steps: int,
    eps: float,
) -> Expression:
    """[M, N] -> [M, N], its singular values near 1.

    A tall matrix is transposed. x = x / max(sqrt(sum x*x), eps); then ``steps`` times
    s = x x^T; x = x * a + (s * b + (s s) * c) x.
    """
    a, b, c = coefficients
    rows, columns = matrix.shape
    tall = rows > columns
    x = matrix.transpose() if tall else matrix
    x /= x.squares().sqrt().maximum(eps)
    for _ in range(steps):
        square = x.apply("matmul", x, ta=0, tb=1)
        x = x * a + (square * b + (square @ square) * c) @ x
    return x.transpose() if tall else x


def adafactor(step: Step) -> tuple[Expression, ...]:
    """Factored second moments; t = taken + 1, w = exp(log(t) * beta2_decay).

    rho = min(rate, 1 / sqrt(t)); alpha = max(eps2, sqrt(sum p*p / n)) * rho.
    Matrices (the last two axes): row += (mean over columns of g*g - row) * w, column
    likewise over rows, v = row * column / max(mean of row, eps1). Others:
    v += (g*g - v) * w. u = g / sqrt(max(v, eps1 * eps1));
    p * (1 - rate * wd) - u * (alpha / max(1, sqrt(sum u*u) / (sqrt(n) * d))).
    """
    group, gradient, parameter = step.group, step.gradient, step.parameter
    small, floor = group["eps"]
    small = 2.0**-23 if small is None else float(small)
    rate, taken, size = step.rate, step.clock.taken + 1.0, parameter.size
    weight = (taken.apply("log") * float(group["beta2_decay"])).apply("exp")
    rho = rate.minimum(1.0 / taken.sqrt())
    alpha = (parameter.squares() / size).sqrt().maximum(float(floor)) * rho
    squares = gradient * gradient
    moments: tuple[Expression, ...]
    if len(parameter.shape) > 1:
        last = len(parameter.shape) - 1
        row, column = step.moments["row"], step.moments["column"]
        row += (squares.sum(last) / parameter.shape[last] - row) * weight
        column += (squares.sum(last - 1) / parameter.shape[last - 1] - column) * weight
        mean = row.sum(last - 1) / parameter.shape[last - 1]
        variance = row * column / mean.maximum(small)
        moments = row, column
    else:
        variance = step.moments["square"]
        variance += (squares - variance) * weight
        moments = (variance,)
    update = gradient / variance.maximum(small * small).sqrt()
    length = update.squares().sqrt() / (math.sqrt(size) * float(group["d"]))
    decay = float(group["weight_decay"])
    kept = parameter * (1.0 - rate * decay) if decay else parameter
    return kept - update * (alpha / length.maximum(1.0)), *moments


Update: TypeAlias = Callable[[Step], tuple[Expression, ...]]
