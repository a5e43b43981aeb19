"""Linear models trained through Vestry's mechanism, and the same models without privacy.

The private ones take every step from :class:`~vestry_privacy.dpsgd.PrivateSteps` under one
:class:`~vestry_privacy.plan.PrivacyPlan` with cryptographic noise, zero-out adjacency with the number of
training rows public, and delta 1e-5. The means of the features, where a data set needs them, are a noised sum
of the same plan. Weights start at zero; the learning rate falls linearly to zero, a public schedule.

Symbols: T steps, C clipping norm, q sampling probability, sigma noise multiplier.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from benchmarks.utility_data import Problem, Split
from vestry_privacy.dpsgd import PrivateSteps, group_units
from vestry_privacy.plan import Mechanism, PrivacyPlan, calibrate
from vestry_privacy.release import noised_sum

__all__ = ["DELTA", "Settings", "private_accuracy", "study_plan", "tuning_plan", "without_privacy"]

DELTA = 1e-5
_SPREAD = 3.0
"""What centred measurements in [-1, 1] are multiplied by: a public constant, about one over a deviation."""

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Settings:
    """Public choices of one run.

    Attributes:
        steps: T, each over all rows (q = 1).
        learning_rate: of the first step; it falls linearly to 0.
        clip: C; without privacy nothing is clipped.
        statistics_share: of epsilon that the means may cost on their own, where a data set has them noised.
    """

    steps: int
    learning_rate: float
    clip: float = 0.3
    statistics_share: float = 0.3


def study_plan(problem: Problem, settings: Settings, persons: int, epsilon: float) -> PrivacyPlan:
    """The plan of a whole run: its steps, and the noised means where there are any.

    Args:
        problem: says whom to protect and whether means are needed.
        settings: T and C.
        persons: public number of training rows.
        epsilon: target, by PLD at :data:`DELTA`.
    """
    plan = PrivacyPlan(
        unit=problem.unit,
        unit_column="row" if problem.unit == "patient" else None,
        adjacency="zero-out",
        persons=persons,
        delta=DELTA,
        noise_multiplier=1.0,
        sampling="full_batch",
        sampling_probability=1.0,
        expected_batch=float(persons),
        steps=settings.steps,
        clip=settings.clip,
        max_records=1,
    )
    return calibrate(
        plan,
        target_epsilon=epsilon,
        statistics=int(problem.centre),
        statistics_share=settings.statistics_share,
    )


def tuning_plan(plan: PrivacyPlan, persons: int) -> PrivacyPlan:
    """A plan for fewer rows whose noised means are as noisy as those of the whole; it meets no epsilon.

    Args:
        plan: of the training rows.
        persons: rows of the smaller part.
    """
    part = persons / (plan.persons or persons)
    releases = tuple(
        replace(release, noise_multiplier=release.noise_multiplier * part) for release in plan.releases
    )
    return replace(
        plan,
        persons=persons,
        expected_batch=float(persons),
        noise_multiplier=plan.noise_multiplier * part,
        releases=releases,
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    """The matrices are so small that threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@_one_thread()
def private_accuracy(problem: Problem, split: Split, plan: PrivacyPlan, settings: Settings) -> float:
    """Train under a plan; the accuracy on the rows to be judged."""
    mechanism = plan.mechanism()
    means = _noised_means(problem, split, plan, mechanism) if problem.centre else None
    inputs, targets = _tensors(problem, split.train, means)
    module = _linear(problem)
    steps = PrivateSteps(
        module,
        _losses,
        mechanism,
        inputs,
        targets,
        group_units(np.arange(len(inputs))),
        physical_batch=len(inputs),
    )
    _descend(module, settings, steps.gradient)
    return _accuracy(module, *_tensors(problem, split.judged, means))


@_one_thread()
def without_privacy(problem: Problem, split: Split, settings: Settings) -> float:
    """Train without clipping and noise; the accuracy on the rows to be judged."""
    means = problem.inputs[split.train].mean(axis=0) if problem.centre else None
    inputs, targets = _tensors(problem, split.train, means)
    module = _linear(problem)
    parameters = list(module.parameters())

    def gradient() -> torch.Tensor:
        loss = _losses(module(inputs), targets).mean()
        return torch.cat([part.reshape(-1) for part in torch.autograd.grad(loss, parameters)])

    _descend(module, settings, gradient)
    return _accuracy(module, *_tensors(problem, split.judged, means))


def _noised_means(problem: Problem, split: Split, plan: PrivacyPlan, mechanism: Mechanism) -> Values:
    """(d,) means of measurements in [-1, 1]: one person's row has an L2 norm of at most sqrt(d)."""
    rows = problem.inputs[split.train]
    (release,) = plan.releases
    total = noised_sum(
        rows,
        np.arange(len(rows)),
        float(np.sqrt(rows.shape[1])),
        release.noise_multiplier,
        mechanism.max_records,
        mechanism.source,
    )
    return np.clip(total / mechanism.normaliser, -1.0, 1.0)


def _linear(problem: Problem) -> nn.Linear:
    module = nn.Linear(problem.inputs.shape[1], problem.classes, bias=problem.bias)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    return module


def _losses(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(outputs, targets, reduction="none")


def _tensors(
    problem: Problem, rows: NDArray[np.int64], means: Values | None
) -> tuple[torch.Tensor, torch.Tensor]:
    values = problem.inputs[rows]
    if means is not None:
        values = (values - means) * _SPREAD
    return torch.from_numpy(values.astype(np.float32)), torch.from_numpy(problem.labels[rows])


def _descend(module: nn.Module, settings: Settings, gradient: Callable[[], torch.Tensor]) -> None:
    weights = nn.utils.parameters_to_vector(module.parameters()).detach()
    for step in range(settings.steps):
        rate = settings.learning_rate * (1.0 - step / settings.steps)
        weights = weights - rate * gradient()
        nn.utils.vector_to_parameters(weights, module.parameters())


def _accuracy(module: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> float:
    with torch.no_grad():
        return float((module(inputs).argmax(dim=1) == targets).double().mean())
