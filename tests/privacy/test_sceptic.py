"""What a sceptic asks of the trainer: how far one patient moves it, and what it tells of their number.

Sensitivity is measured on what is added up before the noise, for random networks, patients and losses, and
for hostile weights and numbers.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from tests.privacy.networks import LOSSES, NETWORKS, Sequence, cross_entropy, mechanism, records, steps_for
from vestry_privacy.clipping import MARGIN
from vestry_privacy.dpsgd import PrivateSteps, group_units
from vestry_privacy.gradients import Losses, UnitBatch, unit_gradients
from vestry_privacy.noise import SecureStream, SimulationStream
from vestry_privacy.plan import Mechanism, PrivacyPlan
from vestry_privacy.sampling import PoissonSampler

PLAN = PrivacyPlan(
    unit="patient",
    unit_column="patient",
    adjacency="zero-out",
    persons=60,
    delta=1e-3,
    noise_multiplier=1.0,
    sampling_probability=0.5,
    expected_batch=30.0,
    steps=5,
    clip=1.0,
)


def clipped_sum(
    module: nn.Module,
    losses: Losses,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    unit: list[int],
    rule: Mechanism,
) -> NDArray[np.float64]:
    """What a step would add noise to: everybody drawn, the same order for the same places."""
    owners = group_units(np.array(unit, dtype=np.int64))
    steps = PrivateSteps(module, losses, rule, inputs, targets, owners, checked=True)
    total = torch.zeros(steps._size, dtype=torch.float64)
    order = np.random.default_rng(1).permutation(rule.slots or owners.units)
    for batch in steps._micro_batches(order):
        total += steps._gradients.clipped_sum(batch, rule.clip).total
    result: NDArray[np.float64] = total.numpy()
    return result


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(NETWORKS)),
    st.sampled_from(sorted(LOSSES)),
    st.lists(st.integers(0, 9), min_size=1, max_size=20),
    st.integers(0, 2**31),
    st.floats(-3, 3),
    st.floats(-4, 2),
)
def test_one_patient_moves_the_sum_by_at_most_c(
    name: str, losses: str, unit: list[int], seed: int, size: float, log_clip: float
) -> None:
    """|f(D) - f(D without one)| <= C (1 + 1e-6), for any of the patients, whatever they have."""
    torch.manual_seed(seed)
    module, clip = NETWORKS[name][0](), 10.0**log_clip
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(10.0 ** (size / 3))
    inputs, targets = records(name, len(unit), 10.0**size)
    rule = mechanism(slots=12, clip=clip)
    person = unit[seed % len(unit)]
    rest = [row for row, owner in enumerate(unit) if owner != person]
    full = clipped_sum(module, LOSSES[losses], inputs, targets, unit, rule)
    owners = [unit[row] for row in rest]
    without = clipped_sum(module, LOSSES[losses], inputs[rest], targets[rest], owners, rule)
    rounding = 3e-5 * clip * len(set(owners))  # the others' own float32 rounding, where shapes differ
    assert np.linalg.norm(full - without) <= clip * (1 + 1e-6) + rounding
    if not rest:
        assert np.linalg.norm(full) <= clip


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(NETWORKS)), st.integers(2, 24), st.integers(0, 2**31), st.floats(-2, 3))
def test_taking_out_a_patient_of_one_record_moves_nobody_else(
    name: str, count: int, seed: int, size: float
) -> None:
    """Exactly: the difference is this patient's part, which is at most C, and no rounding is allowed for."""
    torch.manual_seed(seed)
    module = NETWORKS[name][0]()
    inputs, targets = records(name, count, 10.0**size)
    gradients = unit_gradients(module, cross_entropy)
    owners, out = torch.arange(count), seed % count
    vacant = owners == out
    zeroed, labels = inputs.clone(), targets.clone()
    zeroed[out], labels[out] = 0, 0
    full = gradients.clipped_sum(UnitBatch(inputs, targets, owners, count), 0.7)
    without = gradients.clipped_sum(UnitBatch(zeroed, labels, owners, count, vacant), 0.7)
    kept = owners != out
    assert torch.equal(full.squared_norms[kept], without.squared_norms[kept])
    assert float(torch.linalg.vector_norm(full.total - without.total)) <= 0.7 * (1 - MARGIN / 2)


