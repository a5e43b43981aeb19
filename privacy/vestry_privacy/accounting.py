"""From events to epsilon: pure functions over what was done, never over what was claimed.

The primary accountant composes privacy loss distributions (PLD; Koskela, Jälkö, Honkela, AISTATS 2020,
arXiv:1906.03049; pessimistic connect-the-dots discretisation, Doroshenko et al., PoPETs 2022,
arXiv:2207.04380), as dp-accounting implements it. RDP (Mironov, CSF 2017, arXiv:1702.07476) and PRV (Gopi,
Lee, Wutschitz, NeurIPS 2021, arXiv:2106.02848) are second opinions: RDP overstates, PRV is by another hand.

    VestryError
    └── AccountingError    parameters out of range, or an accountant that cannot handle them

Symbols: sigma noise multiplier (noise deviation over sensitivity), q sampling probability, T steps.
"""

import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from vestry_privacy.errors import VestryError
from vestry_privacy.events import Event, GaussianRelease, PoissonGaussian, TruncatedPoissonGaussian
from vestry_privacy.loss_distributions import loss_epsilon

__all__ = [
    "AccountantName",
    "AccountingError",
    "Adjacency",
    "Event",
    "GaussianRelease",
    "PoissonGaussian",
    "TruncatedPoissonGaussian",
    "epsilon",
    "least_noise",
    "noise_multiplier",
    "parse_event",
    "renyi_divergence",
    "renyi_to_epsilon",
]

AccountantName = Literal["pld", "rdp", "prv"]
Adjacency = Literal["zero-out", "add-remove"]
"""``zero-out``: one person's data against none in their place, the number of persons public
(REPLACE_SPECIAL of dp-accounting). ``add-remove``: one person more or less."""

_LARGEST_NOISE, _LEAST_NOISE = 1e5, 0.05
_HOPELESS = 64.0
"""From this epsilon on the RDP bound stands in for the others: whoever asks for such noise would otherwise
have the site fill its memory with a discretised loss that protects nobody."""


class AccountingError(VestryError):
    """Privacy parameters that make no sense, or that an accountant cannot handle."""


_EVENT: TypeAdapter[Event] = TypeAdapter(Event)


def parse_event(text: str) -> Event:
    """Read a stored event.

    Raises:
        AccountingError: an unknown mechanism or a parameter out of range.
    """
    try:
        return _EVENT.validate_json(text)
    except ValueError:
        raise AccountingError("event: unknown mechanism or parameter out of range") from None


def epsilon(
    events: Sequence[Event],
    delta: float,
    accountant: AccountantName = "pld",
    adjacency: Adjacency = "zero-out",
) -> float:
    """The epsilon at ``delta`` of all events together, in any order.

    Args:
        events: heterogeneous events on the same persons.
        delta: in (0, 1).
        accountant: ``pld`` is what Vestry reports; the others are second opinions.
        adjacency: what neighbouring data sets are.

    Returns:
        Epsilon, 0 where nothing was done, infinite where no finite one holds.

    Raises:
        AccountingError: delta out of range, or an event that the accountant cannot handle.

    Guarantees:
        With ``pld`` and ``rdp`` an upper bound of the true epsilon up to float rounding; ``prv`` is its
        implementation's upper estimate. Above 64 the RDP bound is given for all three.
    """
    if not 0 < delta < 1:
        raise AccountingError(f"delta={delta}: must lie above 0 and below 1")
    if accountant not in get_args(AccountantName) or adjacency not in get_args(Adjacency):
        raise AccountingError(f"accountant={accountant}, adjacency={adjacency}: unknown")
    truncated = any(isinstance(event, TruncatedPoissonGaussian) for event in events)
    if truncated and adjacency != "zero-out":
        raise AccountingError(f"adjacency={adjacency}: truncated batches are covered under zero-out only")
    if truncated and accountant == "prv":
        raise AccountingError("accountant=prv: cannot handle truncated batches; use pld")
    value = _epsilon(_merged(events), delta, accountant, adjacency)
    if math.isnan(value):  # else max() and every comparison would let it pass
        raise AccountingError(f"accountant={accountant}: found no bound for these events; use another one")
    return max(0.0, value)


