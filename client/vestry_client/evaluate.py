"""Evaluation at the site: metric sums of a model over the held-out rows, nothing of any one row."""

import numpy as np
import torch

from vestry_privacy.errors import VestryError
from vestry_strategies.bounded import BoundedSums
from vestry_strategies.parameters import FlatModel, Vector
from vestry_strategies.study import StudySpec
from vestry_strategies.sums import Arrays, Sums
from vestry_strategies.task import BoundedScore, Examples, Task

__all__ = ["bounds_of", "evaluate_bounded", "evaluate_locally", "predict"]

_ROWS = 4096


def evaluate_locally(
    study: StudySpec,
    task: Task,
    flat: FlatModel,
    examples: Examples,
    model: Vector,
    preprocessing: Arrays,
) -> Sums:
    """Metric sums of a model.

    Args:
        study: says the target.
        task: gives loss and score.
        flat: the network to evaluate in; its weights are overwritten.
        examples: held-out examples; may be none.
        model: (d,).
        preprocessing: as it was used for ``examples``.

    Returns:
        What ``task.score`` gives.
    """
    flat.load(model)
    outputs, losses = predict(study, task, flat, examples)
    return task.score(study, preprocessing, outputs, examples.targets, losses)


def evaluate_bounded(
    study: StudySpec,
    task: Task,
    flat: FlatModel,
    examples: Examples,
    model: Vector,
    preprocessing: Arrays,
    names: tuple[str, ...],
) -> BoundedSums:
    """What some metrics need of each held-out example, as vectors of bounded norm.

    Args:
        study: says the target.
        task: gives loss and bounded score.
        flat: the network to evaluate in; its weights are overwritten.
        examples: held-out examples; may be none.
        model: (d,).
        preprocessing: as it was used for ``examples``.
        names: metrics to be released.

    Raises:
        VestryError: the task cannot bound its metrics.
    """
    score = bounds_of(task)
    flat.load(model)
    outputs, losses = predict(study, task, flat, examples)
    with np.errstate(all="ignore"):  # whoever sends extreme arrays gets values that are clipped
        return score(study, preprocessing, names, outputs, examples.targets, losses)


def bounds_of(task: Task) -> BoundedScore:
    """The bounded form of a task's metrics.

    Raises:
        VestryError: it has none.
    """
    if task.bounded_score is None:
        raise VestryError(
            f"privacy.metrics: the task '{task.name}' has no bounded form of its metrics, so none may leave; "
            "leave privacy.metrics empty"
        )
    return task.bounded_score


def predict(
    study: StudySpec, task: Task, flat: FlatModel, examples: Examples
) -> "tuple[np.ndarray, np.ndarray]":
    """Outputs (n, k) and losses (n,) of the network as it is loaded, in evaluation mode."""
    flat.module.eval()
    device = flat.weights.device
    outputs: list[np.ndarray] = [np.zeros((0, study.task.target.outputs), dtype=np.float32)]
    losses: list[np.ndarray] = [np.zeros(0, dtype=np.float32)]
    with torch.no_grad():
        for start in range(0, len(examples), _ROWS):
            inputs = torch.from_numpy(examples.inputs[start : start + _ROWS]).to(device)
            targets = torch.from_numpy(examples.targets[start : start + _ROWS]).to(device)
            out = flat.module(inputs).float()
            outputs.append(out.cpu().numpy())
            losses.append(task.losses(study, out, targets).cpu().numpy())
    return np.concatenate(outputs), np.concatenate(losses)
