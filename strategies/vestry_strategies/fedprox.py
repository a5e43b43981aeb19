"""FedProx: a proximal term holds the sites' models near the global one.

Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith: Federated Optimization in Heterogeneous Networks. MLSys 2020,
arXiv:1812.06127, Algorithm 2: site i minimises F_i(y) + mu/2 |y - x|^2.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vestry_strategies.fedavg import fedavg
from vestry_strategies.strategy import LocalEnd, LocalStart, Strategy

if TYPE_CHECKING:
    import torch

__all__ = ["fedprox"]


@dataclass(frozen=True)
class _Proximal:
    mu: float
    anchor: "torch.Tensor"

    def correct(self, gradient: "torch.Tensor", weights: "torch.Tensor") -> None:
        gradient.add_(weights - self.anchor, alpha=self.mu)

    def finish(self, weights: "torch.Tensor", steps: int) -> LocalEnd:
        return LocalEnd()


def fedprox(mu: float = 0.01) -> Strategy:
    """Local gradient + mu (y - x); the server takes the mean, as in FedAvg."""

    def start_local(start: LocalStart) -> _Proximal:
        return _Proximal(mu, start.anchor)

    return Strategy(name="fedprox", server_step=fedavg().server_step, start_local=start_local)
