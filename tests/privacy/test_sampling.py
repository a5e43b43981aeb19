"""The sampler: Bernoulli(q) for each unit, independent, and a cut that prefers nobody."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from vestry_privacy.noise import SecureStream, SimulationStream
from vestry_privacy.sampling import PoissonSampler, least_cap


def draws(sampler: PoissonSampler, units: int, count: int) -> NDArray[np.bool_]:
    """(count, units): who was in which draw."""
    source = SecureStream()
    inside = np.zeros((count, units), dtype=np.bool_)
    for row in inside:
        row[sampler.draw(units, source)] = True
    return inside


def test_each_unit_is_in_with_probability_q() -> None:
    units, count, q = 50, 20_000, 0.13
    inside = draws(PoissonSampler(q), units, count)
    deviation = math.sqrt(q * (1 - q) * count)
    assert np.abs(inside.sum(axis=0) - q * count).max() < 6 * deviation


def test_sizes_are_binomial() -> None:
    """Chi-square over the sizes of 20,000 draws."""
    units, count, q = 40, 20_000, 0.2
    sizes = draws(PoissonSampler(q), units, count).sum(axis=1)
    edges = np.arange(2, 16)
    observed = np.bincount(np.clip(sizes, 2, 15), minlength=16)[2:]
    chance = stats.binom.pmf(edges, units, q)
    chance[0], chance[-1] = stats.binom.cdf(2, units, q), stats.binom.sf(14, units, q)
    assert stats.chisquare(observed, count * chance).pvalue > 1e-6


def test_units_are_pairwise_independent() -> None:
    units, count, q = 20, 20_000, 0.3
    inside = draws(PoissonSampler(q), units, count).astype(float)
    together = (inside.T @ inside) / count
    off = together[~np.eye(units, dtype=bool)]
    assert np.abs(off - q * q).max() < 6 * math.sqrt(q * q * (1 - q * q) / count)
    assert np.abs(off.mean() - q * q) < 6 * q / math.sqrt(count)


def test_draws_are_independent_of_each_other() -> None:
    inside = draws(PoissonSampler(0.5), 200, 400).ravel()
    assert abs(np.corrcoef(inside[:-200], inside[200:])[0, 1]) < 6 / math.sqrt(len(inside))


def test_a_probability_of_one_takes_everybody() -> None:
    assert PoissonSampler(1.0).draw(1000, SecureStream()).tolist() == list(range(1000))


def test_nobody_there_is_an_empty_draw() -> None:
    for cap in (None, 3):
        assert PoissonSampler(0.5, cap).draw(0, SecureStream()).shape == (0,)


def test_empty_draws_happen_as_often_as_they_should() -> None:
    count = 4000
    empty = sum(not len(PoissonSampler(0.1).draw(10, source)) for source in [SecureStream()] * count)
    chance = 0.9**10
    assert abs(empty - count * chance) < 6 * math.sqrt(count * chance * (1 - chance))


@given(st.integers(0, 300), st.floats(0.001, 1.0), st.integers(1, 40), st.integers(0, 2**32))
def test_a_draw_is_sorted_distinct_and_no_larger_than_the_cap(
    units: int, q: float, cap: int, seed: int
) -> None:
    drawn = PoissonSampler(q, cap).draw(units, SimulationStream(seed))
    assert drawn.dtype == np.int64
    assert len(drawn) <= min(cap, units)
    assert np.all(np.diff(drawn) > 0)
    assert not len(drawn) or 0 <= drawn[0] <= drawn[-1] < units
    whole = PoissonSampler(q).draw(units, SimulationStream(seed))
    assert set(drawn) <= set(whole)
    assert len(drawn) == min(cap, len(whole))


def test_the_cut_prefers_nobody() -> None:
    """A draw of all, cut to a third: each unit as often, each pair as often, whatever its place."""
    units, cap, count = 12, 4, 20_000
    inside = draws(PoissonSampler(1.0, cap), units, count).astype(float)
    assert (inside.sum(axis=1) == cap).all()
    chance = cap / units
    assert np.abs(inside.mean(axis=0) - chance).max() < 6 * math.sqrt(chance * (1 - chance) / count)
    pair = chance * (cap - 1) / (units - 1)
    together = ((inside.T @ inside) / count)[~np.eye(units, dtype=bool)]
    assert np.abs(together - pair).max() < 6 * math.sqrt(pair * (1 - pair) / count)


def test_uniforms_equal_to_q_are_in_and_above_are_out() -> None:
    """P(u <= q) over multiples of 2^-53 is never above q."""

    class Two:
        guarantee = "none"

        def uniforms(self, count: int) -> NDArray[np.float64]:
            return np.array([0.25, np.nextafter(0.25, 1.0)])[:count]

    assert PoissonSampler(0.25).draw(2, Two()).tolist() == [0]


@pytest.mark.parametrize(
    ("units", "q", "cap"),
    [(10_000, 0.01, 150), (303, 1.0, 303), (10, 0.9, 10), (1, 0.5, 1), (1000, 0.05, 85)],
)
def test_least_cap_is_five_deviations_above_the_mean(units: int, q: float, cap: int) -> None:
    assert least_cap(units, q) == cap


@given(st.integers(20, 10**5), st.floats(0.001, 1.0))
def test_what_a_least_cap_cuts_is_rare(mean: int, q: float) -> None:
    units = math.ceil(mean / q)
    assert stats.binom.sf(least_cap(units, q), units, q) < 1e-5  # normal: 3e-7; more where it is skew


@pytest.mark.parametrize("q", [0.0, -0.1, 1.1, math.nan])
def test_what_is_no_probability_is_refused(q: float) -> None:
    with pytest.raises(ValueError, match="sampling_probability"):
        PoissonSampler(q)


def test_a_cap_holds_somebody() -> None:
    with pytest.raises(ValueError, match="cap=0"):
        PoissonSampler(0.5, 0)
