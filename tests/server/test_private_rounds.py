"""The coordinator's part of differential privacy: the noise it adds, the epsilon it shows, what it takes."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies.samples import DECLARED, FULL_BATCH, make_study, private_study
from vestry_privacy.accounting import epsilon
from vestry_privacy.events import GaussianRelease, PoissonGaussian
from vestry_server.private_rounds import server_noise, spent_epsilon, update_limit
from vestry_strategies.private_plan import site_level_plan
from vestry_strategies.study import StudySpec

SIMULATED = ("delta = 1e-3", 'delta = 1e-3\nnoise = "simulation"')


def site_study(noise_at: str = "server", *changes: tuple[str, str], clip: float = 0.5) -> StudySpec:
    section = f'[privacy.site]\nepsilon = 2.0\ndelta = 1e-2\nclip = {clip}\nnoise_at = "{noise_at}"\n'
    return private_study(DECLARED, FULL_BATCH, ("[evaluation]", f"{section}[evaluation]"), *changes)


AT_SERVER = site_study()


def share_of(weights: list[float]) -> float:
    """The largest share of one site."""
    return max(weights) / sum(weights)


SIGMA = (lambda plan: plan.noise_multiplier if plan else 0.0)(site_level_plan(AT_SERVER))


@pytest.mark.parametrize("study", [make_study(), private_study(FULL_BATCH), site_study("site")])
def test_the_mean_is_left_alone_where_the_server_adds_no_noise(study: StudySpec) -> None:
    mean = np.linspace(-1, 1, 9)
    assert server_noise(study, mean, 2 / 3, 1) is mean


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0, 1.0], [1.0, 2.0, 5.0], [3.0]])
def test_the_noise_covers_the_largest_share_of_one_site(weights: list[float]) -> None:
    """One site moves the mean by at most C max(w) / sum(w): that, times sigma, is the deviation."""
    size = 40_000
    noise = server_noise(AT_SERVER, np.zeros(size), share_of(weights), 1)
    expected = SIGMA * 0.5 * max(weights) / sum(weights)
    assert noise.std() == pytest.approx(expected, rel=5 / math.sqrt(2 * size))
    assert abs(noise.mean()) < 5 * expected / math.sqrt(size)


def test_the_noise_covers_what_rounding_adds_to_one_sites_update() -> None:
    size = 40_000
    noise = server_noise(AT_SERVER, np.zeros(size), 0.25, 1, rounding=0.5)
    expected = SIGMA * (0.5 + 0.5) * 0.25
    assert noise.std() == pytest.approx(expected, rel=5 / math.sqrt(2 * size))


def test_the_mean_is_in_the_middle_of_the_noise() -> None:
    mean, draws = np.linspace(-0.2, 0.2, 50), 400
    noised = np.array([server_noise(AT_SERVER, mean, 0.5, 1) for _ in range(draws)])
    deviation = SIGMA * 0.25
    assert (np.abs(noised.mean(axis=0) - mean) < 5 * deviation / math.sqrt(draws)).all()


def test_cryptographic_noise_is_fresh_and_simulated_noise_is_the_rounds() -> None:
    zeros = np.zeros(20)
    first, second = (server_noise(AT_SERVER, zeros, 1.0, 1) for _ in range(2))
    assert (first != second).all()
    simulated = site_study("server", SIMULATED)
    one, again, other = (server_noise(simulated, zeros, 1.0, number) for number in (1, 1, 2))
    assert np.array_equal(one, again)
    assert (one != other).all()
    seeded = site_study("server", SIMULATED, ("seed = 5", "seed = 6"))
    assert (server_noise(seeded, zeros, 1.0, 1) != one).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.01, 100.0), min_size=1, max_size=8), st.integers(0, 2**32))
def test_any_mean_of_updates_that_are_taken_can_be_noised(weights: list[float], seed: int) -> None:
    limit, _ = update_limit(AT_SERVER)
    generator = np.random.default_rng(seed)
    updates = generator.normal(size=(len(weights), 12))
    updates *= limit / np.linalg.norm(updates, axis=1, keepdims=True)
    mean = np.average(updates, axis=0, weights=weights)
    assert np.isfinite(server_noise(AT_SERVER, mean, share_of(weights), 1)).all()
    for place in range(len(weights)):
        without = updates.copy()
        without[place] = 0.0
        moved = np.linalg.norm(mean - np.average(without, axis=0, weights=weights))
        assert moved <= 0.5 * max(weights) / sum(weights) * (1 + 1e-12)


def test_no_update_above_the_clip_is_taken_where_the_noise_is_scaled_to_it() -> None:
    assert update_limit(AT_SERVER) == (0.5, "privacy.site.clip")
    assert update_limit(site_study("site")) == (1e6, "aggregation.max_update_norm")
    assert update_limit(make_study()) == (1e6, "aggregation.max_update_norm")
    small = ("secure = false", "secure = false\nmax_update_norm = 0.25")
    assert update_limit(site_study("server", small)) == (0.25, "aggregation.max_update_norm")


def events(*counts: int) -> tuple[str, ...]:
    """What a site says: so many steps in each round, after a release."""
    release = GaussianRelease(noise_multiplier=5.0, count=1).model_dump_json()
    steps = [PoissonGaussian(noise_multiplier=2.0, sampling_probability=1.0, count=n) for n in counts]
    return (release, *(step.model_dump_json() for step in steps))


def expected(*counts: int) -> float:
    steps = PoissonGaussian(noise_multiplier=2.0, sampling_probability=1.0, count=sum(counts))
    return epsilon([GaussianRelease(noise_multiplier=5.0, count=1), steps], 1e-3)


PRIVATE = private_study(FULL_BATCH)


def test_the_epsilon_shown_is_of_the_site_that_spent_most() -> None:
    spent = {"a": events(5), "b": events(5, 5, 5), "c": events(5, 5)}
    assert spent_epsilon(PRIVATE, spent) == pytest.approx(expected(5, 5, 5))


def test_a_site_that_was_not_asked_has_still_spent() -> None:
    """With a cohort a round may ask only sites that have spent less."""
    before = spent_epsilon(PRIVATE, {"a": events(5, 5, 5)})
    assert before is not None
    assert spent_epsilon(PRIVATE, {"b": events(5)}, before) == before
    later = spent_epsilon(PRIVATE, {"b": events(5, 5, 5, 5)}, before)
    assert later is not None
    assert later > before
    assert later == pytest.approx(expected(20))


def test_nothing_is_shown_without_privacy() -> None:
    assert spent_epsilon(make_study(), {"a": events(5)}) is None
    assert spent_epsilon(PRIVATE, {"a": (), "b": ()}) is None
    assert spent_epsilon(PRIVATE, {}) is None


@pytest.mark.parametrize(
    "said", ["", "{", "[]", '{"mechanism": "magic"}', '{"mechanism":"gaussian","count":-1}']
)
def test_a_site_that_says_nonsense_hides_nobody_elses_spending(said: str) -> None:
    spent = {"a": (said,), "b": events(5)}
    assert spent_epsilon(PRIVATE, spent) == pytest.approx(expected(5))
    assert spent_epsilon(PRIVATE, {"a": (said,)}) is None
    assert spent_epsilon(PRIVATE, {"a": (said,)}, 0.5) == 0.5


def test_the_studys_delta_counts() -> None:
    looser = private_study(FULL_BATCH, ("delta = 1e-3", "delta = 1e-2"))
    at_3, at_2 = (spent_epsilon(study, {"a": events(5)}) for study in (PRIVATE, looser))
    assert at_3 is not None
    assert at_2 is not None
    assert at_2 < at_3
