"""Random rounding is right on average: a bias of a hundredth of a step, as float32 has, would be seen."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from vestry_privacy.secagg.ring import Ring
from vestry_privacy.secagg.secret import Secret
from vestry_privacy.secagg.vector import Shape, decode_sum, encode_words

COUNT = 1 << 20
SIGMAS = 5.0


def deviation(lane_bits: int, value: float, weight: int = 7, limit: int = 7) -> float:
    """Mean of so many equal values minus the exact one, in steps."""
    shape = Shape(Ring(lane_bits, 3, 8.0), COUNT, 0, limit)
    values = np.full(COUNT, value, np.float32)
    words = encode_words(shape, values, weight, np.zeros(0), Secret(bytes(31) + bytes([lane_bits])))
    summed = decode_sum(shape, words, 1).values
    exact = float(np.float32(value)) * weight
    return float(np.mean(summed - exact)) / (shape.ring.step * limit)


def most(fraction: float) -> float:
    """Standard deviations of a mean of so many coins, and float64's rounding of their sum."""
    return SIGMAS * math.sqrt(fraction * (1 - fraction) / COUNT) + 1e-6


@pytest.mark.parametrize("lane_bits", [16, 21, 32])
@pytest.mark.parametrize("value", [0.0, 1e-6, 0.3, -0.7, 3.1415927, 7.2000003, -7.9])
def test_the_mean_is_exact(lane_bits: int, value: float) -> None:
    ring = Ring(lane_bits, 3, 8.0)
    place = (float(np.float32(value)) + 8.0) / ring.step
    assert abs(deviation(lane_bits, value)) <= most(place % 1.0)


def test_the_mean_is_exact_under_a_weight() -> None:
    ring = Ring(21, 3, 8.0)
    place = (float(np.float32(5.5)) * 3 / 7 + 8.0) / ring.step
    assert abs(deviation(21, 5.5, weight=3)) <= most(place % 1.0)


def rounded_in_float32(value: float, generator: np.random.Generator) -> float:
    """The mean's deviation in steps where the same is done in float32."""
    top = np.float32(2**19 - 1)
    scaled = (np.float32(value) + np.float32(8)) / np.float32(16) * top
    drawn: NDArray[np.float32] = generator.random(COUNT, dtype=np.float32)
    exact = (float(np.float32(value)) + 8.0) / 16.0 * float(top)
    return float(np.mean(np.floor(scaled + drawn).astype(np.float64))) - exact


def test_float32_would_be_caught() -> None:
    """The bound above refuses the usual way at some of the values it is tried at."""
    generator = np.random.default_rng(5)
    values = [3.1415927, 7.2000003, -0.7, 0.3]
    deviations = [abs(rounded_in_float32(value, generator)) for value in values]
    assert max(deviations) > most(0.5)
    assert Ring(21, 3, 8.0).value_bits == 19


def test_values_of_one_site_round_independently() -> None:
    """Between lanes and between neighbours no correlation is left, and no two lanes share a stream."""
    shape = Shape(Ring(21, 3, 1.0), 3 * 100_000, 0, 1)
    values = np.zeros(shape.values, np.float32)  # half-way between two steps: a coin each
    words = encode_words(shape, values, 1, np.zeros(0), Secret(bytes(32)))
    residues = decode_sum(shape, words, 1).values.reshape(3, -1)
    residues = (residues - residues.mean()) / residues.std()
    bound = SIGMAS / math.sqrt(100_000)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert abs(float(np.mean(residues[one] * residues[other]))) < bound
    assert abs(float(np.mean(residues[:, 1:] * residues[:, :-1]))) < bound


def test_two_seeds_round_differently_and_one_seed_alike() -> None:
    shape = Shape(Ring(21, 3, 1.0), 3000, 0, 1)
    values = np.random.default_rng(2).uniform(-1, 1, 3000).astype(np.float32)
    one, again, other = (
        encode_words(shape, values, 1, np.zeros(0), Secret(bytes(31) + bytes([number])))
        for number in (1, 1, 2)
    )
    assert np.array_equal(one, again)
    assert np.mean(one[:-1] == other[:-1]) < 0.5


def test_what_lies_on_a_step_is_not_moved() -> None:
    shape = Shape(Ring(16, 3, 2.0**14 - 1), 2**14, 0, 1)  # v = 14: values are the odd numbers
    values = np.arange(-(2**14) + 1, 2**14, 2, dtype=np.float32)
    words = encode_words(shape, values, 1, np.zeros(0), Secret(bytes(32)))
    assert np.max(np.abs(decode_sum(shape, words, 1).values - values)) < 1e-9