def hostile() -> nn.Module:
    """Weights that turn the last bits of a product into the sign of everybody's gradient."""
    module = nn.Sequential(nn.Linear(30, 10, bias=False), nn.Linear(10, 1, bias=False), Amplifier())
    torch.manual_seed(11)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    return module


class Amplifier(nn.Module):
    """A network may be such a function of its products; a coordinator chooses the weights."""

    def forward(self, outputs: torch.Tensor) -> torch.Tensor:
        phase = 1e9 * outputs
        return torch.cat([outputs * torch.sin(phase), -outputs * torch.sin(phase), outputs], dim=1)


def test_hostile_weights_cannot_make_rounding_speak() -> None:
    """Without a row in the place of who is absent, the others' gradients would all turn at once."""
    module, clip = hostile(), 1.0
    torch.manual_seed(12)
    inputs, targets = torch.randn(40, 30), torch.randint(0, 3, (40,))
    gradients = unit_gradients(module, cross_entropy)

    def total(rows: torch.Tensor) -> torch.Tensor:
        batch = UnitBatch(inputs[rows], targets[rows], torch.arange(len(rows)), len(rows))
        return gradients.clipped_sum(batch, clip).total

    everybody = torch.arange(40)
    naive = torch.linalg.vector_norm(total(everybody) - total(everybody[1:]))
    zeroed, labels = inputs.clone(), targets.clone()
    zeroed[0], labels[0] = 0, 0
    batch = UnitBatch(zeroed, labels, everybody, 40, everybody == 0)
    ours = torch.linalg.vector_norm(total(everybody) - gradients.clipped_sum(batch, clip).total)
    assert float(ours) <= clip
    if float(naive) <= clip:
        pytest.skip("this machine's products do not depend on the shape of the batch")


def test_the_order_of_rows_does_not_tell_who_is_missing() -> None:
    """Places are put in random order: with the n-th place vacant, each row holds it as often."""
    inputs, targets = records("linear", 5)
    steps = steps_for(nn.Linear(4, 3), inputs, targets, list(range(5)), mechanism(slots=6))
    seen = np.zeros(6)
    original = steps._batch

    def batch(places: NDArray[np.int64], *rest: NDArray[np.int64]) -> UnitBatch:
        seen[int(np.flatnonzero(places == 5)[0])] += 1
        return original(places, *rest)  # type: ignore[arg-type]

    steps._batch = batch  # type: ignore[method-assign, assignment]
    for _ in range(1200):
        steps.gradient()
    assert np.abs(seen - 200).max() < 6 * np.sqrt(1200 / 6 * 5 / 6)


@pytest.mark.parametrize("slots", [None, 60])
def test_the_number_of_rows_does_not_tell_how_many_were_drawn(slots: int | None) -> None:
    """Fifty drawn or forty-nine: as many rows, in as many passes."""
    shapes = []
    for count in (49, 50):
        inputs, targets = records("linear", count)
        rule = replace(mechanism(slots=slots), normaliser=40.0)
        steps = steps_for(nn.Linear(4, 3), inputs, targets, list(range(count)), rule, physical_batch=32)
        shapes.append([len(batch.unit) for batch in steps._micro_batches(steps._places())])
    assert shapes[0] == shapes[1]
    assert sum(shapes[0]) == (60 if slots else 78)


@pytest.mark.parametrize("adjacency", ["zero-out", "add-remove"])
def test_one_person_more_changes_no_constant(adjacency: str) -> None:
    """Divisor, q, noise, steps, grid: what an attacker could read off the size or the digits of a release."""
    plan = replace(PLAN, delta=1e-5, persons=4000, sampling_probability=1e-9)
    plan = replace(plan, adjacency=adjacency)  # type: ignore[arg-type]
    outs = []
    for count in (2047, 2048, 2049, 2050):  # around where a grid made for the true number would double
        inputs, targets = records("linear", count)
        rule = plan.mechanism()
        steps = PrivateSteps(
            nn.Linear(4, 3), cross_entropy, rule, inputs, targets, group_units(np.arange(count)), checked=True
        )
        gradients = np.concatenate([steps.gradient().double().numpy() for _ in range(300)])
        outs.append((rule.normaliser, rule.sampler, rule.noise_multiplier, steps.taken))
        assert gradients.std() == pytest.approx(1.0 / 30.0, rel=0.06)
    assert all(out == outs[0] for out in outs)


