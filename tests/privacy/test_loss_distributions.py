"""Loss distributions: the closed form of Gaussian releases, the library's own composition as an oracle."""

import math

import dp_accounting
import pytest
from dp_accounting.pld import PLDAccountant
from hypothesis import given, settings
from hypothesis import strategies as st

from vestry_privacy.events import Event, GaussianRelease, PoissonGaussian, TruncatedPoissonGaussian
from vestry_privacy.loss_distributions import gaussian_epsilon, loss_epsilon


def oracle(*events: dp_accounting.DpEvent, delta: float) -> float:
    accountant = PLDAccountant(dp_accounting.NeighboringRelation.REPLACE_SPECIAL)
    for event in events:
        accountant.compose(event)
    return float(accountant.get_epsilon(delta))


def gaussian(sigma: float, count: int = 1) -> Event:
    return GaussianRelease(noise_multiplier=sigma, count=count)


def test_the_closed_form_has_its_known_answer() -> None:
    """Balle and Wang 2018, theorem 8, at sigma 1 and delta 1e-5."""
    assert gaussian_epsilon(1.0, 1e-5) == pytest.approx(4.37718, abs=5e-5)
    assert gaussian_epsilon(0.0, 1e-5) == 0.0
    assert gaussian_epsilon(1e-6, 1e-5) == 0.0


@settings(max_examples=200, deadline=None)
@given(mu=st.floats(1e-3, 15), delta=st.floats(1e-12, 0.4))
def test_the_closed_form_is_the_least_epsilon_that_keeps_delta(mu: float, delta: float) -> None:
    found = gaussian_epsilon(mu, delta)
    assert delta_of(mu, found) <= delta * (1 + 1e-6)
    if found > 1e-6:
        assert delta_of(mu, found * (1 - 1e-4)) > delta * (1 - 1e-9)


def delta_of(mu: float, epsilon: float) -> float:
    """By another hand: with the complementary error function."""

    def upper(x: float) -> float:
        return 0.5 * math.erfc(x / math.sqrt(2))

    return upper(epsilon / mu - mu / 2) - math.exp(epsilon) * upper(epsilon / mu + mu / 2)


@settings(max_examples=60, deadline=None)
@given(
    parts=st.lists(st.tuples(st.floats(0.5, 50), st.integers(1, 40)), min_size=1, max_size=4),
    delta=st.floats(1e-9, 1e-2),
)
def test_gaussian_releases_add_up_as_one(parts: list[tuple[float, int]], delta: float) -> None:
    mu = math.sqrt(sum(count / sigma**2 for sigma, count in parts))
    found = loss_epsilon([gaussian(sigma, count) for sigma, count in parts], delta, "zero-out")
    assert found == pytest.approx(gaussian_epsilon(mu, delta))


def test_mixed_events_agree_with_the_library() -> None:
    step = dp_accounting.PoissonSampledDpEvent(0.05, dp_accounting.GaussianDpEvent(1.5))
    wanted = oracle(
        dp_accounting.SelfComposedDpEvent(step, 300),
        dp_accounting.GaussianDpEvent(8.0),
        delta=1e-5,
    )
    events = [
        PoissonGaussian(noise_multiplier=1.5, sampling_probability=0.05, count=300),
        gaussian(8.0),
    ]
    assert loss_epsilon(events, 1e-5, "zero-out") == pytest.approx(wanted, rel=1e-9)
    assert loss_epsilon(events[::-1], 1e-5, "zero-out") == pytest.approx(wanted, rel=1e-9)


def test_a_truncated_step_agrees_with_the_library() -> None:
    wanted = oracle(
        dp_accounting.SelfComposedDpEvent(
            dp_accounting.dp_event.TruncatedSubsampledGaussianDpEvent(1000, 0.05, 60, 1.0), 100
        ),
        delta=1e-5,
    )
    event = TruncatedPoissonGaussian(
        noise_multiplier=1.0, sampling_probability=0.05, cap=60, persons=1000, count=100
    )
    assert loss_epsilon([event], 1e-5, "zero-out") == pytest.approx(wanted, rel=1e-9)


def test_everybody_in_every_step_is_a_gaussian_release() -> None:
    full = PoissonGaussian(noise_multiplier=3.0, sampling_probability=1.0, count=20)
    for adjacency in ("zero-out", "add-remove"):
        assert loss_epsilon([full], 1e-5, adjacency) == gaussian_epsilon(math.sqrt(20) / 3, 1e-5)


def test_adding_or_removing_somebody_costs_at_least_as_much_as_zeroing_out() -> None:
    event = PoissonGaussian(noise_multiplier=1.0, sampling_probability=0.2, count=50)
    assert loss_epsilon([event], 1e-5, "add-remove") >= loss_epsilon([event], 1e-5, "zero-out") - 1e-9
