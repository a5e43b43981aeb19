"""The result of a simulation, as it is printed, saved and drawn."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vestry_privacy.accounting import epsilon, parse_event
from vestry_server.progress import RoundRecord
from vestry_simulations.site_ledgers import SitePrivacy
from vestry_strategies.files import write_atomically
from vestry_strategies.study import StudySpec, study_from_json
from vestry_strategies.task import Metrics

__all__ = [
    "Outcome",
    "SimulationResult",
    "epsilon_everywhere",
    "load_result",
    "mean_over_sites",
    "save_result",
]

RESULT_VERSION = 1


@dataclass(frozen=True)
class Outcome:
    """How good a model, or one model for each site, is on the held-out rows.

    Attributes:
        metrics: mean over the sites where the metric is defined, each site counting once.
        pooled_test: over the held-out rows of all sites together.
        per_site: for each site.
    """

    metrics: Metrics
    pooled_test: Metrics
    per_site: Mapping[str, Metrics]

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "metrics": self.metrics,
            "pooled_test": self.pooled_test,
            "per_site": dict(self.per_site),
        }


@dataclass(frozen=True)
class SimulationResult:
    """One finished federation.

    Attributes:
        run_id: name of the run's folder.
        study: the study.
        federated: of the resulting model.
        baselines: ``pooled`` (one model on all data) and ``local-only`` (a model at each site), if asked.
        history: every round.
        sites: that took part.
        left_out: sites that did not take part at all -> reason.
        rounds: finished rounds.
        kept_round: round whose model is the result.
        model_sha256: of the file ``model.safetensors``, as sha256sum prints it.
        seconds: wall-clock time of the rounds.
        stopped: why it ended before the last round, or "".
        insecure: insecure choices of the study, stamped into the record.
        privacy: under [privacy] what each site's ledger says of the study.
        crowd: under secure aggregation, among how many honest sites an update is hidden, in words.
    """

    run_id: str
    study: StudySpec
    federated: Outcome
    history: tuple[RoundRecord, ...]
    sites: tuple[str, ...]
    rounds: int
    kept_round: int
    model_sha256: str
    seconds: float
    baselines: Mapping[str, Outcome] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    stopped: str = ""
    insecure: tuple[str, ...] = ()
    privacy: Mapping[str, SitePrivacy] = field(default_factory=dict)
    crowd: str = ""

    @property
    def epsilon(self) -> float | None:
        """What the study has cost a training person where it cost most; None without [privacy]."""
        return max((site.epsilon for site in self.privacy.values()), default=None)

    def final_line(self) -> dict[str, Any]:
        """The last JSON object that ``--json`` prints."""
        line: dict[str, Any] = {
            "final": True,
            **self.federated.plain(),
            "rounds": self.rounds,
            "kept_round": self.kept_round,
            "model_sha256": self.model_sha256,
            "run": self.run_id,
            "study_hash": self.study.digest(),
            "seed": self.study.seed,
            "seconds": round(self.seconds, 3),
            "left_out": dict(self.left_out),
            "stopped": self.stopped,
            "insecure": list(self.insecure),
            "crowd": self.crowd,
        }
        if self.privacy:
            line["epsilon"] = self.epsilon
            line["privacy"] = {name: site.plain() for name, site in self.privacy.items()}
        if self.baselines:
            line["baselines"] = {name: outcome.plain() for name, outcome in self.baselines.items()}
        return line


def epsilon_everywhere(result: SimulationResult) -> float:
    """Epsilon (PLD) of a person who is in the training data of every site: all sites' events together."""
    privacy = result.study.privacy
    if privacy is None:
        raise ValueError("privacy=None: the study has no section [privacy]")
    events = [parse_event(text) for site in result.privacy.values() for text in site.events]
    return epsilon(events, privacy.delta, "pld", privacy.adjacency)


def mean_over_sites(per_site: Mapping[str, Metrics]) -> Metrics:
    """The plain mean of each metric over the sites where it is defined; None where it is at none."""
    names = list(dict.fromkeys(name for metrics in per_site.values() for name in metrics))
    means: Metrics = {}
    for name in names:
        values = [metrics.get(name) for metrics in per_site.values()]
        defined = [value for value in values if value is not None]
        means[name] = sum(defined) / len(defined) if defined else None
    return means


def save_result(path: Path, result: SimulationResult) -> None:
    """Write a result as JSON."""
    plain = {
        "version": RESULT_VERSION,
        "study": result.study.canonical(),
        "sites": list(result.sites),
        "history": [record.plain() for record in result.history],
        "final": result.final_line(),
    }
    write_atomically(path, (json.dumps(plain, indent=1) + "\n").encode())


def load_result(path: Path) -> SimulationResult:
    """Read back :func:`save_result`.

    Raises:
        ValueError: another version.
    """
    plain = json.loads(path.read_text(encoding="utf-8"))
    if plain["version"] != RESULT_VERSION:
        raise ValueError(f"version={plain['version']} is not {RESULT_VERSION}")
    final = plain["final"]

    def outcome(part: dict[str, Any]) -> Outcome:
        return Outcome(part["metrics"], part["pooled_test"], part["per_site"])

    return SimulationResult(
        run_id=final["run"],
        study=study_from_json(json.dumps(plain["study"])),
        federated=outcome(final),
        history=tuple(RoundRecord.from_plain(record) for record in plain["history"]),
        sites=tuple(plain["sites"]),
        rounds=final["rounds"],
        kept_round=final["kept_round"],
        model_sha256=final["model_sha256"],
        seconds=final["seconds"],
        baselines={name: outcome(part) for name, part in final.get("baselines", {}).items()},
        left_out=final["left_out"],
        stopped=final["stopped"],
        insecure=tuple(final["insecure"]),
        crowd=final.get("crowd", ""),
        privacy={name: SitePrivacy.from_plain(site) for name, site in final.get("privacy", {}).items()},
    )
