"""Is the audit worth anything? A mutation test of the trainer: each injected bug is caught at epsilon 3."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.privacy.canaries import losses, network, plan_for, records
from vestry_privacy import auditing, dpsgd
from vestry_privacy.auditing import audit_trainer, canary_scores
from vestry_privacy.canary_bounds import NoiseEstimate, estimate_noise
from vestry_privacy.dpsgd import PrivateSteps
from vestry_privacy.noise import NoiseSource, add_gaussian
from vestry_privacy.plan import Mechanism, PrivacyPlan
from vestry_privacy.sampling import PoissonSampler

Inject = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small matrices: threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def with_mechanism(change: Callable[[Mechanism], Mechanism]) -> Inject:
    """A plan that hands out another mechanism than it accounts for."""
    original = PrivacyPlan.mechanism

    def inject(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(PrivacyPlan, "mechanism", lambda self, seed=None: change(original(self, seed)))

    return inject


def half_the_noise(rule: Mechanism) -> Mechanism:
    return replace(rule, noise_multiplier=rule.noise_multiplier / 2)


def no_clipping(rule: Mechanism) -> Mechanism:
    """A bound that nobody reaches, and the noise of the true one."""
    return replace(rule, clip=rule.clip * 1e6, noise_multiplier=rule.noise_multiplier / 1e6)


def larger_batches(rule: Mechanism) -> Mechanism:
    return replace(rule, sampler=PoissonSampler(1.5 * rule.sampler.sampling_probability))


def noise_missing_every_fourth_step(patch: pytest.MonkeyPatch) -> None:
    calls = 0

    def forgetful(
        total: NDArray[np.float64], clip: float, noise: float, source: NoiseSource, *more: Any
    ) -> NDArray[np.float64]:
        nonlocal calls
        calls += 1
        return total if calls % 4 == 0 else add_gaussian(total, clip, noise, source, *more)

    patch.setattr(dpsgd, "add_gaussian", forgetful)


def half_the_steps_counted(patch: pytest.MonkeyPatch) -> None:
    original = PrivateSteps.gradient
    patch.setattr(PrivateSteps, "gradient", lambda self: original(self) + original(self))


def records_are_clipped_instead_of_persons(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(auditing, "group_units", lambda unit: dpsgd.group_units(np.arange(len(unit))))


def noise_seen(plan: PrivacyPlan, each: int = 1) -> NoiseEstimate:
    """The noise multiplier that the canaries saw, and its interval: below the plan's it refutes the claim."""
    seen = canary_scores(plan, network(), losses, *records(each), canaries=5000, seed=0)
    return estimate_noise(seen.scores, seen.inside, plan.sampling_probability, plan.steps)


BUGS: dict[str, Inject] = {
    "half the noise": with_mechanism(half_the_noise),
    "no clipping": with_mechanism(no_clipping),
    "noise missing every fourth step": noise_missing_every_fourth_step,
    "half the steps counted": half_the_steps_counted,
    "half as many again in a batch": with_mechanism(larger_batches),
    "records are clipped instead of persons": records_are_clipped_instead_of_persons,
}


@pytest.mark.parametrize("bug", BUGS)
def test_bug_is_caught_at_epsilon_3(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    of_patients = "persons" in bug
    plan = plan_for(3.0, 0.2, 40, "patient" if of_patients else "record")
    BUGS[bug](monkeypatch)
    plan = replace(plan, adjacency="add-remove", persons=None)  # more units than places would be refused
    assert noise_seen(plan, 2 if of_patients else 1).most < plan.noise_multiplier


def test_without_a_bug_nothing_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same wrapping, with nothing changed."""
    with_mechanism(lambda rule: rule)(monkeypatch)
    plan = plan_for(3.0, 0.2, 40)
    assert noise_seen(plan).most > plan.noise_multiplier


def test_the_audit_says_that_a_claim_is_refuted(monkeypatch: pytest.MonkeyPatch) -> None:
    with_mechanism(half_the_noise)(monkeypatch)
    result = audit_trainer(plan_for(3.0, 1.0, 15), network(), losses, *records(), seed=0)
    assert not result.holds
    assert result.epsilon_claimed == pytest.approx(3.0, rel=0.005)
    assert 5 < result.interval[0] < result.epsilon_estimate < result.interval[1] < 9


def test_the_order_of_the_gradient_is_what_the_audit_relies_on() -> None:
    """The canaries' parameters are the last ones: a canary moves none of the others."""
    plan = replace(plan_for(3.0, 1.0, 15), noise_multiplier=1e-9, steps=1)
    inputs, targets, unit = records()
    module = network()
    sizes: list[torch.Tensor] = []
    original = PrivateSteps.gradient

    def keep(self: PrivateSteps) -> torch.Tensor:
        sizes.append(original(self))
        return sizes[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PrivateSteps, "gradient", keep)
        canary_scores(plan, module, losses, inputs, targets, unit, canaries=120, seed=0, learning_rate=0.0)
    alone = PrivateSteps(
        module,
        losses,
        plan.mechanism(0),
        inputs,
        targets,
        dpsgd.group_units(unit),
    ).gradient()
    torch.testing.assert_close(sizes[0][: len(alone)], alone, atol=1e-5, rtol=1e-4)
