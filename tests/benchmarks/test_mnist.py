"""MNIST at five sites: test images are kept apart, and a short run of a small net learns."""

import argparse
from collections import Counter

import numpy as np
import pytest

from benchmarks.federation import accuracy, train, with_training
from benchmarks.mnist import (
    SEEDS,
    STUDY,
    digit_rows,
    local_on_all,
    measure,
    run_seed,
    training_rows,
    tuning_study,
)
from vestry_strategies.recipe import CnnModel
from vestry_strategies.rows import Rows
from vestry_strategies.study import StudySpec, load_study
from vestry_strategies.tasks.image import IMAGE


@pytest.fixture(scope="module")
def rows() -> Rows:
    return digit_rows(load_study(STUDY))


@pytest.fixture(scope="module")
def small() -> StudySpec:
    """A net of eight channels, two rounds of one epoch."""
    model = CnnModel(kind="cnn", channels=(8,), hidden=16, norm="group")
    study = load_study(STUDY).model_copy(update={"model": model})
    return with_training(study, rounds=2, local_epochs=1)


def test_hundred_images_of_each_digit_are_for_the_test(rows: Rows) -> None:
    split, label = IMAGE.features.column(rows, "split"), IMAGE.features.column(rows, "label")
    assert Counter(split.tolist()) == {"train": 4000, "test": 1000}
    assert set(Counter(label[split == "test"].tolist()).values()) == {100}


def test_tuning_sees_no_test_image_and_no_seed_of_the_figure(rows: Rows) -> None:
    left = training_rows(rows)
    assert set(IMAGE.features.column(left, "split").tolist()) == {"train"}
    study = tuning_study(load_study(STUDY))
    assert study.seed not in SEEDS
    assert study.evaluation.holdout.column is None
    assert study.evaluation.holdout.fraction == 0.2


def test_study_has_at_most_ten_rounds() -> None:
    assert load_study(STUDY).training.rounds <= 10


def test_small_net_learns_in_two_rounds(rows: Rows, small: StudySpec) -> None:
    some = rows.take(np.arange(0, len(rows), 5))
    trained = run_seed(small, some, workers=0)
    assert len(trained.by_round) == 2
    assert accuracy(trained.federated.pooled_test) > 0.2


def test_site_alone_is_judged_on_all_test_images(rows: Rows, small: StudySpec) -> None:
    some = rows.take(np.arange(0, len(rows), 5))
    assert 0.1 < local_on_all(small, some) < 0.9


@pytest.mark.slow
def test_report_reaches_its_target() -> None:
    report = measure(argparse.Namespace(workers=2, tune=False, baselines=False))
    assert report.reached, report.figures
    assert [len(sheet.rows) for sheet in report.sheets] == [1, 10]
    assert all(len(row) == len(sheet.columns) for sheet in report.sheets for row in sheet.rows)


def test_one_site_is_a_federation_of_one_where_the_study_allows_it(rows: Rows, small: StudySpec) -> None:
    from benchmarks.federation import deal

    alone = small.model_copy(update={"aggregation": small.aggregation.model_copy(update={"min_sites": 1})})
    sites = deal(rows, {"only": np.arange(0, len(rows), 10)})
    assert set(train(alone, sites).federated.per_site) == {"only"}
