"""The design columns of a table, and three ways to standardise them: exact sums, noised sums, declared.

Exact sums: count, sum and sum of squares of every column over the sites, values of a declared range counted
from its middle. Noised sums, under differential privacy: each number scaled by its range to z in [-1, 1],
then sums of z and z squared, counts where values may be missing, one Gaussian over all of them. Declared:
constants of the study, which read no data and cost no privacy.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vestry_strategies.bounded import BoundedPart, BoundedSums, stack_parts
from vestry_strategies.schema import CategoryFeature, NumberFeature, TabularTask, Target
from vestry_strategies.sums import Arrays, Sums
from vestry_strategies.task import Design

__all__ = [
    "Column",
    "bounded_statistics",
    "centres",
    "columns",
    "fit_declared",
    "fit_exact",
    "fit_released",
    "shown_categories",
    "statistics",
]

_LEAST_DEVIATION = 0.05
"""Of a number, in half widths of its range; noise can make a variance as small as it likes."""

_LEAST_SHARE_DEVIATION = 0.1
"""Of a column of 0 and 1."""


@dataclass(frozen=True)
class Column:
    """One input of the model.

    Attributes:
        name: ``age``, ``sex=Male`` or ``age:missing``.
        kind: of its values; an indicator is 1 where the column before it is missing.
        range: declared [lowest, highest] of a number.
        typical: declared [mean, deviation] of a number.
        counted: its values may be missing and are imputed by the mean.
    """

    name: str
    kind: Literal["number", "boolean", "category", "indicator"]
    range: tuple[float, float] | None = None
    typical: tuple[float, float] | None = None
    counted: bool = False


def shown_categories(task: TabularTask, feature: CategoryFeature) -> list[str]:
    """Categories with a column of their own, in order."""
    shown = list(feature.categories[1:] if task.drop_first else feature.categories)
    return [*shown, ":missing"] if feature.missing == "category" else shown


def columns(task: TabularTask) -> list[Column]:
    """The model's input columns, in order."""
    found: list[Column] = []
    for feature in task.features:
        if isinstance(feature, CategoryFeature):
            shown = shown_categories(task, feature)
            found += [Column(f"{feature.name}={category}", "category") for category in shown]
            continue
        counted = feature.missing == "mean"
        if isinstance(feature, NumberFeature):
            column = Column(feature.name, "number", feature.range, feature.typical, counted)
        else:
            column = Column(feature.name, "boolean", counted=counted)
        found.append(column)
        if counted:
            found.append(Column(f"{feature.name}:missing", "indicator"))
    return found


def centres(task: TabularTask) -> NDArray[np.float64]:
    """What is taken off each column before it is summed: the middle of its declared range.

    Sums of squares of values far from zero lose the variance (years, identifiers); a public centre
    keeps it, and every site knows the same one.
    """
    return np.array([sum(column.range) / 2 if column.range else 0.0 for column in columns(task)])


def statistics(task: TabularTask, design: Design) -> Sums:
    """Exact sums of one site."""
    inputs: NDArray[np.float64] = design.inputs
    present = ~np.isnan(inputs)
    filled = np.where(present, inputs - centres(task), 0.0)
    sums: Sums = {
        "count": present.sum(axis=0).astype(np.float64),
        "sum": filled.sum(axis=0),
        "sum_of_squares": (filled**2).sum(axis=0),
        "examples": np.array([float(len(design))]),
    }
    target = task.target
    if target.type == "regression":
        values = design.targets.astype(np.float64)
        sums["target"] = np.array([len(values), values.sum(), (values**2).sum()])
    else:
        classes = len(target.classes or ())
        sums["classes"] = np.bincount(design.targets, minlength=classes).astype(np.float64)
    return sums


def fit_exact(task: TabularTask, sums: Arrays) -> Arrays:
    """The preprocessing that exact sums give."""
    if task.standardise == "declared":
        return fit_declared(task)
    mean, scale = _moments(sums["count"], sums["sum"], sums["sum_of_squares"])
    mean = mean + centres(task)
    if task.standardise == "none":
        mean, scale = np.zeros_like(mean), np.ones_like(scale)
    fitted = {"mean": mean, "scale": scale}
    if "target" in sums:
        n, total, squares = sums["target"][0:1], sums["target"][1:2], sums["target"][2:3]
        fitted["target_mean"], fitted["target_scale"] = _moments(n, total, squares)
    return fitted


