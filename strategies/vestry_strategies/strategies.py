"""The list of strategies: name, parameters with their ranges, and how to build each.

Importing this loads no torch: a strategy's own file is imported when it is built.
"""

from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vestry_strategies.recipe import StrategySpec
    from vestry_strategies.strategy import Strategy

__all__ = ["STRATEGIES", "Bounds", "StrategyEntry", "build_strategy"]


@dataclass(frozen=True)
class Bounds:
    """The range of a parameter, its lower end open or closed, its upper end open."""

    low: float
    high: float = float("inf")
    closed: bool = False

    def contains(self, value: float) -> bool:
        """Is ``value`` in the range?"""
        above = value >= self.low if self.closed else value > self.low
        return above and value < self.high

    def text(self) -> str:
        """The range in words, such as ``at least 0 and below 1``."""
        low = f"{'at least' if self.closed else 'above'} {self.low:g}"
        return low if self.high == float("inf") else f"{low} and below {self.high:g}"


@dataclass(frozen=True)
class StrategyEntry:
    """Where a strategy lives and what may be set.

    Attributes:
        module: module of this package; it has ``build(parameters) -> Strategy``.
        function: name of the builder in that module.
        parameters: allowed parameters and their ranges.
        needs_individual_updates: it looks at each update, not at their mean.
    """

    module: str
    function: str
    parameters: dict[str, Bounds] = field(default_factory=dict)
    needs_individual_updates: bool = False


_RATE = Bounds(0.0)
_DECAY = Bounds(0.0, 1.0, closed=True)
_OPT = {"server_learning_rate": _RATE, "beta1": _DECAY, "tau": _RATE}

STRATEGIES: dict[str, StrategyEntry] = {
    "fedavg": StrategyEntry("fedavg", "fedavg", {"server_learning_rate": _RATE}),
    "fedprox": StrategyEntry("fedprox", "fedprox", {"mu": Bounds(0.0, closed=True)}),
    "fedavgm": StrategyEntry(
        "fedavgm", "fedavgm", {"server_learning_rate": _RATE, "server_momentum": _DECAY}
    ),
    "fedadagrad": StrategyEntry("fedopt", "fedadagrad", _OPT),
    "fedadam": StrategyEntry("fedopt", "fedadam", {**_OPT, "beta2": _DECAY}),
    "fedyogi": StrategyEntry("fedopt", "fedyogi", {**_OPT, "beta2": _DECAY}),
    "fedmedian": StrategyEntry("fedmedian", "fedmedian", {}, needs_individual_updates=True),
}
"""Every strategy, by the name used in study files."""


def build_strategy(spec: "StrategySpec") -> "Strategy":
    """Build the strategy that a checked study names."""
    entry = STRATEGIES[spec.name]
    module = import_module(f"vestry_strategies.{entry.module}")
    strategy: Strategy = getattr(module, entry.function)(**spec.parameters)
    return strategy
