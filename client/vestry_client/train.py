"""Local training: the site's steps of one round.

VestryError
└── TrainingDiverged    a loss or a weight is not finite
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from vestry_client.optimizer import LocalOptimizer
from vestry_privacy.dpsgd import PrivateSteps, group_units
from vestry_privacy.errors import VestryError
from vestry_privacy.plan import Mechanism
from vestry_strategies.parameters import FlatModel, Vector
from vestry_strategies.recipe import MlpModel
from vestry_strategies.rows import Indexes
from vestry_strategies.schedule import learning_rate
from vestry_strategies.seeds import derive_seed
from vestry_strategies.strategy import LocalEnd, LocalRule, LocalStart, Strategy
from vestry_strategies.study import StudySpec
from vestry_strategies.sums import Arrays
from vestry_strategies.task import Examples, Task

__all__ = ["LocalResult", "PersonRecords", "TrainingDiverged", "choose_device", "train_locally"]

_log = logging.getLogger("vestry.site")

_STRATEGY, _OPTIMIZER = "strategy/", "optimizer/"
_PHYSICAL_BATCH = 1024  # records in one forward pass; bounds memory, has no influence on the result


class TrainingDiverged(VestryError):
    """A loss or a weight is no longer finite."""


@dataclass(frozen=True)
class PersonRecords:
    """What turns local steps into private ones.

    Attributes:
        mechanism: sampler, clip and noise, from the study's plan.
        owners: (n,) number of each example's privacy unit.
        probed: network and losses are known not to couple records.
    """

    mechanism: Mechanism
    owners: Indexes
    probed: bool = False


@dataclass(frozen=True)
class LocalResult:
    """What the local steps gave.

    Attributes:
        update: (d + k,) float32: local model minus global model, then the strategy's extra values.
        loss: mean over the steps of the batch's mean loss; None under differential privacy.
        steps: local steps taken.
        state: the site's arrays for the next round.
    """

    update: Vector
    loss: float | None
    steps: int
    state: Arrays = field(default_factory=dict)


def choose_device(wanted: str) -> torch.device:
    """The device to train on: ``auto`` is a GPU where CUDA has one, else the CPU.

    Raises:
        VestryError: ``cuda`` is demanded and there is none.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise VestryError("training.device: 'cuda' is asked for and no CUDA GPU is here; use 'auto'")
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)


def train_locally(
    study: StudySpec,
    task: Task,
    strategy: Strategy,
    flat: FlatModel,
    site: str,
    round_number: int,
    examples: Examples,
    model: Vector,
    shared: Arrays,
    state: Arrays,
    private: PersonRecords | None = None,
) -> LocalResult:
    """Take the local steps of one round.

    Args:
        study: gives steps, batch size, optimizer and seed.
        task: gives the loss.
        strategy: gives the site's half.
        flat: the network to train in; its weights are overwritten.
        site: batches and dropout are drawn from a stream of (seed, this, round): ``Site.stream``, which
            nobody else can foretell.
        round_number: from 1.
        examples: this site's training examples, at least one.
        model: (d,) the global model.
        shared: the server's arrays that the strategy broadcasts.
        state: this site's arrays of earlier rounds.
        private: under differential privacy, the mechanism and who owns which example; every gradient is
            then noised, and the strategy's and the optimizer's rules come after.

    Raises:
        TrainingDiverged: a loss or a weight is not finite.
    """
    flat.load(model)
    flat.module.train()
    rate = learning_rate(study.training, round_number)
    anchor = flat.weights.detach().clone()
    rule: LocalRule | None = None
    if strategy.start_local is not None:
        own = _part(state, _STRATEGY)
        rule = strategy.start_local(LocalStart(anchor, shared, own, rate))
    keep = study.training.optimizer_state == "keep"
    optimizer = LocalOptimizer(study.training, rate, _part(state, _OPTIMIZER) if keep else {})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(study.seed, "local", site, round_number))
        if private is None:
            loss, steps = _steps(study, task, flat, rule, optimizer, examples, site, round_number)
        else:
            loss, steps = None, _private_steps(study, task, flat, rule, optimizer, examples, private)
    end = rule.finish(flat.weights.detach(), steps) if rule is not None else LocalEnd()
    moved = flat.read() - model
    if private is not None:
        moved[flat.layout.trainable :] = 0.0  # a layer's own averages over the data have no noise
    update = np.concatenate([moved, end.extra])
    if not np.isfinite(loss or 0.0) or not np.isfinite(update).all():
        if private is None:
            _log.warning("round %d: not finite after training: %s", round_number, _broken(flat, update))
        raise TrainingDiverged(
            f"the loss or the model is not finite in round {round_number}; lower training.learning_rate "
            f"(now {rate:g}), and check that task.standardise is not 'none'"
        )
    kept = {_STRATEGY + name: array for name, array in end.state.items()}
    if keep:
        kept.update({_OPTIMIZER + name: array for name, array in optimizer.state().items()})
    return LocalResult(update, loss, steps, kept)