@pytest.mark.parametrize("slots", [None, 2000])
def test_the_grid_does_not_depend_on_how_many_there_are(
    monkeypatch: pytest.MonkeyPatch, slots: int | None
) -> None:
    asked: list[int] = []

    def add(total: NDArray[np.float64], *rest: object) -> NDArray[np.float64]:
        asked.append(int(str(rest[-1])))
        return total

    monkeypatch.setattr("vestry_privacy.dpsgd.add_gaussian", add)
    for count in (1, 500, 2000):
        inputs, targets = records("linear", count)
        rule = mechanism(1e-9, slots=slots)
        steps_for(nn.Linear(4, 3), inputs, targets, list(range(count)), rule).gradient()
    assert len(set(asked)) == 1


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_micro_batches_of_any_size_give_the_same_sum(name: str) -> None:
    """1, 7 and 64 rows at a time, up to float rounding; units and steps exactly."""
    torch.manual_seed(4)
    module = NETWORKS[name][0]()
    unit = [number * 7 % 40 for number in range(70)]
    inputs, targets = records(name, len(unit))
    results = []
    for physical in (1, 7, 64, 4096):
        rule = replace(
            mechanism(slots=50, clip=0.3), source=SimulationStream(9), sampler=PoissonSampler(0.6)
        )  # the same draw, order and choice of records each time
        steps = steps_for(module, inputs, targets, unit, rule, physical)
        results.append(steps.gradient())
        assert steps.taken == 1
    assert float(results[0].norm()) > 0.3
    for result in results[1:]:
        assert float((result - results[0]).norm()) <= 2e-5 * float(results[0].norm())


def test_cancelling_steps_within_a_record_stay_below_c() -> None:
    """A record that is nearly its own opposite: far above C in its parts, anything in float32's products."""
    torch.manual_seed(5)
    module = Sequence(60)
    module.head.requires_grad_(False)
    with torch.no_grad():
        module.first.weight.mul_(1e-4)
        module.first.bias.zero_()
    half = torch.randn(8, 3, 60) * 1e4
    inputs = torch.cat([half, -half * (1 + 1e-6)], dim=1)
    targets = torch.randint(0, 3, (8,))
    gradients = unit_gradients(module, lambda outputs, labels: 1e6 * cross_entropy(outputs, labels))
    for record in range(8):
        batch = UnitBatch(
            inputs[record : record + 1], targets[record : record + 1], torch.zeros(1, dtype=torch.int64), 1
        )
        assert float(torch.linalg.vector_norm(gradients.clipped_sum(batch, 1.0).total)) <= 1.0


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf"), 3e38])
@pytest.mark.parametrize("name", ["linear", "conv", "layer norm"])
def test_a_poisoned_record_moves_no_more_than_another(name: str, wrong: float) -> None:
    torch.manual_seed(6)
    module = NETWORKS[name][0]()
    inputs, targets = records(name, 10)
    rule = mechanism(slots=10, clip=0.5)
    clean = clipped_sum(module, cross_entropy, inputs[1:], targets[1:], list(range(1, 10)), rule)
    inputs[0] = wrong
    poisoned = clipped_sum(module, cross_entropy, inputs, targets, list(range(10)), rule)
    assert np.isfinite(poisoned).all()
    assert np.linalg.norm(poisoned - clean) <= 0.5 * (1 + 1e-6) + 1e-4


def test_sampler_and_noise_share_one_stream_that_never_repeats() -> None:
    inputs, targets = records("linear", 30)
    runs: list[Callable[[], torch.Tensor]] = [
        steps_for(nn.Linear(4, 3), inputs, targets, list(range(30)), PLAN.mechanism()).gradient
        for _ in range(2)
    ]
    torch.manual_seed(0)
    first = runs[0]()
    torch.manual_seed(0)
    assert not torch.equal(first, runs[1]())
    assert isinstance(PLAN.mechanism().source, SecureStream)
