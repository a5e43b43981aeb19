"""Epsilon from privacy loss distributions: the accountant that Vestry reports.

Gaussian releases compose to one Gaussian release, whose epsilon has a closed form (Balle and Wang, ICML 2018,
arXiv:1805.06530, theorem 8). Everything else goes through dp-accounting's discretised distributions
(pessimistic connect-the-dots; Doroshenko et al., PoPETs 2022, arXiv:2207.04380), of which one step's is built
once and kept: building it costs a hundred times what composing it does.

Symbols: mu sensitivity over noise deviation (1 / sigma), q sampling probability, T steps.
"""

import math
from collections.abc import Sequence
from functools import lru_cache, reduce
from typing import Any, Literal

from vestry_privacy.events import Event, GaussianRelease, TruncatedPoissonGaussian

__all__ = ["gaussian_epsilon", "loss_epsilon"]

_INTERVAL = 1e-4  # dp-accounting's own default: width of the cells of a distribution


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Epsilon at ``delta`` of a Gaussian mechanism, exactly.

    Args:
        mu: sensitivity over noise deviation, 0 or more.
        delta: in (0, 1).

    Returns:
        The least epsilon whose delta, Phi(mu/2 - epsilon/mu) - e^epsilon Phi(-mu/2 - epsilon/mu), is at most
        ``delta``, rounded up in the ninth digit.
    """
    from scipy.optimize import brentq

    if mu <= 0 or _gaussian_delta(mu, 0.0) <= delta:
        return 0.0
    high = 1.0
    while _gaussian_delta(mu, high) > delta:
        high *= 2
    found = float(brentq(lambda value: _gaussian_delta(mu, value) - delta, 0.0, high, xtol=1e-12))
    return found * (1 + 1e-9)


def _gaussian_delta(mu: float, epsilon: float) -> float:
    from scipy.special import log_ndtr

    above, below = log_ndtr(mu / 2 - epsilon / mu), epsilon + log_ndtr(-mu / 2 - epsilon / mu)
    return float(math.exp(above) * -math.expm1(min(0.0, below - above)))


def loss_epsilon(
    events: Sequence[Event], delta: float, adjacency: Literal["zero-out", "add-remove"]
) -> float:
    """Epsilon at ``delta`` of all events together.

    Args:
        events: on the same persons, equal ones already counted together.
        delta: in (0, 1).
        adjacency: of the neighbouring data sets; for a Gaussian release both cost the same.

    Guarantees:
        An upper bound of the true epsilon, up to float rounding.
    """
    precision = math.fsum(e.count / e.noise_multiplier**2 for e in events if _is_gaussian(e))
    steps = [event for event in events if not _is_gaussian(event)]
    if not steps:
        return gaussian_epsilon(math.sqrt(precision), delta)
    parts = [
        _step(event.model_copy(update={"count": 1}), adjacency).self_compose(event.count) for event in steps
    ]
    if precision:
        parts.append(_gaussian(1 / math.sqrt(precision), adjacency))
    composed = reduce(lambda left, right: left.compose(right), parts)
    return float(composed.get_epsilon_for_delta(delta))


def _is_gaussian(event: Event) -> bool:
    if isinstance(event, TruncatedPoissonGaussian):
        return False
    return isinstance(event, GaussianRelease) or event.sampling_probability == 1


@lru_cache(maxsize=256)
def _step(event: Event, adjacency: Literal["zero-out", "add-remove"]) -> Any:
    """The loss distribution of one step."""
    from dp_accounting.pld import privacy_loss_distribution as pld

    if isinstance(event, TruncatedPoissonGaussian):
        return pld.from_truncated_subsampled_gaussian_mechanism(
            dataset_size=event.persons,
            sampling_probability=event.sampling_probability,
            truncated_batch_size=event.cap,
            noise_multiplier=event.noise_multiplier,
            value_discretization_interval=_INTERVAL,
            neighboring_relation=_relation(adjacency),
        )
    if isinstance(event, GaussianRelease):
        return _gaussian(event.noise_multiplier, adjacency)
    return pld.from_gaussian_mechanism(
        standard_deviation=event.noise_multiplier,
        value_discretization_interval=_INTERVAL,
        sampling_prob=event.sampling_probability,
        neighboring_relation=_relation(adjacency),
    )


@lru_cache(maxsize=256)
def _gaussian(sigma: float, adjacency: Literal["zero-out", "add-remove"]) -> Any:
    from dp_accounting.pld import privacy_loss_distribution as pld

    return pld.from_gaussian_mechanism(
        standard_deviation=sigma,
        value_discretization_interval=_INTERVAL,
        neighboring_relation=_relation(adjacency),
    )


def _relation(adjacency: Literal["zero-out", "add-remove"]) -> Any:
    from dp_accounting import NeighboringRelation

    if adjacency == "zero-out":
        return NeighboringRelation.REPLACE_SPECIAL
    return NeighboringRelation.ADD_OR_REMOVE_ONE
