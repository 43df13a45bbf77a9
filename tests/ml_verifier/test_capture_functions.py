"""Each family of calls, captured, against torch: values and gradients."""

import pytest

from tests.ml_verifier.functions import FAMILIES
from tests.ml_verifier.harness import check

CASES = [(family, name) for family, cases in FAMILIES.items() for name in cases]


@pytest.mark.parametrize(("family", "name"), CASES, ids=[f"{f}-{n}" for f, n in CASES])
def test_value_and_gradients_are_those_of_torch(family: str, name: str) -> None:
    function, tensors = FAMILIES[family][name]
    check(function, *tensors)
