"""Settings are chosen on rows that no seed tests; features have the bounds that privacy counts on."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
import pytest

from benchmarks.utility import SEEDS, TUNING_SPLITS
from benchmarks.utility_data import PROBLEMS, RANGES, Problem

SIZES = {
    "breast-cancer": (569, 30),
    "digits": (1797, 64),
    "mnist-pixels": (5000, 196),
    "mnist-hog": (5000, 432),
}


@pytest.fixture(scope="module")
def problems() -> Mapping[str, Problem]:
    return {name: load() for name, load in PROBLEMS.items()}


@pytest.fixture(params=list(PROBLEMS))
def problem(request: pytest.FixtureRequest, problems: Mapping[str, Problem]) -> Problem:
    return problems[request.param]


def test_tested_row_was_never_tuned_on(problem: Problem) -> None:
    for half, tuning in enumerate(problem.tuning):
        for seed in range(SEEDS + 1):
            assert not tuning[problem.split(half, seed).judged].any()


def test_tuning_stays_in_its_rows_and_holds_a_fifth_out(problem: Problem) -> None:
    for half, tuning in enumerate(problem.tuning):
        splits = problem.tuning_splits(half, TUNING_SPLITS[problem.name])
        assert len({tuple(split.judged.tolist()) for split in splits}) == len(splits)
        for split in splits:
            rows = np.concatenate([split.train, split.judged])
            assert sorted(rows.tolist()) == np.flatnonzero(tuning).tolist()
            assert len(split.judged) == pytest.approx(0.2 * len(rows), abs=5)


def test_halves_are_everybody_once_and_mnist_has_one_part(problem: Problem) -> None:
    times = np.sum(problem.tuning, axis=0)
    if problem.test is None:
        assert (times == 1).all()
        assert len(problem.tuning) == 2
    else:
        np.testing.assert_array_equal(times, ~problem.test)
        assert problem.test.sum() == 1000


def test_seed_tests_a_fifth_of_every_class_and_trains_on_the_rest(problem: Problem) -> None:
    everybody = Counter(problem.labels.tolist())
    assert set(everybody) == set(range(problem.classes))
    for half, seed in ((0, 1), (len(problem.tuning) - 1, 2)):
        split = problem.split(half, seed)
        assert sorted(np.concatenate([split.train, split.judged]).tolist()) == list(
            range(len(problem.labels))
        )
        tested = Counter(problem.labels[split.judged].tolist())
        assert all(tested[label] == pytest.approx(0.2 * everybody[label], abs=1.5) for label in everybody)


def test_seeds_draw_other_rows_but_at_mnist(problem: Problem) -> None:
    same = np.array_equal(problem.split(0, 1).judged, problem.split(0, 2).judged)
    assert same == problem.name.startswith("mnist")
    np.testing.assert_array_equal(problem.split(0, 1).judged, problem.split(0, 1).judged)


def test_sizes(problem: Problem) -> None:
    assert problem.inputs.shape == SIZES[problem.name]
    assert problem.labels.shape == (len(problem.inputs),)
    assert np.isfinite(problem.inputs).all()


def test_measurements_lie_in_their_declared_ranges(problems: Mapping[str, Problem]) -> None:
    assert RANGES.shape == (30, 2)
    assert (RANGES[:, 0] < RANGES[:, 1]).all()
    assert np.abs(problems["breast-cancer"].inputs).max() == 1.0
    assert problems["breast-cancer"].unit == "patient"
    assert problems["breast-cancer"].centre


def test_images_have_norm_1_and_no_statistic_of_others(problems: Mapping[str, Problem]) -> None:
    for name in ("digits", "mnist-pixels", "mnist-hog"):
        problem = problems[name]
        np.testing.assert_allclose(np.linalg.norm(problem.inputs, axis=1), 1.0)
        assert not problem.centre
        assert not problem.bias
        assert problem.unit == "record"


def test_declared_range_maps_to_minus_1_and_1() -> None:
    from sklearn.datasets import load_breast_cancer

    values, _ = load_breast_cancer(return_X_y=True)
    found = PROBLEMS["breast-cancer"]().inputs
    row = int(np.argmin(np.abs(values[:, 0] - 17.5)))
    assert found[row, 0] == pytest.approx((values[row, 0] - 17.5) / 12.5)
    cut = values[:, 13] > 500
    assert cut.any()
    assert (found[cut, 13] == 1.0).all()
