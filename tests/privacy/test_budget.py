"""The filter's arithmetic: known readings, an order that leaves room, and claims that never fall short."""

import math
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.privacy.ledgers import gaussian
from vestry_privacy.accounting import Event, PoissonGaussian, epsilon, renyi_divergence
from vestry_privacy.budget import (
    Budget,
    BudgetError,
    StudyClaim,
    count_events,
    covers,
    divergence,
    events_of,
    filter_order,
    how_often,
)

DELTA = 1e-5
STUDY = PoissonGaussian(noise_multiplier=1.0, sampling_probability=0.01, count=1000)

sigmas = st.sampled_from([0.5, 1.0, 2.0, 5.0])
counts_of_events = st.dictionaries(
    sigmas.map(lambda sigma: gaussian(1, sigma)), st.integers(0, 50), max_size=4
)
orders = st.sampled_from([1.5, 2.0, 4.0, 16.0])


@pytest.mark.parametrize(("studies", "reads"), [(1, 3.45), (14, 8.17)])
def test_known_readings_at_order_four(studies: int, reads: float) -> None:
    """The design's: sigma 1, q .01, T 1000; PLD says 1.83 for one study and 7.51 for fourteen."""
    budget = Budget(10.0, DELTA, 4.0)
    claimed = divergence(count_events([STUDY] * studies), budget.order)
    assert budget.epsilon_of(claimed) == pytest.approx(reads, abs=0.005)


def test_the_filter_reads_more_than_the_accountant() -> None:
    budget = Budget(10.0, DELTA, 4.0)
    reading = budget.epsilon_of(divergence(count_events([STUDY]), budget.order))
    assert epsilon([STUDY], DELTA) == pytest.approx(1.828, rel=0.005)
    assert epsilon([STUDY], DELTA, "rdp") < reading


def test_rho_is_the_divergence_whose_epsilon_is_the_budget() -> None:
    budget = Budget(3.0, DELTA, 7.5)
    assert budget.epsilon_of(budget.rho) == pytest.approx(3.0, rel=1e-12)
    assert budget.epsilon_of(0.0) == 0.0


@given(st.floats(0.05, 50), st.sampled_from([1e-9, 1e-6, 1e-5, 1e-3]))
def test_the_suggested_order_affords_the_most_gaussian_releases(target: float, delta: float) -> None:
    best = filter_order(target, delta)
    afforded = Budget(target, delta, best).rho / best
    for factor in (0.5, 0.8, 0.95, 1.05, 1.3, 2.0):
        other = 1 + (best - 1) * factor
        try:
            rho = Budget(target, delta, other).rho
        except BudgetError:
            continue
        assert rho / other <= afforded * (1 + 1e-4)


@pytest.mark.parametrize(
    ("target", "order"), [(1, 17.81), (3, 7.51), (8, 3.87)], ids=["epsilon 1", "epsilon 3", "epsilon 8"]
)
def test_suggested_orders(target: float, order: float) -> None:
    # By hand for epsilon 8, without the small terms: L = 11.5, c = (sqrt(L + 8) - sqrt(L))^2 = 1.05,
    # order 1 + sqrt(L / c) = 4.3; the design takes 4.
    assert filter_order(target, DELTA) == pytest.approx(order, abs=0.02)


def test_an_order_without_room_is_refused_with_one_that_has() -> None:
    with pytest.raises(
        BudgetError, match=r"order=4: leaves no room in epsilon=1.*smallest order that does is"
    ) as caught:
        Budget(1.0, DELTA, 4.0)
    least = float(str(caught.value).split("does is ")[1].split(",")[0])
    assert Budget(1.0, DELTA, least).rho > 0
    with pytest.raises(BudgetError):
        Budget(1.0, DELTA, 1 + (least - 1) * 0.998)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ((0.0, DELTA, 4.0), "budget.epsilon=0.0"),
        ((-1.0, DELTA, 4.0), "budget.epsilon=-1.0"),
        ((math.inf, DELTA, 4.0), "budget.epsilon=inf"),
        ((math.nan, DELTA, 4.0), "budget.epsilon=nan"),
        ((8.0, 0.0, 4.0), "budget.delta=0.0"),
        ((8.0, 1.0, 4.0), "budget.delta=1.0"),
        ((8.0, DELTA, 1.0), "budget.order=1.0"),
        ((8.0, DELTA, math.inf), "budget.order=inf"),
        ((8.0, DELTA, math.nan), "budget.order=nan"),
        ((1e-9, 1e-12, 4.0), "too small at delta"),
    ],
)
def test_a_budget_that_means_nothing_is_refused(fields: tuple[float, float, float], said: str) -> None:
    with pytest.raises(BudgetError, match=said):
        Budget(*fields)


