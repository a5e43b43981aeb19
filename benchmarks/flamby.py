"""Fed-Heart-Disease of FLamby: its split, its starting weights, and the results that it published.

Ogier du Terrail et al.: FLamby: Datasets and Benchmarks for Cross-Silo Federated Learning in Realistic
Healthcare Settings. NeurIPS 2022, arXiv:2210.04620. Split and model follow the files
flamby/datasets/fed_heart_disease/{dataset,model,common}.py of github.com/owkin/FLamby; the published
accuracies are rows of flamby/results/results_benchmark_fed_heart_disease/heart_seed{42..46}.csv, the
settings of the strategies are in flamby/config_heart_disease.json.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.federation import deal
from vestry_simulations.datasets import heart_data
from vestry_simulations.partition import partition_by_column
from vestry_simulations.worker import VirtualSite
from vestry_strategies.parameters import Vector
from vestry_strategies.rows import Table
from vestry_strategies.study import StudySpec, load_study
from vestry_strategies.tasks.tabular import TABULAR

__all__ = [
    "HOSPITALS",
    "PUBLISHED",
    "SEEDS",
    "STRATEGIES",
    "Published",
    "flamby_rows",
    "flamby_sites",
    "flamby_study",
    "flamby_weights",
]

SEEDS = (42, 43, 44, 45, 46)
"""Of the published runs."""

HOSPITALS = ("cleveland", "hungary", "switzerland", "long-beach")
"""In FLamby's order, client_test_0 to client_test_3."""

PUBLISHED: Mapping[int, tuple[float, ...]] = {
    42: (0.7596, 0.6966, 0.6875, 0.6222),
    43: (0.7212, 0.7416, 0.7500, 0.6667),
    44: (0.7404, 0.7528, 0.5000, 0.5778),
    45: (0.7308, 0.6742, 0.7500, 0.6222),
    46: (0.7019, 0.7303, 0.5625, 0.7111),
}
"""Seed -> accuracy of FedAvg (100 local updates) at each hospital."""


@dataclass(frozen=True)
class Published:
    """A strategy as FLamby configured it, and what it reached.

    Attributes:
        learning_rate: of the sites' SGD.
        parameters: of the strategy, in Vestry's names.
        accuracy: mean of the four hospitals over the five seeds; None where FLamby has no such strategy.
    """

    learning_rate: float
    parameters: Mapping[str, float]
    accuracy: float | None


STRATEGIES: Mapping[str, Published] = {
    "fedavg": Published(0.001, {}, 0.6850),
    "fedprox": Published(0.001, {"mu": 0.01}, 0.6850),
    # FLamby has no FedAvgM: the momentum of its authors (Hsu et al., arXiv:1909.06335), local rate of FedAvg.
    "fedavgm": Published(0.001, {"server_learning_rate": 1.0, "server_momentum": 0.9}, None),
    "fedadagrad": Published(0.003162, {"server_learning_rate": 0.316228, "beta1": 0.9, "tau": 1e-8}, 0.7314),
    "fedadam": Published(
        0.01, {"server_learning_rate": 0.01, "beta1": 0.9, "beta2": 0.999, "tau": 1e-8}, 0.7255
    ),
    "fedyogi": Published(
        0.003162, {"server_learning_rate": 0.01, "beta1": 0.9, "beta2": 0.999, "tau": 1e-8}, 0.7314
    ),
}

_DROPPED = ("slope", "ca", "thal")  # mostly empty outside Cleveland; FLamby leaves them out
_TRAIN, _TEST = 0.66, 1.0 - 0.66


def flamby_study() -> StudySpec:
    """The study file beside this module: FLamby's FedAvg configuration."""
    return load_study(Path(__file__).parent / "studies" / "heart_flamby.toml")


def flamby_rows(study: StudySpec) -> Table:
    """The 740 patients whose record is whole, with a column ``split`` that says train or test.

    The split is FLamby's: at each hospital scikit-learn's, random_state 43, by diagnosis where each class
    has more than two patients (Switzerland has one without disease).
    """
    from sklearn.model_selection import train_test_split

    rows = TABULAR.features.read(study, heart_data())
    if not isinstance(rows, Table):
        raise TypeError(f"rows={type(rows).__name__} must be a Table")
    needed = [column for name, column in rows.columns.items() if name not in _DROPPED]
    rows = rows.take(np.flatnonzero(np.all([column != "" for column in needed], axis=0)))
    split = np.full(len(rows), "train", dtype="<U5")
    for indexes in partition_by_column(rows.column("site"), "site").values():
        labels = rows.column("diagnosis")[indexes]
        _, counts = np.unique(labels, return_counts=True)
        by_class = len(counts) > 1 and counts.min() > 2
        _, test = train_test_split(
            np.arange(len(indexes)),
            train_size=_TRAIN,
            test_size=_TEST,
            random_state=43,
            stratify=labels if by_class else None,
        )
        split[indexes[test]] = "test"
    return Table({**rows.columns, "split": split})


def flamby_sites(study: StudySpec) -> list[VirtualSite]:
    """The four hospitals with FLamby's patients and split."""
    rows = flamby_rows(study)
    return deal(rows, partition_by_column(rows.column("site"), "site"))


def flamby_weights(seed: int) -> Vector:
    """(14,) the weights from which FLamby's run of a seed starts: the first draw of torch's generator."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = torch.nn.Linear(13, 1)
    parts = [layer.weight.detach().numpy().ravel(), layer.bias.detach().numpy()]
    return np.concatenate(parts).astype(np.float32)
