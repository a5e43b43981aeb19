"""Targets: reading labels, the loss of each example, metric sums and the metrics made of them."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vestry_strategies.catalogue import METRICS, PRIMARY
from vestry_strategies.rows import ContractViolation
from vestry_strategies.schema import Target
from vestry_strategies.sums import Arrays, Sums
from vestry_strategies.task import Metrics

if TYPE_CHECKING:
    import torch

    from vestry_strategies.study import StudySpec

__all__ = [
    "SCORE_BINS",
    "canonical_labels",
    "match_labels",
    "metric_names",
    "primary_metric",
    "read_targets",
    "score",
    "summarise",
    "target_losses",
]

SCORE_BINS = 1024
"""Bins of the score histogram. Pairs of one bin count half, so the AUC is off by at most half the
share of (positive, negative) pairs that fall into one bin."""


def canonical_labels(values: NDArray[np.str_]) -> list[str]:
    """Write labels one way, so that ``1``, ``1.0`` and ``01`` are the same; text stays as it is."""
    labels: list[str] = []
    for value in values:
        try:
            number = float(value)
        except ValueError:
            labels.append(str(value))
            continue
        labels.append(repr(int(number)) if number.is_integer() else repr(number))
    return labels


def match_labels(values: NDArray[np.str_], labels: tuple[str, ...]) -> NDArray[np.int64]:
    """Number each value by its place in ``labels``; -1 where it is none of them. Shape (n,)."""
    order = {label: i for i, label in enumerate(canonical_labels(np.array(labels)))}
    seen, inverse = np.unique(values, return_inverse=True)
    numbers = np.array([order.get(label, -1) for label in canonical_labels(seen)], dtype=np.int64)
    return numbers[inverse] if len(values) else np.zeros(0, dtype=np.int64)


def read_targets(target: Target, values: NDArray[np.str_]) -> NDArray[Any]:
    """Read the target column.

    Returns:
        (n,) int64 class numbers, or float64 for regression.

    Raises:
        ContractViolation: a value is empty, no number, out of range, or no declared class.
    """
    if target.type != "regression":
        numbers = match_labels(values, target.classes or ())
        wrong = int((numbers < 0).sum())
        if wrong:
            rule = f"one of the classes {list(target.classes or ())}"
            raise ContractViolation(target.name, rule, wrong)
        return numbers
    floats = np.array([_number(value) for value in values], dtype=np.float64)
    wrong = int((~np.isfinite(floats)).sum())
    if wrong:
        raise ContractViolation(target.name, "a finite number", wrong)
    if target.range is not None:
        wrong = int(((floats < target.range[0]) | (floats > target.range[1])).sum())
        if wrong:
            raise ContractViolation(target.name, f"in the range {list(target.range)}", wrong)
    return floats


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return float("nan")


def target_losses(study: "StudySpec", outputs: "torch.Tensor", targets: "torch.Tensor") -> "torch.Tensor":
    """The loss of each example.

    Args:
        study: says the target.
        outputs: (n, k) logits, or (n, 1) standardised predictions.
        targets: (n,) class numbers or standardised values.

    Returns:
        (n,): logistic loss, cross-entropy or squared error, times the class's public weight.
    """
    import torch
    from torch.nn import functional

    target = study.task.target
    if target.type == "regression":
        return (outputs[:, 0] - targets) ** 2
    if target.type == "binary":
        losses = functional.binary_cross_entropy_with_logits(
            outputs[:, 0], targets.to(outputs.dtype), reduction="none"
        )
    else:
        losses = functional.cross_entropy(outputs, targets, reduction="none")
    if target.class_weights is not None:
        weights = torch.tensor(target.class_weights, dtype=losses.dtype, device=losses.device)
        losses = losses * weights[targets]
    return losses


def metric_names(study: "StudySpec") -> tuple[str, ...]:
    """Every metric of the study's target."""
    return METRICS[study.task.target.type]


def primary_metric(study: "StudySpec") -> str:
    """The metric that decides the best round."""
    return study.evaluation.primary or PRIMARY[study.task.target.type]


def score(
    study: "StudySpec",
    preprocessing: Arrays,
    outputs: NDArray[Any],
    targets: NDArray[Any],
    losses: NDArray[Any],
) -> Sums:
    """Metric sums of some examples.

    Args:
        study: says the target.
        preprocessing: holds ``target_mean`` and ``target_scale`` for regression.
        outputs: (n, k) outputs of the model.
        targets: (n,) as the model saw them.
        losses: (n,) loss of each example.

    Returns:
        ``examples`` and ``loss`` (shape (1,)), and by type: ``confusion`` (k, k) with true classes in
        rows; ``positives`` and ``negatives`` (SCORE_BINS,) and ``squared_error`` (1,); or ``moments``
        (5,): squared error, absolute error, target, target squared, examples, in original units.
    """
    outputs = outputs.astype(np.float64)
    sums: Sums = {
        "examples": np.array([float(len(targets))]),
        "loss": np.array([losses.astype(np.float64).sum()]),
    }
    kind = study.task.target.type
    if kind == "regression":
        scale = float(preprocessing["target_scale"][0])
        mean = float(preprocessing["target_mean"][0])
        error = (outputs[:, 0] - targets) * scale
        values = targets.astype(np.float64) * scale + mean
        sums["moments"] = np.array(
            [(error**2).sum(), np.abs(error).sum(), values.sum(), (values**2).sum(), len(values)]
        )
        return sums
    if kind == "multiclass":
        sums["confusion"] = _confusion(targets, outputs.argmax(axis=1), outputs.shape[1])
        return sums
    scores = 1.0 / (1.0 + np.exp(-np.clip(outputs[:, 0], -700, 700)))
    positive = targets == 1
    bins = np.minimum((scores * SCORE_BINS).astype(np.int64), SCORE_BINS - 1)
    sums["confusion"] = _confusion(targets, (outputs[:, 0] > 0).astype(np.int64), 2)
    sums["positives"] = np.bincount(bins[positive], minlength=SCORE_BINS).astype(np.float64)
    sums["negatives"] = np.bincount(bins[~positive], minlength=SCORE_BINS).astype(np.float64)
    sums["squared_error"] = np.array([((scores - targets) ** 2).sum()])
    return sums


