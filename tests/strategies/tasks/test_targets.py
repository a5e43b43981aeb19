"""Metrics from sums against scikit-learn, additive over any split, undefined where they are."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics as sk

from tests.client.bench import make_study
from tests.strategies.samples import MULTI_STUDY, NUMBERS_STUDY
from vestry_strategies.rows import ContractViolation
from vestry_strategies.schema import Target
from vestry_strategies.study import StudySpec, parse_study
from vestry_strategies.sums import Sums, add_sums
from vestry_strategies.task import Metrics
from vestry_strategies.tasks.targets import (
    SCORE_BINS,
    canonical_labels,
    match_labels,
    metric_names,
    primary_metric,
    read_targets,
    score,
    summarise,
    target_losses,
)

BINARY, MULTI, NUMBERS = make_study(), parse_study(MULTI_STUDY), parse_study(NUMBERS_STUDY)
SCALE = {"target_mean": np.array([5.0]), "target_scale": np.array([2.0])}


def sums(study: StudySpec, outputs: np.ndarray, targets: np.ndarray) -> Sums:
    out, goal = torch.from_numpy(outputs.astype(np.float32)), torch.from_numpy(targets)
    losses = target_losses(study, out, goal).numpy()
    return score(study, SCALE, outputs, targets, losses)


def sample(study: StudySpec, seed: int, count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    if study is NUMBERS:
        targets = generator.normal(size=count).astype(np.float32)
        return (targets + generator.normal(size=count))[:, None].astype(np.float32), targets
    classes = 2 if study is BINARY else 3
    labels = generator.integers(0, classes, count)
    noise = generator.normal(size=(count, 1 if study is BINARY else 3))
    shift = (labels[:, None] * 2 - 1) if study is BINARY else np.eye(3)[labels] * 1.5
    return (noise + shift).astype(np.float32), labels


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_binary_metrics_are_those_of_scikit_learn(seed: int) -> None:
    outputs, labels = sample(BINARY, seed)
    found = summarise(BINARY, sums(BINARY, outputs, labels))
    logits = outputs[:, 0].astype(np.float64)
    scores, predicted = 1 / (1 + np.exp(-logits)), logits > 0
    expected = {
        "loss": sk.log_loss(labels, scores),
        "accuracy": sk.accuracy_score(labels, predicted),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, predicted),
        "sensitivity": sk.recall_score(labels, predicted),
        "specificity": sk.recall_score(labels, predicted, pos_label=0),
        "precision": sk.precision_score(labels, predicted),
        "f1": sk.f1_score(labels, predicted),
        "brier": sk.brier_score_loss(labels, scores),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-5), name
    assert found["auc"] == pytest.approx(sk.roc_auc_score(labels, scores), abs=0.002)


def test_the_auc_is_exact_where_no_bin_is_shared() -> None:
    scores = (np.arange(200) + 0.5) / 200
    labels = np.random.default_rng(0).integers(0, 2, 200)
    outputs = np.log(scores / (1 - scores))[:, None]
    found = summarise(BINARY, sums(BINARY, outputs, labels))["auc"]
    assert found == pytest.approx(sk.roc_auc_score(labels, scores), abs=1e-12)


def test_the_auc_is_off_by_no_more_than_half_the_pairs_in_one_bin() -> None:
    outputs, labels = sample(BINARY, 3, 2000)
    part = sums(BINARY, outputs * 4, labels)
    shared = float((part["positives"] * part["negatives"]).sum())
    bound = shared / 2 / float(part["positives"].sum() * part["negatives"].sum())
    exact = sk.roc_auc_score(labels, outputs[:, 0])
    found = summarise(BINARY, part)["auc"]
    assert found is not None
    assert abs(found - exact) <= bound + 1e-12


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_multiclass_metrics_are_those_of_scikit_learn(seed: int) -> None:
    outputs, labels = sample(MULTI, seed)
    found = summarise(MULTI, sums(MULTI, outputs, labels))
    predicted = outputs.argmax(axis=1)
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(labels, predicted))
    assert found["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(labels, predicted))
    assert found["macro_f1"] == pytest.approx(sk.f1_score(labels, predicted, average="macro"))
    shares = torch.softmax(torch.from_numpy(outputs), dim=1).numpy()
    assert found["loss"] == pytest.approx(sk.log_loss(labels, shares), rel=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_regression_metrics_are_those_of_scikit_learn_in_original_units(seed: int) -> None:
    outputs, targets = sample(NUMBERS, seed)
    found = summarise(NUMBERS, sums(NUMBERS, outputs, targets))
    true, predicted = targets * 2.0 + 5.0, outputs[:, 0] * 2.0 + 5.0
    assert found["mse"] == pytest.approx(sk.mean_squared_error(true, predicted), rel=1e-5)
    assert found["rmse"] == pytest.approx(sk.mean_squared_error(true, predicted) ** 0.5, rel=1e-5)
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(true, predicted), rel=1e-5)
    assert found["r2"] == pytest.approx(sk.r2_score(true, predicted), rel=1e-4, abs=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([BINARY, MULTI, NUMBERS]), st.lists(st.integers(0, 400), max_size=4))
def test_sums_over_any_split_are_the_sums_over_all(study: StudySpec, cuts: list[int]) -> None:
    outputs, targets = sample(study, 1)
    whole = sums(study, outputs, targets)
    places = sorted(cuts)
    parts = zip(np.split(outputs, places), np.split(targets, places), strict=True)
    added = add_sums(sums(study, x, y) for x, y in parts)
    for name in whole:
        np.testing.assert_allclose(added[name], whole[name], rtol=1e-5)


def one_class(label: int) -> Metrics:
    labels = np.full(20, label)
    return summarise(BINARY, sums(BINARY, sample(BINARY, 0)[0][:20], labels))


def test_with_one_class_some_metrics_are_not_defined() -> None:
    only_ill, only_well = one_class(1), one_class(0)
    for name in ("auc", "balanced_accuracy", "specificity"):
        assert only_ill[name] is None
    assert only_well["sensitivity"] is None
    assert only_ill["accuracy"] is not None


@pytest.mark.parametrize("study", [BINARY, MULTI, NUMBERS])
def test_without_rows_nothing_is_defined(study: StudySpec) -> None:
    outputs, targets = sample(study, 0)
    found = summarise(study, sums(study, outputs[:0], targets[:0]))
    assert set(found) == set(metric_names(study))
    assert set(found.values()) == {None}


def test_class_weights_multiply_the_loss_of_their_class() -> None:
    weighted = make_study(('classes = ["no", "yes"]', 'classes = ["no", "yes"]\nclass_weights = [1.0, 3.0]'))
    outputs, labels = (torch.from_numpy(part) for part in sample(BINARY, 0))
    plain, heavy = target_losses(BINARY, outputs, labels), target_losses(weighted, outputs, labels)
    torch.testing.assert_close(heavy, plain * torch.where(labels == 1, 3.0, 1.0))


@pytest.mark.parametrize("study", [BINARY, MULTI, NUMBERS])
def test_the_loss_of_an_example_depends_on_it_alone(study: StudySpec) -> None:
    outputs, targets = (torch.from_numpy(part) for part in sample(study, 0))
    whole = target_losses(study, outputs, targets)
    alone = torch.cat([target_losses(study, outputs[i : i + 1], targets[i : i + 1]) for i in range(20)])
    torch.testing.assert_close(whole[:20], alone)


def test_the_primary_metric_is_the_studys_or_the_tasks() -> None:
    assert primary_metric(BINARY) == "auc"
    assert primary_metric(MULTI) == "accuracy"
    assert primary_metric(NUMBERS) == "rmse"
    named = make_study(('metrics = ["accuracy", "auc"]', 'primary = "brier"'))
    assert primary_metric(named) == "brier"


def test_labels_are_written_one_way() -> None:
    assert canonical_labels(np.array(["1", "1.0", "01", "1e0", "-0", "a", "1.5"])) == [
        "1",
        "1",
        "1",
        "1",
        "0",
        "a",
        "1.5",
    ]


def test_labels_are_matched_by_value() -> None:
    found = match_labels(np.array(["1.0", "0", "x", "b", "1"]), ("0", "1", "b"))
    assert found.tolist() == [1, 0, -1, 2, 1]
    assert match_labels(np.array([], dtype=np.str_), ("0", "1")).tolist() == []


def target(**changes: Any) -> Target:
    return Target.model_validate({"name": "y", "type": "regression", **changes})


@pytest.mark.parametrize(
    ("spec", "values", "said"),
    [
        (target(), ["1", "SECRET"], "column 'y': fewer than 10 rows break the rule: a finite number"),
        (target(), ["1", ""], "a finite number"),
        (target(), ["1", "inf"], "a finite number"),
        (target(range=(0.0, 5.0)), ["6"] * 12, "12 rows break the rule: in the range [0.0, 5.0]"),
        (target(type="binary", classes=("a", "b")), ["a", "SECRET"], "one of the classes ['a', 'b']"),
        (target(type="binary", classes=("a", "b")), ["a", ""], "one of the classes"),
    ],
)
def test_targets_outside_the_contract_are_refused(spec: Target, values: list[str], said: str) -> None:
    with pytest.raises(ContractViolation) as error:
        read_targets(spec, np.array(values))
    assert said in str(error.value)
    assert "SECRET" not in str(error.value)


def test_bins_cover_every_score() -> None:
    outputs = np.array([[-1e9], [1e9], [0.0]])
    part = sums(BINARY, outputs, np.array([0, 1, 1]))
    assert part["negatives"][0] == 1
    assert part["positives"][SCORE_BINS - 1] == 1
    assert part["positives"][SCORE_BINS // 2] == 1


noisy = st.floats(-1e6, 1e6)


@settings(max_examples=120, deadline=None)
@given(st.sampled_from([BINARY, MULTI, NUMBERS]), st.data())
def test_metrics_of_noised_sums_are_undefined_or_make_sense(study: StudySpec, data: st.DataObject) -> None:
    """Noise makes counts negative and parts larger than their wholes; some parts were not released."""
    shapes = {name: part.shape for name, part in sums(study, *sample(study, 0, 4)).items()}
    shapes |= {name: (16,) for name in ("positives", "negatives") if name in shapes}
    drawn: Sums = {
        name: data.draw(arrays(np.float64, shape, elements=noisy))
        for name, shape in shapes.items()
        if data.draw(st.booleans())
    }
    if ("positives" in drawn) != ("negatives" in drawn):
        drawn = {name: part for name, part in drawn.items() if name not in ("positives", "negatives")}
    found = summarise(study, drawn)
    assert set(found) == set(metric_names(study))
    for name, value in found.items():
        if value is None:
            continue
        assert np.isfinite(value), name
        if name == "r2":
            assert value <= 1
        elif name in ("loss", "mse", "rmse", "mae"):
            assert value >= 0
        else:
            assert 0 <= value <= 1, name


def test_only_what_was_released_is_summarised() -> None:
    part = sums(BINARY, *sample(BINARY, 0))
    found = summarise(BINARY, {"confusion": part["confusion"]})
    assert found["accuracy"] is not None
    assert {name for name, value in found.items() if value is None} == {"loss", "auc", "brier"}
    assert set(summarise(BINARY, {}).values()) == {None}


def test_an_error_below_zero_counts_as_none() -> None:
    found = summarise(NUMBERS, {"moments": np.array([-5.0, -1.0, 0.0, 100.0, 10.0])})
    assert found == {"loss": None, "mse": 0.0, "rmse": 0.0, "mae": 0.0, "r2": 1.0}
