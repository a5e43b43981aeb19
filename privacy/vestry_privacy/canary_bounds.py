"""What the scores of canaries say about epsilon. Pure functions; nothing here trains.

Two answers, of unlike strength:

- An **estimate** with an interval (:func:`estimate_noise`, :func:`epsilon_of_noise`). The scores of canaries
  that are in and of those that are out are two bells, a distance apart. With everybody in every step that
  distance is the mu of Gaussian differential privacy (Dong, Roth, Su, JRSS B 84, 2022, arXiv:1905.02383;
  fitted to dummy-parameter canaries of one run by Andrew et al., ICLR 2024, arXiv:2302.03098). Under Poisson
  sampling no one mu describes a mechanism, so what is fitted is the noise multiplier that the claimed
  mechanism would need to show that distance, q sqrt(T) / sigma, and epsilon is the accountant's for it.
- A **lower bound** (:func:`lower_bound`) that asks nothing of the scores' shape: who guesses so many
  memberships of one run right cannot face a smaller epsilon (Steinke, Nasr, Jagielski, NeurIPS 2023,
  arXiv:2305.08846, theorem 5.2 and appendix D). It is loose: about half of the truth with 5,000 canaries.

Symbols: m canaries, sigma noise multiplier, q sampling probability, T steps.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from vestry_privacy.accounting import PoissonGaussian, epsilon

__all__ = [
    "GUESSED_SHARE",
    "NoiseEstimate",
    "epsilon_of_noise",
    "estimate_noise",
    "lower_bound",
    "right_guesses",
]

Scores = NDArray[np.float64]
Membership = NDArray[np.bool_]

GUESSED_SHARE = 0.05
"""Of the canaries that :func:`right_guesses` guesses, fixed before any score is seen."""

_LEAST_NOISE = 1e-3


@dataclass(frozen=True)
class NoiseEstimate:
    """The noise multiplier that the claimed mechanism would need to show what was seen.

    Attributes:
        value: sigma; infinite where canaries in and out cannot be told apart.
        least: lower end of the interval.
        most: upper end; may be infinite.
    """

    value: float
    least: float
    most: float


def estimate_noise(
    scores: Scores,
    inside: Membership,
    sampling_probability: float,
    steps: int,
    confidence: float = 0.95,
) -> NoiseEstimate:
    """Fit sigma to the distance between the scores of canaries in and out.

    Args:
        scores: (m,) higher for canaries that are in.
        inside: (m,).
        sampling_probability: q that is claimed.
        steps: T that are claimed.
        confidence: of the two-sided interval, by the delta method.

    Raises:
        ValueError: fewer than two canaries in, or out.
    """
    own, others = scores[inside], scores[~inside]
    if len(own) < 2 or len(others) < 2:
        raise ValueError(f"canaries in={len(own)}, out={len(others)}: need at least two of each")
    deviation = float(others.std(ddof=1))
    distance = float(own.mean() - others.mean()) / deviation
    of_means = (own.var(ddof=1) / len(own) + others.var(ddof=1) / len(others)) / deviation**2
    of_deviation = distance**2 / (2 * (len(others) - 1))
    reach = NormalDist().inv_cdf(0.5 + confidence / 2) * math.sqrt(of_means + of_deviation)
    claimed = sampling_probability * math.sqrt(steps)
    value, least, most = (
        claimed / shown if shown > 0 else math.inf for shown in (distance, distance + reach, distance - reach)
    )
    return NoiseEstimate(value, least, most)


def epsilon_of_noise(sigma: float, sampling_probability: float, steps: int, delta: float) -> float:
    """Epsilon of the claimed mechanism if sigma were its noise multiplier; 0 for an infinite one."""
    if math.isinf(sigma):
        return 0.0
    event = PoissonGaussian(
        noise_multiplier=max(sigma, _LEAST_NOISE), sampling_probability=sampling_probability, count=steps
    )
    return epsilon([event], delta)


def right_guesses(scores: Scores, inside: Membership) -> tuple[int, int]:
    """Guess the highest scores to be in and as many of the lowest to be out.

    Returns:
        How many guesses are right, and how many there are.
    """
    half = max(1, round(len(scores) * GUESSED_SHARE / 2))
    order = np.argsort(scores, kind="stable")
    right = int((~inside[order[:half]]).sum()) + int(inside[order[-half:]].sum())
    return right, 2 * half


def lower_bound(right: int, guesses: int, canaries: int, delta: float, confidence: float = 0.95) -> float:
    """The largest epsilon that the guesses rule out.

    Args:
        right: guesses that were right.
        guesses: r, fixed before the scores were seen.
        canaries: m, each in with probability one half, by a coin of its own.
        delta: of the guarantee.
        confidence: one-sided.

    Returns:
        Epsilon; 0 where nothing is ruled out.

    Guarantees:
        A trainer that is (epsilon, delta)-DP, where a canary is replaced by none, gives a larger value than
        its epsilon with a probability of at most 1 - ``confidence``.
    """
    low, high = 0.0, 64.0
    if _surprise(right, guesses, canaries, low, delta) > 1 - confidence:
        return 0.0
    for _ in range(60):
        middle = (low + high) / 2
        if _surprise(right, guesses, canaries, middle, delta) <= 1 - confidence:
            low = middle
        else:
            high = middle
    return low


def _surprise(right: int, guesses: int, canaries: int, value: float, delta: float) -> float:
    """At most the probability of so many right guesses under (value, delta)-DP."""
    wins = 1 / (1 + math.exp(-value))
    probabilities = _binomial(guesses, wins)
    at_least = float(probabilities[right:].sum())
    below = np.cumsum(probabilities[:right][::-1])
    worst = float((below / np.arange(1, right + 1)).max()) if right else 0.0
    return min(1.0, at_least + 2 * canaries * delta * worst)


def _binomial(trials: int, wins: float) -> NDArray[np.float64]:
    """(trials + 1,) probabilities of so many wins; ``wins`` below 1."""
    if wins == 1.0:
        return np.concatenate([np.zeros(trials), np.ones(1)])
    logs = np.array([math.lgamma(k + 1) for k in range(trials + 1)])
    k = np.arange(trials + 1)
    chosen = logs[trials] - logs - logs[::-1]
    probabilities: NDArray[np.float64] = np.exp(
        chosen + k * math.log(wins) + (trials - k) * math.log1p(-wins)
    )
    return probabilities
