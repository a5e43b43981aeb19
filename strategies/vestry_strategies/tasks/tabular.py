"""Tabular data: contract check, one-hot columns, imputation and standardisation by `columns.py`.

By default round 0 makes one standardiser for all sites: per-site scaling would throw away how the sites
differ in prevalence.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vestry_strategies.catalogue import LOWER_IS_BETTER
from vestry_strategies.rows import ContractViolation, Rows, Table, read_table
from vestry_strategies.schema import (
    BooleanFeature,
    CategoryFeature,
    NumberFeature,
    TabularTask,
)
from vestry_strategies.sums import Arrays
from vestry_strategies.task import Design, Examples, Features, Task
from vestry_strategies.tasks.bounded_score import bounded_score
from vestry_strategies.tasks.columns import (
    bounded_statistics,
    columns,
    fit_exact,
    fit_released,
    statistics,
)
from vestry_strategies.tasks.models import build_model
from vestry_strategies.tasks.targets import (
    match_labels,
    metric_names,
    primary_metric,
    read_targets,
    score,
    summarise,
    target_losses,
)

if TYPE_CHECKING:
    from vestry_strategies.study import StudySpec

__all__ = ["TABULAR", "design_columns", "tabular_features"]

_YES, _NO = frozenset({"1", "1.0", "true", "yes"}), frozenset({"0", "0.0", "false", "no"})


def _task(study: "StudySpec") -> TabularTask:
    if not isinstance(study.task, TabularTask):
        raise TypeError(f"task.kind={study.task.kind} is not tabular")
    return study.task


def design_columns(task: TabularTask) -> list[str]:
    """Names of the model's input columns, in order."""
    return [column.name for column in columns(task)]


def _read(study: "StudySpec", path: Path) -> Rows:
    return read_table(path, _task(study).delimiter)


def _column(rows: Rows, name: str) -> NDArray[np.str_]:
    return _table(rows).column(name)


def _table(rows: Rows) -> Table:
    if not isinstance(rows, Table):
        raise TypeError(f"rows={type(rows).__name__} must be a Table")
    return rows


def _design(study: "StudySpec", rows: Rows) -> Design:
    task, table = _task(study), _table(rows)
    kept = np.arange(len(table), dtype=np.int64)
    for feature in task.features:
        if feature.missing == "drop-row":
            column = table.column(feature.name)
            codes = feature.missing_codes if isinstance(feature, NumberFeature) else ()
            kept = kept[~_missing(column[kept], codes)]
    table = table.take(kept)
    parts = [np.zeros((len(kept), 0))]
    for feature in task.features:
        column = table.column(feature.name)
        if isinstance(feature, NumberFeature):
            parts.append(_numbers(feature, column))
        elif isinstance(feature, BooleanFeature):
            parts.append(_booleans(feature, column))
        else:
            parts.append(_categories(task, feature, column))
    targets = read_targets(task.target, table.column(task.target.name))
    return Design(np.concatenate(parts, axis=1), targets, kept)


def _missing(column: NDArray[np.str_], codes: tuple[float, ...]) -> NDArray[np.bool_]:
    missing: NDArray[np.bool_] = column == ""
    if codes:
        declared = [repr(int(code)) if code.is_integer() else repr(code) for code in codes]
        missing = missing | (match_labels(column, tuple(declared)) >= 0)
    return missing


def _refuse_missing(name: str, rule: str, missing: NDArray[np.bool_]) -> None:
    if rule == "refuse" and missing.any():
        raise ContractViolation(name, "present (missing = 'refuse')", int(missing.sum()))


def _with_indicator(rule: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    if rule != "mean":
        return values[:, None]
    return np.stack([values, np.isnan(values).astype(np.float64)], axis=1)


def _numbers(feature: NumberFeature, column: NDArray[np.str_]) -> NDArray[np.float64]:
    missing = _missing(column, feature.missing_codes)
    _refuse_missing(feature.name, feature.missing, missing)
    values = np.full(len(column), np.nan)
    try:
        values[~missing] = column[~missing].astype(np.float64)
    except ValueError:  # numpy's message would quote a patient's value
        wrong = sum(not _is_number(text) for text in column[~missing])
        raise ContractViolation(feature.name, "a number", wrong) from None
    wrong = int((~np.isfinite(values[~missing])).sum())
    if wrong:
        raise ContractViolation(feature.name, "a finite number", wrong)
    if feature.range is not None:
        low, high = feature.range
        wrong = int(((values < low) | (values > high)).sum())
        if wrong:
            raise ContractViolation(feature.name, f"in the range [{low:g}, {high:g}]", wrong)
    return _with_indicator(feature.missing, values)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _booleans(feature: BooleanFeature, column: NDArray[np.str_]) -> NDArray[np.float64]:
    missing = _missing(column, ())
    _refuse_missing(feature.name, feature.missing, missing)
    lower = np.char.lower(column)
    yes, no = np.isin(lower, sorted(_YES)), np.isin(lower, sorted(_NO))
    wrong = int((~(yes | no | missing)).sum())
    if wrong:
        raise ContractViolation(feature.name, "one of 0, 1, true, false, yes, no", wrong)
    return _with_indicator(feature.missing, np.where(missing, np.nan, yes.astype(np.float64)))


def _categories(task: TabularTask, feature: CategoryFeature, column: NDArray[np.str_]) -> NDArray[np.float64]:
    missing = _missing(column, ())
    _refuse_missing(feature.name, feature.missing, missing)
    numbers = match_labels(column, feature.categories)
    wrong = int(((numbers < 0) & ~missing).sum())
    if wrong:
        rule = f"one of the categories {list(feature.categories)}"
        raise ContractViolation(feature.name, rule, wrong)
    first = 1 if task.drop_first else 0
    onehot: NDArray[np.bool_] = numbers[:, None] == np.arange(first, len(feature.categories))
    if feature.missing == "category":
        onehot = np.concatenate([onehot, missing[:, None]], axis=1)
    return onehot.astype(np.float64)


def _encode(study: "StudySpec", preprocessing: Arrays, design: Design) -> Examples:
    mean, scale = preprocessing["mean"], preprocessing["scale"]
    inputs = np.where(np.isnan(design.inputs), mean, design.inputs)
    targets = design.targets
    if _task(study).target.type == "regression":
        centred = targets - preprocessing["target_mean"][0]
        targets = (centred / preprocessing["target_scale"][0]).astype(np.float32)
    return Examples(((inputs - mean) / scale).astype(np.float32), targets)


def _blank(study: "StudySpec") -> Design:
    task = _task(study)
    kind = np.float64 if task.target.type == "regression" else np.int64
    none = np.zeros(0, dtype=np.int64)
    return Design(np.zeros((0, len(columns(task)))), none.astype(kind), none)


tabular_features = Features(
    read=_read,
    column=_column,
    design=_design,
    statistics=lambda study, design: statistics(_task(study), design),
    fit=lambda study, sums: fit_exact(_task(study), sums),
    encode=_encode,
    bounded_statistics=lambda study, design: bounded_statistics(_task(study), design),
    fit_released=lambda study, sums: fit_released(_task(study), sums),
    blank=_blank,
)
"""From a delimited file to examples; plug-in tasks may reuse it."""

TABULAR = Task(
    name="tabular",
    features=tabular_features,
    build_model=lambda study: build_model(study, (len(design_columns(_task(study))),)),
    losses=target_losses,
    score=score,
    summarise=summarise,
    metrics=metric_names,
    primary=primary_metric,
    lower_is_better=LOWER_IS_BETTER,
    bounded_score=bounded_score,
)
"""Rows of a delimited file."""
