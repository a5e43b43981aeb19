"""The privacy-utility curve: one study at several epsilons, each over the same seeds."""

import json
from dataclasses import dataclass

from vestry_simulations.partition import SimulationError
from vestry_simulations.results import SimulationResult
from vestry_simulations.summary import mean_and_sd
from vestry_strategies.study import StudyError, StudySpec, study_from_json

_WHOLE = 1 << 30  # larger than any site: one batch

__all__ = ["NONE", "CurvePoint", "at_epsilon", "parse_epsilons"]

NONE = "none"
"""In place of an epsilon: without differential privacy."""


@dataclass(frozen=True)
class CurvePoint:
    """One epsilon of the curve.

    Attributes:
        label: ``none`` or the number, as it was asked for.
        epsilon: asked for; None without privacy.
        results: a run for each seed.
    """

    label: str
    epsilon: float | None
    results: tuple[SimulationResult, ...]

    @property
    def spent(self) -> float | None:
        """The most that a ledger says; None without privacy."""
        return max((result.epsilon for result in self.results if result.epsilon is not None), default=None)

    def metric(self, name: str, *, of_sites: bool = False) -> tuple[float | None, float | None]:
        """Mean over the seeds, and their standard deviation, of a metric.

        Args:
            name: of the metric.
            of_sites: its mean over the sites, each counting once; else over all held-out rows together.
        """
        outcomes = [result.federated for result in self.results]
        return mean_and_sd([(o.metrics if of_sites else o.pooled_test).get(name) for o in outcomes])


def parse_epsilons(text: str) -> list[tuple[str, float | None]]:
    """Read ``none,8,3,1``.

    Returns:
        (label, epsilon or None), in the order given, each once.

    Raises:
        SimulationError: names what is no epsilon.
    """
    found: dict[str, float | None] = {}
    for part in text.split(","):
        label = part.strip()
        if label == NONE:
            found[label] = None
            continue
        try:
            value = float(label)
        except ValueError:
            value = float("nan")
        if not 0 < value < float("inf"):
            raise SimulationError(
                f"--epsilons: '{label}' is no epsilon; write numbers above 0 and 'none', such as none,8,3,1"
            )
        found[label] = value
    return list(found.items())


def at_epsilon(study: StudySpec, epsilon: float | None, plain_study: StudySpec | None = None) -> StudySpec:
    """The study with another epsilon, or without [privacy].

    Args:
        study: with a section [privacy].
        epsilon: None for none.
        plain_study: for none: a learning rate that suits clipped gradients seldom suits others, so a fair
            comparison has settings of its own. Default: the study without its section, its steps over the
            whole training data where it takes full batches.

    Raises:
        SimulationError: the study has no section [privacy], or ``plain_study`` has one.
    """
    if plain_study is not None and plain_study.privacy is not None:
        raise SimulationError("--plain: has a section [privacy]; name a study without one")
    if epsilon is None and plain_study is not None:
        return plain_study
    plain = study.canonical()
    if study.privacy is None:
        raise SimulationError(
            "--epsilons: the study has no section [privacy]; add one, the curve replaces its epsilon"
        )
    if epsilon is None:
        del plain["privacy"]
        if study.privacy.sampling == "full_batch":
            plain["training"]["batch_size"] = _WHOLE
    else:
        plain["privacy"].pop("noise_multiplier", None)
        plain["privacy"]["epsilon"] = epsilon
    try:
        return study_from_json(json.dumps(plain))
    except StudyError as error:
        raise SimulationError(f"--epsilons: {epsilon or NONE}: {error}") from None
