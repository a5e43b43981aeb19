"""The plan: what it refuses and why, that mechanism and events say the same, and calibration."""

import math
import pickle
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vestry_privacy.accounting import (
    GaussianRelease,
    PoissonGaussian,
    TruncatedPoissonGaussian,
    epsilon,
)
from vestry_privacy.noise import SecureStream, SimulationStream
from vestry_privacy.plan import PlanError, PrivacyPlan, Release, calibrate

PLAN = PrivacyPlan(
    unit="patient",
    unit_column="patient_id",
    adjacency="zero-out",
    persons=1000,
    delta=1e-5,
    noise_multiplier=2.0,
    sampling_probability=0.05,
    expected_batch=50.0,
    steps=100,
    clip=1.0,
)
CUT = replace(PLAN, sampling="truncated_poisson", cap=85)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"delta": 0.0}, "privacy.delta: 0 must lie above 0 and below 1"),
        ({"delta": 1.0}, "privacy.delta: 1 must lie above 0 and below 1"),
        ({"delta": math.nan}, "privacy.delta"),
        (
            {"delta": 1e-3},
            "0.001 is not below 1/1000: publishing one person's whole record would satisfy it; use 1e-04 or",
        ),
        ({"delta": 0.5}, "not below 1/1000"),
        ({"persons": 0}, "privacy.persons: 0"),
        (
            {"persons": None},
            "privacy.adjacency: 'zero-out' needs a public number of persons; use 'add-remove'",
        ),
        ({"noise_multiplier": 0.0}, "privacy.noise_multiplier"),
        ({"noise_multiplier": -1.0}, "privacy.noise_multiplier"),
        ({"noise_multiplier": math.inf}, "privacy.noise_multiplier"),
        ({"noise_multiplier": math.nan}, "privacy.noise_multiplier"),
        ({"clip": 0.0}, "privacy.clip"),
        ({"clip": math.nan}, "privacy.clip"),
        ({"clip": 1e-300}, "privacy.clip: 1e-300 must be above 0, from 1e-12 to 1e"),
        ({"steps": 0}, "privacy.steps: 0 must be at least 1"),
        ({"max_records": 0}, "privacy.max_records: 0 must be at least 1"),
        ({"unit_column": None}, "privacy.unit_column: unit = 'patient' needs the column"),
        ({"sampling_probability": 0.0}, "privacy.sampling_probability"),
        ({"sampling_probability": 1.01}, "privacy.sampling_probability"),
        ({"sampling_probability": math.nan}, "privacy.sampling_probability"),
        ({"expected_batch": 0.0}, "privacy.expected_batch"),
        ({"expected_batch": math.inf}, "privacy.expected_batch"),
        ({"sampling": "full_batch"}, "'full_batch' takes everybody; sampling_probability is 0.05, not 1"),
        ({"cap": 100}, "privacy.cap: goes with sampling = 'truncated_poisson'"),
        ({"sampling": "truncated_poisson"}, "privacy.cap: goes with"),
        (
            {"sampling": "truncated_poisson", "cap": 84},
            r"privacy.cap: 84 costs privacy at every step; use 85 \(five deviations\) or 'poisson'",
        ),
        (
            {"sampling": "truncated_poisson", "cap": 85, "adjacency": "add-remove"},
            "'truncated_poisson' needs adjacency = 'zero-out'",
        ),
        ({"sampling": "shuffle"}, r"privacy.sampling: 'shuffle' is unknown; shuffled batches .* four times"),
        ({"unit": "row"}, "privacy.unit: 'row' is unknown; use one of patient, record, site"),
        ({"adjacency": "replace-one"}, "privacy.adjacency: 'replace-one' is unknown"),
        ({"noise": "none"}, "privacy.noise: 'none' is unknown; use one of cryptographic, simulation"),
        ({"releases": (Release("a", "train", 0.0, 1),)}, "privacy.releases.a: noise_multiplier=0"),
        ({"releases": (Release("a", "train", 1.0, 0),)}, "count=0"),
        ({"releases": (Release("a", "all", 1.0, 1),)}, "partition=all"),  # type: ignore[arg-type]
        (
            {"releases": (Release("a", "train", 9.0, 1), Release("a", "train", 1.0, 1))},
            "two of the same name",
        ),
    ],
)
def test_what_protects_nobody_is_refused_with_the_reason(change: dict[str, Any], says: str) -> None:
    with pytest.raises(PlanError, match=says):
        replace(PLAN, **change)


def test_delta_is_not_compared_with_a_number_that_is_not_public() -> None:
    assert replace(PLAN, adjacency="add-remove", persons=None, delta=0.01).delta == 0.01


def test_errors_name_their_field_and_come_back_from_a_worker_process() -> None:
    with pytest.raises(PlanError) as refused:
        replace(PLAN, clip=-1.0)
    again = pickle.loads(pickle.dumps(refused.value))  # noqa: S301  our own bytes
    assert (str(again), again.field) == (str(refused.value), "clip")


