"""The privacy filter: what a budget lets through, at one Renyi order that never changes.

A filter at a fixed order stops any sequence of adaptively chosen mechanisms before their Renyi divergences
add up to more than the budget (Feldman and Zrnic, NeurIPS 2021, arXiv:2008.11193), also where studies run
side by side and each picks its next step after seeing all others (Haney et al., CCS 2023, arXiv:2309.05901:
every filter of Renyi DP at a fixed order extends to concurrent composition). Choosing the best order
afterwards is not covered. A study that stops early gives back what it did not do: the filter
counts only what was done or is still promised.

A person is in one partition of a study (a keyed hash decides), so a study costs a person the larger of its
partitions; a person may be in all studies, so studies add up.

    VestryError
    └── BudgetError    a budget that makes no sense, or an order that leaves it no room

Symbols: alpha order, D Renyi divergence of order alpha, rho the budget's D.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from vestry_privacy.accounting import Event, renyi_divergence, renyi_to_epsilon
from vestry_privacy.errors import VestryError
from vestry_privacy.plan import Partition

__all__ = [
    "Budget",
    "BudgetError",
    "Counts",
    "StudyClaim",
    "count_events",
    "covers",
    "divergence",
    "events_of",
    "filter_order",
    "how_often",
]

Counts = Mapping[Event, int]
"""Kind of event (its own count 1) -> how many. Composition does not ask for the order."""

_LARGEST_ORDER = 1e6


class BudgetError(VestryError):
    """A budget that makes no sense, or an order that leaves it no room."""


@dataclass(frozen=True)
class Budget:
    """What a population of persons may lose.

    Attributes:
        epsilon: at ``delta``.
        delta: in (0, 1).
        order: alpha, fixed when the population is registered.
        starts: first day (UTC) of a window; None for a lifetime budget.
        ends: last day of the window, included.
    """

    epsilon: float
    delta: float
    order: float
    starts: date | None = None
    ends: date | None = None

    def __post_init__(self) -> None:
        """Refuse a budget that grants nothing or means nothing.

        Raises:
            BudgetError: names the field, the problem and the way out.
        """
        if not (self.epsilon > 0 and math.isfinite(self.epsilon)):
            raise BudgetError(f"budget.epsilon={self.epsilon}: must be above 0 and finite")
        if not 0 < self.delta < 1:
            raise BudgetError(f"budget.delta={self.delta}: must lie above 0 and below 1")
        if (self.starts is None) != (self.ends is None):
            raise BudgetError("budget.starts, budget.ends: give both days, or neither for a lifetime budget")
        if self.starts is not None and self.ends is not None and self.starts > self.ends:
            raise BudgetError(f"budget.starts={self.starts}: is after budget.ends={self.ends}")
        if not 1 < self.order <= _LARGEST_ORDER:
            raise BudgetError(f"budget.order={self.order}: must be above 1 and at most {_LARGEST_ORDER:g}")
        if self.rho <= 0:
            least = _least_order(self.epsilon, self.delta)
            raise BudgetError(
                f"budget.order={self.order:g}: leaves no room in epsilon={self.epsilon:g}, "
                f"delta={self.delta:g}; the smallest order that does is {least:g}, a good one "
                f"{filter_order(self.epsilon, self.delta):g}"
            )

    @property
    def rho(self) -> float:
        """The divergence whose epsilon at ``delta`` is the budget's."""
        return _room(self.epsilon, self.delta, self.order)

    def epsilon_of(self, claimed: float) -> float:
        """Epsilon at ``delta`` of a divergence, as the filter counts it; 0 for none."""
        return max(0.0, renyi_to_epsilon(claimed, self.order, self.delta)) if claimed > 0 else 0.0

    def open_on(self, day: date) -> bool:
        """Does it grant anything on this day?"""
        return self.starts is None or self.ends is None or self.starts <= day <= self.ends

    def counts(self, first: date, last: date) -> bool:
        """Does what was done between two days count?"""
        return self.starts is None or self.ends is None or (first <= self.ends and last >= self.starts)