def _broken(flat: FlatModel, update: Vector) -> str:
    """Which tensors are not finite; for the site's own log."""
    size = flat.layout.size
    named = flat.layout.split(update[:size])
    broken = [f"tensor '{name}'" for name, values in named.items() if not np.isfinite(values).all()]
    if not np.isfinite(update[size:]).all():
        broken.append("the strategy's extra values")
    return ", ".join(broken) or "the loss"


def _steps(
    study: StudySpec,
    task: Task,
    flat: FlatModel,
    rule: LocalRule | None,
    optimizer: LocalOptimizer,
    examples: Examples,
    site: str,
    round_number: int,
) -> tuple[float, int]:
    device = flat.weights.device
    inputs, targets = _on_device(examples, device)
    autocast = torch.autocast(
        device.type,
        torch.bfloat16,
        enabled=study.training.mixed_precision and device.type == "cuda",
    )
    total = torch.zeros((), dtype=torch.float64, device=device)
    steps = 0
    for batch in _batches(study, len(examples), site, round_number):
        index = torch.from_numpy(batch).to(device)
        flat.gradient.zero_()
        with autocast:
            outputs = flat.module(inputs[index])
        losses = task.losses(study, outputs.float(), targets[index])
        loss = losses.sum() / len(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        if rule is not None:
            rule.correct(flat.gradient, flat.weights)
        optimizer.step(flat.weights, flat.gradient)
        total += loss.detach()
        steps += 1
    return float(total) / max(steps, 1), steps


def _private_steps(
    study: StudySpec,
    task: Task,
    flat: FlatModel,
    rule: LocalRule | None,
    optimizer: LocalOptimizer,
    examples: Examples,
    private: PersonRecords,
) -> int:
    """DP-SGD: the gradient is noised before anything else sees it."""
    inputs, targets = _on_device(examples, flat.weights.device)
    private_steps = PrivateSteps(
        flat.module,
        lambda outputs, targets: task.losses(study, outputs, targets),
        private.mechanism,
        inputs,
        targets,
        group_units(private.owners),
        physical_batch=_PHYSICAL_BATCH,
        autocast=_autocast(study, flat.weights.device),
        checked=private.probed,
    )
    steps = study.training.local_steps or 0
    for _ in range(steps):
        gradient = private_steps.gradient()
        if rule is not None:
            rule.correct(gradient, flat.weights)
        optimizer.step(flat.weights, gradient)
    return steps


def _autocast(study: StudySpec, device: torch.device) -> torch.autocast | None:
    if not (study.training.mixed_precision and device.type == "cuda"):
        return None
    return torch.autocast(device.type, torch.bfloat16)


def _on_device(examples: Examples, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    inputs, targets = torch.from_numpy(examples.inputs), torch.from_numpy(examples.targets)
    if device.type == "cuda":
        inputs, targets = inputs.pin_memory(), targets.pin_memory()
    return inputs.to(device, non_blocking=True), targets.to(device, non_blocking=True)


def _batches(
    study: StudySpec, examples: int, site: str, round_number: int
) -> Iterator[np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Shuffled passes over the examples, cut into batches; the last of a pass may be smaller."""
    training = study.training
    generator = np.random.default_rng(derive_seed(study.seed, "batches", site, round_number))
    smallest = 2 if isinstance(study.model, MlpModel) and study.model.norm == "batch" else 1
    smallest = min(smallest, examples)
    steps = 0
    for _ in range(training.local_epochs or training.local_steps or 0):
        order = generator.permutation(examples)
        for start in range(0, examples, training.batch_size):
            batch = order[start : start + training.batch_size]
            if len(batch) < smallest:
                continue  # batch normalisation has no variance over one example
            yield batch
            steps += 1
            if steps == training.local_steps:
                return


def _part(state: Arrays, prefix: str) -> Arrays:
    return {name.removeprefix(prefix): a for name, a in state.items() if name.startswith(prefix)}
