"""Wide values: exact to 2^-60 whatever their size, saturating, added over 200 sites with every carry."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vestry_privacy.secagg.ring import Ring
from vestry_privacy.secagg.secret import Secret
from vestry_privacy.secagg.vector import Shape, decode_sum, encode_words

LARGEST = 2.0**59
values = st.floats(-LARGEST, LARGEST, allow_nan=False) | st.floats(-1e6, 1e6, allow_subnormal=True)


def encode(wide: list[float], sites: int = 200) -> NDArray[np.uint64]:
    shape = Shape(Ring(21, sites, 1.0), 0, len(wide), 1)
    return encode_words(shape, np.zeros(0, np.float32), 1, np.array(wide, np.float64), Secret(bytes(32)))


def added(vectors: list[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    total: NDArray[np.uint64] = np.sum(vectors, axis=0, dtype=np.uint64)
    return total


def rounded(value: float) -> int:
    """round(x 2^60), half to even, clamped; by Python's exact numbers."""
    if not math.isfinite(value):
        return 0
    whole = round(Fraction(value) * 2**60)
    return max(-(2**119) + 1, min(2**119 - 1, whole))


def limbs(value: float) -> list[int]:
    raised = rounded(value) + 2**119
    return [raised % 2**40, (raised >> 40) % 2**40, raised >> 80]


@given(st.lists(values | st.floats(), max_size=8))
@settings(max_examples=300)
@example([0.0, -0.0, 2.0**-60, -(2.0**-60), 2.0**-61, 1.5 * 2.0**-60, 2.5 * 2.0**-60, -(2.0**-61)])
@example([LARGEST, -LARGEST, math.nextafter(LARGEST, 0), -math.nextafter(LARGEST, 0)])
@example([1.7976931348623157e308, -1.7976931348623157e308, math.inf, -math.inf, math.nan, 5e-324])
@example([2.0**-20 - 2.0**-60, 2.0**20 - 2.0**-32, -(2.0**20), -(2.0**-20)])
def test_limbs_are_those_of_exact_arithmetic(wide: list[float]) -> None:
    assert encode(wide)[1:].tolist() == [limb for value in wide for limb in limbs(value)]


@given(st.lists(st.lists(values, min_size=3, max_size=3), min_size=1, max_size=12))
@settings(deadline=None)
def test_a_sum_is_the_exact_one(sites: list[list[float]]) -> None:
    """It is the float64 nearest to the sum of the rounded values, in whatever order the sites come."""
    shape = Shape(Ring(21, 200, 1.0), 0, 3, 1)
    total = added([encode(wide) for wide in sites])
    decoded = decode_sum(shape, total, len(sites)).wide
    for place in range(3):
        exact = sum(rounded(wide[place]) for wide in sites)
        assert decoded[place] == exact / 2**60
        true = sum((Fraction(wide[place]) for wide in sites), Fraction(0))
        slack = Fraction(len(sites), 2**61) + abs(Fraction(exact, 2**60)) / 2**53
        if all(abs(wide[place]) < LARGEST for wide in sites):
            assert abs(Fraction(float(decoded[place])) - true) <= slack


@pytest.mark.parametrize("value", [1e300, -1e300, LARGEST - 64.0, -1e-18, 1.0])
def test_two_hundred_sites(value: float) -> None:
    shape = Shape(Ring(21, 200, 1.0), 0, 1, 1)
    total = added([encode([value])] * 200)
    assert decode_sum(shape, total, 200).wide[0] == 200 * rounded(value) / 2**60


def test_terms_that_cancel_leave_what_is_small() -> None:
    """A float64 sum of these is 0; the sum here is not."""
    shape = Shape(Ring(21, 200, 1.0), 0, 1, 1)
    wide = [2.0**50, 2.0**-40, -(2.0**50)]
    assert sum(wide) == 0.0
    total = added([encode([value]) for value in wide])
    assert decode_sum(shape, total, 3).wide[0] == 2.0**-40


def test_a_weight_does_not_scale_wide_values() -> None:
    shape = Shape(Ring(21, 3, 1.0), 0, 1, 100)
    words = encode_words(shape, np.zeros(0, np.float32), 37, np.array([2.5]), Secret(bytes(32)))
    total = decode_sum(shape, words, 1)
    assert (total.weight, total.wide[0]) == (37, 2.5)