def _moments(
    count: NDArray[np.float64], total: NDArray[np.float64], squares: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation (divisor n - 1), 0 and 1 for a column without spread."""
    mean = total / np.maximum(count, 1.0)
    spread = np.maximum(squares - count * mean**2, 0.0)
    deviation = np.sqrt(spread / np.maximum(count - 1.0, 1.0))
    flat = spread <= 1e-14 * np.maximum(squares, 1e-300)
    return mean, np.where(flat, 1.0, deviation)


def fit_declared(task: TabularTask) -> Arrays:
    """The preprocessing that the study declares; no data are read."""
    mean: list[float] = []
    scale: list[float] = []
    for column in columns(task):
        if column.kind == "number":
            middle, deviation = column.typical or _of_range(column.range)
        else:
            middle, deviation = 0.0, 1.0  # 0 and 1 stay: a 0 adds nothing to a gradient's norm
        mean.append(middle)
        scale.append(deviation)
    if task.standardise == "none":
        mean, scale = [0.0] * len(mean), [1.0] * len(scale)
    fitted = {"mean": np.array(mean), "scale": np.array(scale)}
    if task.target.type == "regression":
        middle, deviation = _of_range(task.target.range)
        fitted["target_mean"], fitted["target_scale"] = np.array([middle]), np.array([deviation])
    return fitted


def _of_range(bounds: tuple[float, float] | None) -> tuple[float, float]:
    """The middle of a range and a quarter of its width; 0 and 1 without a range."""
    return ((bounds[0] + bounds[1]) / 2, (bounds[1] - bounds[0]) / 4) if bounds else (0.0, 1.0)


def _half(bounds: tuple[float, float] | None, name: str) -> tuple[float, float]:
    """Middle and half width of a range that must be there."""
    if bounds is None:
        raise ValueError(f"range of '{name}' is None: noised sums need public bounds")
    return (bounds[0] + bounds[1]) / 2, (bounds[1] - bounds[0]) / 2


def bounded_statistics(task: TabularTask, design: Design) -> BoundedSums:
    """The sums of one site as a vector of bounded norm for each record.

    Returns:
        ``persons`` 1; ``count`` of the columns that may be missing; ``sum`` of all columns but indicators
        (a category's is its count); ``squares`` of the numbers; ``target`` z and z squared for regression.

    Raises:
        ValueError: a number, or a regression target, without a declared range.

    Guarantees:
        Each row's L2 norm is at most the bound: every value lies in [-1, 1], and at most one column of a
        category is 1.
    """
    inputs: NDArray[np.float64] = design.inputs
    every = columns(task)
    z = np.where(np.isnan(inputs), 0.0, inputs)
    for j, column in enumerate(every):
        if column.kind == "number":
            middle, half = _half(column.range, column.name)
            z[:, j] = np.where(np.isnan(inputs[:, j]), 0.0, (inputs[:, j] - middle) / half)
    numbers = _places(every, lambda column: column.kind == "number")
    counted = _places(every, lambda column: column.counted)
    values = _places(every, lambda column: column.kind != "indicator")
    features = [feature for feature in task.features if not isinstance(feature, NumberFeature)]
    parts = {
        "persons": BoundedPart(np.ones((len(design), 1)), 1.0),
        "count": BoundedPart(~np.isnan(inputs[:, counted]), len(counted) ** 0.5),
        "sum": BoundedPart(z[:, values], (len(numbers) + len(features)) ** 0.5),
        "squares": BoundedPart(z[:, numbers] ** 2, len(numbers) ** 0.5),
    }
    if task.target.type == "regression":
        middle, half = _half(task.target.range, task.target.name)
        place = (design.targets.astype(np.float64) - middle) / half
        parts["target"] = BoundedPart(np.stack([place, place**2], axis=1), 2**0.5)
    return stack_parts(parts)


def _places(every: list[Column], wanted: Callable[[Column], bool]) -> list[int]:
    return [j for j, column in enumerate(every) if wanted(column)]


def fit_released(task: TabularTask, sums: Arrays) -> Arrays:
    """The preprocessing that noised sums give.

    Args:
        task: gives the columns and their ranges.
        sums: of :func:`bounded_statistics`, summed over the sites; empty where nothing was released.

    Guarantees:
        Every mean lies in the declared range and every deviation is above a floor, however large the noise.
    """
    if not sums or task.standardise != "shared":
        return fit_declared(task)
    every = columns(task)
    persons = max(float(sums["persons"][0]), 1.0)
    values = _places(every, lambda column: column.kind != "indicator")
    total = dict(zip(values, sums["sum"].tolist(), strict=True))
    numbers = _places(every, lambda column: column.kind == "number")
    squares = dict(zip(numbers, sums["squares"].tolist(), strict=True))
    counted = _places(every, lambda column: column.counted)
    count = dict(zip(counted, sums["count"].tolist(), strict=True))
    mean, scale = np.zeros(len(every)), np.ones(len(every))
    for j, column in enumerate(every):
        there = min(persons, max(count.get(j, persons), 1.0))
        if column.kind == "number":
            mean[j], scale[j] = _released_number(column.range, column.name, there, total[j], squares[j])
            continue
        share = 1 - count[j - 1] / persons if column.kind == "indicator" else total[j] / there
        mean[j] = min(1.0, max(0.0, share))
        scale[j] = max(_LEAST_SHARE_DEVIATION, (mean[j] * (1 - mean[j])) ** 0.5)
    fitted = {"mean": mean, "scale": scale}
    if task.target.type == "regression":
        fitted.update(_released_target(task.target, persons, sums["target"]))
    return fitted


def _released_number(
    bounds: tuple[float, float] | None, name: str, count: float, total: float, squares: float
) -> tuple[float, float]:
    middle, half = _half(bounds, name)
    mean = min(1.0, max(-1.0, total / count))
    variance = min(1.0, squares / count) - mean**2
    return middle + half * mean, half * max(_LEAST_DEVIATION, max(variance, 0.0) ** 0.5)


def _released_target(target: Target, persons: float, sums: NDArray[np.float64]) -> Arrays:
    mean, scale = _released_number(target.range, target.name, persons, float(sums[0]), float(sums[1]))
    return {"target_mean": np.array([mean]), "target_scale": np.array([scale])}