def _merged(events: Sequence[Event]) -> tuple[Event, ...]:
    """Events of equal parameters counted together: composition does not ask for the order."""
    counts: dict[Event, int] = {}
    for event in events:
        kind = event.model_copy(update={"count": 1})
        counts[kind] = counts.get(kind, 0) + event.count
    return tuple(kind.model_copy(update={"count": count}) for kind, count in counts.items() if count)


@lru_cache(maxsize=4096)
def _epsilon(
    events: tuple[Event, ...], delta: float, accountant: AccountantName, adjacency: Adjacency
) -> float:
    if not events:
        return 0.0
    with _quiet():
        coarse = _rdp(events, delta)
        if accountant == "rdp" or coarse > _HOPELESS:
            return coarse
        if accountant == "prv":
            return _prv(events, delta)
        return loss_epsilon(events, delta, adjacency)


def _rdp(events: Sequence[Event], delta: float) -> float:
    """The least epsilon over the library's orders; a bound at any order is one at all."""
    from dp_accounting.rdp.rdp_privacy_accountant import DEFAULT_RDP_ORDERS

    orders = tuple(float(order) for order in DEFAULT_RDP_ORDERS)
    curve = sum((_renyi_curve(event, orders) for event in events), np.zeros(len(orders)))
    found = [
        renyi_to_epsilon(float(divergence), order, delta)
        for divergence, order in zip(curve, orders, strict=True)
        if not math.isnan(divergence)
    ]
    return max(0.0, min(found, default=math.nan))


@contextmanager
def _quiet() -> Iterator[None]:
    """The libraries report orders that they leave out, which costs tightness, not validity."""
    logger = logging.getLogger("absl")
    before, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            yield
    finally:
        logger.disabled = before


def _prv(events: Sequence[Event], delta: float) -> float:
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    for event in events:
        rate = 1.0 if isinstance(event, GaussianRelease) else event.sampling_probability
        accountant.history.append((event.noise_multiplier, rate, event.count))
    return float(accountant.get_epsilon(delta=delta))


def noise_multiplier(
    target: float,
    delta: float,
    sampling_probability: float,
    steps: int,
    accountant: AccountantName = "pld",
    adjacency: Adjacency = "zero-out",
) -> float:
    """The least sigma for which T steps cost at most ``target``.

    Returns:
        Sigma, rounded up to four decimals, so that its epsilon is at most the target.

    Raises:
        AccountingError: parameters out of range, or no noise is enough.
    """
    if steps < 1 or not 0 < sampling_probability <= 1:
        raise AccountingError(
            f"steps={steps}, sampling_probability={sampling_probability}: need steps of at least 1 and a "
            "probability above 0 and at most 1"
        )

    def cost(sigma: float) -> float:
        event = PoissonGaussian(
            noise_multiplier=sigma, sampling_probability=sampling_probability, count=steps
        )
        return epsilon([event], delta, accountant, adjacency)

    start = 1.0
    if accountant != "rdp":  # a quick look, so that few slow ones are needed
        with suppress(AccountingError):  # RDP cannot reach a very small target that others can
            start = noise_multiplier(target, delta, sampling_probability, steps, "rdp", adjacency)
    return least_noise(cost, target, start)


def least_noise(cost: Callable[[float], float], target: float, start: float = 1.0) -> float:
    """The least sigma whose cost is at most ``target``, to one part in two thousand.

    Args:
        cost: sigma -> epsilon, falling.
        target: epsilon.
        start: where to begin, best a little above the answer.

    Returns:
        Sigma, rounded up to four decimals.

    Raises:
        AccountingError: the target is not above 0, or no noise multiplier is enough.
    """
    if not (target > 0 and math.isfinite(target)):
        raise AccountingError(f"epsilon={target}: must be above 0 and finite")

    def at(sigma: float) -> float:
        return cost(_upwards(sigma))  # asks for the very value that will be returned

    low, high = 0.0, start
    while not (spent := at(high)) <= target:
        low, high = high, high * max(1.2, min(4.0, 1.1 * spent / target))
        if high > _LARGEST_NOISE:
            raise AccountingError(f"epsilon={target}: no noise multiplier up to {_LARGEST_NOISE:g} is enough")
    while low == 0.0 and high > _LEAST_NOISE:
        middle = max(_LEAST_NOISE, high * max(0.25, min(0.95, 0.98 * spent / target)))
        spent = at(middle)
        low, high = (low, middle) if spent <= target else (middle, high)
    return _upwards(_narrow(at, target, low, high) if low else high)


def _upwards(sigma: float) -> float:
    return math.ceil(sigma * 1e4) / 1e4


