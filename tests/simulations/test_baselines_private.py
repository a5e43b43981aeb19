"""Baselines under [privacy]: the study's own mechanism, over one site's persons or over everybody's."""

import numpy as np
import pytest

from tests.client.bench import make_table
from tests.strategies.samples import DECLARED, FULL_BATCH, private_study
from vestry_server.rounds import open_run
from vestry_simulations.baselines import (
    _mechanism,
    _plan,
    model_outcome,
    pooled_baseline,
    run_baselines,
    site_data,
)
from vestry_simulations.engine import LocalExchange
from vestry_simulations.site_ledgers import private_policy
from vestry_simulations.worker import VirtualSite
from vestry_strategies.parameters import Vector
from vestry_strategies.private_plan import study_plan
from vestry_strategies.rows import Table
from vestry_strategies.study import StudySpec

SIMULATED = ("delta = 1e-3", 'delta = 1e-3\nnoise = "simulation"')
STUDY = private_study(FULL_BATCH, SIMULATED)
SIZES = {"a": 120, "b": 90, "c": 60}
ADD_REMOVE = ("delta", 'adjacency = "add-remove"\nexpected_batch = 9.0\ndelta')
QUIET = ("epsilon = 3.0", "noise_multiplier = 1e-3")
CLIP = ("delta", "clip = 0.2\ndelta")  # the noise is a hundred thousandth of a step


def sites(study: StudySpec = STUDY) -> list[VirtualSite]:
    made = []
    for place, (name, count) in enumerate(SIZES.items()):
        table = make_table(count, place)
        patients = np.array([f"{name}{row // 3}" for row in range(count)])
        dose = np.clip(table.columns["dose"].astype(float), -6, 6).astype(str)
        rows = Table({**table.columns, "patient": patients, "dose": dose})
        policy = private_policy(study, count // 3, {"allow_individual_updates": True})
        made.append(VirtualSite(name, rows, policy, None, name.encode(), ""))
    return made


def first_model(study: StudySpec) -> Vector:
    with LocalExchange(sites(study), 0) as exchange:
        return open_run(study, exchange, lambda state: None, lambda event: None)[1]


@pytest.mark.parametrize("adjacency", ["zero-out", "add-remove"])
def test_the_pooled_mechanism_has_the_federations_noise_over_everybodys_batch(adjacency: str) -> None:
    """So a person's epsilon is the same, and the step is as long as the mean of the sites' steps."""
    study = private_study(*([ADD_REMOVE] if adjacency == "add-remove" else [FULL_BATCH]), QUIET, SIMULATED)
    persons = [40, 30, 20]
    plan = _plan(study, persons)
    assert plan is not None
    pooled = _mechanism(study, plan, persons, 1)
    alone = [study_plan(study, number) for number in persons]
    assert {one.noise_multiplier for one in alone} == {pooled.noise_multiplier}
    assert pooled.normaliser == pytest.approx(sum(one.expected_batch for one in alone))
    assert pooled.slots == (90 if adjacency == "zero-out" else None)
    assert pooled.clip == plan.clip
    own = _plan(study, [40])
    assert own is not None
    single = _mechanism(study, own, [40], 1)
    assert (single.slots, single.normaliser) == (own.mechanism(1).slots, own.expected_batch)


def test_a_whole_site_has_no_plan_of_persons() -> None:
    site = private_study(FULL_BATCH, DECLARED, ('unit_column = "patient"', 'unit = "site"'))
    assert _plan(site, [40]) is None
    data = site_data(site, sites(site))
    assert set(run_baselines(site, data, first_model(site))) == {"pooled", "local-only"}


def test_a_delta_that_suits_each_site_need_not_suit_all_of_them() -> None:
    """It lies below 1/40 for the largest site, and above 1/90 for all persons together."""
    study = private_study(FULL_BATCH, ("delta = 1e-3", 'delta = 0.02\nnoise = "simulation"'))
    found = run_baselines(study, site_data(study, sites(study)), first_model(study))
    assert set(found["pooled"].per_site) == set(SIZES)


def test_simulated_noise_makes_baselines_repeatable() -> None:
    data, model = site_data(STUDY, sites()), first_model(STUDY)
    here = run_baselines(STUDY, data, model)
    assert run_baselines(STUDY, data, model) == here
    fresh = private_study(FULL_BATCH)
    first, second = (run_baselines(fresh, data, model) for _ in range(2))
    assert first["pooled"].pooled_test["loss"] != second["pooled"].pooled_test["loss"]


def test_with_hardly_any_noise_the_pooled_model_is_that_of_clipped_full_batches() -> None:
    """Patients of three records each, averaged and clipped: the sum over patients, in numpy."""
    study = private_study(FULL_BATCH, DECLARED, QUIET, CLIP, SIMULATED, ("rounds = 4", "rounds = 2"))
    data, model = site_data(study, sites(study)), first_model(study)
    preprocessing = {"mean": np.array([60.0, 0, 0, 0, 0, 0]), "scale": np.array([30.0, 1, 3, 1, 1, 1])}
    patients: list[tuple[np.ndarray, np.ndarray]] = []
    batch = 0.75 * sum(part.persons for part in data.values())
    for part in data.values():
        x = np.where(np.isnan(part.train.inputs), preprocessing["mean"], part.train.inputs)
        x = np.column_stack([(x - preprocessing["mean"]) / preprocessing["scale"], np.ones(len(x))])
        for person in np.unique(part.train_owners):
            own = part.train_owners == person
            patients.append((x[own], part.train.targets[own]))
    weights = model.astype(np.float64)
    for _ in range(2 * 5):
        total = np.zeros_like(weights)
        for x, y in patients:
            gradient = (1 / (1 + np.exp(-(x @ weights))) - y) @ x / len(y)
            total += gradient * min(1.0, 0.2 / np.linalg.norm(gradient))
        weights = weights - 0.1 * total / batch
    found = pooled_baseline(study, data, model)
    expected = model_outcome(study, data, weights.astype(np.float32), preprocessing)
    for name in SIZES:
        loss = float(found[name]["loss"][0] / found[name]["examples"][0])
        assert loss == pytest.approx(expected.per_site[name]["loss"], rel=1e-4)


def test_noised_statistics_of_the_pooled_rows_are_used() -> None:
    """The same study with other seeds of the noise standardises, and so predicts, differently."""
    data, model = site_data(STUDY, sites()), first_model(STUDY)
    other = STUDY.with_changes(seed=9)
    one, two = (pooled_baseline(study, data, model)["a"]["loss"] for study in (STUDY, other))
    assert one != two
