"""Private steps: whole patients, one noise, a public divisor, and nothing left of a step that was stopped."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from tests.privacy.networks import (
    NETWORKS,
    Counting,
    batch_of,
    clipped,
    cross_entropy,
    mechanism,
    own_gradients,
    records,
    steps_for,
)
from vestry_privacy.dpsgd import PrivateSteps, UnitError, group_units
from vestry_privacy.gradients import CoupledRecords, UnsupportedLayer
from vestry_privacy.plan import Mechanism, PrivacyPlan

UNITS = [4, 7, 7, 9, 9, 9, 20]
NOISE = 2e-5
"""Six deviations of the noise that networks.mechanism adds, and float32's rounding of the result."""


@given(st.lists(st.integers(-5, 5), max_size=30))
def test_records_of_one_unit_stand_beside_each_other(unit: list[int]) -> None:
    grouped = group_units(np.array(unit, dtype=np.int64))
    assert sorted(grouped.order.tolist()) == list(range(len(unit)))
    assert grouped.units == len(set(unit))
    starts = grouped.starts.tolist()
    assert (starts[0], starts[-1]) == (0, len(unit))
    for number, (begin, end) in enumerate(itertools.pairwise(starts)):
        assert end > begin
        assert {unit[row] for row in grouped.order[begin:end]} == {sorted(set(unit))[number]}


@pytest.mark.parametrize("slots", [None, 4, 9])
@pytest.mark.parametrize("name", ["linear", "mlp", "conv", "layer norm", "tokens"])
def test_a_step_is_the_clipped_sum_of_all_units(name: str, slots: int | None) -> None:
    torch.manual_seed(1)
    module = NETWORKS[name][0]()
    inputs, targets = records(name, len(UNITS))
    batch = batch_of(inputs, targets, [0, 1, 1, 2, 2, 2, 3])
    expected = clipped(own_gradients(module, cross_entropy, batch), 0.4).sum(dim=0)
    steps = steps_for(module, inputs, targets, UNITS, mechanism(slots=slots, clip=0.4))
    gradient = steps.gradient()
    assert gradient.dtype == torch.float32
    assert gradient.shape == (sum(p.numel() for p in module.parameters()),)
    assert torch.allclose(gradient.double(), expected, atol=NOISE)
    assert steps.taken == 1


@pytest.mark.parametrize("name", ["linear", "layer norm"])
def test_frozen_parameters_take_no_part(name: str) -> None:
    torch.manual_seed(2)
    module = NETWORKS[name][0]()
    next(module.parameters()).requires_grad = False
    inputs, targets = records(name, 3)
    expected = clipped(own_gradients(module, cross_entropy, batch_of(inputs, targets, [0, 1, 2])), 0.4)
    gradient = steps_for(module, inputs, targets, [0, 1, 2], mechanism(clip=0.4)).gradient()
    assert torch.allclose(gradient.double(), expected.sum(dim=0), atol=NOISE)


def spread(steps: PrivateSteps, count: int) -> NDArray[np.float64]:
    return np.concatenate([steps.gradient().double().numpy() for _ in range(count)])


@pytest.mark.parametrize("slots", [None, 1000])
def test_the_noise_is_sigma_c_over_the_public_number(slots: int | None) -> None:
    inputs, targets = records("linear", 3)
    plan = PrivacyPlan(
        unit="record",
        adjacency="add-remove" if slots is None else "zero-out",
        delta=1e-5,
        noise_multiplier=1.7,
        sampling_probability=1e-9,
        expected_batch=50.0,
        steps=10,
        clip=0.6,
        persons=slots,
    )
    owners = group_units(np.arange(3))
    steps = PrivateSteps(nn.Linear(4, 3), cross_entropy, plan.mechanism(), inputs, targets, owners)
    values = spread(steps, 600)
    expected = 1.7 * 0.6 / 50.0
    assert values.std() == pytest.approx(expected, rel=5.4 / math.sqrt(2 * len(values)))
    assert steps.taken == 600