def test_events_are_what_the_mechanism_does() -> None:
    for plan, cap, slots in (
        (PLAN, None, 1000),
        (CUT, 85, 1000),
        (replace(PLAN, adjacency="add-remove"), None, None),
    ):
        rule, event = plan.mechanism(), plan.event(7)
        assert event.count == 7
        assert (rule.noise_multiplier, rule.sampler.sampling_probability) == (2.0, 0.05)
        assert (rule.sampler.cap, rule.slots, rule.normaliser, rule.clip) == (cap, slots, 50.0, 1.0)
        if isinstance(event, TruncatedPoissonGaussian):
            assert (event.cap, event.persons) == (rule.sampler.cap, rule.slots)
        assert isinstance(event, TruncatedPoissonGaussian) == (cap is not None)
        assert event.noise_multiplier == rule.noise_multiplier
        assert isinstance(rule.source, SecureStream)
        assert plan.guarantee == "cryptographic"


def test_each_mechanism_has_a_stream_of_its_own() -> None:
    left, right = PLAN.mechanism(), PLAN.mechanism()
    assert left.source is not right.source
    assert left.source.uniforms(4).tolist() != right.source.uniforms(4).tolist()


def test_a_seed_is_for_simulated_noise_only() -> None:
    simulated = replace(PLAN, noise="simulation")
    assert isinstance(simulated.mechanism(seed=3).source, SimulationStream)
    assert simulated.guarantee == "none"
    for plan, seed in ((PLAN, 3), (simulated, None)):
        with pytest.raises(ValueError, match="does not go with noise"):
            plan.mechanism(seed)


def test_events_of_both_partitions() -> None:
    plan = calibrate(PLAN, statistics=1, evaluations=5)
    assert plan.events("train") == (
        PoissonGaussian(noise_multiplier=2.0, sampling_probability=0.05, count=100),
        GaussianRelease(noise_multiplier=2.0, count=1),
    )
    assert plan.events("train", steps=3)[0].count == 3
    assert plan.events("holdout") == (GaussianRelease(noise_multiplier=2.0, count=5),)
    assert plan.release_event("statistics", 2) == GaussianRelease(noise_multiplier=2.0, count=2)
    with pytest.raises(PlanError, match="may not leave"):
        plan.release_event("loss")


def test_epsilon_is_that_of_the_worse_partition() -> None:
    plan = calibrate(PLAN, statistics=1, evaluations=5)
    each = [epsilon(plan.events(name), plan.delta) for name in ("train", "holdout")]
    assert plan.epsilon() == max(each)
    assert each[0] != each[1]


def test_one_plan_costs_what_its_rounds_cost_together() -> None:
    """An accountant made anew each round, as in the wild, would report a tenth of the rounds."""
    rounds = [PLAN.event(10) for _ in range(10)]
    assert epsilon(rounds, PLAN.delta) == PLAN.epsilon()
    assert epsilon(rounds[:1], PLAN.delta) < 0.5 * PLAN.epsilon()


@pytest.mark.parametrize("target", [1.0, pytest.param(8.0, marks=pytest.mark.slow)])
def test_calibrated_plans_meet_their_target_and_waste_little(target: float) -> None:
    plan = calibrate(PLAN, target_epsilon=target, statistics=1, evaluations=4)
    assert 0.99 * target < epsilon(plan.events("train"), plan.delta) <= target
    assert 0.99 * target < epsilon(plan.events("holdout"), plan.delta) <= target
    assert plan.epsilon() <= target
    (statistics, _) = plan.releases
    assert epsilon([plan.release_event("statistics")], plan.delta) <= 0.1 * target
    assert statistics.noise_multiplier > plan.noise_multiplier


def test_a_target_that_rdp_cannot_reach_is_met() -> None:
    plan = calibrate(PLAN, target_epsilon=0.005)
    assert 0 < plan.epsilon() <= 0.005


def test_a_target_of_none_keeps_the_noise() -> None:
    assert calibrate(PLAN) == PLAN


@pytest.mark.parametrize("target", [0.0, -1.0, math.nan, math.inf])
def test_targets_that_are_none_are_refused(target: float) -> None:
    with pytest.raises(PlanError, match=r"privacy.epsilon: .* must be above 0 and finite"):
        calibrate(PLAN, target_epsilon=target)


def test_a_plan_that_no_noise_can_meet_is_refused() -> None:
    with pytest.raises(PlanError, match=r"privacy.epsilon: no noise meets this plan \(epsilon=1e-09"):
        calibrate(replace(PLAN, delta=1e-300), target_epsilon=1e-9)


@settings(max_examples=50)
@given(st.integers(1, 10**7), st.floats(1e-9, 0.9))
def test_delta_is_below_one_over_n_or_refused(persons: int, delta: float) -> None:
    if delta < 1 / persons:
        assert replace(PLAN, persons=persons, delta=delta).delta == delta
        return
    with pytest.raises(PlanError, match=r"privacy\.delta"):
        replace(PLAN, persons=persons, delta=delta)


def test_a_plan_is_public_values_only() -> None:
    plain = calibrate(PLAN, statistics=1).plain()
    assert plain["persons"] == 1000
    assert plain["releases"] == (
        {"name": "statistics", "partition": "train", "noise_multiplier": 2.0, "count": 1},
    )
