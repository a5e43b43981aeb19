"""Three ways to standardise: the bound of a row, what noised sums are fitted to, declared constants."""

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.strategies.samples import NUMBERS_STUDY, table
from vestry_privacy.noise import SimulationStream
from vestry_privacy.release import noised_sum, person_vectors
from vestry_strategies.schema import TabularTask
from vestry_strategies.study import parse_study, study_from_json
from vestry_strategies.sums import Sums
from vestry_strategies.task import Design
from vestry_strategies.tasks.columns import (
    bounded_statistics,
    columns,
    fit_declared,
    fit_exact,
    fit_released,
    statistics,
)
from vestry_strategies.tasks.tabular import TABULAR

BASE = parse_study(NUMBERS_STUDY).canonical()
LEAST, LEAST_SHARE = 0.05, 0.1  # of a half range, of a column of 0 and 1
WORDS = ("red", "green", "blue", "grey")

bounds = st.tuples(st.floats(-1e4, 1e4), st.floats(1e-2, 1e4)).map(lambda pair: (pair[0], sum(pair)))
number = st.builds(
    lambda limits, missing: {"type": "number", "range": list(limits), "missing": missing},
    bounds,
    st.sampled_from(["refuse", "mean"]),
)
boolean = st.builds(
    lambda missing: {"type": "boolean", "missing": missing}, st.sampled_from(["refuse", "mean"])
)
category = st.builds(
    lambda count, missing: {"type": "category", "categories": list(WORDS[:count]), "missing": missing},
    st.integers(2, 4),
    st.sampled_from(["refuse", "category"]),
)


@dataclass(frozen=True)
class Sample:
    """A task, and rows that keep its contract."""

    task: TabularTask
    design: Design


@st.composite
def samples(draw: st.DrawFn, least: int = 0, most: int = 40) -> Sample:
    """Any features, values on the ends of their ranges and between, gaps where they may be."""
    features = draw(st.lists(number | boolean | category, min_size=1, max_size=5))
    target: dict[str, Any] = {"name": "y", "type": "regression", "range": list(draw(bounds))}
    if draw(st.booleans()):
        target = {"name": "y", "type": "binary", "classes": ["0", "1"]}
    plain = json.loads(json.dumps(BASE))
    plain["task"]["features"] = [{"name": f"f{i}", **feature} for i, feature in enumerate(features)]
    plain["task"]["drop_first"] = draw(st.booleans())
    plain["task"]["target"] = target
    plain["model"] = {"kind": "linear" if target["type"] == "regression" else "logistic"}
    study = study_from_json(json.dumps(plain))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows = draw(st.integers(least, most))
    cells = {feature["name"]: _cells(feature, rows, generator) for feature in plain["task"]["features"]}
    cells["y"] = _cells(target, rows, generator)
    assert isinstance(study.task, TabularTask)
    return Sample(study.task, TABULAR.features.design(study, table(**cells)))


def _cells(feature: dict[str, Any], rows: int, generator: np.random.Generator) -> list[str]:
    if feature["type"] in ("number", "regression"):
        low, high = feature["range"]
        made = [repr(float(v)) for v in np.clip(generator.uniform(low, high, rows), low, high)]
        made = [repr(low) if e == 0 else repr(high) if e == 1 else m for e, m in _with(made, generator)]
    else:
        words = feature.get("categories") or feature.get("classes") or ["yes", "no"]
        made = [words[int(i)] for i in generator.integers(0, len(words), rows)]
    gaps = feature.get("missing", "refuse") != "refuse"
    return ["" if gaps and e == 2 else m for e, m in _with(made, generator)]


def _with(made: list[str], generator: np.random.Generator) -> list[tuple[int, str]]:
    return list(zip(generator.integers(0, 6, len(made)).tolist(), made, strict=True))


@settings(max_examples=200, deadline=None)
@given(samples())
def test_no_row_is_longer_than_the_bound(sample: Sample) -> None:
    bounded = bounded_statistics(sample.task, sample.design)
    assert len(bounded.values) == len(sample.design)
    assert np.isfinite(bounded.values).all()
    assert (np.linalg.norm(bounded.values, axis=1) <= bounded.bound * (1 + 1e-9)).all()


