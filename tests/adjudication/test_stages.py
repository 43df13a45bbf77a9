"""Stages are the specification once more: they give what the kernels give, from few."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from ml_verifier import kernels
from ml_verifier.adjudication.execution import evaluate, first_trap, stage_tensors
from ml_verifier.adjudication.refinement import (
    FAN_IN,
    Facts,
    Indices,
    OutOfRange,
    Refinement,
    Values,
    canonical,
    refine,
)
from ml_verifier.adjudication.rules import RECIPES
from ml_verifier.conformance.case import Case
from ml_verifier.conformance.golden import GOLDEN
from ml_verifier.operators import BY_NAME

FACTS = Facts(seed=3, position=4)
NUMBERED = [
    (number, golden, kind)
    for number, golden in enumerate(GOLDEN)
    for kind in golden.kinds
]
ALL = [golden.case(number, kernels, kind) for number, golden, kind in NUMBERED]
IDS = [f"{number}-{golden.name}-{kind}" for number, golden, kind in NUMBERED]


def refined(case: Case) -> Refinement:
    operator = BY_NAME[case.name]
    return refine(RECIPES, operator, case.types(), case.attributes, FACTS)


def committed(case: Case) -> list[Values]:
    return [canonical(np.asarray(x)) for x in case.inputs]


def test_every_operator_is_refined() -> None:
    assert set(BY_NAME) <= set(RECIPES)


@pytest.mark.parametrize("case", ALL, ids=IDS)
def test_stages_end_in_what_the_kernels_compute(case: Case) -> None:
    refinement = refined(case)
    status, outputs = case.run(kernels)
    if status:
        assert first_trap(refinement, committed(case)) is not None
        with pytest.raises(OutOfRange):
            stage_tensors(refinement, committed(case))
        return
    assert first_trap(refinement, committed(case)) is None
    stages = stage_tensors(refinement, committed(case))
    for stage, output in zip(refinement.outputs, outputs, strict=True):
        assert canonical(stages[stage]).tobytes() == canonical(output).tobytes()


@settings(max_examples=60)
@given(case=st.sampled_from(ALL), data=st.data())
def test_an_element_follows_from_few(case: Case, data: st.DataObject) -> None:
    if case.run(kernels)[0]:
        return
    refinement = refined(case)
    sources = committed(case)
    stages = stage_tensors(refinement, sources)
    sources = [x.reshape(-1) for x in (*sources, *stages)]
    number = data.draw(st.integers(0, len(stages) - 1))
    position = data.draw(st.integers(0, stages[number].size - 1))
    me, reads = len(case.inputs) + number, 0

    def read(source: int, indices: Indices) -> Values:
        nonlocal reads
        reads += indices.size
        assert source <= me
        if source == me:  # itself: only before, along the first axis
            stride = stages[number].size // stages[number].shape[0]
            assert refinement.stages[number].chained
            assert np.all(indices // stride < position // stride)
        return sources[source][indices]

    found = evaluate(refinement.stages[number], np.array([position]), read)
    assert found.tobytes() == canonical(sources[me][position : position + 1]).tobytes()
    assert reads <= FAN_IN
