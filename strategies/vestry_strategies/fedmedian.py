"""FedMedian: the coordinate-wise median of the updates withstands a minority of wrong ones.

Yin, Chen, Ramchandran, Bartlett: Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates.
ICML 2018, arXiv:1803.01498, Definition 1, option I. The weights of the sites play no part.
"""

import numpy as np
from numpy.typing import NDArray

from vestry_strategies.fedavg import fedavg
from vestry_strategies.strategy import Mean, Strategy

__all__ = ["fedmedian"]


def _median(updates: NDArray[np.float64], weights: NDArray[np.float64]) -> Mean:
    median: Mean = np.median(updates, axis=0)
    return median


def fedmedian() -> Strategy:
    """x <- x + median of the u_i, coordinate by coordinate."""
    return Strategy(
        name="fedmedian",
        server_step=fedavg().server_step,
        needs_individual_updates=True,
        combine=_median,
    )
