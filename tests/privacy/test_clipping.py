"""Clip factors and clipped vectors: never above C, whatever the size of the numbers."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vestry_privacy.clipping import MARGIN, clip_factors, clip_vector

norms = st.floats(0, 1e80)
clips = st.floats(1e-12, 1e12)


def test_the_margin_is_the_design_s() -> None:
    assert MARGIN == 2.0**-20


@given(st.lists(norms, min_size=1, max_size=8), clips)
def test_factor_times_norm_is_at_most_c(values: list[float], clip: float) -> None:
    exact = torch.tensor(values, dtype=torch.float64)
    factors = clip_factors(exact**2, clip)
    assert factors.dtype == torch.float64
    assert bool((factors * exact <= clip * (1 - MARGIN) * (1 + 1e-15)).all())
    small = exact <= clip * (1 - 2 * MARGIN)
    assert bool((factors[small] == 1).all())


@given(st.floats(1.001, 1e60), clips)
def test_what_is_too_long_is_made_as_long_as_allowed(excess: float, clip: float) -> None:
    long = torch.tensor([clip * excess], dtype=torch.float64)
    assert float(clip_factors(long**2, clip) * long) == pytest.approx(clip * (1 - MARGIN), rel=1e-12)


def test_what_is_not_finite_counts_as_zero_and_only_that() -> None:
    squares = torch.tensor([math.nan, math.inf, 0.0, 1e300, 4.0], dtype=torch.float64)
    factors = clip_factors(squares, 1.0)
    assert factors[:2].tolist() == [0.0, 0.0]
    assert bool((factors[2:] > 0).all())
    assert factors[2] == 1.0


@pytest.mark.parametrize("clip", [0.0, -1.0, math.inf, math.nan])
def test_a_bound_must_be_above_zero(clip: float) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        clip_factors(torch.ones(1, dtype=torch.float64), clip)
    with pytest.raises(ValueError, match="must be above 0"):
        clip_vector(torch.ones(1), clip)


@given(
    st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=0, max_size=12),
    st.sampled_from([1e-12, 1e-3, 1.0, 1e12]),
)
def test_a_clipped_vector_is_at_most_c_and_keeps_its_direction(values: list[float], clip: float) -> None:
    vector = torch.tensor(values, dtype=torch.float32)
    result = clip_vector(vector, clip)
    assert math.hypot(*result.tolist()) <= clip
    exact = vector.double()
    length = math.hypot(*exact.tolist())
    scale = min(1.0, clip * (1 - MARGIN) / length) if length else 1.0
    assert torch.allclose(result, exact * scale, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("huge", [1e200, 1.7e308])
def test_squares_that_would_overflow_or_vanish_are_no_way_out(huge: float) -> None:
    long = clip_vector(torch.tensor([huge, -huge], dtype=torch.float64), 2.0)
    assert math.hypot(*long.tolist()) == pytest.approx(2.0, rel=1e-5)
    tiny = clip_vector(torch.full((4,), 1e-200, dtype=torch.float64), 1e-210)
    assert 0 < max(tiny.tolist()) * 2 <= 1e-210


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_a_vector_that_is_not_finite_counts_as_zero(wrong: float) -> None:
    assert clip_vector(torch.tensor([1.0, wrong]), 1.0).tolist() == [0.0, 0.0]


def test_the_vector_itself_is_left_alone() -> None:
    vector = torch.tensor([3.0, 4.0], dtype=torch.float64)
    clip_vector(vector, 1.0).zero_()
    clip_vector(vector, 100.0).zero_()
    assert vector.tolist() == [3.0, 4.0]
