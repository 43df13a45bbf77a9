from hypothesis import given, strategies as st

from lockstep.verifier.segments import Segment, digest, draw
from ml_verifier.session import initial_state
from ml_verifier.state import Trap
from tests.lockstep.workload import program

TRIAL = b"\5" * 32


@given(
    st.binary(min_size=32, max_size=32),
    st.integers(1, 1000),
    st.integers(1, 20),
    st.integers(1, 50),
)
def test_segments_are_distinct_and_inside_the_job(
    seed: bytes, steps: int, count: int, length: int
) -> None:
    drawn = draw(seed, TRIAL, steps, count, length)
    assert len(set(drawn)) == len(drawn) == min(count, -(-steps // length))
    assert drawn == sorted(drawn)
    assert all(0 <= s.start < s.end <= min(s.start + length, steps) for s in drawn)
    assert draw(seed, TRIAL, steps, count, length) == drawn


def test_a_draw_is_the_seeds() -> None:
    draws = {tuple(draw(bytes([i]) * 32, TRIAL, 10_000, 3, 10)) for i in range(8)}
    assert len(draws) == 8
    assert draw(bytes(32), TRIAL, 10_000, 3, 10) != draw(
        bytes(32), bytes(32), 10_000, 3, 10
    )


def test_a_digest_is_bound_to_everything() -> None:
    states = [initial_state(program(), seed) for seed in (1, 2)]
    mine = b"\1" * 20
    base = digest(mine, TRIAL, Segment(0, 2), states)
    assert digest(mine, TRIAL, Segment(0, 2), states) == base
    assert base not in {
        digest(b"\2" * 20, TRIAL, Segment(0, 2), states),
        digest(mine, bytes(32), Segment(0, 2), states),
        digest(mine, TRIAL, Segment(0, 3), states),
        digest(mine, TRIAL, Segment(0, 2), states[::-1]),
        digest(mine, TRIAL, Segment(0, 2), [states[0], Trap(0, bytes(32))]),
    }
