"""Metric sums of bounded norm: whatever a model says, right without noise, unbiased with it."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.client.bench import make_study
from tests.strategies.samples import MULTI_STUDY, NUMBERS_STUDY
from vestry_privacy.noise import SimulationStream
from vestry_privacy.release import noised_sum
from vestry_strategies.bounded import BoundedSums
from vestry_strategies.catalogue import METRICS
from vestry_strategies.study import StudySpec, parse_study
from vestry_strategies.tasks.bounded_score import LARGEST_LOSS, RELEASED_BINS, bounded_score
from vestry_strategies.tasks.targets import score, summarise, target_losses

RANGE = (-20.0, 30.0)
BINARY, MULTI = make_study(), parse_study(MULTI_STUDY)
NUMBERS = parse_study(NUMBERS_STUDY.replace('type = "regression"', 'type = "regression"\nrange = [-20, 30]'))
SCALE = {"target_mean": np.array([5.0]), "target_scale": np.array([2.0])}
STUDIES = (BINARY, MULTI, NUMBERS)

anything = st.floats(width=32, allow_nan=True, allow_infinity=True)


def width(study: StudySpec) -> int:
    return 3 if study is MULTI else 1


def names_of(study: StudySpec) -> tuple[str, ...]:
    return METRICS[study.task.target.type]


def bounded(
    study: StudySpec, names: tuple[str, ...], outputs: np.ndarray, targets: np.ndarray
) -> BoundedSums:
    losses = target_losses(study, torch.from_numpy(outputs), torch.from_numpy(targets)).numpy()
    return bounded_score(study, SCALE, names, outputs, targets, losses)


def sample(study: StudySpec, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Outputs that are somewhat right, with losses below the largest one."""
    generator = np.random.default_rng(seed)
    if study is NUMBERS:
        targets = generator.normal(size=count).astype(np.float32)
        return (targets + generator.uniform(-1.5, 1.5, count))[:, None].astype(np.float32), targets
    labels = generator.integers(0, 2 if study is BINARY else 3, count)
    shift = labels[:, None] * 2.0 - 1 if study is BINARY else np.eye(3)[labels]
    return np.clip(shift + generator.normal(size=(count, width(study))), -1.5, 1.5).astype("f4"), labels


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(STUDIES), st.data())
def test_no_row_is_longer_than_the_bound(study: StudySpec, data: st.DataObject) -> None:
    records = data.draw(st.integers(0, 8))
    outputs = data.draw(arrays(np.float32, (records, width(study)), elements=anything))
    losses = data.draw(arrays(np.float32, records, elements=anything))
    if study is NUMBERS:
        # As a target is standardised: its range is checked before.
        targets = data.draw(arrays(np.float32, records, elements=st.floats(-12.5, 12.5, width=32)))
    else:
        targets = data.draw(arrays(np.int64, records, elements=st.integers(0, 1 if study is BINARY else 2)))
    names = tuple(data.draw(st.sets(st.sampled_from(names_of(study)), min_size=1)))
    found = bounded_score(study, SCALE, names, outputs, targets, losses)
    assert len(found.values) == records
    assert np.isfinite(found.values).all()
    assert (np.linalg.norm(found.values, axis=1) <= found.bound * (1 + 1e-9)).all()


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(STUDIES), st.integers(0, 2**32), st.data())
def test_without_noise_the_named_metrics_are_the_exact_ones(
    study: StudySpec, seed: int, data: st.DataObject
) -> None:
    outputs, targets = sample(study, 300, seed)
    names = tuple(data.draw(st.sets(st.sampled_from(names_of(study)), min_size=1)))
    released = bounded(study, names, outputs, targets)
    found = summarise(study, released.read(released.values.sum(axis=0)))
    losses = target_losses(study, torch.from_numpy(outputs), torch.from_numpy(targets)).numpy()
    exact = summarise(study, score(study, SCALE, outputs, targets, losses))
    for name in names:
        if name == "auc":
            parts = released.read(released.values.sum(axis=0))
            shared = float((parts["positives"] * parts["negatives"]).sum())
            pairs = float(parts["positives"].sum() * parts["negatives"].sum())
            assert abs((found[name] or 0) - (exact[name] or 0)) <= shared / 2 / pairs + 1e-3
        elif name == "r2":
            assert found[name] == pytest.approx(exact[name], abs=1e-3)
        else:
            assert found[name] == pytest.approx(exact[name], rel=1e-3), name


@pytest.mark.parametrize("study", STUDIES)
def test_the_bound_is_a_function_of_the_names_alone(study: StudySpec) -> None:
    """Any two data sets give one bound and one shape, else they would tell of the data."""
    for names in combinations(names_of(study), 2):
        made = [bounded(study, names, *sample(study, count, count)) for count in (0, 1, 40)]
        assert len({(part.bound, part.values.shape[1], tuple(part.shapes.items())) for part in made}) == 1


