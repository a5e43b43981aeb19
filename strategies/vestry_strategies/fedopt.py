"""FedAdagrad, FedAdam, FedYogi: adaptive optimizers at the server.

Reddi, Charles, Zaheer, Garrett, Rush, Konecny, Kumar, McMahan: Adaptive Federated Optimization. ICLR 2021,
arXiv:2003.00295, Algorithm 2 (no bias correction; v starts at tau^2)::

    m <- beta1 m + (1 - beta1) u
    v <- v + u^2                                        FedAdagrad
    v <- v - (1 - beta2) u^2 sign(v - u^2)              FedYogi
    v <- beta2 v + (1 - beta2) u^2                      FedAdam
    x <- x + eta m / (sqrt(v) + tau)
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vestry_strategies.parameters import Vector
from vestry_strategies.strategy import Mean, Strategy
from vestry_strategies.sums import Arrays

__all__ = ["fedadagrad", "fedadam", "fedyogi"]

SecondMoment = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]


def fedadagrad(server_learning_rate: float = 0.1, beta1: float = 0.0, tau: float = 1e-3) -> Strategy:
    """v adds up u^2; beta1 = 0 as in the paper's experiments."""
    return _fedopt("fedadagrad", server_learning_rate, beta1, tau, lambda v, square: v + square)


def fedadam(
    server_learning_rate: float = 0.1,
    beta1: float = 0.9,
    beta2: float = 0.99,
    tau: float = 1e-3,
) -> Strategy:
    """v is the moving mean of u^2."""
    return _fedopt(
        "fedadam",
        server_learning_rate,
        beta1,
        tau,
        lambda v, square: beta2 * v + (1 - beta2) * square,
    )


def fedyogi(
    server_learning_rate: float = 0.1,
    beta1: float = 0.9,
    beta2: float = 0.99,
    tau: float = 1e-3,
) -> Strategy:
    """v moves towards u^2 by a step that does not depend on how far off it is."""
    return _fedopt(
        "fedyogi",
        server_learning_rate,
        beta1,
        tau,
        lambda v, square: v - (1 - beta2) * square * np.sign(v - square),
    )


def _fedopt(name: str, rate: float, beta1: float, tau: float, second_moment: SecondMoment) -> Strategy:
    def server_step(state: Arrays, model: Vector, mean: Mean) -> tuple[Vector, Arrays]:
        m = beta1 * state["m"] + (1 - beta1) * mean
        v = second_moment(state["v"], mean**2)
        stepped = model.astype(np.float64) + rate * m / (np.sqrt(v) + tau)
        return stepped.astype(np.float32), {"m": m, "v": v}

    return Strategy(
        name=name,
        server_step=server_step,
        start_state=lambda size: {"m": np.zeros(size), "v": np.full(size, tau**2)},
    )
