"""Noised sums: one person moves the sum by at most S, noise of deviation sigma S, persons are averaged."""

import math
from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from vestry_privacy.noise import SecureStream, SimulationStream, accounted_sensitivity
from vestry_privacy.release import MARGIN, noised_sum, person_vectors

PERSONS = 1 << 24  # as the module has it: the noise is scaled for so many

anything = st.floats(allow_nan=True, allow_infinity=True, width=64)


class Told:
    """A source that hands out uniforms told beforehand, one for each record."""

    guarantee = "none"

    def __init__(self, values: NDArray[np.float64]) -> None:
        self._values: Iterator[float] = iter(values.tolist())

    def uniforms(self, count: int) -> NDArray[np.float64]:
        return np.array([next(self._values) for _ in range(count)], dtype=np.float64)


@st.composite
def tables(draw: st.DrawFn) -> tuple[NDArray[np.float64], NDArray[np.int64], float, int]:
    """Values of any size, owners, a bound, and the most records of a person."""
    records, width = draw(st.integers(1, 12)), draw(st.integers(1, 4))
    values = draw(arrays(np.float64, (records, width), elements=anything))
    owners = draw(arrays(np.int64, records, elements=st.integers(-3, 5)))
    return values, owners, draw(st.floats(1e-6, 1e6)), draw(st.integers(1, 5))


@settings(max_examples=300, deadline=None)
@given(tables(), st.integers(0, 2**32))
def test_one_person_moves_the_sum_by_at_most_the_bound(
    table: tuple[NDArray[np.float64], NDArray[np.int64], float, int], seed: int
) -> None:
    values, owners, bound, most = table
    drawn = np.random.default_rng(seed).random(len(owners))
    whole = person_vectors(values, owners, bound, most, Told(drawn)).sum(axis=0)
    for person in np.unique(owners):
        rest = owners != person
        without = person_vectors(values[rest], owners[rest], bound, most, Told(drawn[rest])).sum(axis=0)
        assert np.linalg.norm(whole - without) <= bound * (1 + 1e-12)


@settings(max_examples=200, deadline=None)
@given(tables(), st.integers(0, 2**32))
def test_every_persons_vector_keeps_the_bound_and_is_finite(
    table: tuple[NDArray[np.float64], NDArray[np.int64], float, int], seed: int
) -> None:
    values, owners, bound, most = table
    vectors = person_vectors(values, owners, bound, most, SimulationStream(seed))
    assert vectors.shape == (len(np.unique(owners)), values.shape[1])
    assert np.isfinite(vectors).all()
    assert (np.linalg.norm(vectors, axis=1) <= bound).all()


def test_a_persons_records_are_averaged_not_added() -> None:
    values = np.array([[1.0, 0.0], [3.0, 0.0], [0.0, 5.0], [2.0, 0.0]])
    owners = np.array([7, 7, 2, 7])
    vectors = person_vectors(values, owners, 100.0, 16, SecureStream())
    assert vectors.tolist() == [[0.0, 5.0], [2.0, 0.0]]


def test_a_person_with_a_hundred_records_counts_as_one_with_one() -> None:
    one = noised_sum(np.ones((1, 1)), np.zeros(1, dtype=np.int64), 1.0, 1e-6, 16, SecureStream())
    many = noised_sum(np.ones((100, 1)), np.zeros(100, dtype=np.int64), 1.0, 1e-6, 16, SecureStream())
    assert one[0] == pytest.approx(many[0], abs=1e-4)
    assert one[0] == pytest.approx(1.0 - MARGIN, abs=1e-4)


def test_within_the_bound_only_the_margin_is_taken_off() -> None:
    values = np.array([[0.6, 0.8], [0.3, 0.4]])
    vectors = person_vectors(values, np.arange(2), 1.0, 1, SecureStream())
    np.testing.assert_allclose(vectors[0], values[0] * (1 - MARGIN), rtol=1e-15)
    np.testing.assert_array_equal(vectors[1], values[1])


def test_a_record_that_is_not_finite_makes_its_person_zero_and_nobody_else() -> None:
    values = np.array([[1.0], [np.nan], [2.0], [np.inf], [-np.inf], [3.0]])
    owners = np.array([0, 0, 1, 2, 2, 3])
    vectors = person_vectors(values, owners, 10.0, 16, SecureStream())
    assert vectors.tolist() == [[0.0], [2.0], [0.0], [3.0]]


