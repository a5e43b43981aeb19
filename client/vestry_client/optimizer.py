"""The local optimizers: torch's own update rules, without the classes around them.

torch.optim's classes load torch's compiler when the first one is made, a second and 60 MB for each process;
its functional forms are the same arithmetic on explicit state, which is what a site keeps between rounds.
"""

import numpy as np
import torch

from vestry_strategies.recipe import TrainingSpec
from vestry_strategies.sums import Arrays

__all__ = ["LocalOptimizer"]

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


class LocalOptimizer:
    """SGD (with momentum), Adam or AdamW on one flat tensor.

    Args:
        training: names the optimizer, its momentum and weight decay.
        learning_rate: of this round.
        state: moments from an earlier round, from :meth:`state`; empty to start afresh.
    """

    def __init__(self, training: TrainingSpec, learning_rate: float, state: Arrays) -> None:
        self._training = training
        self._rate = learning_rate
        self._state = {
            name: torch.from_numpy(np.array(array)).to(torch.float32) for name, array in state.items()
        }

    def step(self, weights: torch.Tensor, gradient: torch.Tensor) -> None:
        """Move the weights against the gradient, in place; both of shape (trainable,)."""
        with torch.no_grad():
            if self._training.optimizer == "sgd":
                self._sgd(weights, gradient)
            else:
                self._adam(weights, gradient)

    def state(self) -> dict[str, "np.ndarray[tuple[int, ...], np.dtype[np.float64]]"]:
        """The moments, for the next round; float64 holds float32 exactly."""
        return {name: value.detach().cpu().numpy().astype(np.float64) for name, value in self._state.items()}

    def _sgd(self, weights: torch.Tensor, gradient: torch.Tensor) -> None:
        from torch.optim.sgd import sgd

        momentum = self._state.get("momentum")
        buffers = [None if momentum is None else momentum.to(weights.device)]
        sgd(
            [weights],
            [gradient],
            buffers,
            foreach=False,
            weight_decay=self._training.weight_decay,
            momentum=self._training.momentum,
            lr=self._rate,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )
        if buffers[0] is not None:
            self._state["momentum"] = buffers[0]

    def _adam(self, weights: torch.Tensor, gradient: torch.Tensor) -> None:
        from torch.optim.adam import adam
        from torch.optim.adamw import adamw

        if not self._state:
            self._state = {"step": torch.tensor(0.0)}
        for name in ("mean", "square"):
            moment = self._state.get(name, torch.zeros_like(weights))
            self._state[name] = moment.to(weights.device)
        rule = adam if self._training.optimizer == "adam" else adamw
        rule(
            [weights],
            [gradient],
            [self._state["mean"]],
            [self._state["square"]],
            [],
            [self._state["step"]],
            foreach=False,
            amsgrad=False,
            beta1=_BETA1,
            beta2=_BETA2,
            lr=self._rate,
            weight_decay=self._training.weight_decay,
            eps=_EPSILON,
            maximize=False,
        )
