"""Trains a study on virtual sites, with its baselines, and keeps nothing on disk.

The round, the sites' handlers and the baselines are those of `vestry simulate`; only the run's folder, its
store and its checkpoints are left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from vestry_client.policy import SitePolicy
from vestry_server.rounds import open_run, run_study
from vestry_simulations.baselines import run_baselines, site_data
from vestry_simulations.engine import LocalExchange
from vestry_simulations.partition import parse_partition, partition_rows
from vestry_simulations.results import Outcome, mean_over_sites
from vestry_simulations.simulate import simulated_secret
from vestry_simulations.worker import VirtualSite
from vestry_strategies.parameters import Vector
from vestry_strategies.recipe import StrategySpec
from vestry_strategies.rows import Indexes, Rows
from vestry_strategies.seeds import derive_seed
from vestry_strategies.study import StudySpec
from vestry_strategies.task import Metrics
from vestry_strategies.tasks.registry import find_task
from vestry_strategies.tasks.targets import match_labels

__all__ = [
    "Trained",
    "accuracy",
    "deal",
    "dealt_parts",
    "dealt_sites",
    "train",
    "with_strategy",
    "with_training",
]

_POLICY = SitePolicy(allow_individual_updates=True, allow_training_without_privacy=True, min_examples=1)


@dataclass(frozen=True)
class Trained:
    """What one seed of a study gave.

    Attributes:
        federated: of the last round's model.
        baselines: ``pooled`` and ``local-only``, where they were asked for.
        by_round: metrics over all held-out rows, after each round.
    """

    federated: Outcome
    baselines: Mapping[str, Outcome]
    by_round: tuple[Metrics, ...]

    def outcome(self, label: str) -> Outcome:
        """Of ``federated`` or of a baseline."""
        return self.federated if label == "federated" else self.baselines[label]

    @property
    def labels(self) -> tuple[str, ...]:
        """``federated`` and the baselines."""
        return ("federated", *self.baselines)


def accuracy(metrics: Metrics) -> float:
    """The accuracy.

    Raises:
        ValueError: it is not defined, as there was no held-out row.
    """
    value = metrics["accuracy"]
    if value is None:
        raise ValueError("accuracy is not defined: there was no held-out row")
    return value


def deal(rows: Rows, parts: Mapping[str, Indexes]) -> list[VirtualSite]:
    """Virtual sites with their rows of a table."""
    return [VirtualSite(name, rows.take(indexes), _POLICY) for name, indexes in parts.items()]


def dealt_parts(study: StudySpec, rows: Rows, sites: int, partition: str) -> dict[str, Indexes]:
    """Rows of each site, dealt by the study's seed as ``vestry simulate --sites N --partition KIND`` does."""
    target, column = study.task.target, find_task(study).features.column
    labels = match_labels(column(rows, target.name), target.classes) if target.classes else None
    seed = derive_seed(study.seed, "partition")
    return partition_rows(parse_partition(partition), sites, len(rows), labels, seed)


def dealt_sites(study: StudySpec, rows: Rows, sites: int, partition: str) -> list[VirtualSite]:
    """The sites with the rows that :func:`dealt_parts` deals them."""
    return deal(rows, dealt_parts(study, rows, sites, partition))


def train(
    study: StudySpec,
    sites: Sequence[VirtualSite],
    *,
    first_model: Vector | None = None,
    workers: int = 0,
    baselines: bool = False,
) -> Trained:
    """Run all rounds of a study, in the clear: what is measured here is the strategy, not the masks.

    Args:
        study: with the seed of this run.
        sites: their rows.
        first_model: (d,) the model before round 1; None draws it from the study's seed.
        workers: processes; 0 works in this one.
        baselines: train the pooled and the local-only models too, from the same first model.
    """
    clear = study.aggregation.model_copy(update={"secure": False})
    study = study.model_copy(update={"aggregation": clear})
    sites = [replace(site, secret=simulated_secret(study.seed, site.name)) for site in sites]
    with LocalExchange(sites, workers) as exchange:
        run, drawn = open_run(study, exchange, lambda state: None, lambda event: None)
        first = drawn if first_model is None else first_model
        state = run_study(run, first)
    last = state.history[-1]
    others: dict[str, Outcome] = {}
    if baselines:
        others = run_baselines(study, site_data(study, sites), first, workers=workers)
    federated = Outcome(mean_over_sites(last.per_site), last.metrics, last.per_site)
    return Trained(federated, others, tuple(record.metrics for record in state.history))


def with_strategy(study: StudySpec, name: str, parameters: Mapping[str, float]) -> StudySpec:
    """The study with another strategy."""
    return study.model_copy(update={"strategy": StrategySpec(name=name, parameters=dict(parameters))})


def with_training(study: StudySpec, **changes: float) -> StudySpec:
    """The study with other values in its section ``training``."""
    return study.model_copy(update={"training": study.training.model_copy(update=changes)})