@pytest.mark.parametrize(
    ("study", "names", "parts", "bound"),
    [
        (BINARY, ("accuracy",), {"confusion"}, 1.0),
        (BINARY, ("accuracy", "f1", "sensitivity"), {"confusion"}, 1.0),
        (BINARY, ("auc",), {"positives", "negatives"}, 1.0),
        (BINARY, ("auc", "accuracy"), {"positives", "negatives", "confusion"}, math.sqrt(2)),
        (BINARY, ("brier",), {"squared_error", "examples"}, math.sqrt(2)),
        (BINARY, ("loss", "accuracy"), {"loss", "confusion"}, math.sqrt(2)),
        (MULTI, ("macro_f1",), {"confusion"}, 1.0),
        (MULTI, ("loss",), {"loss", "examples"}, math.sqrt(2)),
        (NUMBERS, ("mae",), {"moments"}, math.sqrt(5)),
        (NUMBERS, ("loss",), {"loss", "examples"}, math.sqrt(2)),
        (NUMBERS, ("loss", "r2"), {"loss", "moments"}, math.sqrt(6)),
    ],
)
def test_only_what_the_metrics_need_is_released(
    study: StudySpec, names: tuple[str, ...], parts: set[str], bound: float
) -> None:
    """Each part adds to the bound, and with it to the noise of all."""
    found = bounded(study, names, *sample(study, 5))
    assert set(found.shapes) == parts
    assert found.bound == pytest.approx(bound)
    assert set(summarise(study, found.read(found.values.sum(axis=0)))) == set(names_of(study))


def test_metrics_that_are_not_named_are_not_there() -> None:
    found = bounded(BINARY, ("accuracy",), *sample(BINARY, 50))
    metrics = summarise(BINARY, found.read(found.values.sum(axis=0)))
    assert metrics["accuracy"] is not None
    assert [metrics[name] for name in ("loss", "auc", "brier")] == [None, None, None]


def test_a_loss_is_cut_at_its_public_bound() -> None:
    losses = np.array([0.5, LARGEST_LOSS, 1e9, np.inf, np.nan, -3.0])
    outputs, targets = np.zeros((6, 1), dtype=np.float32), np.zeros(6, dtype=np.int64)
    found = bounded_score(BINARY, SCALE, ("loss",), outputs, targets, losses)
    total = found.read(found.values.sum(axis=0))["loss"][0]
    assert total == pytest.approx(0.5 + 4 * LARGEST_LOSS)


def test_every_score_has_a_bin() -> None:
    outputs = np.array([[-1e30], [0.0], [1e30], [np.nan]], dtype=np.float32)
    found = bounded(BINARY, ("auc",), outputs, np.array([0, 1, 1, 0]))
    sums = found.read(found.values.sum(axis=0))
    assert sums["negatives"][0] == 1
    assert sums["negatives"][RELEASED_BINS // 2] == 1
    assert sums["positives"][RELEASED_BINS // 2] == 1
    assert sums["positives"][RELEASED_BINS - 1] == 1
    assert sums["positives"].sum() + sums["negatives"].sum() == 4


def test_a_regression_needs_a_public_range() -> None:
    with pytest.raises(ValueError, match="needs a public range"):
        bounded(parse_study(NUMBERS_STUDY), ("mae",), *sample(NUMBERS, 3))


@pytest.mark.parametrize(
    ("study", "names", "persons", "sigma"),
    [
        (BINARY, ("accuracy", "auc", "brier"), 2000, 3.0),
        (MULTI, ("accuracy", "loss"), 2000, 3.0),
        (NUMBERS, ("rmse", "mae", "r2"), 20_000, 0.5),  # a squared error may be as large as the range squared
    ],
)
def test_noised_metrics_are_right_on_average(
    study: StudySpec, names: tuple[str, ...], persons: int, sigma: float
) -> None:
    """Within five standard errors of the metric without noise, and of use at all."""
    outputs, targets = sample(study, persons)
    found = bounded(study, names, outputs, targets)
    ideal = summarise(study, found.read(found.values.sum(axis=0)))
    source, owners = SimulationStream(7), np.arange(persons)
    draws = [
        summarise(study, found.read(noised_sum(found.values, owners, found.bound, sigma, 1, source)))
        for _ in range(100)
    ]
    for name in names:
        values = np.array([draw[name] for draw in draws], dtype=np.float64)
        spread = values.std(ddof=1)
        assert 0 < spread < 0.1 * max(1.0, abs(ideal[name] or 0)), name
        assert abs(values.mean() - (ideal[name] or 0)) < 5 * spread / math.sqrt(len(draws)) + 1e-3, name
