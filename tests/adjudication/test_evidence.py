"""Evidence about one unit: a wrong element convicts its tile, and nothing else does."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from ml_verifier import kernels
from ml_verifier.adjudication.evidence import (
    MAX_EVIDENCE_BYTES,
    build,
    build_at,
    holds,
    traps,
)
from ml_verifier.adjudication.execution import evaluate, first_trap, stage_tensors
from ml_verifier.adjudication.refinement import Indices, Refinement, Values
from ml_verifier.adjudication.units import Unit, unit_at
from ml_verifier.adjudication.world import Held
from ml_verifier.commitment import tensor_root, tile_count
from ml_verifier.conformance.case import Case
from ml_verifier.errors import Malformed
from tests.adjudication.test_stages import ALL, committed, refined

ORDINARY = [case for case in ALL if case.run(kernels)[0] == 0]
TRAPPING = [case for case in ALL if case.run(kernels)[0] == 1]


def roots_of(arrays: list[Values]) -> dict[int, bytes]:
    return {i: tensor_root(np.asarray(x, order="C")) for i, x in enumerate(arrays)}


def held(arrays: list[Values]) -> list[Held]:
    return [Held(np.asarray(x, order="C")) for x in arrays]


def other(values: Values, position: int, flip: int) -> None:
    """Flip one bit of one element."""
    raw = values.reshape(-1).view(np.uint8)
    size = values.dtype.itemsize
    bits = 1 if values.dtype == np.uint8 else 8 * size
    bit = flip % bits
    raw[position * size + bit // 8] ^= 1 << bit % 8


def propagate(
    refinement: Refinement, inputs: list[Values], wrong: int, tensor: Values
) -> list[Values]:
    """Stages as a cheat commits them: one is given, later ones follow from it."""
    honest = stage_tensors(refinement, inputs)
    known = {number: honest[number] for number in range(wrong)}
    try:
        return stage_tensors(refinement, inputs, {**known, wrong: tensor})
    except IndexError:  # no later stage follows from such an index
        return [*honest[:wrong], tensor]


@settings(max_examples=60)
@given(case=st.sampled_from(ORDINARY), data=st.data())
def test_one_wrong_element_convicts_exactly_its_tile(
    case: Case, data: st.DataObject
) -> None:
    refinement, inputs = refined(case), committed(case)
    honest = stage_tensors(refinement, inputs)
    stage = data.draw(st.integers(0, len(honest) - 1))
    position = data.draw(st.integers(0, honest[stage].size - 1))
    wrong = honest[stage].copy()
    other(wrong, position, data.draw(st.integers(0, 63)))
    if refinement.stages[stage].chained:
        wrong = follow(refinement, [*inputs, *honest[:stage]], stage, wrong, position)
    theirs = propagate(refinement, inputs, stage, wrong)
    sources = [*inputs, *theirs]
    roots = roots_of(sources)
    unit, evidence = build_at(refinement, held(sources), stage, position)
    assert len(evidence) <= MAX_EVIDENCE_BYTES
    assert not holds(refinement, roots, stage, unit, evidence)
    for number in range(len(theirs)):
        shape = refinement.stages[number].type.shape
        tile = data.draw(st.integers(0, tile_count(shape) - 1))
        if number == stage and tile == unit.tile:
            continue
        elsewhere = int(Unit(tile).positions(shape)[0])
        there, clean = build_at(refinement, held(sources), number, elsewhere)
        assert holds(refinement, roots, number, there, clean)


def follow(
    refinement: Refinement,
    before: list[Values],
    stage: int,
    wrong: Values,
    position: int,
) -> Values:
    """Recompute what a chained stage derives from its own wrong element."""
    rule = refinement.stages[stage]
    flat = wrong.reshape(-1).copy()
    stride = flat.size // rule.type.shape[0]
    sources = [x.reshape(-1) for x in before]

    def read(source: int, indices: Indices) -> Values:
        return flat[indices] if source == len(sources) else sources[source][indices]

    for start in range((position // stride + 1) * stride, flat.size, stride):
        indices = np.arange(start, start + stride, dtype=np.int64)
        flat[indices] = evaluate(rule, indices, read)
    return flat.reshape(wrong.shape)


@pytest.mark.parametrize("flip", [40, 63])
def test_a_state_that_points_nowhere_has_a_state_that_follows(flip: int) -> None:
    """A cheat may commit any best position; the next chunk must still be defined."""
    case = next(each for each in ORDINARY if each.name == "argmax")
    refinement, inputs = refined(case), committed(case)
    wrong = stage_tensors(refinement, inputs)[0].copy()
    chunks, columns = wrong.shape[0], inputs[0].shape[-1]
    assert chunks == 2
    other(wrong, 0, flip)
    later = follow(refinement, inputs, 0, wrong, 0)[1]
    assert later.min() >= 0
    assert later.max() < columns


@pytest.mark.parametrize("case", ORDINARY[::11])
def test_every_unit_size_of_an_honest_trace_holds(case: Case) -> None:
    refinement, inputs = refined(case), committed(case)
    sources = [*inputs, *stage_tensors(refinement, inputs)]
    roots = roots_of(sources)
    for stage, rule in enumerate(refinement.stages):
        for unit in unit_at(rule.type.shape, rule.type.size - 1):
            evidence = build(refinement, held(sources), stage, unit)
            assert holds(refinement, roots, stage, unit, evidence)


@settings(max_examples=40)
@given(case=st.sampled_from(ORDINARY), data=st.data())
def test_tampered_evidence_convicts_nobody(case: Case, data: st.DataObject) -> None:
    refinement, inputs = refined(case), committed(case)
    sources = [*inputs, *stage_tensors(refinement, inputs)]
    stage = data.draw(st.integers(0, len(refinement.stages) - 1))
    unit = unit_at(refinement.stages[stage].type.shape, 0)[2]
    evidence = bytearray(build(refinement, held(sources), stage, unit))
    at = data.draw(st.integers(0, len(evidence) - 1))
    evidence[at] ^= 1 << data.draw(st.integers(0, 7))
    try:
        right = holds(refinement, roots_of(sources), stage, unit, bytes(evidence))
    except Malformed:
        return
    assert right


@pytest.mark.parametrize("case", TRAPPING[::3])
def test_a_trap_is_shown_from_inputs_alone(case: Case) -> None:
    refinement, inputs = refined(case), committed(case)
    found = first_trap(refinement, inputs)
    assert found is not None
    stage, position = found
    unit, evidence = build_at(refinement, held(inputs), stage, position, trap=True)
    assert traps(refinement, roots_of(inputs), stage, unit, evidence)


@pytest.mark.parametrize("case", [c for c in ORDINARY if c.name == "nll_loss"])
def test_no_trap_is_shown_where_there_is_none(case: Case) -> None:
    refinement, inputs = refined(case), committed(case)
    for stage, rule in enumerate(refinement.stages[:1]):
        unit = unit_at(rule.type.shape, 0)[0]
        evidence = build(refinement, held(inputs), stage, unit, trap=True)
        assert not traps(refinement, roots_of(inputs), stage, unit, evidence)


@pytest.mark.parametrize("descending", [0, 1])
def test_the_longest_sort_that_is_admitted_fits(descending: int) -> None:
    x = np.random.default_rng(1).standard_normal((70, 4_096)).astype(np.float32)
    case = Case("sort", [x], {"descending": descending})
    refinement = refined(case)
    sources = [x, *stage_tensors(refinement, [x])]
    unit, evidence = build_at(refinement, held(sources), 1, 9 * 4_096 + 9)
    assert unit.row is not None
    assert holds(refinement, roots_of(sources), 1, unit, evidence)
