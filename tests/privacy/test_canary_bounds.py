"""What scores say about epsilon: closed forms, a second method, and how often the interval is right."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vestry_privacy.canary_bounds import (
    GUESSED_SHARE,
    epsilon_of_noise,
    estimate_noise,
    lower_bound,
    right_guesses,
)


def bells(
    distance: float, canaries: int, generator: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores of one run under Gaussian differential privacy with mu = distance."""
    inside = generator.random(canaries) < 0.5
    return generator.standard_normal(canaries) + distance * inside, inside


def reference_p_value(canaries: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """Appendix D of arXiv:2305.08846, by sums over scipy's binomial."""
    from scipy.stats import binom

    wins = 1 / (1 + math.exp(-epsilon))
    alpha, total = 0.0, 0.0
    for i in range(1, right + 1):
        total += binom.pmf(right - i, guesses, wins)
        alpha = max(alpha, total / i)
    return float(min(1.0, binom.sf(right - 1, guesses, wins) + alpha * delta * 2 * canaries))


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Of mu-GDP (arXiv:1905.02383, corollary 2.13), by bisection."""
    normal, low, high = NormalDist(), 0.0, 50.0
    for _ in range(100):
        e = (low + high) / 2
        shown = normal.cdf(-e / mu + mu / 2) - math.exp(e) * normal.cdf(-e / mu - mu / 2)
        low, high = (e, high) if shown > delta else (low, e)
    return low


@pytest.mark.parametrize("mu", [0.27, 0.72, 1.67])
def test_with_everybody_in_every_step_the_fit_is_gaussian_dp(mu: float) -> None:
    generator = np.random.default_rng(1)
    scores, inside = bells(mu, 400_000, generator)
    noise = estimate_noise(scores, inside, 1.0, 30)
    assert math.sqrt(30) / noise.value == pytest.approx(mu, rel=0.02)
    assert epsilon_of_noise(math.sqrt(30) / mu, 1.0, 30, 1e-5) == pytest.approx(
        gaussian_epsilon(mu, 1e-5), rel=0.002
    )


@pytest.mark.parametrize("q", [0.01, 0.2, 1.0])
def test_interval_holds_sigma_as_often_as_it_says(q: float) -> None:
    steps, sigma, runs, hits = 100, 3.0, 600, 0
    generator = np.random.default_rng(2)
    for _ in range(runs):
        inside = generator.random(1000) < 0.5
        shown = generator.binomial(steps, q, 1000) * inside
        scores = shown + sigma * math.sqrt(steps) * generator.standard_normal(1000)
        noise = estimate_noise(scores, inside, q, steps)
        hits += noise.least <= sigma <= noise.most
    assert 0.92 < hits / runs < 0.98


def test_scale_and_place_of_the_scores_do_not_matter() -> None:
    scores, inside = bells(0.7, 2000, np.random.default_rng(3))
    one, other = (estimate_noise(s, inside, 0.3, 50) for s in (scores, 7.0 * scores - 100.0))
    assert one.value == pytest.approx(other.value)
    assert one.most == pytest.approx(other.most)


def test_scores_that_tell_nothing() -> None:
    inside = np.arange(1000) % 2 == 0
    noise = estimate_noise(np.where(np.arange(1000) % 4 < 2, 1.0, -1.0), inside, 1.0, 10)
    assert noise.value == math.inf
    assert noise.most == math.inf
    assert 0 < noise.least < math.inf
    assert epsilon_of_noise(math.inf, 1.0, 10, 1e-5) == 0.0


def test_more_confidence_is_a_wider_interval() -> None:
    scores, inside = bells(0.7, 2000, np.random.default_rng(4))
    narrow, wide = (estimate_noise(scores, inside, 1.0, 10, c) for c in (0.8, 0.99))
    assert wide.least < narrow.least < narrow.value < narrow.most < wide.most


@pytest.mark.parametrize("inside", [[True] * 5, [True] * 4 + [False], [False] * 5])
def test_a_side_without_canaries(inside: list[bool]) -> None:
    with pytest.raises(ValueError, match="need at least two of each"):
        estimate_noise(np.arange(5.0), np.array(inside), 1.0, 1)


def test_a_mechanism_almost_without_noise_has_a_finite_epsilon() -> None:
    assert 1e5 < epsilon_of_noise(0.0, 1.0, 10, 1e-5) < math.inf


def test_guesses_are_of_the_highest_and_the_lowest() -> None:
    scores = np.arange(400.0)
    assert right_guesses(scores, scores >= 200) == (400 * GUESSED_SHARE, 400 * GUESSED_SHARE)
    assert right_guesses(scores, scores < 200) == (0, 400 * GUESSED_SHARE)
    assert right_guesses(scores, scores >= 0) == (10, 20)


@pytest.mark.parametrize("guesses", [5, 40, 250])
def test_all_guesses_right_has_a_closed_form(guesses: int) -> None:
    """Wins of probability p are all won with p^r; the bound is where that is 5 %."""
    p = 0.05 ** (1 / guesses)
    assert lower_bound(guesses, guesses, 5000, 0.0) == pytest.approx(
        max(0.0, math.log(p / (1 - p))), abs=1e-6
    )


@settings(max_examples=30, deadline=None)
@given(
    guesses=st.integers(1, 300),
    share=st.floats(0, 1),
    canaries=st.integers(300, 10_000),
    delta=st.sampled_from([0.0, 1e-9, 1e-5, 1e-3]),
)
def test_bound_is_where_the_paper_puts_the_p_value(
    guesses: int, share: float, canaries: int, delta: float
) -> None:
    right = round(guesses * share)
    bound = lower_bound(right, guesses, canaries, delta)
    assert reference_p_value(canaries, guesses, right, bound + 1e-6, delta) >= 0.05 - 1e-9
    if bound > 0:
        assert reference_p_value(canaries, guesses, right, bound - 1e-6, delta) <= 0.05 + 1e-9


def test_randomised_response_is_overrated_in_at_most_one_of_twenty_runs() -> None:
    truth, generator = 1.0, np.random.default_rng(5)
    wins = 1 / (1 + math.exp(-truth))
    rights = generator.binomial(250, wins, 2000)
    bound_of = {right: lower_bound(int(right), 250, 250, 0.0) for right in np.unique(rights)}
    bounds = np.array([bound_of[right] for right in rights])
    assert 0.03 < np.mean(bounds > truth) <= 0.06
    assert np.median(bounds) > 0.6
