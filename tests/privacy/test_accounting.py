"""Epsilon: known answers of four methods, composition, and calibration that keeps its word."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.optimize import brentq
from scipy.special import logsumexp
from scipy.stats import binom, norm

from vestry_privacy.accounting import (
    AccountantName,
    AccountingError,
    Event,
    GaussianRelease,
    PoissonGaussian,
    TruncatedPoissonGaussian,
    epsilon,
    least_noise,
    noise_multiplier,
    renyi_divergence,
    renyi_to_epsilon,
)

DELTA = 1e-5
# sigma, q, T: RDP, PRV, PLD, and the central limit of Gaussian DP, which is no bound. The first three of
# the design's table; RDP and PRV are other methods by other hands (dp-accounting, Opacus).
TABLE = [
    ((1.0, 0.01, 1000), 2.101, 1.838, 1.828, 1.618),
    ((1.0, 0.01, 3000), 3.511, 3.203, 3.192, 2.995),
    ((1.0, 0.01, 10000), 6.713, 6.198, 6.188, 6.007),
    ((0.5, 0.01, 1000), 15.46, 13.37, 13.361, 11.99),
    ((2.0, 0.05, 1000), 4.024, 3.710, 3.700, 3.594),
    ((4.0, 0.2, 200), 3.341, 3.080, 3.070, 2.996),
    ((1.0, 0.1, 300), 13.71, 12.41, 12.398, 11.70),
    ((1.0, 1.0, 1), 4.729, 4.387, 4.377, 6.007),
    ((0.7, 0.001, 10000), 2.025, 1.255, 1.245, 0.962),
]


def steps(sigma: float, q: float, count: int) -> PoissonGaussian:
    return PoissonGaussian(noise_multiplier=sigma, sampling_probability=q, count=count)


def release(sigma: float, count: int = 1) -> GaussianRelease:
    return GaussianRelease(noise_multiplier=sigma, count=count)


def exact_gaussian(mu: float, delta: float = DELTA) -> float:
    """Balle and Wang, ICML 2018, theorem 8, solved for epsilon."""

    def excess(value: float) -> float:
        return float(norm.cdf(mu / 2 - value / mu) - math.exp(value) * norm.cdf(-mu / 2 - value / mu) - delta)

    return float(brentq(excess, 0.0, 200.0, xtol=1e-12))


@pytest.mark.parametrize(("plan", "rdp", "prv", "pld", "limit"), TABLE)
def test_known_answers(
    plan: tuple[float, float, int], rdp: float, prv: float, pld: float, limit: float
) -> None:
    event = [steps(*plan)]
    assert epsilon(event, DELTA, "rdp") == pytest.approx(rdp, rel=0.005)
    assert epsilon(event, DELTA, "prv") == pytest.approx(prv, rel=0.005)
    assert epsilon(event, DELTA, "pld") == pytest.approx(pld, rel=0.0005)
    assert epsilon(event, DELTA, "pld") <= epsilon(event, DELTA, "rdp")
    sigma, q, count = plan
    mu = q * math.sqrt(count * math.expm1(sigma**-2))  # Bu et al., arXiv:1911.11607
    assert exact_gaussian(mu) == pytest.approx(limit, rel=0.005)


def test_the_central_limit_can_err_either_way() -> None:
    assert {limit < pld for _, _, _, pld, limit in TABLE} == {True, False}


@pytest.mark.parametrize(("sigma", "count"), [(0.5, 1), (1.0, 1), (3.0, 7), (20.0, 100), (200.0, 3)])
def test_gaussian_releases_are_exact(sigma: float, count: int) -> None:
    exact = exact_gaussian(math.sqrt(count) / sigma)
    assert epsilon([release(sigma, count)], DELTA) == pytest.approx(exact, rel=0.0005, abs=2e-4)
    assert epsilon([release(sigma, count)], DELTA) >= exact * (1 - 1e-9)
    assert epsilon([steps(sigma, 1.0, count)], DELTA) == epsilon([release(sigma, count)], DELTA)


@pytest.mark.slow
@pytest.mark.parametrize(("cap", "expected"), [(150, 1.830), (130, 3.68), (120, 5.30), (110, 7.68)])
def test_a_cap_is_free_only_far_above_the_mean(cap: int, expected: float) -> None:
    event = truncated(1.0, 0.01, cap, 10_000, 1000)
    pld = epsilon([event], DELTA)
    assert pld == pytest.approx(expected, rel=0.005)
    orders = [1.5, 2.0, 2.5, 3.0, 4.0, 5.0]
    assert min(renyi_to_epsilon(renyi_divergence(event, order), order, DELTA) for order in orders) >= pld


def truncated(sigma: float, q: float, cap: int, persons: int, count: int) -> TruncatedPoissonGaussian:
    return TruncatedPoissonGaussian(
        noise_multiplier=sigma, sampling_probability=q, cap=cap, persons=persons, count=count
    )


@pytest.mark.parametrize(
    "event",
    [truncated(2.0, 0.05, 80, 1000, 200), truncated(3.0, 0.2, 30, 100, 30), truncated(4.0, 0.3, 22, 30, 10)],
)
def test_renyi_bound_of_truncated_steps_covers_pld(event: TruncatedPoissonGaussian) -> None:
    orders = [2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 64.0]
    best = min(renyi_to_epsilon(renyi_divergence(event, order), order, DELTA) for order in orders)
    assert best >= epsilon([event], DELTA)
    assert epsilon([event], DELTA, "rdp") >= epsilon([event], DELTA)


def test_a_cap_of_all_persons_is_no_cap() -> None:
    full, plain = truncated(1.0, 0.1, 50, 50, 9), steps(1.0, 0.1, 9)
    assert renyi_divergence(full, 4.0) == pytest.approx(renyi_divergence(plain, 4.0), rel=1e-12)
    assert epsilon([full], DELTA) == pytest.approx(epsilon([plain], DELTA), rel=1e-6)


def true_divergence(
    person: float, other: float, persons: int, q: float, cap: int, sigma: float, order: float
) -> float:
    """Of one truncated step in one dimension, by its definition and an integral; the worse direction.

    ``person`` is the value of one, against 0 in their place; all others have the value ``other``.
    """
    chances: dict[tuple[float, float], float] = {}

    def add(with_person: float, without: float, chance: float) -> None:
        chances[with_person, without] = chances.get((with_person, without), 0.0) + chance

    for drawn in range(persons):  # of the others
        chance = float(binom.pmf(drawn, persons - 1, q))
        kept = min(1.0, cap / (drawn + 1))
        alone, beside = min(drawn, cap) * other, min(drawn, cap - 1) * other
        add(alone, alone, chance * (1 - q * kept))
        add(beside + person, beside, chance * q * kept)
    ends = [end for pair in chances for end in pair]
    grid = np.linspace(min(ends) - 8 - order, max(ends) + 8 + order, 40_001)
    sides = [
        logsumexp([np.log(c) + norm.logpdf(grid, pair[side], sigma) for pair, c in chances.items()], axis=0)
        for side in (0, 1)
    ]
    width = math.log(grid[1] - grid[0])
    return max(
        float(logsumexp(order * p - (order - 1) * r) + width) / (order - 1)
        for p, r in (sides, reversed(sides))
    )


SETTINGS = st.tuples(
    st.sampled_from([1.0, -1.0]),
    st.sampled_from([-1.0, -0.5, 0.0, 1.0]),
    st.integers(2, 40),
    st.floats(0.02, 0.95),
    st.integers(1, 12),
    st.floats(0.3, 3.0),
    st.sampled_from([1.5, 2.0, 4.0, 7.25, 16.0]),
)


@settings(max_examples=60, deadline=None)
@given(SETTINGS)
def test_renyi_bound_of_a_truncated_step_holds_in_truth(
    setting: tuple[float, float, int, float, int, float, float],
) -> None:
    _, _, persons, q, cap, sigma, order = setting
    truth = true_divergence(*setting)
    assert truth <= renyi_divergence(truncated(sigma, q, cap, persons, 1), order) * (1 + 1e-9) + 1e-12


def test_the_untruncated_bound_would_be_wrong() -> None:
    """Whom the cap keeps tells who is out: of 50 a tenth are drawn, two kept: seven times as much."""
    truth = true_divergence(1.0, -1.0, 50, 0.1, 2, 2.0, 16.0)
    assert truth > 7 * renyi_divergence(steps(2.0, 0.1, 1), 16.0)
    assert truth <= renyi_divergence(truncated(2.0, 0.1, 2, 50, 1), 16.0)


def test_renyi_divergence_of_known_events() -> None:
    assert renyi_divergence(release(2.0, 3), 4.0) == 3 * 4.0 / (2 * 2.0**2)
    assert renyi_divergence(steps(2.0, 1.0, 3), 4.0) == 3 * 4.0 / (2 * 2.0**2)
    assert renyi_divergence(steps(2.0, 0.5, 0), 4.0) == 0.0
    q = 0.01  # Mironov, Talwar, Zhang, arXiv:1908.10530: at order 2, log(1 + q^2 (e^(1/sigma^2) - 1))
    assert renyi_divergence(steps(1.0, q, 5), 2.0) == pytest.approx(5 * math.log1p(q**2 * math.expm1(1.0)))


@given(st.floats(1.01, 60.0), st.floats(1e-3, 1.0), st.floats(0.4, 20.0))
@settings(max_examples=60, deadline=None)
def test_renyi_divergence_is_found_and_grows_with_the_order(order: float, q: float, sigma: float) -> None:
    low, high = renyi_divergence(steps(sigma, q, 1), order), renyi_divergence(steps(sigma, q, 1), order + 1)
    assert 0 <= low <= high * (1 + 1e-6) + 1e-15
    assert high <= (order + 1) / (2 * sigma**2) * (1 + 1e-9)


@pytest.mark.parametrize("order", [1.0, 0.5, math.inf, math.nan])
def test_orders_that_are_none_are_refused(order: float) -> None:
    with pytest.raises(AccountingError, match="must be above 1"):
        renyi_divergence(release(1.0), order)


@pytest.mark.parametrize("sigma", [1e-200, 0.0, 1e200, math.nan])
def test_noise_that_no_accountant_can_carry_is_no_event(sigma: float) -> None:
    """What a ledger has written stays; an event must never make its report overflow."""
    with pytest.raises(ValidationError, match="noise_multiplier"):
        release(sigma)
    assert math.isfinite(renyi_divergence(release(1e-3, 10**12), 4.0))
    assert math.isfinite(epsilon([release(1e-3, 10**12)], DELTA))


def test_mixed_events_compose() -> None:
    """Heterogeneous: in any order the same, above its largest part, below the sum of its parts, RDP above."""
    events: list[Event] = [steps(2.0, 0.02, 300), release(8.0, 4), steps(3.0, 0.1, 50)]
    mixed = epsilon(events, DELTA)
    parts = [epsilon([event], DELTA) for event in events]
    assert max(parts) < mixed < sum(parts)
    assert epsilon(events[::-1], DELTA) == pytest.approx(mixed, rel=1e-9)
    assert mixed < epsilon(events, DELTA, "rdp")
    assert epsilon(events, DELTA, "prv") == pytest.approx(mixed, abs=0.03)


def test_parts_of_one_study_cost_what_the_whole_costs() -> None:
    rounds = [steps(1.0, 0.01, 10)] * 100
    assert epsilon(rounds, DELTA) == epsilon([steps(1.0, 0.01, 1000)], DELTA)
    assert epsilon([*rounds, steps(1.0, 0.01, 0), release(1.0, 0)], DELTA) == epsilon(rounds, DELTA)


def test_gaussian_releases_of_different_noise_are_exact() -> None:
    exact = exact_gaussian(math.sqrt(1 / 3**2 + 2 / 5**2))
    assert epsilon([release(3.0), release(5.0, 2)], DELTA) == pytest.approx(exact, rel=0.0005)


def test_nothing_costs_nothing() -> None:
    assert epsilon([], DELTA) == 0.0
    assert epsilon([release(1.0, 0)], DELTA, "rdp") == 0.0


def test_both_adjacencies_cost_the_same() -> None:
    event = [steps(3.0, 0.05, 100)]
    assert epsilon(event, DELTA, adjacency="add-remove") == pytest.approx(epsilon(event, DELTA), rel=1e-9)


def test_hopeless_noise_costs_no_memory() -> None:
    """A plan with hardly any noise was the way to have a site fill its memory with its loss distribution."""
    start = time.process_time()
    for accountant in ("pld", "rdp", "prv"):
        assert epsilon([steps(0.1, 0.9, 100)], DELTA, accountant) > 4000
        assert epsilon([release(1e-3)], DELTA, accountant) > 4000
    assert time.process_time() - start < 20


@pytest.mark.parametrize("delta", [0.0, 1.0, -0.1, math.nan, math.inf])
def test_deltas_that_are_none_are_refused(delta: float) -> None:
    with pytest.raises(AccountingError, match=f"delta={delta}"):
        epsilon([release(1.0)], delta)
    with pytest.raises(AccountingError, match="delta"):
        renyi_to_epsilon(1.0, 2.0, delta)


def test_what_an_accountant_cannot_do_is_refused() -> None:
    cut = [truncated(1.0, 0.1, 20, 100, 1)]
    with pytest.raises(AccountingError, match="use pld"):
        epsilon(cut, DELTA, "prv")
    with pytest.raises(AccountingError, match="zero-out only"):
        epsilon(cut, DELTA, adjacency="add-remove")
    with pytest.raises(AccountingError, match="accountant=gdp"):
        epsilon([release(1.0)], DELTA, "gdp")  # type: ignore[arg-type]
    with pytest.raises(AccountingError, match="adjacency=replace-one"):
        epsilon([release(1.0)], DELTA, adjacency="replace-one")  # type: ignore[arg-type]


@pytest.mark.parametrize("accountant", [pytest.param("pld", marks=pytest.mark.slow), "rdp", "prv"])
def test_calibrated_noise_meets_the_target_and_little_less_does_not(accountant: AccountantName) -> None:
    sigma = noise_multiplier(1.0, DELTA, 0.02, 50, accountant)
    assert epsilon([steps(sigma, 0.02, 50)], DELTA, accountant) <= 1.0
    assert epsilon([steps(sigma * 0.998, 0.02, 50)], DELTA, accountant) > 1.0


def test_calibration_of_one_gaussian_release_is_the_known_one() -> None:
    """Balle and Wang's analytic Gaussian mechanism."""
    sigma = float(brentq(lambda value: exact_gaussian(1 / value) - 1.0, 1.0, 10.0))
    assert sigma == pytest.approx(3.7306, abs=1e-4)
    assert noise_multiplier(1.0, DELTA, 1.0, 1) == pytest.approx(sigma, rel=0.001)


