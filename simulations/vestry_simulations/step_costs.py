"""What a private step costs beside an ordinary one, measured in one run: ours, Opacus with hooks, with ghost.

For each model batches of 32 of 1,024 records, one a person, on one CPU thread. Every method gathers its
batches from the records; the data loaders of Opacus are left out. The methods take turns of some steps each,
as steps follow each other in training, so that what else the machine does meets all of them. The time is the
process' CPU time, which waiting for other processes does not lengthen; the figure is a ratio of medians.

- plain: forward, backward, SGD step;
- ours: :class:`~vestry_privacy.dpsgd.PrivateSteps` as a site uses it: Poisson sampling, clipping, sum and
  normaliser; without noise, and with cryptographic noise;
- hooks, ghost: Opacus' private engine in these modes, with its optimizer; without noise, and with torch's.
"""

import gc
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from vestry_privacy.dpsgd import PrivateSteps, group_units
from vestry_privacy.noise import SecureStream, gaussian
from vestry_privacy.plan import PrivacyPlan

__all__ = ["MODELS", "NoiseCost", "StepCost", "noise_cost", "step_cost"]

_BATCH, _RECORDS = 32, 1024
_CLIP, _RATE = 1.0, 0.05
_IN_A_ROW = 5


@dataclass(frozen=True)
class StepCost:
    """One model.

    Attributes:
        model: its name.
        parameters: how many it has.
        plain_milliseconds: of an ordinary step, on this machine.
        ours_over_plain: ratio of the private step without noise.
        hooks_over_plain: of Opacus with hooks, without noise.
        ghost_over_plain: of Opacus' ghost clipping, without noise.
        ours_with_noise_over_plain: with cryptographic noise.
        hooks_with_noise_over_plain: with torch's.
        ghost_with_noise_over_plain: with torch's.
    """

    model: str
    parameters: int
    plain_milliseconds: float
    ours_over_plain: float
    hooks_over_plain: float
    ghost_over_plain: float
    ours_with_noise_over_plain: float
    hooks_with_noise_over_plain: float
    ghost_with_noise_over_plain: float

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


@dataclass(frozen=True)
class _Records:
    """What all methods draw their batches from."""

    inputs: torch.Tensor
    targets: torch.Tensor

    def batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Shuffled once, then gathered batch by batch for ever."""
        while True:
            order = torch.randperm(_RECORDS)
            for start in range(0, _RECORDS, _BATCH):
                index = order[start : start + _BATCH]
                yield self.inputs[index], self.targets[index]


def step_cost(name: str, repetitions: int = 20, tell: Callable[[], None] = lambda: None) -> StepCost:
    """Measure one model.

    Args:
        name: one of ``MODELS``.
        repetitions: turns of each method, of five steps and one before them that is not counted.
        tell: called after each turn of all methods.
    """
    generator = torch.Generator().manual_seed(1)
    records = _Records(
        torch.randn(_RECORDS, 1, 28, 28, generator=generator),
        torch.randint(10, (_RECORDS,), generator=generator),
    )
    build = MODELS[name]
    size = sum(parameter.numel() for parameter in build().parameters())
    seconds: dict[str, list[float]] = {}
    with _quiet_thread():
        steps = {
            "plain": _plain(build(), records),
            "ours": _ours(build(), records, noise=False),
            "ours with noise": _ours(build(), records, noise=True),
            "hooks": _opacus(build(), records, "hooks", 0.0),
            "ghost": _opacus(build(), records, "ghost", 0.0),
            "hooks with noise": _opacus(build(), records, "hooks", 1.0),
            "ghost with noise": _opacus(build(), records, "ghost", 1.0),
        }
        for _ in range(repetitions):
            for method, step in steps.items():
                seconds.setdefault(method, []).append(_turn(step))
            tell()
    plain = median(seconds["plain"])
    ratio = {method: median(values) / plain for method, values in seconds.items()}
    return StepCost(
        model=name,
        parameters=size,
        plain_milliseconds=plain * 1e3,
        ours_over_plain=ratio["ours"],
        hooks_over_plain=ratio["hooks"],
        ghost_over_plain=ratio["ghost"],
        ours_with_noise_over_plain=ratio["ours with noise"],
        hooks_with_noise_over_plain=ratio["hooks with noise"],
        ghost_with_noise_over_plain=ratio["ghost with noise"],
    )


def _turn(step: Callable[[], object]) -> float:
    """Seconds of a step among its own kind."""
    step()
    began = time.process_time()
    for _ in range(_IN_A_ROW):
        step()
    return (time.process_time() - began) / _IN_A_ROW


@contextmanager
def _quiet_thread() -> Iterator[None]:
    """One thread, no garbage collection; no warnings of Opacus about its noise, or of torch about hooks."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    gc.collect()
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Secure RNG turned off|Full backward hook is firing")
            yield
    finally:
        gc.enable()
        torch.set_num_threads(threads)


