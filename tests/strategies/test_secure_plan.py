"""Both sides make the same plan of a sum from the study alone, and its layout before any data are read."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies.samples import (
    DECLARED,
    FULL_BATCH,
    MULTI_STUDY,
    NUMBERS_STUDY,
    image_study,
    make_study,
    make_table,
    private_study,
)
from vestry_privacy.secagg.directory import Directory, Member
from vestry_privacy.secagg.errors import PlanRefused
from vestry_privacy.secagg.plan import Plan
from vestry_strategies.secure_plan import (
    DIVERGED,
    LOSS,
    STATISTICS_WEIGHT_LIMIT,
    SumKind,
    SumLayout,
    configuration_hash,
    crowd_words,
    evaluates_after,
    round_plan,
    sum_layout,
)
from vestry_strategies.study import StudyError, StudySpec, parse_study
from vestry_strategies.sums import Arrays
from vestry_strategies.tasks.registry import find_task

SECURE = ("secure = false", "secure = true")
SITE = (('unit_column = "patient"', 'unit = "site"'), ("sampling_probability = 0.25\n", ""))
SECURE_TEXT = NUMBERS_STUDY.replace(*SECURE)
DIRECTORY = Directory.of(7, bytes(32), [Member(f"s{i}", f"o{i}", bytes([i]) * 32) for i in range(5)])


def make_plan(study: StudySpec, **changes: object) -> Plan:
    plain: dict[str, object] = {
        "run": "a",
        "kind": "train",
        "round": 1,
        "sequence": 3,
        "directory": DIRECTORY,
        "roster": DIRECTORY.roster(),
        "model": bytes(32),
        "configuration": configuration_hash({}, {}),
        "values": 10,
        "wide": 1,
        "weight_limit": 100,
    }
    return round_plan(study, **{**plain, **changes})  # type: ignore[arg-type]


def test_a_plan_of_a_study_is_one_that_may_be() -> None:
    plan = make_plan(make_study(SECURE))
    plan.check()
    assert Plan.decode(plan.encode()) == plan
    assert plan.study.hex() == make_study(SECURE).digest()
    assert (plan.directory, plan.threshold, plan.least, plan.privacy) == (7, 4, 3, b"")
    assert (plan.lane_bits, plan.value_range, plan.deadline) == (21, 8.0, 600.0)


def test_a_plan_follows_the_study() -> None:
    more = "secure = true\nmin_sites = 4\nlane_bits = 32\nvalue_range = 0.5\ndeadline_seconds = 9.5"
    plan = make_plan(make_study(("secure = false", more)))
    assert (plan.least, plan.lane_bits, plan.value_range, plan.deadline) == (4, 32, 0.5, 9.5)
    private = make_plan(private_study(SECURE))
    assert private.privacy
    other = make_plan(private_study(SECURE, ("epsilon = 3.0", "epsilon = 4.0")))
    assert other.privacy != private.privacy


def test_both_sides_make_the_same_plan() -> None:
    study = private_study(SECURE)
    there = StudySpec.model_validate_json(study.to_json())
    make_plan(study).require(make_plan(there))
    assert make_plan(study).digest == make_plan(there).digest


@pytest.mark.parametrize(
    "name", ["threshold", "least", "lane_bits", "value_range", "privacy", "code", "deadline"]
)
def test_a_plan_of_another_mind_is_refused(name: str) -> None:
    plan = make_plan(make_study(SECURE))
    assert name in {item.name for item in fields(Plan)}
    old = getattr(plan, name)
    other: Any = old + b"x" if isinstance(old, bytes) else old + 1
    with pytest.raises(PlanRefused, match=f"plan.{name}"):
        replace(plan, **{name: other}).require(plan)


def test_more_organisations_than_sites_are_refused() -> None:
    plan = make_plan(make_study(("secure = false", "min_sites = 6")))
    with pytest.raises(PlanRefused, match="least"):
        plan.check()


STUDIES: dict[str, Callable[[], StudySpec]] = {
    "binary": lambda: make_study(SECURE),
    "regression": lambda: parse_study(SECURE_TEXT),
    "multiclass": lambda: parse_study(MULTI_STUDY.replace(*SECURE)),
    "image": lambda: image_study(SECURE),
    "per-site": lambda: make_study(
        SECURE, ('kind = "tabular"', 'kind = "tabular"\nstandardise = "per-site"')
    ),
}


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("kind", ["statistics", "evaluate"])
def test_the_layout_of_no_rows_is_that_of_no_rows_read(name: str, kind: SumKind) -> None:
    study = STUDIES[name]()
    task = find_task(study)
    layout = sum_layout(study, task, kind)
    assert layout.size > 0
    zeros = layout.read(np.zeros(layout.size))
    assert list(zeros) == list(layout.shapes)
    assert np.array_equal(layout.flatten(zeros), np.zeros(layout.size))


def test_the_layout_is_that_of_rows_too() -> None:
    study = make_study(SECURE)
    task = find_task(study)
    design = task.features.design(study, make_table())
    sums = task.features.statistics(study, design)
    layout = sum_layout(study, task, "statistics")
    again = layout.read(layout.flatten(sums))
    assert all(np.array_equal(again[name], sums[name]) for name in sums)
    fitted = task.features.fit(study, sums)
    n = len(design)
    scores = task.score(study, fitted, np.zeros((n, 1)), design.targets, np.zeros(n))
    layout = sum_layout(study, task, "evaluate", fitted)
    assert layout == sum_layout(study, task, "evaluate")
    assert layout.flatten(scores).shape == (layout.size,)


def test_losses_are_summed_but_under_privacy() -> None:
    for study, names in ((make_study(SECURE), [LOSS, DIVERGED]), (private_study(SECURE), [])):
        assert list(sum_layout(study, find_task(study), "train").shapes) == names


@pytest.mark.parametrize(
    ("study", "names"),
    [
        (private_study(SECURE), ["persons", "count", "sum", "squares"]),
        (private_study(SECURE, DECLARED), []),
        (private_study(SECURE, DECLARED, *SITE), []),
    ],
)
def test_statistics_under_privacy_are_the_noised_ones(study: StudySpec, names: list[str]) -> None:
    assert list(sum_layout(study, find_task(study), "statistics").shapes) == names


def test_metrics_under_privacy_are_those_named() -> None:
    study = private_study(SECURE, FULL_BATCH)
    assert sum_layout(study, find_task(study), "evaluate").size == 0
    named = private_study(SECURE, ("[evaluation]", 'metrics = ["accuracy", "auc"]\n[evaluation]'))
    shapes = sum_layout(named, find_task(named), "evaluate").shapes
    assert shapes == {"confusion": (2, 2), "positives": (16,), "negatives": (16,)}


def test_a_task_that_cannot_say_its_shapes_is_refused() -> None:
    study = make_study(SECURE)
    task = find_task(study)
    features = replace(task.features, blank=None)
    with pytest.raises(StudyError, match=r"give the plug-in features\.blank, or write secure = false"):
        sum_layout(study, replace(task, features=features), "statistics")
    private = private_study(SECURE)
    unbounded = replace(task.features, bounded_statistics=None)
    with pytest.raises(StudyError, match="no bounded form of its statistics"):
        sum_layout(private, replace(task, features=unbounded), "statistics")
    named = private_study(SECURE, ("[evaluation]", 'metrics = ["accuracy"]\n[evaluation]'))
    with pytest.raises(StudyError, match="no bounded form of its metrics"):
        sum_layout(named, replace(task, bounded_score=None), "evaluate")


shapes = st.dictionaries(
    st.text(min_size=1, max_size=4), st.lists(st.integers(0, 3), max_size=3).map(tuple), max_size=4
)


@settings(max_examples=60, deadline=None)
@given(shapes=shapes, data=st.data())
def test_what_was_flattened_is_read_back(shapes: dict[str, tuple[int, ...]], data: st.DataObject) -> None:
    layout = SumLayout(shapes)
    values = data.draw(st.lists(st.floats(-1e9, 1e9), min_size=layout.size, max_size=layout.size))
    wide = np.array(values, dtype=np.float64)
    sums = layout.read(wide)
    assert {name: array.shape for name, array in sums.items()} == shapes
    shuffled: Arrays = dict(reversed(sums.items()))
    assert np.array_equal(layout.flatten(shuffled), wide)


def test_other_names_shapes_and_lengths_are_refused() -> None:
    layout = SumLayout({"a": (2,), "b": ()})
    with pytest.raises(ValueError, match="names"):
        layout.flatten({"a": np.zeros(2)})
    with pytest.raises(ValueError, match="a: shape"):
        layout.flatten({"a": np.zeros(3), "b": np.array(0.0)})
    with pytest.raises(ValueError, match="shape"):
        layout.read(np.zeros(4))


def test_the_configuration_is_everything_that_comes_with_an_order() -> None:
    one = {"mean": np.array([1.0, 2.0])}
    hashes = {
        configuration_hash({}, {}),
        configuration_hash(one, {}),
        configuration_hash({}, one),
        configuration_hash({"mean": np.array([[1.0, 2.0]])}, {}),
        configuration_hash({"scale": np.array([1.0, 2.0])}, {}),
        configuration_hash({"mean": np.array([1.0, np.nan])}, {}),
    }
    assert len(hashes) == 6
    assert {len(found) for found in hashes} == {32}
    assert configuration_hash({"b": np.ones(1), "a": np.ones(2)}, {}) == configuration_hash(
        {"a": np.ones(2), "b": np.ones(1)}, {}
    )


def test_a_study_says_after_which_rounds_it_evaluates() -> None:
    study = make_study(SECURE, ("[evaluation]", "[evaluation]\nevery = 3"))
    assert [number for number in range(-1, 7) if evaluates_after(study, number)] == [3, 4]
    assert not any(evaluates_after(private_study(SECURE), number) for number in range(5))


@pytest.mark.parametrize(
    ("sites", "words"),
    [
        (3, "t - c = 3 honest sites (3 sites, at most 0 colludes with the coordinator, none may drop out)"),
        (4, "t - c = 2 honest sites (4 sites, at most 1 colludes with the coordinator, 1 may drop out)"),
        (50, "t - c = 18 honest sites (50 sites, at most 16 collude with the coordinator, 16 may drop out)"),
    ],
)
def test_the_honest_crowd_in_words(sites: int, words: str) -> None:
    assert crowd_words(sites) == f"an update is hidden among at least {words}"


def test_round_0_has_no_weight_to_scale_by() -> None:
    assert STATISTICS_WEIGHT_LIMIT * 200 < 2**64
