"""From [privacy] to the plan: the target is met, one plan covers the study, and both sides make the same."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies.samples import DECLARED, FULL_BATCH, image_study, make_study, private_study
from vestry_privacy.accounting import epsilon, noise_multiplier
from vestry_privacy.events import GaussianRelease, PoissonGaussian, TruncatedPoissonGaussian
from vestry_privacy.plan import PlanError
from vestry_privacy.sampling import least_cap
from vestry_strategies.private_plan import (
    evaluation_rounds,
    releases_statistics,
    site_level_plan,
    study_plan,
    total_steps,
)
from vestry_strategies.study import StudySpec, study_from_json

METRICS = ("delta", 'metrics = ["auc"]\ndelta')
SITE = (DECLARED, ('unit_column = "patient"', 'unit = "site"'), ("sampling_probability = 0.25\n", ""))
NOISE = ("epsilon = 3.0", "noise_multiplier = 2.0")


def second(noise_at: str = "site", *changes: tuple[str, str]) -> StudySpec:
    section = f'[privacy.site]\nepsilon = 2.0\ndelta = 1e-2\nclip = 0.5\nnoise_at = "{noise_at}"\n'
    return private_study(DECLARED, FULL_BATCH, ("[evaluation]", f"{section}[evaluation]"), *changes)


@pytest.mark.parametrize("target", [0.3, 1.0, 3.0, 8.0])
@pytest.mark.parametrize("changes", [(), (DECLARED,), (METRICS,), (DECLARED, METRICS)])
def test_the_target_is_met_and_not_wasted(target: float, changes: tuple[tuple[str, str], ...]) -> None:
    study = private_study(FULL_BATCH, ("epsilon = 3.0", f"epsilon = {target}"), *changes)
    plan = study_plan(study, 200)
    for partition in ("train", *(("holdout",) if METRICS in changes else ())):
        spent = epsilon(plan.events(partition), 1e-3)
        assert 0.99 * target < spent <= target


@pytest.mark.slow
@pytest.mark.parametrize("adjacency", ["zero-out", "add-remove"])
def test_the_target_is_met_by_sampled_steps(adjacency: str) -> None:
    change = ("delta", f'adjacency = "{adjacency}"\nexpected_batch = 30.0\ndelta')
    plan = study_plan(private_study(change), 200)
    assert 2.9 < plan.epsilon() <= 3.0
    assert plan.epsilon("rdp") > plan.epsilon()


def test_more_steps_need_more_noise() -> None:
    few, many = (
        study_plan(private_study(FULL_BATCH, ("rounds = 4", f"rounds = {rounds}")), 200) for rounds in (4, 40)
    )
    assert (few.steps, many.steps) == (20, 200)
    assert few.noise_multiplier < many.noise_multiplier
    assert replace(few, steps=200).epsilon() > few.epsilon()


def test_steps_are_all_rounds_times_all_local_steps() -> None:
    assert total_steps(private_study()) == 20
    assert total_steps(private_study(*SITE)) == 4
    assert study_plan(private_study(FULL_BATCH), 200).steps == 20
    assert study_plan(private_study(*SITE), None).steps == 4


@given(st.integers(1, 60), st.integers(1, 70))
def test_evaluations_are_as_many_as_the_rounds_make(rounds: int, every: int) -> None:
    study = private_study(
        METRICS, ("rounds = 4", f"rounds = {rounds}"), ("[evaluation]", f"[evaluation]\nevery = {every}")
    )
    made = sum(number % every == 0 or number == rounds for number in range(1, rounds + 1))
    assert evaluation_rounds(study) == made


def test_without_metrics_no_evaluation_is_released() -> None:
    assert evaluation_rounds(private_study()) == 0
    assert evaluation_rounds(make_study()) == 0
    plan = study_plan(private_study(FULL_BATCH), 200)
    assert plan.events("holdout") == ()
    with pytest.raises(PlanError, match="no release of this plan"):
        plan.release_event("evaluation")


def test_statistics_are_released_only_where_they_are_shared() -> None:
    assert releases_statistics(private_study())
    assert not releases_statistics(private_study(DECLARED))
    assert releases_statistics(image_study())
    assert not releases_statistics(image_study(('kind = "image"', 'kind = "image"\nstandardise = "none"')))
    declared = study_plan(private_study(FULL_BATCH, DECLARED), 200)
    assert [event.mechanism for event in declared.events()] == ["poisson-gaussian"]
    shared = study_plan(private_study(FULL_BATCH), 200)
    assert [release.name for release in shared.releases] == ["statistics"]
    assert shared.noise_multiplier > declared.noise_multiplier


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_statistics_cost_their_share_on_their_own(share: float) -> None:
    study = private_study(FULL_BATCH, ("delta", f"statistics_share = {share}\ndelta"))
    event = study_plan(study, 200).release_event("statistics")
    assert epsilon([event], 1e-3) == pytest.approx(3.0 * share, rel=0.01)
    assert event.noise_multiplier == noise_multiplier(3.0 * share, 1e-3, 1.0, 1)


def test_noise_that_the_study_names_is_taken_for_all() -> None:
    plan = study_plan(private_study(NOISE, METRICS), 200)
    assert plan.events() == (
        PoissonGaussian(noise_multiplier=2.0, sampling_probability=0.25, count=20),
        GaussianRelease(noise_multiplier=2.0, count=1),
    )
    assert plan.events("holdout") == (GaussianRelease(noise_multiplier=2.0, count=4),)


def test_the_noise_is_the_same_at_every_site() -> None:
    study = private_study(FULL_BATCH)
    small, large = study_plan(study, 20), study_plan(study, 900)
    assert small.noise_multiplier == large.noise_multiplier
    assert small.releases == large.releases
    assert (small.persons, large.persons) == (20, 900)


def test_both_sides_make_the_same_plan() -> None:
    study = private_study(FULL_BATCH, METRICS)
    assert study_plan(study_from_json(study.to_json()), 70) == study_plan(study, 70)


@pytest.mark.parametrize(
    ("changes", "persons", "batch"),
    [
        ([], 200, 0.25 * 200 * 0.75),
        ([], 2, 1.0),
        ([FULL_BATCH], 200, 150.0),
        ([("delta", "expected_batch = 12.5\ndelta")], 200, 12.5),
        ([("fraction = 0.25", 'column = "part"')], 200, 50.0),
        ([("delta", 'adjacency = "add-remove"\nexpected_batch = 12.5\ndelta')], None, 12.5),
    ],
)
def test_the_normaliser_is_public(changes: list[tuple[str, str]], persons: int | None, batch: float) -> None:
    assert study_plan(private_study(NOISE, *changes), persons).expected_batch == batch


def test_the_plan_says_what_the_study_says() -> None:
    study = private_study(NOISE, ("delta", "clip = 0.7\nmax_records = 3\ndelta"))
    plan = study_plan(study, 200)
    assert (plan.unit, plan.unit_column, plan.delta) == ("patient", "patient", 1e-3)
    assert (plan.clip, plan.max_records, plan.sampling_probability) == (0.7, 3, 0.25)
    assert plan.guarantee == "cryptographic"
    simulated = study_plan(private_study(NOISE, ("delta", 'noise = "simulation"\ndelta')), 200)
    assert simulated.guarantee == "none"


def test_a_number_of_persons_that_is_not_public_is_in_no_plan() -> None:
    study = private_study(NOISE, ("delta", 'adjacency = "add-remove"\nexpected_batch = 12.5\ndelta'))
    assert study_plan(study, 200) == study_plan(study, None)
    assert study_plan(study, 200).persons is None
    assert study_plan(study, 200).mechanism().slots is None


def test_a_truncated_step_is_charged_as_truncated() -> None:
    plan = study_plan(private_study(NOISE, ("delta", 'sampling = "truncated_poisson"\ndelta')), 200)
    assert plan.cap == least_cap(200, 0.25)
    assert isinstance(plan.events()[0], TruncatedPoissonGaussian)


@pytest.mark.parametrize(("persons", "fine"), [(999, True), (1000, False), (5000, False)])
def test_delta_must_lie_below_one_over_the_persons(persons: int, fine: bool) -> None:
    study = private_study(NOISE)
    if fine:
        study_plan(study, persons)
        return
    said = rf"privacy\.delta: 0\.001 is not below 1/{persons}: .*use {0.1 / persons:.0e} or less"
    with pytest.raises(PlanError, match=said):
        study_plan(study, persons)


def test_a_plan_that_no_noise_can_meet_is_refused() -> None:
    study = private_study(FULL_BATCH, ("epsilon = 3.0", "epsilon = 1e-9"), ("rounds = 4", "rounds = 100000"))
    with pytest.raises(PlanError, match=r"privacy\.epsilon: no noise meets this plan"):
        study_plan(study, 200)


def test_persons_must_be_public_where_the_study_says_so() -> None:
    with pytest.raises(PlanError, match="number of persons"):
        study_plan(private_study(NOISE), None)
    with pytest.raises(ValueError, match="no section"):
        study_plan(make_study(), 200)


def test_a_whole_site_is_one_unit_in_every_round() -> None:
    plan = study_plan(private_study(*SITE, ("delta", "clip = 2.0\ndelta")), 200)
    assert (plan.unit, plan.persons, plan.sampling_probability, plan.expected_batch) == ("site", 1, 1.0, 1.0)
    assert plan.clip == 2.0
    assert 2.9 < plan.epsilon() <= 3.0


@pytest.mark.parametrize("noise_at", ["site", "server"])
def test_the_second_guarantee_has_a_plan_of_its_own(noise_at: str) -> None:
    plan = site_level_plan(second(noise_at))
    assert plan is not None
    assert (plan.unit, plan.steps, plan.clip, plan.delta) == ("site", 4, 0.5, 1e-2)
    assert 1.95 < plan.epsilon() <= 2.0
    assert plan.guarantee == "cryptographic"
    assert math.isclose(plan.epsilon(), epsilon(plan.events(), 1e-2))
    simulated = site_level_plan(second(noise_at, ("delta = 1e-3", 'delta = 1e-3\nnoise = "simulation"')))
    assert simulated is not None
    assert simulated.guarantee == "none"
    assert site_level_plan(private_study()) is None
    assert site_level_plan(make_study()) is None


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 3000),
    st.floats(0.2, 20.0),
    st.integers(1, 30),
    st.integers(1, 5),
    st.booleans(),
    st.booleans(),
)
def test_no_study_costs_more_than_it_says(
    persons: int, target: float, rounds: int, every: int, shared: bool, metrics: bool
) -> None:
    study = private_study(
        FULL_BATCH,
        *([] if shared else [DECLARED]),
        *([METRICS] if metrics else []),
        ("epsilon = 3.0", f"epsilon = {target}"),
        ("delta = 1e-3", "delta = 1e-4"),
        ("rounds = 4", f"rounds = {rounds}"),
        ("[evaluation]", f"[evaluation]\nevery = {every}"),
    )
    plan = study_plan(study, persons)
    assert plan.epsilon() <= target
    assert plan.epsilon("rdp") >= plan.epsilon() - 1e-6
    assert sum(event.count for event in plan.events()) == 5 * rounds + shared
