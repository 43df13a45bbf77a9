"""Comparisons, booleans, choice, and integers in Python's own arithmetic."""

import operator
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from ml_verifier.operators import AttributeValue
from ml_verifier.oracle.arithmetic import Array, Definition

Attributes = Mapping[str, AttributeValue]

WORD = 2**64


def _truth(function: Callable[..., Any]) -> Definition:
    """An operator whose result is true or false."""

    def definition(_: Attributes, *inputs: Array) -> Array:
        return np.asarray(function(*inputs)).astype(np.uint8)

    return definition


def _integer(function: Callable[[int, int], int]) -> Definition:
    """An operator on whole numbers without bounds, brought back modulo 2^64."""

    def wrapped(a: int, b: int) -> int:
        return (function(int(a), int(b)) + WORD // 2) % WORD - WORD // 2

    def definition(_: Attributes, a: Array, b: Array) -> Array:
        u, v = np.broadcast_arrays(a, b)
        pairs = zip(u.reshape(-1).tolist(), v.reshape(-1).tolist(), strict=True)
        return np.array([wrapped(*pair) for pair in pairs], np.int64).reshape(u.shape)

    return definition


def _floordiv(a: int, b: int) -> int:
    return a // b if b else 0


def _remainder(a: int, b: int) -> int:
    return a % b if b else 0


def _where(_: Attributes, condition: Array, a: Array, b: Array) -> Array:
    return np.where(condition == 1, a, b)


DEFINITIONS: Mapping[str, Definition] = MappingProxyType(
    {
        "eq": _truth(np.equal),
        "ne": _truth(np.not_equal),
        "lt": _truth(np.less),
        "le": _truth(np.less_equal),
        "gt": _truth(np.greater),
        "ge": _truth(np.greater_equal),
        "and": _truth(np.logical_and),
        "or": _truth(np.logical_or),
        "xor": _truth(np.logical_xor),
        "not": _truth(np.logical_not),
        "where": _where,
        "int_add": _integer(operator.add),
        "int_sub": _integer(operator.sub),
        "int_mul": _integer(operator.mul),
        "int_floordiv": _integer(_floordiv),
        "int_remainder": _integer(_remainder),
    }
)