@pytest.mark.parametrize("huge", [1e200, 1.7e308])
def test_values_whose_square_overflows_are_clipped_or_zero(huge: float) -> None:
    vectors = person_vectors(np.full((2, 3), huge), np.zeros(2, dtype=np.int64), 1.0, 16, SecureStream())
    assert np.isfinite(vectors).all()
    assert np.linalg.norm(vectors) <= 1.0


def test_the_records_used_are_drawn_evenly_and_afresh() -> None:
    """Of four records two are used: the six pairs are equally likely (chi-square, 5 degrees, p = 1e-5)."""
    values = np.diag([1.0, 10.0, 100.0, 1000.0])
    draws, source = 3000, SimulationStream(1)
    pairs = dict.fromkeys(combinations(range(4), 2), 0)
    for _ in range(draws):
        vector = person_vectors(values, np.zeros(4, dtype=np.int64), 1e6, 2, source)[0]
        left, right = np.flatnonzero(vector).tolist()
        pairs[left, right] += 1
    expected = draws / len(pairs)
    assert sum((seen - expected) ** 2 / expected for seen in pairs.values()) < 30.86


def test_which_records_of_one_person_are_used_does_not_change_anothers_vector() -> None:
    values, owners = np.arange(1.0, 9.0)[:, None], np.array([0, 1, 1, 1, 1, 1, 1, 1])
    firsts = {person_vectors(values, owners, 1e6, 2, SecureStream())[0, 0] for _ in range(40)}
    assert firsts == {1.0}


@pytest.mark.parametrize(("bound", "sigma"), [(1.0, 1.0), (3.5, 0.7), (0.01, 20.0)])
def test_the_noise_has_deviation_sigma_times_the_bound(bound: float, sigma: float) -> None:
    width, source = 20_000, SimulationStream(3)
    none = np.zeros((0, width))
    noise = noised_sum(none, np.zeros(0, dtype=np.int64), bound, sigma, 16, source)
    expected = sigma * accounted_sensitivity(bound, width, PERSONS, sigma)
    assert expected == pytest.approx(sigma * bound, rel=1e-3)
    error = expected / math.sqrt(2 * width)  # of a deviation over so many values
    assert abs(noise.std() - expected) < 5 * error
    assert abs(noise.mean()) < 5 * expected / math.sqrt(width)


def test_without_records_only_noise_leaves() -> None:
    none = np.zeros((0, 3))
    assert person_vectors(none, np.zeros(0, dtype=np.int64), 1.0, 4, SecureStream()).shape == (0, 3)
    total = noised_sum(none, np.zeros(0, dtype=np.int64), 1.0, 1.0, 4, SecureStream())
    assert total.shape == (3,)
    assert np.isfinite(total).all()
    assert total.any()


def test_the_noised_sum_is_right_on_average() -> None:
    generator = np.random.default_rng(5)
    values, owners = generator.uniform(-1, 1, (400, 3)), generator.integers(0, 150, 400)
    exact = person_vectors(values, owners, 2.0, 16, SecureStream()).sum(axis=0)
    source, draws = SimulationStream(2), 400
    noised = np.array([noised_sum(values, owners, 2.0, 1.5, 16, source) for _ in range(draws)])
    assert (np.abs(noised.mean(axis=0) - exact) < 5 * 3.0 / math.sqrt(draws)).all()
    np.testing.assert_allclose(noised.std(axis=0), 3.0, rtol=5 / math.sqrt(2 * draws))


def test_two_releases_of_the_same_data_differ_by_two_noises() -> None:
    values, owners = np.ones((5, 2)), np.arange(5)
    first, second = (noised_sum(values, owners, 2.0, 1.0, 1, SecureStream()) for _ in range(2))
    assert (first != second).all()


@pytest.mark.parametrize(("bound", "sigma"), [(0.0, 1.0), (-1.0, 1.0), (1.0, 0.0), (1.0, math.inf)])
def test_a_bound_or_noise_that_protects_nobody_is_refused(bound: float, sigma: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        noised_sum(np.zeros((0, 1)), np.zeros(0, dtype=np.int64), bound, sigma, 1, SecureStream())
