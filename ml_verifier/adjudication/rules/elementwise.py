"""Operators whose every output element follows from one element of each input."""

import numpy as np

from ml_verifier.adjudication.refinement import (
    Indices,
    Read,
    Recipe,
    Refinement,
    Refiner,
    Rule,
    Values,
    coordinates,
    flat,
)
from ml_verifier.oracle.table import DEFINITIONS

NAMES = (
    *("add", "sub", "mul", "div", "maximum", "minimum"),
    *("relu", "relu_backward", "exp", "log", "tanh", "sigmoid", "sqrt", "rsqrt"),
    *("tanh_backward", "sigmoid_backward", "erf", "sin", "cos", "neg", "abs", "sign"),
    *("floor", "ceil", "trunc", "round", "gelu", "gelu_backward", "gelu_tanh"),
    *("gelu_tanh_backward", "silu", "silu_backward", "cast", "where"),
    *("eq", "ne", "lt", "le", "gt", "ge", "and", "or", "xor", "not"),
    *("int_add", "int_sub", "int_mul", "int_floordiv", "int_remainder"),
    *("sgd", "adamw", "correction", "lion"),
)


def _elementwise(refiner: Refiner) -> Refinement:
    definition = DEFINITIONS[refiner.operator.name]

    def rule_of(index: int) -> Rule:
        def rule(indices: Indices, read: Read) -> Values:
            coords = coordinates(indices, refiner.outputs[index].shape)
            operands = [
                read(source, flat(coords, type_.shape, indices))
                for source, type_ in enumerate(refiner.inputs)
            ]
            result = definition(refiner.attributes, *operands)
            outputs = result if isinstance(result, tuple) else (result,)
            return np.asarray(outputs[index])

        return rule

    count = len(refiner.outputs)
    return refiner.finish(*(refiner.output(rule_of(i), i) for i in range(count)))


RECIPES: dict[str, Recipe] = dict.fromkeys(NAMES, _elementwise)