@settings(max_examples=100, deadline=None)
@given(samples(least=1))
def test_released_parts_have_the_names_that_are_fitted(sample: Sample) -> None:
    every = columns(sample.task)
    bounded = bounded_statistics(sample.task, sample.design)
    sums = bounded.read(bounded.values.sum(axis=0))
    assert sums["persons"].tolist() == [len(sample.design)]
    assert sums["sum"].shape == (sum(column.kind != "indicator" for column in every),)
    assert sums["squares"].shape == (sum(column.kind == "number" for column in every),)
    assert sums["count"].shape == (sum(column.counted for column in every),)
    assert ("target" in sums) == (sample.task.target.type == "regression")
    exact = statistics(sample.task, sample.design)
    there = [place for place, column in enumerate(every) if column.counted]
    assert sums["count"].tolist() == exact["count"][there].tolist()


@settings(max_examples=150, deadline=None)
@given(samples(least=2))
def test_without_noise_released_sums_give_what_exact_sums_give(sample: Sample) -> None:
    """The mean is the same; the deviation has another divisor (n in place of n - 1) and a floor."""
    every = columns(sample.task)
    bounded = bounded_statistics(sample.task, sample.design)
    released = fit_released(sample.task, bounded.read(bounded.values.sum(axis=0)))
    sums = statistics(sample.task, sample.design)
    exact = fit_exact(sample.task, sums)
    assert released.keys() == exact.keys()
    half = [(c.range[1] - c.range[0]) / 2 if c.range else 1.0 for c in every]
    np.testing.assert_allclose(released["mean"], exact["mean"], rtol=0, atol=np.multiply(half, 1e-9).max())
    values = np.where(np.isnan(sample.design.inputs), exact["mean"], sample.design.inputs)
    present = ~np.isnan(sample.design.inputs)
    for place, column in enumerate(every):
        seen = values[present[:, place], place]
        least = LEAST * half[place] if column.kind == "number" else LEAST_SHARE
        deviation = max(least, float(seen.std()) if len(seen) else 0.0)
        assert released["scale"][place] == pytest.approx(deviation, rel=1e-3)
    if "target" in sums:
        assert released["target_mean"] == pytest.approx(exact["target_mean"], rel=1e-9, abs=1e-6)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_what_is_fitted_stays_in_range_whatever_the_noise(data: st.DataObject) -> None:
    sample = data.draw(samples(most=3))
    shapes = bounded_statistics(sample.task, sample.design).shapes
    wild = st.floats(allow_nan=False, allow_infinity=False)
    sums: Sums = {name: data.draw(arrays(np.float64, shape, elements=wild)) for name, shape in shapes.items()}
    fitted = fit_released(sample.task, sums)
    for place, column in enumerate(columns(sample.task)):
        mean, scale = float(fitted["mean"][place]), float(fitted["scale"][place])
        low, high = column.range or (0.0, 1.0)
        slack = 1e-9 * (high - low)
        assert low - slack <= mean <= high + slack
        least = LEAST * (high - low) / 2 if column.kind == "number" else LEAST_SHARE
        assert least * (1 - 1e-9) <= scale <= (high - low) / 2 + slack
    if sample.task.target.range is not None:
        low, high = sample.task.target.range
        assert low - 1e-6 <= fitted["target_mean"][0] <= high + 1e-6
        assert 0 < fitted["target_scale"][0] <= high - low


def study_of(*changes: tuple[str, str]) -> TabularTask:
    text = NUMBERS_STUDY.replace('type = "regression"', 'type = "regression"\nrange = [-5, 5]')
    text = text.replace("[-9]", "[-9]\nrange = [-4, 10]")
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    task = parse_study(text).task
    assert isinstance(task, TabularTask)
    return task


def design_of(task: TabularTask, count: int, seed: int = 0) -> Design:
    generator = np.random.default_rng(seed)
    x = np.clip(generator.normal(3, 2, count), -4, 10)
    inputs = {
        "x": [f"{value:.4f}" if place % 9 else "" for place, value in enumerate(x)],
        "flag": [("yes", "no", "no", "")[int(i)] for i in generator.integers(0, 4, count)],
        "kind": [("1", "2", "blue", "")[int(i)] for i in generator.integers(0, 4, count)],
        "y": [f"{value:.4f}" for value in np.clip(generator.normal(1, 1, count), -5, 5)],
    }
    plain = json.loads(json.dumps(BASE))
    plain["task"] = task.model_dump(mode="json")
    return TABULAR.features.design(study_from_json(json.dumps(plain)), table(**inputs))