def filter_order(epsilon: float, delta: float) -> float:
    """A good order for a budget: the one at which it affords the most Gaussian releases.

    Args:
        epsilon: the budget.
        delta: the budget's.

    Returns:
        alpha, rounded to two decimals.

    Raises:
        BudgetError: epsilon or delta out of range, or too small for any order up to 10^6.
    """
    if not (epsilon > 0 and math.isfinite(epsilon)) or not 0 < delta < 1:
        raise BudgetError(f"epsilon={epsilon}, delta={delta}: need epsilon above 0 and delta in (0, 1)")
    low, high = math.log(_least_order(epsilon, delta) - 1), math.log(_LARGEST_ORDER - 1)
    for _ in range(80):  # golden sections of log(alpha - 1); the curve has one peak
        third = (high - low) * 0.381966
        left, right = low + third, high - third
        if _gaussians(epsilon, delta, left) < _gaussians(epsilon, delta, right):
            low = left
        else:
            high = right
    best = 1 + math.exp((low + high) / 2)
    rounded = round(best, 2)
    return rounded if rounded > 1 and _room(epsilon, delta, rounded) > 0 else best


def _gaussians(epsilon: float, delta: float, place: float) -> float:
    order = 1 + math.exp(place)
    return _room(epsilon, delta, order) / order


def _room(epsilon: float, delta: float, order: float) -> float:
    return epsilon - renyi_to_epsilon(0.0, order, delta)


def _least_order(epsilon: float, delta: float) -> float:
    """The smallest order with room, rounded up to three digits after the leading one of alpha - 1."""
    if _room(epsilon, delta, _LARGEST_ORDER) <= 0:
        raise BudgetError(
            f"budget.epsilon={epsilon:g}: too small at delta={delta:g} for a filter at any order up to "
            f"{_LARGEST_ORDER:g}; use a larger epsilon"
        )
    low, high = math.log(1e-12), math.log(_LARGEST_ORDER - 1)
    for _ in range(100):
        middle = (low + high) / 2
        if _room(epsilon, delta, 1 + math.exp(middle)) > 0:
            high = middle
        else:
            low = middle
    above = math.exp(high)
    unit = 10.0 ** (math.floor(math.log10(above)) - 3)
    return 1 + math.ceil(above / unit) * unit


def count_events(events: Iterable[Event]) -> dict[Event, int]:
    """Events of equal parameters counted together."""
    counts: dict[Event, int] = {}
    for event in events:
        kind = event if event.count == 1 else event.model_copy(update={"count": 1})
        counts[kind] = counts.get(kind, 0) + event.count
    return {kind: count for kind, count in counts.items() if count}


def events_of(counts: Counts) -> tuple[Event, ...]:
    """Counted events as events."""
    return tuple(kind.model_copy(update={"count": count}) for kind, count in counts.items() if count)


def divergence(counts: Counts, order: float) -> float:
    """D of all together.

    Raises:
        AccountingError: no bound is known at this order.

    Guarantees:
        Grows with every count, also in the last bit: what is part of a hold never costs more than the hold.
    """
    return math.fsum(count * renyi_divergence(kind, order) for kind, count in counts.items() if count)


def covers(held: Counts, done: Counts) -> bool:
    """Is everything done part of what is held?"""
    return all(held.get(kind, 0) >= count for kind, count in done.items())


@dataclass(frozen=True)
class StudyClaim:
    """What one study holds and has done, per partition.

    Attributes:
        held: what it may still do, with what it has done; empty after its release.
        done: what it did, or may be doing: committed, lost in a crash, or reserved.
    """

    held: Mapping[Partition, Counts]
    done: Mapping[Partition, Counts]

    def divergence(self, order: float) -> float:
        """D that the study claims of a person.

        Guarantees:
            At least the D of what was done to any one person, whatever the study does within its hold.
        """
        parts: Sequence[Partition] = sorted({*self.held, *self.done})
        return max(
            (
                max(divergence(self.held.get(part, {}), order), divergence(self.done.get(part, {}), order))
                for part in parts
            ),
            default=0.0,
        )


def how_often(left: float, cost: float) -> int:
    """How many times a cost fits into what is left.

    Raises:
        BudgetError: it costs nothing.
    """
    if not cost > 0:
        raise BudgetError("events: cost nothing, so they fit without end")
    times = max(0, math.floor(left / cost))
    return times - 1 if times and times * cost > left else times
