"""Poisson sampling of privacy units: whole patients, each with the same probability, independently.

The unit is drawn, not the row: a patient of ten rows is no likelier than one of one. A batch that comes out
empty is a step with noise only, and counts. Batches above a cap are cut uniformly at random, and the
truncated event is what is charged (arXiv:2508.15089); a cap is free only from five deviations above the mean.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vestry_privacy.noise import NoiseSource

__all__ = ["PoissonSampler", "least_cap"]

Units = NDArray[np.int64]


def least_cap(units: int, sampling_probability: float) -> int:
    """The smallest cap that costs nothing: five standard deviations above the mean, at most all units."""
    mean = units * sampling_probability
    deviation = math.sqrt(mean * (1 - sampling_probability))
    return min(units, math.ceil(mean + 5 * deviation))


@dataclass(frozen=True)
class PoissonSampler:
    """Draws the units of each step.

    Attributes:
        sampling_probability: q, a constant of the study.
        cap: most units in a step; None for no cap.
    """

    sampling_probability: float
    cap: int | None = None

    def __post_init__(self) -> None:
        """Refuse what is no probability, or a cap that holds nobody."""
        if not 0 < self.sampling_probability <= 1:
            raise ValueError(f"sampling_probability={self.sampling_probability} must be in (0, 1]")
        if self.cap is not None and self.cap < 1:
            raise ValueError(f"cap={self.cap} must be at least 1")

    def draw(self, units: int, source: NoiseSource) -> Units:
        """Draw one step's units.

        Args:
            units: number n of units at the site.
            source: of randomness; the noise's own.

        Returns:
            Sorted indexes in [0, n), possibly none.

        Guarantees:
            Without a cap each unit is in with probability q, up to 2^-53, independently of all others.
        """
        chosen = np.flatnonzero(source.uniforms(units) <= self.sampling_probability)
        if self.cap is not None and len(chosen) > self.cap:
            keys = source.uniforms(len(chosen))
            chosen = np.sort(chosen[np.argsort(keys, kind="stable")[: self.cap]])
        return chosen.astype(np.int64)
