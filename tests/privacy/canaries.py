"""Small studies whose trainer is audited: plans, records, a network."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from vestry_privacy.plan import PrivacyPlan, Unit

PERSONS, COLUMNS = 60, 5


SIGMA = {
    (1.0, 1.0, 15): 14.449,
    (3.0, 1.0, 15): 5.3861,
    (8.0, 1.0, 15): 2.3249,
    (1.0, 0.2, 40): 4.9729,
    (3.0, 0.2, 40): 2.0555,
    (8.0, 0.2, 40): 1.0767,
    (3.0, 0.02, 200): 0.8255,
    (3.0, 0.5, 15): 2.9336,
    (3.0, 0.3, 15): 1.9669,
}
"""Epsilon at delta 1e-5, q, T -> noise multiplier, as `vestry noise` prints it."""


def plan_for(epsilon: float, q: float, steps: int, unit: Unit = "record") -> PrivacyPlan:
    """A plan whose steps cost epsilon, with noise that a test can repeat."""
    return PrivacyPlan(
        unit=unit,
        unit_column="patient" if unit == "patient" else None,
        adjacency="zero-out",
        persons=PERSONS,
        delta=1e-5,
        noise_multiplier=SIGMA[epsilon, q, steps],
        sampling_probability=q,
        expected_batch=q * PERSONS,
        steps=steps,
        clip=0.5,
        noise="simulation",
    )


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(COLUMNS, 4), nn.Tanh(), nn.Linear(4, 2))


def losses(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(outputs, targets, reduction="none")


def records(each: int = 1) -> tuple[torch.Tensor, torch.Tensor, NDArray[np.int64]]:
    """Records of 60 persons."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(PERSONS * each, COLUMNS, generator=generator)
    return inputs, (inputs[:, 0] > 0).long(), np.repeat(np.arange(PERSONS), each)
