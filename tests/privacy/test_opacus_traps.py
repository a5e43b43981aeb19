"""Each trap of Opacus 1.6 that the field fell into: it is still there, and we do not fall into it.

Where a test's first half fails, Opacus has mended the trap: good news, and time to look at ours again.
"""

import math
from typing import Any

import numpy as np
import pytest
import torch
from opacus import PrivacyEngine
from opacus.data_loader import CollateFnWithEmpty
from opacus.grad_sample import GradSampleModule
from opacus.grad_sample.gsm_exp_weights import GradSampleModuleExpandedWeights
from opacus.utils.batch_memory_manager import BatchMemoryManager
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, default_collate

from tests.privacy.networks import (
    Counting,
    batch_of,
    clipped,
    cross_entropy,
    mechanism,
    own_gradients,
    records,
    steps_for,
)
from vestry_privacy.accounting import PoissonGaussian, epsilon
from vestry_privacy.coupling import RecordShape, check_coupling
from vestry_privacy.dpsgd import PrivateSteps, group_units
from vestry_privacy.gradients import CoupledRecords, UnsupportedLayer, unit_gradients
from vestry_privacy.noise import SecureStream, gaussian
from vestry_privacy.plan import PlanError, PrivacyPlan

pytestmark = pytest.mark.filterwarnings(
    "ignore:Secure RNG turned off:UserWarning", "ignore:Full backward hook:UserWarning"
)


def plan_for(persons: int) -> PrivacyPlan:
    """A hundred persons more or less: the constants of the study stay."""
    return PrivacyPlan(
        unit="record",
        adjacency="add-remove",
        delta=1e-5,
        noise_multiplier=1.0,
        sampling_probability=0.1,
        expected_batch=10.0,
        steps=10,
        clip=1.0,
        persons=persons,
    )


def engine(count: int, *, poisson: bool = True) -> tuple[Any, Any, Any, Any]:
    """Opacus' private network, optimiser, loader and accountant for so many records."""
    network, opacus = nn.Linear(4, 3), PrivacyEngine(accountant="rdp")
    data = TensorDataset(*records("linear", count))
    private, optimiser, loader = opacus.make_private(
        module=network,
        optimizer=torch.optim.SGD(network.parameters(), 0.1),
        data_loader=DataLoader(data, batch_size=10),
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        poisson_sampling=poisson,
    )
    return private, optimiser, loader, opacus.accountant


def test_the_divisor_does_not_count_the_records() -> None:
    """Theirs tells 100 persons from 101 by the size of the noise; ours is a constant of the study."""
    assert [engine(count)[1].expected_batch_size for count in (100, 101)] == [10, 9]
    rules = [plan_for(count).mechanism() for count in (100, 101)]
    assert rules[0].normaliser == rules[1].normaliser == 10.0
    assert rules[0].sampler == rules[1].sampler
    inputs, targets = records("linear", 101)
    deviations = [
        np.std([private_step(inputs[:count], targets[:count]) for _ in range(400)]) for count in (100, 101)
    ]
    assert deviations[0] == pytest.approx(deviations[1], rel=0.06)  # theirs: 10 % apart


def private_step(inputs: torch.Tensor, targets: torch.Tensor) -> list[float]:
    """One gradient with nobody drawn: noise over the divisor."""
    rule = mechanism(1e-12, sigma=1.0)
    unit = list(range(len(inputs)))
    gradient: list[float] = steps_for(nn.Linear(4, 3), inputs, targets, unit, rule).gradient().tolist()
    return gradient


def test_the_noise_has_more_than_32_bits_and_no_seed() -> None:
    with pytest.raises(ImportError, match="torchcsprng"):
        PrivacyEngine(secure_mode=True)
    theirs, ours = [], []
    for seed in (5, 5 + 2**32):
        torch.manual_seed(seed)
        theirs.append(torch.randn(8))
        torch.manual_seed(seed)
        ours.append(gaussian(SecureStream(), 8))
    assert torch.equal(*theirs)
    assert not np.isin(ours[0], ours[1]).any()