def _narrow(cost: Callable[[float], float], target: float, low: float, high: float) -> float:
    """Regula falsi on log epsilon over log sigma, where the curve is nearly straight; returns ``high``."""
    log_target = math.log(target)
    above, below = _log(cost(low)) - log_target, _log(cost(high)) - log_target
    turn = 0
    while high - low > 1e-4 and high / low > 1.0005:
        if turn % 3 == 2 or not math.isfinite(above - below) or above == below:
            middle = math.sqrt(low * high)
        else:
            place = min(0.98, max(0.02, above / (above - below)))
            middle = low * (high / low) ** place
        turn += 1
        value = _log(cost(middle)) - log_target
        if value <= 0:
            high, below = middle, value
        else:
            low, above = middle, value
    return high


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -745.0


@lru_cache(maxsize=4096)
def renyi_divergence(event: Event, order: float) -> float:
    """Renyi divergence of an event at one order, for a filter (Feldman and Zrnic, arXiv:2008.11193).

    Args:
        event: with its count.
        order: alpha, above 1.

    Raises:
        AccountingError: the order is not above 1, or no bound is known for the event.

    Guarantees:
        Holds for both adjacencies; for truncated batches under zero-out only. There batches are drawn over
        the declared persons, whatever their data. With fewer than cap others drawn, nobody is cut and a
        person is in with probability q: at most r_q, the divergence of a Poisson step. Else (probability
        tau) the first cap of the others in random order are in, and a person who is drawn (at most q) may
        replace the last of them, which costs at most alpha / (2 sigma^2); not drawn, nothing. As
        exp((alpha - 1) D) is jointly convex, a step has at most
        log((1 - tau) e^((alpha-1) r_q) + tau (1 - q + q e^((alpha-1) alpha / (2 sigma^2)))) / (alpha - 1).
    """
    if not (order > 1 and math.isfinite(order)):
        raise AccountingError(f"order={order}: must be above 1")
    with _quiet():
        divergence = float(_renyi_curve(event, (order,))[0])
    if not math.isfinite(divergence):
        raise AccountingError(
            f"order={order}: no Renyi bound was found for {event.mechanism}; use another order"
        )
    return divergence


def _renyi_curve(event: Event, orders: tuple[float, ...]) -> NDArray[np.float64]:
    """The divergence at each order; inf or nan where none was found."""
    alpha = np.array(orders)
    if not event.count:
        return np.zeros(len(alpha))
    with np.errstate(all="ignore"):
        full = alpha / (2 * np.float64(event.noise_multiplier) ** 2)
        if isinstance(event, GaussianRelease) or event.sampling_probability == 1:
            return event.count * full
        import dp_accounting
        from dp_accounting.rdp import RdpAccountant

        q = event.sampling_probability
        gaussian = dp_accounting.GaussianDpEvent(event.noise_multiplier)
        whole = [float(order) for order in np.ceil(alpha)]  # at some fractions the library finds little
        accountant = RdpAccountant([*orders, *whole], dp_accounting.NeighboringRelation.REPLACE_SPECIAL)
        accountant.compose(dp_accounting.PoissonSampledDpEvent(q, gaussian))
        step: NDArray[np.float64] = np.fmin(
            *np.split(np.asarray(accountant.rdp), 2)
        )  # the divergence grows with the order
        if isinstance(event, TruncatedPoissonGaussian):
            from scipy.stats import binom

            tau = binom.sf(event.cap - 1, event.persons - 1, q)
            replaced = np.logaddexp(np.log1p(-q), np.log(q) + (alpha - 1) * full)
            step = np.logaddexp(np.log1p(-tau) + (alpha - 1) * step, np.log(tau) + replaced) / (alpha - 1)
        return event.count * step


def renyi_to_epsilon(divergence: float, order: float, delta: float) -> float:
    """Epsilon at ``delta`` of a Renyi divergence at one order.

    Source: Canonne, Kamath, Steinke, NeurIPS 2020, arXiv:2004.00010, proposition 12; Balle et al., AISTATS
    2020, arXiv:1905.09982, theorem 21.
    """
    if not order > 1 or not 0 < delta < 1:
        raise AccountingError(f"order={order}, delta={delta}: need an order above 1 and a delta in (0, 1)")
    return divergence + math.log1p(-1 / order) - math.log(delta * order) / (order - 1)