@pytest.mark.parametrize("target", [0.001, 0.05])
def test_targets_below_what_rdp_can_reach_are_met(target: float) -> None:
    sigma = noise_multiplier(target, DELTA, 0.01, 100)
    assert 0 < epsilon([steps(sigma, 0.01, 100)], DELTA) <= target


@given(st.floats(1e-3, 1e3), st.floats(1e-2, 50.0), st.floats(0.06, 30.0))
def test_least_noise_never_returns_what_was_not_checked(scale: float, target: float, start: float) -> None:
    asked: dict[float, float] = {}

    def cost(sigma: float) -> float:
        asked[sigma] = scale / sigma**1.7
        return asked[sigma]

    sigma = least_noise(cost, target, start)
    assert asked[sigma] <= target
    assert sigma <= 0.05 or cost(sigma * 0.998 - 1e-4) > target


def test_a_cost_that_is_no_number_is_never_met() -> None:
    with pytest.raises(AccountingError, match="no noise multiplier"):
        least_noise(lambda sigma: math.nan, 1.0)


@pytest.mark.parametrize("target", [0.0, -1.0, math.inf, math.nan])
def test_targets_that_are_none_are_refused(target: float) -> None:
    with pytest.raises(AccountingError, match="must be above 0 and finite"):
        noise_multiplier(target, DELTA, 0.1, 10)


def test_a_plan_that_no_noise_can_meet() -> None:
    with pytest.raises(AccountingError, match="no noise multiplier up to 100000 is enough"):
        least_noise(lambda sigma: 2.0, 1.0)
    with pytest.raises(AccountingError, match="steps=0"):
        noise_multiplier(1.0, DELTA, 0.1, 0)
