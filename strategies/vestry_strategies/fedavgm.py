"""FedAvgM: momentum at the server.

Hsu, Qi, Brown: Measuring the Effects of Non-Identical Data Distribution for Federated Visual
Classification. 2019, arXiv:1909.06335, section 4.3: v <- beta v + u, x <- x + eta v.
"""

import numpy as np

from vestry_strategies.parameters import Vector
from vestry_strategies.strategy import Mean, Strategy
from vestry_strategies.sums import Arrays

__all__ = ["fedavgm"]


def fedavgm(server_learning_rate: float = 1.0, server_momentum: float = 0.9) -> Strategy:
    """v <- beta v + u; x <- x + eta v, in float64."""

    def server_step(state: Arrays, model: Vector, mean: Mean) -> tuple[Vector, Arrays]:
        velocity = server_momentum * state["velocity"] + mean
        stepped = model.astype(np.float64) + server_learning_rate * velocity
        return stepped.astype(np.float32), {"velocity": velocity}

    return Strategy(
        name="fedavgm",
        server_step=server_step,
        start_state=lambda size: {"velocity": np.zeros(size)},
    )
