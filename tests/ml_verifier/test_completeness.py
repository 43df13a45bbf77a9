"""No operator is missing from any of its places."""

import re
from pathlib import Path

import pytest

from ml_verifier.adjudication.rules import RECIPES
from ml_verifier.conformance.golden import GOLDEN
from ml_verifier.kernels.planners import PLANNERS
from ml_verifier.memory import FACTS
from ml_verifier.operators import BY_CODE, BY_NAME
from ml_verifier.oracle.table import DEFINITIONS

ROOT = Path(__file__).parents[2]
COMPUTED = set(BY_NAME) - set(FACTS)  # the engine knows the facts


def specified() -> set[str]:
    """Names in the first column of the tables of the numerics page."""
    page = (ROOT / "docs" / "spec" / "numerics.md").read_text()
    cells = re.findall(r"^\| ([a-z][a-z0-9_ ]*) \|", page, re.MULTILINE)
    return {name for cell in cells for name in cell.split()} - {"name"}


def test_the_specification_has_every_operator_and_no_other() -> None:
    assert specified() == set(BY_NAME)


@pytest.mark.parametrize("table", [DEFINITIONS, PLANNERS])
def test_oracle_and_kernels_have_every_operator_and_no_other(
    table: dict[str, object],
) -> None:
    assert set(table) == COMPUTED


def test_every_operator_has_golden_cases() -> None:
    assert {golden.name for golden in GOLDEN} == COMPUTED


def test_every_operator_has_a_tile_rule() -> None:
    assert set(RECIPES) == set(BY_NAME)


def test_every_golden_case_costs_work() -> None:
    from ml_verifier import kernels  # noqa: PLC0415 - inputs are drawn by it

    for number, golden in enumerate(GOLDEN):
        case = golden.case(number, kernels)
        operator = BY_NAME[golden.name]
        outputs = operator.infer(case.types(), golden.attributes)
        assert operator.macs(case.types(), outputs, golden.attributes) > 0, golden.name


def test_codes_and_names_are_unique() -> None:
    assert len(BY_CODE) == len(BY_NAME)
    assert {operator.name for operator in BY_CODE.values()} == set(BY_NAME)
