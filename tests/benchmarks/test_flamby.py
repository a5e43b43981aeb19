"""FLamby's patients, split and starting weights, and the published figures in agreement with each other."""

from statistics import fmean

import numpy as np
import pytest

from benchmarks.flamby import (
    HOSPITALS,
    PUBLISHED,
    SEEDS,
    STRATEGIES,
    flamby_rows,
    flamby_sites,
    flamby_study,
    flamby_weights,
)
from vestry_strategies.rows import Table
from vestry_strategies.strategies import STRATEGIES as KNOWN
from vestry_strategies.tasks.tabular import TABULAR, design_columns

SPLIT = {
    "cleveland": (199, 104),
    "hungary": (172, 89),
    "switzerland": (30, 16),
    "long-beach": (85, 45),
}
"""Training and test patients of each hospital (flamby/datasets/fed_heart_disease/README.md of FLamby)."""


@pytest.fixture(scope="module")
def rows() -> Table:
    return flamby_rows(flamby_study())


def test_split_is_the_published_one(rows: Table) -> None:
    assert len(rows) == 740
    site, split = rows.column("site"), rows.column("split")
    found = {
        name: tuple(int(((site == name) & (split == part)).sum()) for part in ("train", "test"))
        for name in HOSPITALS
    }
    assert found == SPLIT


def test_sites_hold_each_patient_once(rows: Table) -> None:
    sites = {site.name: len(site.rows) for site in flamby_sites(flamby_study())}
    assert sites == {name: sum(parts) for name, parts in SPLIT.items()}


def test_design_has_the_thirteen_columns_of_the_published_model(rows: Table) -> None:
    study = flamby_study()
    assert study.task.kind == "tabular"
    columns = design_columns(study.task)
    assert len(columns) == 13
    assert columns[:8] == ["age", "sex=Male", "trestbps", "chol", "fbs", "thalach", "exang", "oldpeak"]
    assert TABULAR.features.design(study, rows).inputs.shape == (740, 13)


def test_weights_are_the_first_draw_of_a_linear_layer() -> None:
    import torch

    torch.manual_seed(42)
    layer = torch.nn.Linear(13, 1)
    weights = flamby_weights(42)
    assert weights.dtype == np.float32
    assert weights.tolist() == [*layer.weight.detach().ravel().tolist(), layer.bias.item()]


def test_weights_leave_torchs_generator_alone() -> None:
    import torch

    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    flamby_weights(42)
    assert torch.equal(torch.rand(3), expected)


def test_published_figures_are_complete_and_have_the_published_mean() -> None:
    assert tuple(PUBLISHED) == SEEDS
    mean = fmean(fmean(values) for values in PUBLISHED.values())
    assert mean == pytest.approx(0.685, abs=5e-4)
    assert STRATEGIES["fedavg"].accuracy == pytest.approx(mean, abs=1e-4)


def test_published_accuracies_are_counts_of_patients() -> None:
    for values in PUBLISHED.values():
        for name, value in zip(HOSPITALS, values, strict=True):
            right = value * SPLIT[name][1]
            assert right == pytest.approx(round(right), abs=0.01)


def test_strategies_have_only_parameters_that_exist() -> None:
    assert set(STRATEGIES) == {"fedavg", "fedprox", "fedavgm", "fedadagrad", "fedadam", "fedyogi"}
    for name, published in STRATEGIES.items():
        assert set(published.parameters) <= set(KNOWN[name].parameters)
