"""Golden vectors: hashes of every operator's outputs on generated inputs."""

import hashlib
from typing import Any

import pytest

from ml_verifier import kernels, oracle
from ml_verifier.engine import FACTS
from ml_verifier.operators import BY_NAME
from tests.kernels.cases import assert_same, settings
from tests.kernels.golden import GOLDEN, Golden
from tests.support.vectors import Vectors

NUMBERED = list(enumerate(GOLDEN))
IDS = [f"{i}-{golden.name}" for i, golden in NUMBERED]


def test_vectors(vectors: Vectors) -> None:
    computed: list[dict[str, Any]] = []
    for number, golden in NUMBERED:
        status, outputs = golden.case(number).run(kernels)
        assert status == 0
        hashes = [hashlib.sha256(array.tobytes()).hexdigest() for array in outputs]
        computed.append({"case": number, **golden.describe(), "sha256": hashes})
    vectors.check("kernels", computed)


@pytest.mark.parametrize(("number", "golden"), NUMBERED, ids=IDS)
def test_every_implementation_agrees(number: int, golden: Golden) -> None:
    case = golden.case(number)
    expected = case.run(oracle)
    for isa in kernels.isas():
        for threads in (1, 2, 3):
            with settings(isa=isa, threads=threads):
                assert_same(case.run(kernels), expected)


def test_every_operator_has_a_vector() -> None:
    assert {golden.name for golden in GOLDEN} == set(BY_NAME) - set(FACTS)