def test_the_noise_reaches_beyond_what_float32_can() -> None:
    """torch's float32 uniforms have 24 bits, so its normal values end at 5.77; ours at 8.57."""
    scaled = torch.rand(1_000_000) * 2**24
    assert torch.equal(scaled, scaled.round())
    assert math.sqrt(2 * 24 * math.log(2)) < 5.769

    class Smallest:
        guarantee = "none"

        def uniforms(self, count: int) -> Any:
            return np.where(np.arange(count) < count // 2, 2.0**-53, 1.0)

    assert gaussian(Smallest(), 2)[0] > 8.57


def class_weights(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    counts = torch.bincount(targets, minlength=2)
    return cross_entropy(outputs, targets) * counts.min() / counts[targets]


def batch_mean(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return cross_entropy(outputs, targets) / (targets > 0).sum()


@pytest.mark.parametrize("losses", [class_weights, batch_mean])
def test_losses_that_couple_records_are_refused(losses: Any) -> None:
    """One record more moves the sum of clipped gradients by many times C, in Opacus' split."""
    inputs, targets = torch.full((60, 4), 0.5), torch.zeros(60, dtype=torch.int64)
    targets[:2] = 1
    rows = []
    for first in (1, 0):  # without and with the first record
        split = GradSampleModule(nn.Linear(4, 3), loss_reduction="sum")
        for parameter in split.parameters():
            nn.init.zeros_(parameter)
        losses(split(inputs[first:]), targets[first:]).sum().backward()
        rows.append(torch.cat([p.grad_sample.flatten(1) for p in split.parameters()], dim=1))
    clip = 1.5 * float(rows[0].norm(dim=1).median())
    without, having = (clipped(gradients.double(), clip).sum(dim=0) for gradients in rows)
    assert float((having - without).norm()) > 10 * clip
    with pytest.raises(CoupledRecords, match=r"public constant per class \(`class_weights`"):
        check_coupling(nn.Linear(4, 3), losses, RecordShape((4,)))


def test_batch_statistics_are_refused_by_name() -> None:
    for layer in (nn.BatchNorm1d(4), nn.Sequential(nn.BatchNorm2d(2))):
        with pytest.raises(UnsupportedLayer, match=r"BatchNorm.d\): mixes the records.*use GroupNorm"):
            unit_gradients(nn.Sequential(nn.Linear(4, 4), layer), cross_entropy)


def test_an_empty_batch_is_noise_only_and_no_made_up_record() -> None:
    collate = CollateFnWithEmpty(default_collate, rand_on_empty=True)
    collate([(torch.zeros(4), 0)])
    assert len(collate([])[0]) == 1  # somebody who is not there
    module = Counting(nn.Linear(4, 3))
    steps = steps_for(module, *records("linear", 5), list(range(5)), mechanism(1e-12, slots=5, sigma=1.0))
    assert bool(steps.gradient().any())
    assert (steps.taken, module.runs) == (1, 0)


def test_a_step_that_is_stopped_leaves_no_queue() -> None:
    _, optimiser, loader, _ = engine(100)
    with BatchMemoryManager(data_loader=loader, max_physical_batch_size=2, optimizer=optimiser) as batches:
        for _batch in batches:
            break
    assert optimiser._step_skip_queue  # the next logical batch starts in the middle of this one
    module = Counting(nn.Linear(4, 3))
    inputs, targets = records("linear", 8)
    steps = steps_for(module, inputs, targets, list(range(8)), mechanism(clip=0.4), physical_batch=2)
    module.stop_at = 1
    with pytest.raises(KeyboardInterrupt):
        steps.gradient()
    module.stop_at = -1
    expected = clipped(own_gradients(module, cross_entropy, batch_of(inputs, targets, list(range(8)))), 0.4)
    assert torch.allclose(steps.gradient().double(), expected.sum(dim=0), atol=2e-5)


def test_shuffled_batches_are_not_accounted_as_poisson() -> None:
    private, optimiser, loader, accountant = engine(100, poisson=False)
    for inputs, targets in loader:  # in order, a tenth of the data each
        cross_entropy(private(inputs), targets).mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        optimiser.zero_grad()
    assert accountant.history == [(1.0, 0.1, 10)]  # accounted as Poisson, without a word
    with pytest.raises(PlanError, match="shuffled batches may leak four times what Poisson sampling does"):
        PrivacyPlan(
            unit="record",
            adjacency="add-remove",
            delta=1e-5,
            noise_multiplier=1.0,
            sampling_probability=0.1,
            expected_batch=10.0,
            steps=10,
            clip=1.0,
            sampling="shuffle",  # type: ignore[arg-type]
        )


def test_the_network_is_never_wrapped() -> None:
    assert list(engine(10)[0].state_dict()) == ["_module.weight", "_module.bias"]
    for module in (nn.Linear(4, 3), nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 3))):
        before = list(module.state_dict())
        inputs, targets = records("linear", 5)
        PrivateSteps(
            module, cross_entropy, mechanism(), inputs, targets, group_units(np.arange(5))
        ).gradient()
        assert list(module.state_dict()) == before


class Named(nn.Module):
    """Calls its layer by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layer(input=inputs)
        return logits


class NamedNorm(Named):
    """The same where Opacus' hooks are needed."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LayerNorm(4)  # type: ignore[assignment]


def test_keyword_arguments_work_or_are_refused_before_training() -> None:
    inputs, targets = records("linear", 4)
    split = GradSampleModuleExpandedWeights(Named())
    with pytest.raises((RuntimeError, TypeError, ValueError)):
        cross_entropy(split(inputs=inputs), targets).sum().backward()  # type: ignore[no-untyped-call]
    module, batch = Named(), batch_of(inputs, targets, [0, 1, 2, 3])
    found = unit_gradients(module, cross_entropy).clipped_sum(batch, 0.3).total
    expected = clipped(own_gradients(module, cross_entropy, batch), 0.3).sum(dim=0)
    assert torch.allclose(found, expected, atol=1e-6)
    check_coupling(module, cross_entropy, RecordShape((4,)))
    with pytest.raises(UnsupportedLayer, match="cannot be split by record"):
        check_coupling(NamedNorm(), cross_entropy, RecordShape((4,)))


def test_an_accountant_is_of_the_whole_study_not_of_a_round() -> None:
    """Flower's example makes a new engine each round: it always reports 1.98, where ten rounds cost 4.77."""
    round_of_theirs = PoissonGaussian(noise_multiplier=1.0, sampling_probability=0.05, count=20)
    assert epsilon([round_of_theirs], 1e-5) == pytest.approx(1.98, rel=0.005)
    assert epsilon([round_of_theirs] * 10, 1e-5) == pytest.approx(4.77, rel=0.005)
