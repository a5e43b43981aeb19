"""Faults on purpose, on a simulated clock: sites that do not answer, or answer too late.

Whether a site fails is a function of (seed, site, round, attempt), so a resumed run meets the same faults.
"""

from dataclasses import dataclass

import numpy as np

from vestry_strategies.seeds import derive_seed

__all__ = ["Faults"]


@dataclass(frozen=True)
class Faults:
    """Which train orders get no reply in time.

    Attributes:
        drop_out: probability that a site does not answer.
        latency_seconds: median of a site's simulated time for an answer; 0 answers at once.
        latency_sigma: spread of its logarithm (log-normal).
        seed: of the draws.
    """

    drop_out: float = 0.0
    latency_seconds: float = 0.0
    latency_sigma: float = 1.0
    seed: int = 0

    def answers(self, site: str, round_number: int, attempt: int, deadline_seconds: float) -> bool:
        """Does the site answer this train order before the deadline?"""
        if not self.drop_out and not self.latency_seconds:
            return True
        generator = np.random.default_rng(derive_seed(self.seed, "fault", site, round_number, attempt))
        if generator.random() < self.drop_out:
            return False
        if not self.latency_seconds:
            return True
        latency = self.latency_seconds * np.exp(self.latency_sigma * generator.standard_normal())
        return bool(latency <= deadline_seconds)