@pytest.mark.parametrize("slots", [None, 5])
def test_an_empty_draw_is_a_step_with_noise_only_that_counts(slots: int | None) -> None:
    module = Counting(nn.Linear(4, 3))
    inputs, targets = records("linear", 3)
    steps = steps_for(module, inputs, targets, [0, 1, 2], mechanism(1e-12, slots=slots, sigma=1.0))
    gradients = [steps.gradient() for _ in range(3)]
    assert module.runs == 0
    assert steps.taken == 3
    assert all(bool(gradient.any()) for gradient in gradients)
    assert not torch.equal(gradients[0], gradients[1])


def test_a_site_without_records_still_takes_its_steps() -> None:
    inputs, targets = records("linear", 0)
    for slots in (None, 10):
        steps = steps_for(nn.Linear(4, 3), inputs, targets, [], mechanism(slots=slots, sigma=1.0))
        assert bool(steps.gradient().any())


def test_places_that_nobody_holds_run_no_network() -> None:
    module = Counting(nn.Linear(4, 3))
    inputs, targets = records("linear", 1)
    steps = steps_for(module, inputs, targets, [0], mechanism(slots=5000, sigma=1.0), physical_batch=100)
    steps.gradient()
    assert module.runs == 1


class Seen(nn.Module):
    """Keeps the rows that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.rows: list[torch.Tensor] = []

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.rows.append(inputs.detach().clone())
        logits: torch.Tensor = self.layer(inputs)
        return logits


def test_a_vacant_place_is_a_row_of_zeros() -> None:
    module = Seen()
    inputs, targets = records("linear", 3)
    steps_for(module, inputs, targets, [0, 1, 2], mechanism(slots=8)).gradient()
    (rows,) = module.rows
    assert rows.shape == (8, 4)
    assert sorted(rows[rows.any(dim=1)].tolist()) == sorted(inputs.tolist())


@pytest.mark.parametrize("slots", [None, 40])
def test_whole_patients_are_drawn_and_no_part_of_one(slots: int | None) -> None:
    module = Seen()
    unit = [number // 3 for number in range(60)]
    inputs = torch.arange(60.0).repeat_interleave(4).view(60, 4) + 1
    targets = torch.zeros(60, dtype=torch.int64)
    steps = steps_for(module, inputs, targets, unit, mechanism(0.3, slots=slots, sigma=1.0), physical_batch=7)
    for _ in range(20):
        module.rows.clear()
        steps.gradient()
        for rows in module.rows:
            values = rows[:, 0][rows[:, 0] > 0]
            patients = ((values - 1) // 3).tolist()
            assert all(patients.count(patient) == 3 for patient in patients)


def test_of_many_records_some_are_drawn_afresh_and_averaged() -> None:
    """At most m of each patient, each record as often as another; their mean counts, not their number."""
    module = Seen()
    inputs = torch.arange(10.0).repeat_interleave(4).view(10, 4) + 1
    targets = torch.zeros(10, dtype=torch.int64)
    steps = steps_for(module, inputs, targets, [0] * 10, mechanism(slots=1, sigma=1.0, max_records=3))
    for _ in range(1000):
        steps.gradient()
    assert all(len(rows) == 3 and len(set(rows[:, 0].tolist())) == 3 for rows in module.rows)
    seen = np.bincount(
        [int(value) - 1 for rows in module.rows for value in rows[:, 0].tolist()], minlength=10
    )
    assert np.abs(seen - 300).max() < 6 * math.sqrt(1000 * 0.3 * 0.7)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=25), st.integers(1, 30), st.integers(1, 4))
def test_micro_batches_hold_each_drawn_unit_once_and_fit(unit: list[int], physical: int, most: int) -> None:
    inputs, targets = records("linear", len(unit))
    rule = mechanism(slots=12, max_records=most)
    steps = steps_for(nn.Linear(4, 3), inputs, targets, unit, rule, physical)
    places = np.random.default_rng(len(unit)).permutation(12)
    rows = 0
    for batch in steps._micro_batches(places):
        counts = torch.bincount(batch.unit, minlength=batch.units)
        assert bool((counts >= 1).all())
        assert len(batch.unit) <= physical or batch.units == 1
        vacant = torch.zeros(batch.units, dtype=torch.bool) if batch.vacant is None else batch.vacant
        assert int(counts[vacant].sum()) == int(vacant.sum())
        rows += int(counts[~vacant].sum())
    assert rows == sum(min(most, unit.count(person)) for person in set(unit))


@pytest.mark.parametrize("name", ["linear", "layer norm"])
@pytest.mark.parametrize("stop_at", [0, 1, 3])
def test_a_stop_after_any_micro_batch_leaves_nothing(name: str, stop_at: int) -> None:
    torch.manual_seed(3)
    module = Counting(NETWORKS[name][0]())
    inputs, targets = records(name, 8)
    steps = steps_for(module, inputs, targets, list(range(8)), mechanism(clip=0.4), physical_batch=2)
    weights = [parameter.clone() for parameter in module.parameters()]
    module.stop_at = stop_at
    with pytest.raises(KeyboardInterrupt):
        steps.gradient()
    assert steps.taken == 0
    assert all(parameter.grad is None for parameter in module.parameters())
    assert not any(vars(parameter) for parameter in module.parameters())
    assert all(torch.equal(old, new) for old, new in zip(weights, module.parameters(), strict=True))
    module.stop_at = -1
    expected = own_gradients(module, cross_entropy, batch_of(inputs, targets, list(range(8))))
    assert torch.allclose(steps.gradient().double(), clipped(expected, 0.4).sum(dim=0), atol=NOISE)


def private(module: nn.Module, inputs: torch.Tensor, targets: torch.Tensor, rule: Mechanism) -> PrivateSteps:
    return PrivateSteps(module, cross_entropy, rule, inputs, targets, group_units(np.arange(len(inputs))))


def test_networks_and_losses_are_probed_before_anything_is_drawn() -> None:
    inputs, targets = records("linear", 4)
    with pytest.raises(UnsupportedLayer, match="BatchNorm1d"):
        private(nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3)), inputs, targets, mechanism())
    with pytest.raises(CoupledRecords, match="class_weights"):
        PrivateSteps(
            nn.Linear(4, 3),
            lambda outputs, labels: cross_entropy(outputs, labels) / len(labels),
            mechanism(),
            inputs,
            targets,
            group_units(np.arange(4)),
        )
    module = Counting(nn.Linear(4, 3))
    private(module, inputs, targets, mechanism())
    assert module.runs > 0


def test_more_persons_than_declared_are_refused_without_their_number() -> None:
    inputs, targets = records("linear", 12)
    with pytest.raises(UnitError, match="more persons than the public number 11") as refused:
        private(nn.Linear(4, 3), inputs, targets, mechanism(slots=11))
    assert "12" not in str(refused.value)


@pytest.mark.parametrize(("inputs", "targets", "owners"), [(4, 4, 3), (4, 3, 4), (3, 4, 4)])
def test_owners_inputs_and_targets_must_fit(inputs: int, targets: int, owners: int) -> None:
    with pytest.raises(UnitError, match="same number of records"):
        steps_for(
            nn.Linear(4, 3),
            records("linear", inputs)[0],
            records("linear", targets)[1],
            list(range(owners)),
            mechanism(),
        )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", ["mlp", "layer norm"])
def test_a_gpu_takes_the_same_step(name: str) -> None:
    module = NETWORKS[name][0]()
    inputs, targets = records(name, len(UNITS))
    expected = steps_for(module, inputs, targets, UNITS, mechanism(slots=9)).gradient()
    found = steps_for(module.cuda(), inputs.cuda(), targets.cuda(), UNITS, mechanism(slots=9)).gradient()
    assert found.device.type == "cuda"
    assert torch.allclose(found.cpu(), expected, atol=1e-4)
