"""What a private step costs beside an ordinary one, measured in one run: ours, Opacus with hooks, with ghost.

For each model one batch of 32 records, one a person, on one CPU thread. The methods take turns, so that what
else the machine does meets all of them; the figure is a ratio of medians.

- plain: forward, backward, SGD step;
- ours: :class:`~vestry_privacy.dpsgd.PrivateSteps` as a site uses it, with noise; and the same less the time
  that noise alone takes, so that it does what the others do;
- hooks, ghost: Opacus' private engine in these modes, its optimizer included, at noise multiplier 0.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from vestry_privacy.dpsgd import PrivateSteps, group_units
from vestry_privacy.noise import SecureStream, add_gaussian, gaussian
from vestry_privacy.plan import PrivacyPlan

__all__ = ["MODELS", "NoiseCost", "StepCost", "noise_cost", "step_cost"]

_BATCH = 32
_CLIP, _RATE, _WARM = 1.0, 0.05, 5


@dataclass(frozen=True)
class StepCost:
    """One model.

    Attributes:
        model: its name.
        parameters: how many it has.
        plain_milliseconds: of an ordinary step, on this machine.
        ours_over_plain: ratio of the private step without noise.
        ours_with_noise_over_plain: with noise.
        hooks_over_plain: of Opacus with hooks.
        ghost_over_plain: of Opacus' ghost clipping.
    """

    model: str
    parameters: int
    plain_milliseconds: float
    ours_over_plain: float
    ours_with_noise_over_plain: float
    hooks_over_plain: float
    ghost_over_plain: float

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class NoiseCost:
    """A million values of noise.

    Attributes:
        ours_milliseconds: cryptographic, float64.
        torch_milliseconds: torch.randn, float32.
    """

    ours_milliseconds: float
    torch_milliseconds: float

    @property
    def ours_over_torch(self) -> float:
        """The ratio."""
        return self.ours_milliseconds / self.torch_milliseconds


def _cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.Tanh(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.Tanh(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 7 * 7, 48),
        nn.Tanh(),
        nn.Linear(48, 10),
    )


MODELS: dict[str, Callable[[], nn.Module]] = {
    "cnn": _cnn,
    "mlp": lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10)),
    "logistic regression": lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10)),
}
"""A convolutional net of 80,000 parameters, a perceptron of 102,000, a linear layer of 7,850."""


def step_cost(name: str, repetitions: int = 60, tell: Callable[[], None] = lambda: None) -> StepCost:
    """Measure one model.

    Args:
        name: one of ``MODELS``.
        repetitions: of each method.
        tell: called after each turn of all methods.
    """
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(_BATCH, 1, 28, 28, generator=generator)
    targets = torch.randint(10, (_BATCH,), generator=generator)
    steps = {
        "plain": _plain(MODELS[name](), inputs, targets),
        "ours": _ours(MODELS[name](), inputs, targets),
        "noise": _noise_alone(MODELS[name]()),
        "hooks": _opacus(MODELS[name](), inputs, targets, "hooks"),
        "ghost": _opacus(MODELS[name](), inputs, targets, "ghost"),
    }
    seconds: dict[str, list[float]] = {method: [] for method in steps}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for turn in range(repetitions + _WARM):
            for method, step in steps.items():
                began = time.perf_counter()
                step()
                if turn >= _WARM:
                    seconds[method].append(time.perf_counter() - began)
            tell()
    finally:
        torch.set_num_threads(threads)
    plain = median(seconds["plain"])
    ratio = {method: median(values) / plain for method, values in seconds.items()}
    return StepCost(
        model=name,
        parameters=sum(parameter.numel() for parameter in MODELS[name]().parameters()),
        plain_milliseconds=plain * 1e3,
        ours_over_plain=ratio["ours"] - ratio["noise"],
        ours_with_noise_over_plain=ratio["ours"],
        hooks_over_plain=ratio["hooks"],
        ghost_over_plain=ratio["ghost"],
    )


def _plain(module: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> Callable[[], None]:
    optimizer = torch.optim.SGD(module.parameters(), lr=_RATE)

    def step() -> None:
        optimizer.zero_grad()
        functional.cross_entropy(module(inputs), targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def _ours(module: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> Callable[[], None]:
    plan = PrivacyPlan(
        unit="record",
        adjacency="zero-out",
        delta=1e-5,
        noise_multiplier=1.0,
        sampling="full_batch",
        sampling_probability=1.0,
        expected_batch=_BATCH,
        steps=1,
        clip=_CLIP,
        persons=_BATCH,
    )
    records = group_units(np.arange(_BATCH, dtype=np.int64))
    private = PrivateSteps(module, _losses, plan.mechanism(), inputs, targets, records)
    flat = torch.cat([parameter.detach().reshape(-1) for parameter in module.parameters()])

    def step() -> None:
        flat.sub_(private.gradient(), alpha=_RATE)

    return step


def _noise_alone(module: nn.Module) -> Callable[[], None]:
    total = np.zeros(sum(parameter.numel() for parameter in module.parameters()))
    source = SecureStream()

    def step() -> None:
        add_gaussian(total, _CLIP, 1.0, source, _BATCH)

    return step


def _losses(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(outputs, targets, reduction="none")


def _opacus(module: nn.Module, inputs: torch.Tensor, targets: torch.Tensor, mode: str) -> Callable[[], None]:
    import warnings

    from opacus import PrivacyEngine
    from torch.utils.data import DataLoader, TensorDataset

    # It warns of noise that can be foretold, which is what ours is not, and torch of its hooks.
    warnings.filterwarnings("ignore", message="Secure RNG turned off|Full backward hook is firing")
    criterion: Any = nn.CrossEntropyLoss()
    more = {"criterion": criterion} if mode == "ghost" else {}
    made = PrivacyEngine().make_private(
        module=module,
        optimizer=torch.optim.SGD(module.parameters(), lr=_RATE),
        data_loader=DataLoader(TensorDataset(inputs, targets), batch_size=_BATCH),
        noise_multiplier=0.0,
        max_grad_norm=_CLIP,
        poisson_sampling=False,
        grad_sample_mode=mode,
        **more,
    )
    wrapped, optimizer = made[0], made[1]
    if mode == "ghost":
        criterion = made[2]

    def step() -> None:
        optimizer.zero_grad()
        criterion(wrapped(inputs), targets).backward()
        optimizer.step()

    return step


def noise_cost(values: int = 1_000_000, repetitions: int = 15) -> NoiseCost:
    """Measure a million values of noise, ours and torch's in turns, on one thread."""
    source = SecureStream()
    ours: list[float] = []
    others: list[float] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for turn in range(repetitions + 2):
            began = time.perf_counter()
            gaussian(source, values)
            middle = time.perf_counter()
            torch.randn(values)
            if turn >= 2:
                ours.append(middle - began)
                others.append(time.perf_counter() - middle)
    finally:
        torch.set_num_threads(threads)
    return NoiseCost(median(ours) * 1e3, median(others) * 1e3)