def _confusion(targets: NDArray[Any], predicted: NDArray[Any], k: int) -> NDArray[np.float64]:
    cells = np.bincount(targets.astype(np.int64) * k + predicted, minlength=k * k)
    return cells.reshape(k, k).astype(np.float64)


def summarise(study: "StudySpec", sums: Arrays) -> Metrics:
    """Metrics made of metric sums, over one site or over all.

    Args:
        study: says the target.
        sums: exact, or noised; noised ones may lack parts, and counts in them may be negative.

    Returns:
        Every metric of the target's type; None where it is not defined (no examples, one class) or not
        among the sums. A share is kept inside [0, 1], where noise may have pushed it out.
    """
    kind = study.task.target.type
    metrics: Metrics = {}
    examples = _examples(sums)
    if "loss" in sums:
        metrics["loss"] = _ratio(max(float(sums["loss"][0]), 0.0), examples)
    if "moments" in sums:
        metrics.update(_regression(sums["moments"]))
    if "confusion" in sums:
        confusion = np.maximum(sums["confusion"], 0.0)
        metrics.update(_multiclass(confusion) if kind == "multiclass" else _binary(confusion))
    if "positives" in sums:
        metrics["auc"] = _auc(sums["positives"], sums["negatives"])
    if "squared_error" in sums:
        metrics["brier"] = _share(float(sums["squared_error"][0]), examples)
    return {name: metrics.get(name) for name in METRICS[kind]}


def _examples(sums: Arrays) -> float:
    """How many examples the sums are over: counted, or as another part counts them."""
    if "examples" in sums:
        return float(sums["examples"][0])
    if "moments" in sums:
        return float(sums["moments"][4])
    return float(sums["confusion"].sum()) if "confusion" in sums else 0.0


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None


def _share(part: float, whole: float) -> float | None:
    ratio = _ratio(part, whole)
    return None if ratio is None else min(1.0, max(0.0, ratio))


def _regression(moments: NDArray[np.float64]) -> Metrics:
    squared, absolute, total, total_squared, n = (float(value) for value in moments)
    mse = _ratio(max(squared, 0.0), n)
    spread = total_squared - total * total / n if n > 0 else 0.0
    return {
        "mse": mse,
        "rmse": None if mse is None else mse**0.5,
        "mae": _ratio(max(absolute, 0.0), n),
        "r2": 1.0 - max(squared, 0.0) / spread if spread > 0 else None,
    }


def _multiclass(confusion: NDArray[np.float64]) -> Metrics:
    correct, true, predicted = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    there = true > 0
    recalls = correct[there] / true[there]
    f1 = 2 * correct[there] / (true[there] + predicted[there])
    return {
        "accuracy": _ratio(float(correct.sum()), float(confusion.sum())),
        "balanced_accuracy": float(recalls.mean()) if there.any() else None,
        "macro_f1": float(f1.mean()) if there.any() else None,
    }


def _binary(confusion: NDArray[np.float64]) -> Metrics:
    (tn, fp), (fn, tp) = confusion.tolist()
    sensitivity, specificity = _ratio(tp, tp + fn), _ratio(tn, tn + fp)
    both = sensitivity is not None and specificity is not None
    return {
        "accuracy": _ratio(tp + tn, tp + tn + fp + fn),
        "balanced_accuracy": ((sensitivity or 0) + (specificity or 0)) / 2 if both else None,
        "sensitivity": sensitivity,
        "specificity": specificity,
        "precision": _ratio(tp, tp + fp),
        "f1": _ratio(2 * tp, 2 * tp + fp + fn),
    }


def _auc(positives: NDArray[np.float64], negatives: NDArray[np.float64]) -> float | None:
    """Area under the ROC curve as the Mann-Whitney statistic over the histogram's bins.

    Noised counts are not cut at 0: the numerator is linear in each, so their errors cancel over the bins.
    """
    true, false = float(positives.sum()), float(negatives.sum())
    if not (true > 0 and false > 0):
        return None
    below = np.cumsum(negatives) - negatives
    return _share(float((positives * (below + negatives / 2)).sum()), true * false)
