"""Small networks, losses and batches for tests of gradients, each by hand where torch gives the truth."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from vestry_privacy.clipping import MARGIN
from vestry_privacy.coupling import RecordShape
from vestry_privacy.dpsgd import PrivateSteps, group_units
from vestry_privacy.gradients import Losses, UnitBatch
from vestry_privacy.noise import SecureStream
from vestry_privacy.plan import Mechanism
from vestry_privacy.sampling import PoissonSampler

torch.set_num_threads(1)  # these networks are so small that a second thread only waits for the first

CLASSES = 3


class Tokens(nn.Module):
    """Embedding, norm, mean over positions, head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.norm(self.embed(tokens)).mean(dim=1))
        return logits


class Sequence(nn.Module):
    """Linear over time steps: several positions of one record."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.first = nn.Linear(width, 5)
        self.head = nn.Linear(5, CLASSES)

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(torch.tanh(self.first(steps)).mean(dim=1))
        return logits


def linear() -> nn.Module:
    return nn.Linear(4, CLASSES)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(inplace=True), nn.Linear(8, CLASSES))


def conv() -> nn.Module:
    layers = (nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 8, 3, stride=2), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(8 * 2 * 2, CLASSES))


def group_norm() -> nn.Module:
    layers = (nn.Conv2d(1, 4, 3, padding="same"), nn.GroupNorm(2, 4), nn.Tanh(), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(4 * 5 * 5, CLASSES))


def layer_norm() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, CLASSES))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (linear, (4,)),
    "mlp": (mlp, (4,)),
    "conv": (conv, (1, 5, 5)),
    "sequence": (Sequence, (6, 4)),
    "group norm": (group_norm, (1, 5, 5)),
    "layer norm": (layer_norm, (4,)),
    "tokens": (Tokens, (5,)),
}
"""Name -> how to build it, and the shape of a record; tokens are integers."""

KERNELS = ("linear", "mlp", "conv", "sequence")


def shape_of(name: str) -> RecordShape:
    shape = NETWORKS[name][1]
    return RecordShape(shape, input_type=torch.int64 if name == "tokens" else torch.float32)


def cross_entropy(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(outputs, targets, reduction="none")


def weighted(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """A public constant per class: the weighting that couples nobody."""
    return cross_entropy(outputs, targets) * torch.tensor([1.0, 5.0, 20.0])[targets]


def squared(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return ((outputs - targets[:, None]) ** 2).sum(dim=1)


LOSSES: dict[str, Losses] = {"cross entropy": cross_entropy, "weighted": weighted, "squared": squared}


def records(name: str, count: int, scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Random records from torch's generator: inputs, and class numbers."""
    shape = (count, *NETWORKS[name][1])
    inputs = torch.randint(0, 7, shape) if name == "tokens" else scale * torch.randn(shape)
    return inputs, torch.randint(0, CLASSES, (count,))


def batch_of(inputs: torch.Tensor, targets: torch.Tensor, unit: list[int]) -> UnitBatch:
    return UnitBatch(inputs, targets, torch.tensor(unit, dtype=torch.int64), max(unit, default=-1) + 1)


def own_gradients(module: nn.Module, losses: Losses, batch: UnitBatch) -> torch.Tensor:
    """(U, trainable) float64 mean gradient of each unit, one backward pass of torch for each."""
    trained = [p for p in module.parameters() if p.requires_grad]
    rows = []
    for unit in range(batch.units):
        mine = batch.unit == unit
        loss = losses(module(batch.inputs[mine]), batch.targets[mine]).mean()
        parts = torch.autograd.grad(loss, trained, allow_unused=True, materialize_grads=True)
        rows.append(torch.cat([part.reshape(-1) for part in parts]).double())
    return torch.stack(rows)


def clipped(gradients: torch.Tensor, clip: float) -> torch.Tensor:
    """(U, trainable) the same, clipped as the definition says."""
    norms: torch.Tensor = torch.linalg.vector_norm(gradients, dim=1, keepdim=True)
    return gradients * (clip * (1 - MARGIN) / norms.clamp_min(clip * (1 - MARGIN)))


class Counting(nn.Module):
    """Counts how often the network inside was run."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.runs, self.stop_at = inner, 0, -1

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.runs == self.stop_at:
            raise KeyboardInterrupt
        self.runs += 1
        outputs: torch.Tensor = self.inner(inputs)
        return outputs


def mechanism(
    q: float = 1.0, *, slots: int | None = None, clip: float = 1.0, sigma: float = 1e-6, max_records: int = 16
) -> Mechanism:
    """Noise so small that the clipped sum shows."""
    sampler = PoissonSampler(q)
    return Mechanism(sampler, slots, clip, sigma, 1.0, max_records, SecureStream())


def steps_for(
    module: nn.Module,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    unit: list[int],
    rule: Mechanism,
    physical_batch: int = 512,
) -> PrivateSteps:
    """Steps on these records, after the probe."""
    owners = group_units(np.array(unit, dtype=np.int64))
    return PrivateSteps(module, cross_entropy, rule, inputs, targets, owners, physical_batch, checked=True)
