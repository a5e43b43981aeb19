"""FedAvg: the mean of the sites' updates is the step.

McMahan, Moore, Ramage, Hampson, Aguera y Arcas: Communication-Efficient Learning of Deep Networks from
Decentralized Data. AISTATS 2017, arXiv:1602.05629, Algorithm 1. The server learning rate is that of
Reddi et al., arXiv:2003.00295, Algorithm 1 (1 gives FedAvg).
"""

import numpy as np

from vestry_strategies.parameters import Vector
from vestry_strategies.strategy import Mean, Strategy
from vestry_strategies.sums import Arrays

__all__ = ["fedavg"]


def fedavg(server_learning_rate: float = 1.0) -> Strategy:
    """x <- x + eta u. The sites take plain local steps."""

    def server_step(state: Arrays, model: Vector, mean: Mean) -> tuple[Vector, Arrays]:
        return (model.astype(np.float64) + server_learning_rate * mean).astype(np.float32), state

    return Strategy(name="fedavg", server_step=server_step)
