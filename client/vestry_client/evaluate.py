"""Evaluation at the site: metric sums of a model over the held-out rows, nothing of any one row."""

import numpy as np
import torch

from vestry_strategies.parameters import FlatModel, Vector
from vestry_strategies.study import StudySpec
from vestry_strategies.sums import Arrays, Sums
from vestry_strategies.task import Examples, Task

__all__ = ["evaluate_locally"]

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
    return task.score(study, preprocessing, np.concatenate(outputs), examples.targets, np.concatenate(losses))
