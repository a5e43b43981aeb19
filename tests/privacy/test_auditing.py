"""The canary audit of a trainer that is right: canaries, the claim inside the interval, refusals."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from vestry_privacy.accounting import noise_multiplier
from vestry_privacy.auditing import (
    LOUDNESS,
    AuditError,
    AuditResult,
    CanaryScores,
    audit_trainer,
    canary_scores,
)
from vestry_privacy.canary_bounds import estimate_noise
from vestry_privacy.dpsgd import PrivateSteps
from vestry_privacy.plan import PrivacyPlan, Unit
from vestry_privacy.sampling import least_cap

PERSONS, COLUMNS = 60, 5


def plan_for(epsilon: float, q: float, steps: int, unit: Unit = "record") -> PrivacyPlan:
    """A plan whose steps cost epsilon, with noise that a test can repeat."""
    return PrivacyPlan(
        unit=unit,
        unit_column="patient" if unit == "patient" else None,
        adjacency="zero-out",
        persons=PERSONS,
        delta=1e-5,
        noise_multiplier=noise_multiplier(epsilon, 1e-5, q, steps),
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


def audit(plan: PrivacyPlan) -> AuditResult:
    return audit_trainer(plan, network(), losses, *records(), seed=0)


@pytest.mark.parametrize("epsilon", [1.0, 3.0, 8.0])
@pytest.mark.parametrize(("q", "steps"), [(1.0, 15), (0.2, 60)])
def test_the_claim_is_within_the_interval(epsilon: float, q: float, steps: int) -> None:
    result = audit(plan_for(epsilon, q, steps))
    assert result.epsilon_claimed == pytest.approx(epsilon, rel=0.005)
    low, high = result.interval
    assert low <= result.epsilon_claimed <= high
    assert low < result.epsilon_estimate < high
    assert high - low < 0.25 * epsilon + 0.3
    assert 0 < result.epsilon_lower_bound < result.epsilon_claimed
    assert result.holds


def holds_noise(plan: PrivacyPlan, seen: CanaryScores) -> bool:
    """Is the plan's noise multiplier within the interval? As the claim, without an accountant's seconds."""
    noise = estimate_noise(seen.scores, seen.inside, plan.sampling_probability, plan.steps)
    return noise.least <= plan.noise_multiplier <= noise.most


def scores(plan: PrivacyPlan, seed: int = 0, canaries: int = 2000) -> CanaryScores:
    return canary_scores(plan, network(), losses, *records(), canaries=canaries, seed=seed)


def test_canaries_of_a_patient_have_two_records() -> None:
    plan = plan_for(3.0, 0.5, 15, "patient")
    seen = canary_scores(plan, network(), losses, *records(3), canaries=2000, seed=0)
    assert holds_noise(plan, seen)
    assert seen.scores[seen.inside].mean() == pytest.approx(0.5, abs=0.1)


def test_a_small_probability_is_measured_too() -> None:
    """Few canaries are ever seen; the fit of the claimed mechanism still finds its noise."""
    plan = plan_for(3.0, 0.02, 200)
    assert holds_noise(plan, scores(plan, canaries=5000))


def test_truncated_batches() -> None:
    cap = least_cap(PERSONS, 0.3)
    plan = replace(plan_for(3.0, 0.3, 15), sampling="truncated_poisson", cap=cap)
    assert holds_noise(plan, scores(plan))


def test_unknown_numbers_of_persons() -> None:
    plan = replace(plan_for(3.0, 0.3, 15), adjacency="add-remove", persons=None)
    assert holds_noise(plan, scores(plan))


class _Remembering(nn.Module):
    """A network of layers that only hooks can split, and what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(COLUMNS, 4), nn.LayerNorm(4), nn.Linear(4, 2))
        self.shown = 0

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.shown += len(inputs)
        outputs: torch.Tensor = self.layers(inputs)
        return outputs


def test_the_studys_own_network_takes_part() -> None:
    module = _Remembering()
    before = [parameter.detach().clone() for parameter in module.parameters()]
    plan = plan_for(3.0, 0.5, 5)
    seen = canary_scores(plan, module, losses, *records(), canaries=1000, seed=0)
    assert module.shown > 5 * 0.4 * (500 + PERSONS)
    assert all(not torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
    assert holds_noise(plan, seen)


@pytest.mark.parametrize("each", [1, 2])
def test_a_canary_is_clipped_to_its_own_parameter(each: int) -> None:
    """Almost without noise, every canary that is in moves its own parameter by C, and nothing else does."""
    plan = replace(plan_for(3.0, 1.0, 2, "patient" if each == 2 else "record"), noise_multiplier=1e-9)
    seen = canary_scores(plan, network(), losses, *records(), canaries=200, seed=4)
    assert seen.inside.sum() == pytest.approx(100, abs=30)
    np.testing.assert_allclose(seen.scores[seen.inside], 1.0, rtol=1e-4)
    np.testing.assert_allclose(seen.scores[~seen.inside], 0.0, atol=1e-6)


def test_a_canary_is_loud_before_it_is_clipped() -> None:
    norms: list[torch.Tensor] = []
    original = PrivateSteps.gradient

    def listen(self: PrivateSteps) -> torch.Tensor:
        kept = self._gradients.clipped_sum
        norms.extend(
            kept(batch, 0.5).squared_norms for batch in self._micro_batches(np.arange(self._records.units))
        )
        return original(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PrivateSteps, "gradient", listen)
        canary_scores(plan_for(3.0, 1.0, 1), network(), losses, *records(), canaries=150, seed=0)
    of_canaries = torch.cat(norms)[PERSONS:].sqrt()
    torch.testing.assert_close(of_canaries, torch.full_like(of_canaries, LOUDNESS * 0.5))


def test_a_seed_repeats_an_audit_and_cryptographic_noise_does_not() -> None:
    plan = plan_for(3.0, 0.5, 3)
    once = scores(plan, 5, 300).scores
    np.testing.assert_array_equal(scores(plan, 5, 300).scores, once)
    assert not np.array_equal(scores(plan, 6, 300).scores, once)
    real = replace(plan, noise="cryptographic")
    first, second = scores(real, 5, 300), scores(real, 5, 300)
    assert not np.array_equal(first.scores, second.scores)
    np.testing.assert_array_equal(first.inside, second.inside)


def test_progress_is_told() -> None:
    told: list[int] = []
    canary_scores(
        plan_for(3.0, 1.0, 4), network(), losses, *records(), canaries=100, seed=0, progress=told.append
    )
    assert told == [1, 2, 3, 4]


def test_too_few_canaries() -> None:
    with pytest.raises(AuditError, match=r"canaries=99: .* use 100 or more"):
        scores(plan_for(3.0, 1.0, 1), canaries=99)


def test_a_network_that_diverges_hides_nothing_silently() -> None:
    plan = plan_for(3.0, 1.0, 3)
    with pytest.raises(AuditError, match=r"lower training\.learning_rate"):
        canary_scores(plan, network(), losses, *records(), canaries=100, seed=0, learning_rate=math.inf)
