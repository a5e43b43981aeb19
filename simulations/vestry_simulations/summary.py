"""Several seeds of one study in two numbers: mean and standard deviation."""

import math
from collections.abc import Sequence

from vestry_simulations.results import Outcome, SimulationResult
from vestry_strategies.task import Metrics

__all__ = ["Spread", "mean_and_sd", "over_seeds"]

Spread = dict[str, tuple[float | None, float | None]]
"""Metric name -> (mean, standard deviation with divisor n - 1); None where it is not defined."""


def mean_and_sd(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Mean and sample standard deviation of the values that are defined."""
    defined = [value for value in values if value is not None]
    if not defined:
        return None, None
    mean = math.fsum(defined) / len(defined)
    if len(defined) < 2:
        return mean, None
    return mean, math.sqrt(math.fsum((v - mean) ** 2 for v in defined) / (len(defined) - 1))


def over_seeds(results: Sequence[SimulationResult]) -> dict[str, dict[str, Spread]]:
    """Mean and deviation over seeds of each model (``federated`` and the baselines).

    Returns:
        model -> ``metrics`` (mean over sites) and ``pooled_test`` (all held-out rows) -> spread.
    """
    models = ["federated", *results[0].baselines]
    summary: dict[str, dict[str, Spread]] = {}
    for model in models:
        outcomes = [_outcome(result, model) for result in results]
        summary[model] = {
            "metrics": _spread([outcome.metrics for outcome in outcomes]),
            "pooled_test": _spread([outcome.pooled_test for outcome in outcomes]),
        }
    return summary


def _outcome(result: SimulationResult, model: str) -> Outcome:
    return result.federated if model == "federated" else result.baselines[model]


def _spread(parts: Sequence[Metrics]) -> Spread:
    return {name: mean_and_sd([part.get(name) for part in parts]) for name in parts[0]}
