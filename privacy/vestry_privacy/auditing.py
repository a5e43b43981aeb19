"""The canary audit: what the trainer itself gives away, measured inside the real trainer.

The study's network gets m more parameters that no record of a patient moves. Canary i is a privacy unit of
its own whose gradient lies along the i-th of them, longer than the clip, so that clipping leaves exactly C
(dummy-parameter canaries: Andrew et al., ICLR 2024, arXiv:2302.03098). A coin decides whether a canary is in
the training data or its place is empty, all in one run (Steinke, Nasr, Jagielski, NeurIPS 2023,
arXiv:2305.08846). What a canary's parameter moved, over all steps, is its score. Sampling, clipping, sum,
noise and normaliser are those of :class:`~vestry_privacy.dpsgd.PrivateSteps` on the mechanism of the plan.

The m parameters are the weights of one Linear layer of r inputs and r outputs, m = r^2 or a little less:
canary i has the one-hot input i mod r and its loss reads output i div r, so its gradient is one weight.

What it can find: too little noise, in all steps or some; a clip that does not hold, or holds for a record
and not for a person; a higher sampling probability; more steps than are counted. What it cannot: noise that
can be foretold, a normaliser made from the data, whatever leaves beside the gradients. It is an attack: on
patients' data it would have to be charged, so it belongs into simulations.

    VestryError
    └── AuditError    nothing can be measured so

Symbols: m canaries, C clipping norm, sigma noise multiplier, q sampling probability, T steps.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from vestry_privacy.accounting import epsilon
from vestry_privacy.canary_bounds import epsilon_of_noise, estimate_noise, lower_bound, right_guesses
from vestry_privacy.dpsgd import PrivateSteps, group_units
from vestry_privacy.errors import VestryError
from vestry_privacy.gradients import Losses
from vestry_privacy.plan import Mechanism, PrivacyPlan
from vestry_privacy.sampling import PoissonSampler, least_cap

__all__ = ["AuditError", "AuditResult", "CanaryScores", "audit_trainer", "canary_scores"]

LOUDNESS = 8.0
"""Length of a canary's gradient over C: a trainer that does not clip is heard from afar."""

_FEWEST = 100
_LEAST_NOISE_SEEN = 0.01


class AuditError(VestryError):
    """Nothing can be measured so."""


@dataclass(frozen=True)
class CanaryScores:
    """What the canaries' parameters moved.

    Attributes:
        scores: (m,) mean over the steps, in units of C: about q where a canary is in, 0 where it is out.
        inside: (m,) was the canary in the data?
    """

    scores: NDArray[np.float64]
    inside: NDArray[np.bool_]


@dataclass(frozen=True)
class AuditResult:
    """What an audit says.

    Attributes:
        epsilon_claimed: by PLD, of the plan's steps alone: releases beside them are not audited.
        epsilon_estimate: of the claimed mechanism with the noise that was seen.
        interval: of the estimate.
        epsilon_lower_bound: that the guesses of one run prove, whatever the scores' shape.
        noise_multiplier: of the plan.
        noise_multiplier_estimate: that was seen; infinite where nothing was.
        delta: of all these epsilons.
        confidence: of the interval (two-sided) and of the lower bound.
        canaries: m.
        steps: T.
    """

    epsilon_claimed: float
    epsilon_estimate: float
    interval: tuple[float, float]
    epsilon_lower_bound: float
    noise_multiplier: float
    noise_multiplier_estimate: float
    delta: float
    confidence: float
    canaries: int
    steps: int

    @property
    def holds(self) -> bool:
        """Is the claim not refuted?"""
        return self.epsilon_claimed >= max(self.interval[0], self.epsilon_lower_bound)


def audit_trainer(
    plan: PrivacyPlan,
    network: nn.Module,
    losses: Losses,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    unit: NDArray[np.int64],
    *,
    canaries: int = 5000,
    seed: int = 0,
    learning_rate: float = 0.1,
    confidence: float = 0.95,
    progress: Callable[[int], None] = lambda step: None,
) -> AuditResult:
    """Train with canaries and compare what was seen with what the plan claims.

    Args:
        plan: of the whole study.
        network: trained in place.
        losses: of the study.
        inputs: (n, ...) records beside the canaries: simulated or public, at least one.
        targets: (n,).
        unit: (n,) number of each record's person.
        canaries: m.
        seed: of the coins, and of the noise where the plan simulates it.
        learning_rate: of plain SGD.
        confidence: of the interval and of the lower bound.
        progress: is told the number of steps taken.

    Raises:
        AuditError: too few canaries, or the network diverged.
    """
    seen = canary_scores(
        plan,
        network,
        losses,
        inputs,
        targets,
        unit,
        canaries=canaries,
        seed=seed,
        learning_rate=learning_rate,
        progress=progress,
    )
    q, steps = plan.sampling_probability, plan.steps
    noise = estimate_noise(seen.scores, seen.inside, q, steps, confidence)
    estimate, low, high = (
        epsilon_of_noise(sigma, q, steps, plan.delta) for sigma in (noise.value, noise.most, noise.least)
    )
    right, guesses = right_guesses(seen.scores, seen.inside)
    return AuditResult(
        epsilon_claimed=epsilon([plan.event(steps)], plan.delta, "pld", plan.adjacency),
        epsilon_estimate=estimate,
        interval=(low, high),
        epsilon_lower_bound=lower_bound(right, guesses, canaries, plan.delta, confidence),
        noise_multiplier=plan.noise_multiplier,
        noise_multiplier_estimate=noise.value,
        delta=plan.delta,
        confidence=confidence,
        canaries=canaries,
        steps=steps,
    )


