"""The contract of a task: a small object of functions, no class to inherit from.

A third party adds a task through an entry point in the group ``vestry.tasks`` (docs/tasks.md has a
worked example); most reuse the `features` of the built-in tasks and bring a loss and metrics.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vestry_strategies.bounded import BoundedSums
from vestry_strategies.rows import Indexes, Rows
from vestry_strategies.sums import Arrays, Sums

if TYPE_CHECKING:
    import torch

    from vestry_strategies.study import StudySpec

__all__ = ["BoundedScore", "Design", "Examples", "Features", "Metrics", "Task"]

Metrics = dict[str, float | None]
"""Metric name -> value; None where it is not defined, as AUC with one class."""


@dataclass(frozen=True)
class Design:
    """Rows that keep the contract, as numbers, not yet standardised.

    Attributes:
        inputs: (n, ...) float64 or float32; NaN where a value is missing and will be imputed.
        targets: (n,) int64 class numbers, or float64 for regression.
        kept: (n,) which rows of the file these are.
    """

    inputs: NDArray[Any]
    targets: NDArray[Any]
    kept: Indexes

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, indexes: Indexes) -> "Design":
        """The examples at ``indexes`` (shape (k,))."""
        return Design(self.inputs[indexes], self.targets[indexes], self.kept[indexes])


@dataclass(frozen=True)
class Examples:
    """What the model sees.

    Attributes:
        inputs: (n, ...) float32, finite.
        targets: (n,) int64 class numbers, or float32 (standardised) for regression.
    """

    inputs: NDArray[np.float32]
    targets: NDArray[Any]

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class Features:
    """From a file to examples.

    Attributes:
        read: (study, path) -> rows.
        column: (rows, name) -> text of a column, to split by site or holdout; raises DataFileError.
        design: (study, rows) -> numbers; raises ContractViolation, DataFileError.
        statistics: (study, design) -> this site's part of round 0, sums only.
        fit: (study, summed statistics) -> the preprocessing that all sites share.
        encode: (study, preprocessing, design) -> examples.
        bounded_statistics: (study, design) -> the same as vectors of bounded norm, for studies under
            differential privacy; None where a task has none, and then nothing of round 0 leaves.
        fit_released: (study, summed noised statistics) -> the preprocessing; None as above.
        blank: (study) -> a design with no rows, by which coordinator and sites know the shapes of a secure
            sum before any data are read; None where a task has none, and then it cannot aggregate securely.
    """

    read: Callable[["StudySpec", Path], Rows]
    column: Callable[[Rows, str], NDArray[np.str_]]
    design: Callable[["StudySpec", Rows], Design]
    statistics: Callable[["StudySpec", Design], Sums]
    fit: Callable[["StudySpec", Arrays], Arrays]
    encode: Callable[["StudySpec", Arrays, Design], Examples]
    bounded_statistics: Callable[["StudySpec", Design], BoundedSums] | None = None
    fit_released: Callable[["StudySpec", Arrays], Arrays] | None = None
    blank: Callable[["StudySpec"], Design] | None = None


BoundedScore = Callable[
    ["StudySpec", Arrays, tuple[str, ...], NDArray[Any], NDArray[Any], NDArray[Any]], BoundedSums
]
"""(study, preprocessing, names of metrics, outputs, targets, losses) -> vectors of bounded norm."""


@dataclass(frozen=True)
class Task:
    """What is learned and how it is judged.

    Attributes:
        name: as in the study file.
        features: from a file to examples.
        build_model: (study) -> a torch module; its outputs are logits or standardised values (n, k).
        losses: (study, outputs, targets) -> the loss of each example, shape (n,), each depending on
            its own example only (else no privacy unit can be bounded).
        score: (study, preprocessing, outputs, targets, losses) -> metric sums of these examples.
        summarise: (study, metric sums) -> every metric of the task.
        metrics: names that ``summarise`` returns; the first is reported first.
        primary: (study) -> the metric that decides the best round.
        lower_is_better: metrics of which less is more.
        bounded_score: (study, preprocessing, names of metrics, outputs, targets, losses) -> what these
            metrics need, as vectors of bounded norm, for studies under differential privacy; None where a
            task has none, and then no metric leaves.
    """

    name: str
    features: Features
    build_model: Callable[["StudySpec"], "torch.nn.Module"]
    losses: Callable[["StudySpec", "torch.Tensor", "torch.Tensor"], "torch.Tensor"]
    score: Callable[["StudySpec", Arrays, NDArray[Any], NDArray[Any], NDArray[Any]], Sums]
    summarise: Callable[["StudySpec", Arrays], Metrics]
    metrics: Callable[["StudySpec"], tuple[str, ...]]
    primary: Callable[["StudySpec"], str]
    lower_is_better: frozenset[str]
    bounded_score: BoundedScore | None = None
