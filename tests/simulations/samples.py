"""Results made by hand, to be printed and drawn."""

from dataclasses import replace

from tests.strategies.samples import DECLARED, FULL_BATCH, private_study
from vestry_privacy.events import PoissonGaussian
from vestry_server.progress import RoundRecord
from vestry_simulations.datasets import heart_study
from vestry_simulations.results import Outcome, SimulationResult, mean_over_sites
from vestry_simulations.site_ledgers import SitePrivacy
from vestry_strategies.study import StudySpec, load_study
from vestry_strategies.task import Metrics

__all__ = ["outcome", "private_result", "sample_privacy", "sample_record", "sample_result"]


def outcome(names: list[str], value: float) -> Outcome:
    """Metrics that differ by site; the last site has one class."""
    per_site: dict[str, Metrics] = {
        name: {
            "loss": 0.3 + place / 100,
            "accuracy": value - place / 100,
            "auc": None if place == len(names) - 1 else value + place / 100,
        }
        for place, name in enumerate(names)
    }
    return Outcome(mean_over_sites(per_site), {"loss": 0.3, "accuracy": value, "auc": value}, per_site)


def sample_record(number: int, names: list[str], *, evaluated: bool = True) -> RoundRecord:
    """A round in which the first site was left out."""
    made = outcome(names, 0.7 + number / 100)
    return RoundRecord(
        round=number,
        loss=1.0 / number,
        metrics=made.pooled_test if evaluated else {},
        per_site=made.per_site if evaluated else {},
        sites=tuple(names[1:]),
        left_out={names[0]: "no reply before the deadline"},
        attempt=1,
        model_hash=f"{number:064x}",
        bytes_up=1024,
        bytes_down=2048,
    )


def sample_result(
    names: list[str] | None = None,
    *,
    baselines: bool = False,
    rounds: int = 5,
    every: int = 1,
    study: StudySpec | None = None,
) -> SimulationResult:
    """A result of some sites."""
    names = names or ["cleveland", "hungary", "switzerland"]
    history = tuple(
        sample_record(number, names, evaluated=number % every == 0) for number in range(1, rounds + 1)
    )
    compared = {"pooled": outcome(names, 0.8), "local-only": outcome(names, 0.6)} if baselines else {}
    return SimulationResult(
        run_id="run-1",
        study=study or load_study(heart_study()),
        federated=outcome(names, 0.75),
        history=history,
        sites=tuple(names),
        rounds=rounds,
        kept_round=rounds,
        model_sha256="ab" * 32,
        seconds=1.5,
        baselines=compared,
        left_out={"basel": "data: column 'age': fewer than 10 rows break the rule: a number"},
        insecure=("aggregation.secure = false: the coordinator sees each site's own update",),
    )


def sample_privacy(
    names: list[str], *, epsilon: float = 2.75, guarantee: str = "dp", site_epsilon: float | None = None
) -> dict[str, SitePrivacy]:
    """What ledgers say; the last site spent most."""
    step = PoissonGaussian(noise_multiplier=6.0, sampling_probability=1.0, count=20)
    return {
        name: SitePrivacy(
            epsilon=epsilon if name == names[-1] else epsilon - 0.25,
            delta=1e-3,
            epsilon_held_out=0.5,
            steps=20,
            guarantee=guarantee,
            events=(step.model_dump_json(),),
            ledger=f"/runs/run-1/sites/{name}/ledger.sqlite",
            fingerprint=f"{place:064x}",
            site_epsilon=site_epsilon,
        )
        for place, name in enumerate(names)
    }


def private_result(
    names: list[str] | None = None, *, metrics: bool = False, site_epsilon: float | None = None
) -> SimulationResult:
    """A result under differential privacy: no losses, epsilon in every round, ledgers."""
    names = names or ["cleveland", "hungary", "switzerland"]
    study = private_study(FULL_BATCH, DECLARED)
    made = sample_result(names, study=study)
    history = tuple(
        replace(
            record,
            loss=None,
            epsilon=0.55 * record.round,
            metrics=record.metrics if metrics else {},
            per_site=record.per_site if metrics else {},
        )
        for record in made.history
    )
    privacy = sample_privacy(names, site_epsilon=site_epsilon)
    return replace(made, history=history, privacy=privacy)
