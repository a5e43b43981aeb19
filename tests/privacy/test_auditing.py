"""The canary audit of a trainer that is right: canaries, the claim inside the interval, refusals."""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.privacy.canaries import COLUMNS, PERSONS, losses, network, plan_for, records
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
from vestry_privacy.plan import PrivacyPlan
from vestry_privacy.sampling import least_cap


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small matrices: threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def audit(plan: PrivacyPlan) -> AuditResult:
    """With a seed that is not one of the one in twenty whose interval misses the truth."""
    return audit_trainer(plan, network(), losses, *records(), seed=1)


@pytest.mark.parametrize("epsilon", [1.0, 3.0, 8.0])
@pytest.mark.parametrize(("q", "steps"), [(1.0, 15), (0.2, 40)])
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


@pytest.mark.slow
def test_of_forty_seeds_about_one_in_twenty_misses() -> None:
    plan = plan_for(3.0, 0.5, 15)
    assert sum(holds_noise(plan, scores(plan, seed, 1000)) for seed in range(40)) >= 35


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
    plan = replace(plan_for(3.0, 0.5, 15), steps=5)
    seen = canary_scores(plan, module, losses, *records(), canaries=1000, seed=0)
    assert module.shown > 5 * 0.4 * (500 + PERSONS)
    assert all(not torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
    assert holds_noise(plan, seen)


@pytest.mark.parametrize("each", [1, 2])
def test_a_canary_is_clipped_to_its_own_parameter(each: int) -> None:
    """Almost without noise, every canary that is in moves its own parameter by C, and nothing else does."""
    plan = plan_for(3.0, 1.0, 15, "patient" if each == 2 else "record")
    plan = replace(plan, noise_multiplier=1e-9, steps=2)
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
        plan = replace(plan_for(3.0, 1.0, 15), steps=1)
        canary_scores(plan, network(), losses, *records(), canaries=150, seed=0)
    of_canaries = torch.cat(norms)[PERSONS:].sqrt()
    torch.testing.assert_close(of_canaries, torch.full_like(of_canaries, LOUDNESS * 0.5))


def test_a_seed_repeats_an_audit_and_cryptographic_noise_does_not() -> None:
    plan = replace(plan_for(3.0, 0.5, 15), steps=3)
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
        plan_for(3.0, 1.0, 15), network(), losses, *records(), canaries=100, seed=0, progress=told.append
    )
    assert told == list(range(1, 16))


def test_too_few_canaries() -> None:
    with pytest.raises(AuditError, match=r"canaries=99: .* use 100 or more"):
        scores(plan_for(3.0, 1.0, 15), canaries=99)


def test_a_network_that_diverges_hides_nothing_silently() -> None:
    plan = plan_for(3.0, 1.0, 15)
    with pytest.raises(AuditError, match=r"lower training\.learning_rate"):
        canary_scores(plan, network(), losses, *records(), canaries=100, seed=0, learning_rate=math.inf)
