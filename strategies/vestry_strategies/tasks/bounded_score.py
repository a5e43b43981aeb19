"""Metric sums as vectors of bounded norm, for studies under differential privacy.

Each metric asks for parts; only the parts that the named metrics need are released, since every part adds to
the bound and with it to the noise. A record counts once in each part.
"""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vestry_strategies.bounded import BoundedPart, BoundedSums, stack_parts
from vestry_strategies.schema import Target
from vestry_strategies.sums import Arrays

if TYPE_CHECKING:
    from vestry_strategies.study import StudySpec

__all__ = ["LARGEST_LOSS", "RELEASED_BINS", "bounded_score"]

LARGEST_LOSS = 4.0
"""Losses of one record above this count as this much: a public bound, in nats."""

RELEASED_BINS = 16
"""Bins of a noised score histogram. Each bin has its own noise, so there are fewer than in exact sums."""

_CONFUSION = frozenset(
    {"accuracy", "balanced_accuracy", "sensitivity", "specificity", "precision", "f1", "macro_f1"}
)

_MEANS = frozenset({"loss", "brier"})
"""Need the number of records, if no other part counts them."""


def bounded_score(
    study: "StudySpec",
    preprocessing: Arrays,
    names: tuple[str, ...],
    outputs: NDArray[Any],
    targets: NDArray[Any],
    losses: NDArray[Any],
) -> BoundedSums:
    """What some metrics need, of each record.

    Args:
        study: says the target.
        preprocessing: holds ``target_mean`` and ``target_scale`` for regression.
        names: metrics to be released, at least one.
        outputs: (n, k) outputs of the model.
        targets: (n,) as the model saw them.
        losses: (n,) loss of each record.

    Returns:
        Parts with the names and meanings of the task's exact ``score``.

    Raises:
        ValueError: a regression target without a range.

    Guarantees:
        Each record's vector has an L2 norm of at most the bound, whatever outputs and losses are.
    """
    target, wanted = study.task.target, set(names)
    outputs = np.nan_to_num(outputs.astype(np.float64), nan=0.0, posinf=1e6, neginf=-1e6)
    parts: dict[str, BoundedPart] = {}
    if target.type != "regression":
        parts.update(_classes(target, wanted, outputs, targets))
    elif wanted != {"loss"}:
        parts["moments"] = _moments(target, preprocessing, outputs[:, 0], targets)
    if "loss" in wanted:
        cut = np.clip(np.nan_to_num(losses.astype(np.float64), nan=LARGEST_LOSS), 0.0, LARGEST_LOSS)
        parts["loss"] = BoundedPart(cut[:, None] / LARGEST_LOSS, 1.0, LARGEST_LOSS)
    if wanted & _MEANS and not {"moments", "confusion"} & parts.keys():
        parts["examples"] = BoundedPart(np.ones((len(targets), 1)), 1.0)
    return stack_parts(parts)


def _classes(
    target: Target, names: set[str], outputs: NDArray[np.float64], targets: NDArray[Any]
) -> dict[str, BoundedPart]:
    parts: dict[str, BoundedPart] = {}
    k = 2 if target.type == "binary" else outputs.shape[1]
    predicted = (outputs[:, 0] > 0).astype(np.int64) if target.type == "binary" else outputs.argmax(axis=1)
    if names & _CONFUSION:
        cells = _one_hot(targets.astype(np.int64) * k + predicted, k * k)
        parts["confusion"] = BoundedPart(cells.reshape(-1, k, k), 1.0)
    if target.type != "binary":
        return parts
    scores = 1.0 / (1.0 + np.exp(-np.clip(outputs[:, 0], -700, 700)))
    if "auc" in names:
        bins = np.minimum((scores * RELEASED_BINS).astype(np.int64), RELEASED_BINS - 1)
        hot = _one_hot(bins, RELEASED_BINS)
        positive = (targets == 1)[:, None]
        # A record is in one of the two histograms, so both together have norm 1.
        parts["positives"] = BoundedPart(hot * positive, 1.0)
        parts["negatives"] = BoundedPart(hot * ~positive, 0.0)
    if "brier" in names:
        parts["squared_error"] = BoundedPart(((scores - targets) ** 2)[:, None], 1.0)
    return parts


def _one_hot(numbers: NDArray[np.int64], size: int) -> NDArray[np.float64]:
    hot: NDArray[np.float64] = (numbers[:, None] == np.arange(size)).astype(np.float64)
    return hot


def _moments(
    target: Target, preprocessing: Arrays, outputs: NDArray[np.float64], targets: NDArray[Any]
) -> BoundedPart:
    """Squared and absolute error, target and its square about the middle of the range, and 1."""
    if target.range is None:
        raise ValueError("target.range=None: a regression target needs a public range to be bounded")
    low, high = target.range
    half, scale = (high - low) / 2, float(preprocessing["target_scale"][0])
    error = np.clip((outputs - targets) * scale / (2 * half), -1.0, 1.0)
    values = targets.astype(np.float64) * scale + float(preprocessing["target_mean"][0])
    place = np.clip((values - (low + half)) / half, -1.0, 1.0)
    columns = [error**2, np.abs(error), place, place**2, np.ones(len(targets))]
    units = np.array([4 * half**2, 2 * half, half, half**2, 1.0])
    return BoundedPart(np.stack(columns, axis=1), math.sqrt(len(columns)), units)
