"""The contract of a strategy: what a site does in its local steps, what the server does with the mean.

Symbols (as in the papers)::

    x   the global model, shape (d,)            y_i   site i's model after its local steps
    u_i = y_i - x, site i's update              w_i   its weight
    u   = sum w_i u_i / sum w_i                 s     the server's state, named arrays

A site sends one vector, ``u_i`` followed by what its :class:`LocalRule` adds; so the whole of it goes
through one secure sum. A strategy that must see each ``u_i`` declares ``needs_individual_updates`` and
brings ``combine``; secure aggregation is then refused with it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from vestry_strategies.parameters import Vector
from vestry_strategies.sums import Arrays

if TYPE_CHECKING:
    import torch

__all__ = [
    "LocalEnd",
    "LocalRule",
    "LocalStart",
    "Mean",
    "ServerStep",
    "Strategy",
    "weighted_mean",
]

Mean = NDArray[np.float64]
"""A mean update, shape (d + k,), float64."""


@dataclass(frozen=True)
class LocalStart:
    """What a site's half knows when its local steps begin.

    Attributes:
        anchor: (trainable,) the global parameters x.
        shared: the server's arrays that the strategy broadcasts.
        state: this site's own arrays from the last round it took part in; empty at first.
        learning_rate: of this round.
    """

    anchor: "torch.Tensor"
    shared: Arrays
    state: Arrays
    learning_rate: float


@dataclass(frozen=True)
class LocalEnd:
    """What a site's half leaves behind.

    Attributes:
        state: kept at the site for the next round; never sent.
        extra: (k,) float32 appended to the update that is sent.
    """

    state: Arrays = field(default_factory=dict)
    extra: Vector = field(default_factory=lambda: np.zeros(0, dtype=np.float32))


class LocalRule(Protocol):
    """The site's half for one round."""

    def correct(self, gradient: "torch.Tensor", weights: "torch.Tensor") -> None:
        """Change the gradient in place before a local step; both of shape (trainable,).

        Under differential privacy this comes after clipping and noise, so it may depend on the
        weights and on what the server sent, not on data.
        """
        ...

    def finish(self, weights: "torch.Tensor", steps: int) -> LocalEnd:
        """Called once after the last of ``steps`` local steps."""
        ...


ServerStep = Callable[[Arrays, Vector, Mean], tuple[Vector, Arrays]]
"""(state s, model x of shape (d,), mean u of shape (d + k,)) -> (next model, next state)."""


@dataclass(frozen=True)
class Strategy:
    """Both halves of an algorithm.

    Attributes:
        name: as in the study file.
        server_step: makes the next model.
        start_state: (d) -> the server's first state.
        start_local: makes the site's half of a round; None for plain local steps.
        broadcast: names of the server's arrays that travel with the model.
        extra: (d) -> number k of values appended to each update.
        needs_individual_updates: it must see each update.
        combine: ((n, d + k) float64 updates, (n,) weights) -> (d + k,); only with
            ``needs_individual_updates``, where it replaces the weighted mean.
    """

    name: str
    server_step: ServerStep
    start_state: Callable[[int], Arrays] = lambda size: {}
    start_local: Callable[[LocalStart], LocalRule] | None = None
    broadcast: tuple[str, ...] = ()
    extra: Callable[[int], int] = lambda size: 0
    needs_individual_updates: bool = False
    combine: Callable[[NDArray[np.float64], NDArray[np.float64]], Mean] | None = None

    def __post_init__(self) -> None:
        """Refuse half a declaration."""
        if self.needs_individual_updates != (self.combine is not None):
            raise ValueError(f"strategy={self.name}: needs_individual_updates goes with combine")


def weighted_mean(updates: Sequence[Vector], weights: Sequence[float]) -> Mean:
    """u = sum w_i u_i / sum w_i in float64, added in the order given.

    Args:
        updates: n vectors of shape (d,).
        weights: n weights, none negative, not all 0.

    Raises:
        ValueError: no updates, or a sum of weights that is not above 0.
    """
    total = float(sum(weights))
    if not updates or not total > 0:
        raise ValueError(f"sum of weights={total} must be above 0")
    mean: Mean = np.zeros(updates[0].shape, dtype=np.float64)
    for update, weight in zip(updates, weights, strict=True):
        mean += update.astype(np.float64) * weight
    mean /= total
    return mean