def _plain(module: nn.Module, records: _Records) -> Callable[[], None]:
    optimizer, batches = torch.optim.SGD(module.parameters(), lr=_RATE), records.batches()

    def step() -> None:
        inputs, targets = next(batches)
        optimizer.zero_grad()
        functional.cross_entropy(module(inputs), targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def _ours(module: nn.Module, records: _Records, *, noise: bool) -> Callable[[], None]:
    plan = PrivacyPlan(
        unit="record",
        adjacency="zero-out",
        delta=1e-5,
        noise_multiplier=1.0,
        sampling_probability=_BATCH / _RECORDS,
        expected_batch=_BATCH,
        steps=1,
        clip=_CLIP,
        persons=_RECORDS,
    )
    owners = group_units(np.arange(_RECORDS, dtype=np.int64))
    private = PrivateSteps(module, _losses, plan.mechanism(), records.inputs, records.targets, owners)
    flat = torch.cat([parameter.detach().reshape(-1) for parameter in module.parameters()])

    def bare() -> torch.Tensor:  # for the clock alone: the records are random numbers
        return private._clipped_sum().div_(_BATCH).to(torch.float32)  # noqa: SLF001

    take = private.gradient if noise else bare

    def step() -> None:
        flat.sub_(take(), alpha=_RATE)

    return step


def _losses(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(outputs, targets, reduction="none")


def _opacus(module: nn.Module, records: _Records, mode: str, noise: float) -> Callable[[], None]:
    from opacus import PrivacyEngine
    from torch.utils.data import DataLoader, TensorDataset

    criterion: Any = nn.CrossEntropyLoss()
    more = {"criterion": criterion} if mode == "ghost" else {}
    made = PrivacyEngine().make_private(
        module=module,
        optimizer=torch.optim.SGD(module.parameters(), lr=_RATE),
        data_loader=DataLoader(TensorDataset(records.inputs, records.targets), batch_size=_BATCH),
        noise_multiplier=noise,
        max_grad_norm=_CLIP,
        poisson_sampling=False,
        grad_sample_mode=mode,
        **more,
    )
    wrapped, optimizer, batches = made[0], made[1], records.batches()
    if mode == "ghost":
        criterion = made[2]

    def step() -> None:
        inputs, targets = next(batches)
        optimizer.zero_grad()
        criterion(wrapped(inputs), targets).backward()
        optimizer.step()

    return step


def noise_cost(values: int = 1_000_000, repetitions: int = 5) -> NoiseCost:
    """Measure a million values of noise, ours and torch's in turns, on one thread."""
    source = SecureStream()
    ours: list[float] = []
    others: list[float] = []
    with _quiet_thread():
        for _ in range(repetitions):
            ours.append(_turn(lambda: gaussian(source, values)))
            others.append(_turn(lambda: torch.randn(values)))
    return NoiseCost(median(ours) * 1e3, median(others) * 1e3)
