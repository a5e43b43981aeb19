"""Plans meet their epsilon by a second method; small private runs learn, and with little epsilon do not."""

import math
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
import torch

from benchmarks.private_linear import (
    DELTA,
    Settings,
    private_accuracy,
    study_plan,
    tuning_plan,
    without_privacy,
)
from benchmarks.utility_data import Problem
from vestry_privacy.plan import PrivacyPlan

QUICK = Settings(steps=15, learning_rate=20.0)


def toy(rows: int = 600, *, centre: bool = False, bias: bool = False) -> Problem:
    """Three classes in six columns in [-1, 1], easy to tell apart."""
    generator = np.random.default_rng(11)
    labels = generator.integers(0, 3, rows)
    means = 0.6 * np.eye(3, 6)[labels] - 0.3
    inputs = np.clip(means + generator.normal(0, 0.15, (rows, 6)), -1, 1)
    even = np.arange(rows) % 2 == 0
    return Problem("toy", inputs, labels.astype(np.int64), 3, "patient", (even, ~even), None, centre, bias)


def exact_delta(plan: PrivacyPlan, epsilon: float) -> float:
    """Gaussian steps and releases over everybody are one Gaussian: Balle and Wang, ICML 2018, theorem 8."""
    parts = [(plan.noise_multiplier, plan.steps), *((r.noise_multiplier, r.count) for r in plan.releases)]
    mu = math.sqrt(sum(count / sigma**2 for sigma, count in parts))
    below = NormalDist().cdf
    return below(mu / 2 - epsilon / mu) - math.exp(epsilon) * below(-mu / 2 - epsilon / mu)


@pytest.mark.parametrize("centre", [False, True])
@pytest.mark.parametrize("epsilon", [8.0, 1.0])
def test_plan_meets_its_epsilon_with_all_that_it_releases(epsilon: float, centre: bool) -> None:
    plan = study_plan(toy(centre=centre), QUICK, 480, epsilon)
    assert 0.99 * epsilon < plan.epsilon() <= epsilon
    assert exact_delta(plan, epsilon) <= DELTA
    assert exact_delta(plan, 0.98 * epsilon) > DELTA  # and wastes little
    assert [release.name for release in plan.releases] == ["statistics"] * centre


def test_plan_is_of_the_whole_run_and_its_noise_is_real() -> None:
    plan = study_plan(toy(), QUICK, 480, 3.0)
    assert (plan.steps, plan.persons, plan.expected_batch, plan.delta) == (15, 480, 480.0, 1e-5)
    assert (plan.adjacency, plan.guarantee, plan.sampling) == ("zero-out", "cryptographic", "full_batch")
    assert plan.sampling_probability == 1.0


def test_fewer_rows_get_the_same_noise_on_a_mean() -> None:
    plan = study_plan(toy(centre=True), QUICK, 480, 3.0)
    small = tuning_plan(plan, 120)
    assert small.persons == small.expected_batch == 120
    assert small.noise_multiplier / 120 == pytest.approx(plan.noise_multiplier / 480)
    (of_small,), (of_plan,) = small.releases, plan.releases
    assert of_small.noise_multiplier / 120 == pytest.approx(of_plan.noise_multiplier / 480)


@pytest.mark.parametrize("centre", [False, True])
def test_private_run_learns(centre: bool) -> None:
    problem = toy(centre=centre, bias=centre)
    split = problem.split(0, 1)
    plan = study_plan(problem, QUICK, len(split.train), 8.0)
    threads = torch.get_num_threads()
    assert private_accuracy(problem, split, plan, QUICK) > 0.8
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("centre", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_run_without_privacy_learns(centre: bool, bias: bool) -> None:
    problem = toy(centre=centre, bias=bias)
    assert without_privacy(problem, problem.split(0, 1), replace(QUICK, learning_rate=3.0)) > 0.95


def test_run_with_hardly_any_epsilon_is_near_chance() -> None:
    problem = toy()
    split = problem.split(0, 1)
    plan = study_plan(problem, QUICK, len(split.train), 0.01)
    values = [private_accuracy(problem, split, plan, QUICK) for _ in range(12)]
    assert sum(values) / 12 < 0.65
    assert len(set(values)) > 1


def test_means_come_from_the_training_rows_only() -> None:
    """Rows that are judged may hold anything: it does not reach the weights of the others."""
    problem = toy(centre=True)
    split = problem.split(0, 1)
    inputs = problem.inputs.copy()
    inputs[split.judged[1:]] = 1e6
    one = replace(split, judged=split.judged[:1])
    spoilt = replace(problem, inputs=inputs)
    assert without_privacy(spoilt, one, QUICK) == without_privacy(problem, one, QUICK)