def canary_scores(
    plan: PrivacyPlan,
    network: nn.Module,
    losses: Losses,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    unit: NDArray[np.int64],
    *,
    canaries: int,
    seed: int,
    learning_rate: float = 0.1,
    progress: Callable[[int], None] = lambda step: None,
) -> CanaryScores:
    """Take the plan's steps with canaries in the data; arguments as for :func:`audit_trainer`.

    A step weighs in the score by one over the variance that it shows in the parameters of canaries that are
    out: with equal noise the score is the plain mean, and a step without noise does not drown in the others.

    Raises:
        AuditError: too few canaries, or the network diverged.
    """
    if canaries < _FEWEST:
        raise AuditError(f"canaries={canaries}: says nothing about epsilon; use {_FEWEST} or more")
    inside = np.random.default_rng(seed).random(canaries) < 0.5
    mechanism = _with_room(plan.mechanism(seed if plan.noise == "simulation" else None), unit, canaries)
    audited = _AuditedNetwork(network, inputs.shape[1:], math.isqrt(canaries - 1) + 1)
    audited.train()
    each = 1 if plan.unit == "record" or plan.unit_column == "row" else min(2, plan.max_records)
    marked, labels, owners = _with_canaries(inputs, targets, unit, np.flatnonzero(inside), each)
    steps = PrivateSteps(
        audited,
        audited.losses(losses, LOUDNESS * plan.clip),
        mechanism,
        marked,
        labels,
        group_units(owners),
    )
    floor = (_LEAST_NOISE_SEEN * plan.noise_multiplier) ** 2
    scores, weights = np.zeros(canaries), 0.0
    for step in range(1, plan.steps + 1):
        gradient = steps.gradient()
        audited.move(gradient, learning_rate)
        released = gradient[-audited.extra :][:canaries].cpu().numpy().astype(np.float64)
        released *= mechanism.normaliser / plan.clip
        weight = 1 / max(float(released[~inside].var()), floor)
        scores += weight * released
        weights += weight
        progress(step)
    if not audited.finite():
        raise AuditError("the network diverged, which hides the canaries; lower training.learning_rate")
    return CanaryScores(scores / weights, inside)


def _with_room(mechanism: Mechanism, unit: NDArray[np.int64], canaries: int) -> Mechanism:
    """The plan's mechanism with places for the canaries: same q, clip, noise, normaliser and source."""
    if mechanism.slots is None:
        return mechanism
    slots = max(mechanism.slots, len(np.unique(unit))) + canaries
    sampler = mechanism.sampler
    if sampler.cap is not None:  # a public number of the enlarged population, as the plan's is of its own
        q = sampler.sampling_probability
        sampler = PoissonSampler(q, least_cap(slots, q))
    return replace(mechanism, slots=slots, sampler=sampler)


def _with_canaries(
    inputs: torch.Tensor,
    targets: torch.Tensor,
    unit: NDArray[np.int64],
    chosen: NDArray[np.int64],
    each: int,
) -> tuple[torch.Tensor, torch.Tensor, NDArray[np.int64]]:
    """Records, canaries below them, and a last column that numbers the canaries from 1; 0 is none."""
    flat = inputs.reshape(len(inputs), -1)
    number = torch.from_numpy(np.repeat(chosen, each) + 1).to(flat)
    zeros = torch.zeros(len(number), flat.shape[1]).to(flat)
    none = torch.zeros(len(flat), 1).to(flat)
    marked = torch.cat([torch.cat([flat, none], 1), torch.cat([zeros, number[:, None]], 1)])
    labels = torch.cat([targets, targets[:1].expand(len(number))])
    people = int(unit.max()) + 1
    owners = np.concatenate([unit, people + np.repeat(np.arange(len(chosen)), each)]).astype(np.int64)
    return marked, labels, owners


class _AuditedNetwork(nn.Module):
    """A network, and beside it one weight for each canary that only this canary moves."""

    def __init__(self, network: nn.Module, shape: torch.Size, side: int) -> None:
        super().__init__()
        self.network = network
        self.canaries = nn.Linear(side, side, bias=False)
        self.canaries.to(next(network.parameters()).device)
        nn.init.zeros_(self.canaries.weight)
        self.extra = side**2
        self._shape, self._side = shape, side

    def forward(self, marked: torch.Tensor) -> torch.Tensor:
        """(R, p + 1) -> (R, k + 2): the network's outputs, a canary's weight, and whether it is a canary."""
        number = marked[:, -1].long()
        is_canary = (number > 0).float()[:, None]
        place = (number - 1).clamp(0, self.extra - 1)
        row = functional.one_hot(place % self._side, self._side).float() * is_canary
        column = functional.one_hot(place // self._side, self._side).float()
        weight = (self.canaries(row) * column).sum(1, keepdim=True)
        outputs = self.network(marked[:, :-1].reshape(-1, *self._shape))
        return torch.cat([outputs.float(), weight.float(), is_canary], 1)

    @staticmethod
    def losses(own: Losses, slope: float) -> Losses:
        """The study's losses for records, ``slope`` times its weight for a canary."""

        def of_both(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            of_records = own(outputs[:, :-2], targets)
            return torch.where(outputs[:, -1] > 0, slope * outputs[:, -2], of_records)

        return of_both

    @torch.no_grad()
    def move(self, gradient: torch.Tensor, rate: float) -> None:
        """A step of plain SGD on the study's parameters."""
        start = 0
        for parameter in self.network.parameters():
            if parameter.requires_grad:
                part = gradient[start : start + parameter.numel()]
                parameter.sub_(part.view_as(parameter), alpha=rate)
                start += parameter.numel()

    def finite(self) -> bool:
        """Are the study's parameters numbers?"""
        return all(bool(torch.isfinite(parameter).all()) for parameter in self.network.parameters())