def test_columns_know_their_kind_and_who_may_be_missing() -> None:
    kinds = [(column.name, column.kind, column.counted) for column in columns(study_of())]
    assert kinds == [
        ("x", "number", True),
        ("x:missing", "indicator", False),
        ("flag", "boolean", True),
        ("flag:missing", "indicator", False),
        ("kind=1", "category", False),
        ("kind=2", "category", False),
        ("kind=blue", "category", False),
        ("kind=:missing", "category", False),
    ]


def test_the_bound_is_that_of_the_declared_columns_not_of_the_data() -> None:
    """1 person, 2 counts, (1 number + 2 others) sums, 1 square, 2 of the target."""
    task = study_of()
    for count in (0, 3, 50):
        assert bounded_statistics(task, design_of(task, count)).bound == pytest.approx(math.sqrt(9))


def test_noised_statistics_are_right_on_average() -> None:
    """A thousand patients of three records each, averaged: unbiased, and of the deviation that is charged."""
    task, persons, sigma, draws = study_of(), 1000, 2.0, 300
    bounded = bounded_statistics(task, design_of(task, 3 * persons))
    owners = np.arange(3 * persons) % persons
    source = SimulationStream(4)
    exact = person_vectors(bounded.values, owners, bounded.bound, 16, source).sum(axis=0)
    totals = np.stack(
        [noised_sum(bounded.values, owners, bounded.bound, sigma, 16, source) for _ in range(draws)]
    )
    deviation = sigma * bounded.bound
    assert (np.abs(totals.mean(axis=0) - exact) < 5 * deviation / math.sqrt(draws)).all()
    np.testing.assert_allclose(totals.std(axis=0), deviation, rtol=5 / math.sqrt(2 * draws))
    ideal = fit_released(task, bounded.read(exact))
    fitted = [fit_released(task, bounded.read(total)) for total in totals]
    for name, places in (("mean", slice(None)), ("scale", slice(0, 1))):  # the others' scale may be floored
        found = np.stack([one[name][places] for one in fitted])
        error = np.abs(found.mean(axis=0) - ideal[name][places])
        assert (error < 5 * found.std(axis=0) / math.sqrt(draws) + 1e-3).all()


def test_a_patient_of_many_records_weighs_as_much_as_one_of_one() -> None:
    task = study_of()
    design = design_of(task, 60)
    bounded = bounded_statistics(task, design)
    owners = np.minimum(np.arange(60), 30)  # the last patient has thirty records
    source = SimulationStream(0)
    sums = bounded.read(person_vectors(bounded.values, owners, bounded.bound, 100, source).sum(axis=0))
    assert sums["persons"][0] == pytest.approx(31)
    own = np.concatenate([bounded.values[:30], bounded.values[30:].mean(axis=0, keepdims=True)])
    read = np.concatenate([part.ravel() for part in sums.values()])
    np.testing.assert_allclose(read, own.sum(axis=0), rtol=1e-9, atol=1e-9)


def test_declared_constants_are_the_studys_and_read_no_data() -> None:
    declared = ('kind = "tabular"', 'kind = "tabular"\nstandardise = "declared"')
    task = study_of(declared)
    fitted = fit_declared(task)
    assert fitted["mean"].tolist() == [3.0, 0, 0, 0, 0, 0, 0, 0]
    assert fitted["scale"].tolist() == [3.5, 1, 1, 1, 1, 1, 1, 1]
    assert (fitted["target_mean"][0], fitted["target_scale"][0]) == (0.0, 2.5)
    typical = fit_declared(study_of(declared, ("[-4, 10]", "[-4, 10]\ntypical = [3, 2]")))
    assert (typical["mean"][0], typical["scale"][0]) == (3.0, 2.0)
    exact = statistics(task, design_of(task, 30))
    noise = {name: np.full_like(part, 1e9) for name, part in exact.items()}
    for found in (fit_exact(task, exact), fit_released(task, {}), fit_released(task, noise)):
        assert {name: array.tolist() for name, array in found.items()} == {
            name: array.tolist() for name, array in fitted.items()
        }


def test_nothing_released_is_standardised_as_declared() -> None:
    task = study_of()
    assert fit_released(task, {})["mean"].tolist() == fit_declared(task)["mean"].tolist()


@pytest.mark.parametrize("change", [("range = [-4, 10]", ""), ("range = [-5, 5]", "")])
def test_noised_sums_need_public_bounds(change: tuple[str, str]) -> None:
    task = study_of(change)
    design = design_of(study_of(), 5)
    with pytest.raises(ValueError, match="noised sums need public bounds"):
        bounded_statistics(task, design)