@pytest.mark.parametrize(("target", "delta"), [(0.0, DELTA), (1.0, 0.0), (1.0, 1.0), (math.nan, DELTA)])
def test_no_order_is_suggested_for_nonsense(target: float, delta: float) -> None:
    with pytest.raises(BudgetError):
        filter_order(target, delta)


def test_a_window_is_two_days_in_their_order() -> None:
    day = date(2025, 1, 1)
    with pytest.raises(BudgetError, match="both days, or neither"):
        Budget(8.0, DELTA, 4.0, starts=day)
    with pytest.raises(BudgetError, match="is after"):
        Budget(8.0, DELTA, 4.0, starts=day, ends=date(2024, 12, 31))


def test_a_window_includes_both_its_days_and_counts_what_touches_it() -> None:
    first, last = date(2025, 1, 1), date(2025, 12, 31)
    window, lifetime = Budget(8.0, DELTA, 4.0, first, last), Budget(8.0, DELTA, 4.0)
    before, after = date(2024, 12, 31), date(2026, 1, 1)
    assert [window.open_on(day) for day in (before, first, last, after)] == [False, True, True, False]
    assert window.counts(before, first)
    assert window.counts(last, after)
    assert window.counts(before, after)
    assert not window.counts(before, before)
    assert not window.counts(after, after)
    assert lifetime.open_on(after)
    assert lifetime.counts(before, before)


def test_equal_events_are_counted_together() -> None:
    counts = count_events([gaussian(3), gaussian(4), gaussian(5, 2.0), gaussian(0, 3.0)])
    assert counts == {gaussian(1): 7, gaussian(1, 2.0): 5}
    assert set(events_of(counts)) == {gaussian(7), gaussian(5, 2.0)}


@given(counts_of_events, counts_of_events, orders)
def test_divergence_adds_up_and_grows(left: dict[Event, int], right: dict[Event, int], order: float) -> None:
    both = count_events([*events_of(left), *events_of(right)])
    parts = [divergence(left, order), divergence(right, order)]
    assert divergence(both, order) == pytest.approx(sum(parts), rel=1e-12)
    assert divergence(both, order) >= max(parts)


def test_divergence_is_the_accountants() -> None:
    counts = count_events([STUDY, gaussian(7)])
    expected = renyi_divergence(STUDY, 4.0) + 7 * 4.0 / (2 * 10.0**2)
    assert divergence(counts, 4.0) == pytest.approx(expected, rel=1e-12)


@given(counts_of_events, counts_of_events)
def test_what_is_covered_never_costs_more(held: dict[Event, int], done: dict[Event, int]) -> None:
    for order in (1.5, 4.0):
        if covers(held, done):
            assert divergence(done, order) <= divergence(held, order)
    assert covers(held, held)
    assert covers(held, {})


@given(counts_of_events, counts_of_events, counts_of_events, counts_of_events, orders)
def test_a_study_claims_the_worst_of_its_partitions(
    train: dict[Event, int],
    holdout: dict[Event, int],
    trained: dict[Event, int],
    evaluated: dict[Event, int],
    order: float,
) -> None:
    claim = StudyClaim({"train": train, "holdout": holdout}, {"train": trained, "holdout": evaluated})
    parts = [divergence(part, order) for part in (train, holdout, trained, evaluated)]
    assert claim.divergence(order) == max(parts)
    released = StudyClaim({}, {"train": trained, "holdout": evaluated})
    assert released.divergence(order) == max(parts[2:])
    assert StudyClaim({}, {}).divergence(order) == 0.0


@given(st.floats(0, 100), st.floats(1e-6, 10))
def test_what_fits_fits_and_no_more(left: float, cost: float) -> None:
    times = how_often(left, cost)
    assert times * cost <= left
    assert (times + 1) * cost > left * (1 - 1e-12)


def test_what_costs_nothing_fits_without_end() -> None:
    with pytest.raises(BudgetError, match="cost nothing"):
        how_often(1.0, 0.0)
