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
from contextlib import contextmanager
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from vestry_privacy.errors import VestryError

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


class AccountingError(VestryError):
    """Privacy parameters that make no sense, or that an accountant cannot handle."""


class _Event(BaseModel):
    """A closed family: stored events are read by this union, never by a name in the data."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class GaussianRelease(_Event):
    """Sums over all persons with Gaussian noise.

    Attributes:
        noise_multiplier: sigma.
        count: how many such releases.
    """

    mechanism: Literal["gaussian"] = "gaussian"
    noise_multiplier: float = Field(gt=0)
    count: int = Field(ge=0)


class PoissonGaussian(_Event):
    """DP-SGD steps: each person is in a step with probability q, then Gaussian noise.

    Attributes:
        noise_multiplier: sigma.
        sampling_probability: q.
        count: T.
    """

    mechanism: Literal["poisson-gaussian"] = "poisson-gaussian"
    noise_multiplier: float = Field(gt=0)
    sampling_probability: float = Field(gt=0, le=1)
    count: int = Field(ge=0)


class TruncatedPoissonGaussian(_Event):
    """DP-SGD steps whose batches are cut at random to a cap (arXiv:2508.15089).

    Attributes:
        noise_multiplier: sigma.
        sampling_probability: q.
        cap: most persons in a step.
        persons: public number of persons.
        count: T.
    """

    mechanism: Literal["truncated-poisson-gaussian"] = "truncated-poisson-gaussian"
    noise_multiplier: float = Field(gt=0)
    sampling_probability: float = Field(gt=0, le=1)
    cap: int = Field(ge=1)
    persons: int = Field(ge=1)
    count: int = Field(ge=0)


Event = Annotated[
    GaussianRelease | PoissonGaussian | TruncatedPoissonGaussian, Field(discriminator="mechanism")
]
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
        implementation's upper estimate.
    """
    if not 0 < delta < 1:
        raise AccountingError(f"delta={delta}: must lie above 0 and below 1")
    return _epsilon(_merged(events), delta, accountant, adjacency)


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
    if accountant == "prv":
        return _prv(events, delta)
    from dp_accounting.pld import PLDAccountant
    from dp_accounting.rdp import RdpAccountant

    relation = _relation(adjacency)
    composed = PLDAccountant(relation) if accountant == "pld" else RdpAccountant(None, relation)
    with _quiet():
        for event in events:
            inner = _dp_event(event)
            if not composed.supports(inner):
                raise AccountingError(
                    f"accountant={accountant}: cannot handle {event.mechanism} under {adjacency}; use pld"
                )
            composed.compose(inner, event.count)
        return max(0.0, float(composed.get_epsilon(delta)))


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


def _relation(adjacency: Adjacency) -> Any:
    from dp_accounting import NeighboringRelation

    if adjacency == "zero-out":
        return NeighboringRelation.REPLACE_SPECIAL
    return NeighboringRelation.ADD_OR_REMOVE_ONE


def _dp_event(event: Event) -> Any:
    import dp_accounting

    gaussian = dp_accounting.GaussianDpEvent(event.noise_multiplier)
    if isinstance(event, GaussianRelease):
        return gaussian
    if isinstance(event, PoissonGaussian):
        if event.sampling_probability == 1:
            return gaussian
        return dp_accounting.PoissonSampledDpEvent(event.sampling_probability, gaussian)
    return dp_accounting.dp_event.TruncatedSubsampledGaussianDpEvent(
        dataset_size=event.persons,
        sampling_probability=event.sampling_probability,
        truncated_batch_size=event.cap,
        noise_multiplier=event.noise_multiplier,
    )


def _prv(events: Sequence[Event], delta: float) -> float:
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    for event in events:
        if isinstance(event, TruncatedPoissonGaussian):
            raise AccountingError("accountant=prv: cannot handle truncated batches; use pld")
        rate = event.sampling_probability if isinstance(event, PoissonGaussian) else 1.0
        accountant.history.append((event.noise_multiplier, rate, event.count))
    with _quiet():
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
    low, high = 0.0, start
    while (spent := cost(high)) > target:
        low, high = high, min(high * max(1.2, min(4.0, 1.1 * spent / target)), _LARGEST_NOISE * 2)
        if high > _LARGEST_NOISE:
            raise AccountingError(f"epsilon={target}: no noise multiplier up to {_LARGEST_NOISE:g} is enough")
    while low == 0.0:
        middle = high * max(0.25, min(0.95, 0.98 * spent / target))
        if middle < _LEAST_NOISE:
            return _LEAST_NOISE
        spent = cost(middle)
        low, high = (low, middle) if spent <= target else (middle, high)
    return math.ceil(_narrow(cost, target, low, high) * 1e4) / 1e4


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
        order: above 1.

    Raises:
        AccountingError: the order is not above 1, or no bound is known for the event.

    Guarantees:
        Holds for both adjacencies. Truncated batches are bounded by the untruncated event, which is right
        under zero-out only: there the batch is drawn over the declared persons, so whom the cap leaves out
        does not depend on anybody's data. Given the draw of all others, a person is in with a probability
        of at most q, and the divergence of a mixture over draws is at most its largest part.
    """
    if not order > 1:
        raise AccountingError(f"order={order}: must be above 1")
    if not event.count:
        return 0.0
    if isinstance(event, GaussianRelease):
        return event.count * order / (2 * event.noise_multiplier**2)
    from dp_accounting.rdp import RdpAccountant

    plain = PoissonGaussian(
        noise_multiplier=event.noise_multiplier,
        sampling_probability=event.sampling_probability,
        count=event.count,
    )
    with _quiet():
        accountant = RdpAccountant([order], _relation("zero-out"))
        accountant.compose(_dp_event(plain), plain.count)
        divergence = float(accountant.rdp[0])
    if not math.isfinite(divergence):
        raise AccountingError(
            f"order={order}: no Renyi bound was found for {event.mechanism}; use another order"
        )
    return divergence


def renyi_to_epsilon(divergence: float, order: float, delta: float) -> float:
    """Epsilon at ``delta`` of a Renyi divergence at one order.

    Source: Canonne, Kamath, Steinke, NeurIPS 2020, arXiv:2004.00010, proposition 12; Balle et al., AISTATS
    2020, arXiv:1905.09982, theorem 21.
    """
    if not order > 1 or not 0 < delta < 1:
        raise AccountingError(f"order={order}, delta={delta}: need an order above 1 and a delta in (0, 1)")
    return divergence + math.log1p(-1 / order) - math.log(delta * order) / (order - 1)
