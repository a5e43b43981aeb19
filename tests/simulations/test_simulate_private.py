"""A private study from its file to the ledgers: what is spent, what is said, what a resumed run does."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tests.simulations.laboratory import write_csv
from tests.simulations.private_laboratory import (
    CLINICS,
    METRICS,
    SIMULATED,
    counted,
    entries_of,
    lay_out,
    make_manifest,
    patients,
    spent,
)
from tests.strategies.samples import DECLARED
from vestry_privacy.accounting import epsilon
from vestry_privacy.ledger_errors import LedgerUnavailable
from vestry_privacy.plan import PlanError, PrivacyPlan
from vestry_server.checkpoint import load_latest
from vestry_server.progress import Event, RoundRecord
from vestry_server.rounds import NotEnoughSites
from vestry_simulations.baselines import site_data
from vestry_simulations.faults import Faults
from vestry_simulations.results import SimulationResult, epsilon_everywhere, load_result
from vestry_simulations.simulate import Laboratory, simulate, virtual_sites
from vestry_strategies.private_plan import study_plan
from vestry_strategies.study import StudySpec
from vestry_strategies.tasks.registry import find_task

SITE = ('unit_column = "patient"', 'unit = "site"')
PER_SITE = ('kind = "tabular"', 'kind = "tabular"\nstandardise = "per-site"')
ADD_REMOVE = ("delta", 'adjacency = "add-remove"\nexpected_batch = 9.0\ndelta')
FEW = ("rounds = 4", "rounds = 2")


def second(noise_at: str) -> tuple[str, str]:
    section = f'[privacy.site]\nepsilon = 2.0\ndelta = 1e-2\nclip = 0.5\nnoise_at = "{noise_at}"\n'
    return "[evaluation]", f"{section}[evaluation]"


def run(folder: Path, *changes: tuple[str, str], run_id: str = "run", **settings: object) -> SimulationResult:
    if not (folder / "study.toml").exists():
        lay_out(folder, *changes)
    return simulate(make_manifest(folder, run_id, **settings), Laboratory(folder / "runs"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("private")


@pytest.fixture(scope="module")
def finished(folder: Path) -> SimulationResult:
    """Noised statistics, four rounds of five steps, noised metrics after each."""
    return run(folder, METRICS)


def plan_of(study: StudySpec, result: SimulationResult, folder: Path, site: str) -> PrivacyPlan:
    (virtual,) = (one for one in virtual_sites(make_manifest(folder), folder) if one.name == site)
    return study_plan(study, virtual.policy.populations["persons"].persons)


def test_epsilon_rises_to_the_target_and_not_above(finished: SimulationResult) -> None:
    shown = [record.epsilon or 0.0 for record in finished.history]
    assert len(shown) == 4
    assert all(later > earlier for earlier, later in pairwise(shown))
    assert 2.97 < shown[-1] <= 3.0
    assert finished.epsilon == shown[-1]
    assert max(site.epsilon_held_out for site in finished.privacy.values()) <= 3.0


def test_all_ledgers_verify_and_recompose_to_the_plan(finished: SimulationResult, folder: Path) -> None:
    for site in CLINICS:
        plan = plan_of(finished.study, finished, folder, site)
        for partition in ("train", "holdout"):
            charged = spent(folder / "runs" / "run", site, finished.study, partition)
            assert charged == counted(plan.events(partition))
        assert finished.privacy[site].epsilon == pytest.approx(epsilon(plan.events(), 1e-3))
    assert len({said.epsilon for said in finished.privacy.values()}) == 1


def test_a_ledger_tells_the_whole_course(finished: SimulationResult, folder: Path) -> None:
    entries = entries_of(folder / "runs" / "run", "south")
    kinds = [entry.kind for entry in entries]
    rounds = ["reserve", "commit"] * (1 + 4 + 4)  # statistics, training, evaluation
    assert kinds == ["create", "register", "dataset", "hold", *rounds, "release"]
    purposes = [(entry.purpose, entry.round) for entry in entries if entry.kind == "reserve"]
    expected = [("statistics", 0)]
    expected += [(what, number) for number in (1, 2, 3, 4) for what in ("train", "evaluation")]
    assert purposes == expected


def test_what_leaves_a_site_is_no_loss_and_the_named_metrics(finished: SimulationResult) -> None:
    for record in finished.history:
        assert record.loss is None
        assert {name for name, value in record.metrics.items() if value is not None} <= {
            "accuracy", "auc", "balanced_accuracy", "sensitivity", "specificity", "precision", "f1",
        }  # fmt: skip
        assert record.metrics["accuracy"] is not None
        assert record.metrics["loss"] is None


def by_hand(folder: Path, result: SimulationResult, *, own: bool) -> dict[str, float]:
    """Accuracy at each site, with the model's weights and the site's rows, in numpy.

    Args:
        folder: of the run's study.
        result: of the run.
        own: standardise by the site's own training rows.
    """
    manifest, run = make_manifest(folder), folder / "runs" / "run"
    state = load_latest(run / "checkpoints")
    assert state is not None
    task = find_task(manifest.study)
    found: dict[str, float] = {}
    for name, data in site_data(manifest.study, virtual_sites(manifest, run)).items():
        mean, scale = state.preprocessing["mean"], state.preprocessing["scale"]
        if own:
            fitted = task.features.fit(manifest.study, task.features.statistics(manifest.study, data.train))
            mean, scale = fitted["mean"], fitted["scale"]
        inputs = np.where(np.isnan(data.holdout.inputs), mean, data.holdout.inputs)
        logits = (inputs - mean) / scale @ state.model[:-1] + state.model[-1]
        found[name] = float(np.mean((logits > 0) == (data.holdout.targets == 1)))
    assert set(found) == set(result.federated.per_site)
    return found


def test_the_laboratory_measures_the_model_exactly(finished: SimulationResult, folder: Path) -> None:
    """Its metrics are those of the rows, also the ones that no site sends."""
    outcome = finished.federated
    for site, accuracy in by_hand(folder, finished, own=False).items():
        assert outcome.per_site[site]["accuracy"] == pytest.approx(accuracy)
    assert outcome.pooled_test["loss"] is not None
    assert finished.history[-1].metrics["accuracy"] != outcome.pooled_test["accuracy"]  # that one is noised


def test_the_final_line_and_the_files_say_the_same(finished: SimulationResult, folder: Path) -> None:
    line = json.loads(json.dumps(finished.final_line()))
    assert line["epsilon"] == finished.epsilon
    assert {site["guarantee"] for site in line["privacy"].values()} == {"dp"}
    kept = load_result(folder / "runs" / "run" / "result.json")
    assert replace(kept, seconds=finished.seconds) == finished
    store = Laboratory(folder / "runs").store()
    course = store.metrics("run", "epsilon")[""]
    assert course == [(record.round, record.epsilon) for record in finished.history]
    assert not any("no [privacy]" in choice for choice in finished.insecure)
    everywhere = epsilon_everywhere(finished)
    assert everywhere > (finished.epsilon or 0.0)


# A run that goes on.


class Stop(Exception):
    """Raised by a listener in the place of a crash."""


def stop_after(number: int) -> Callable[[Event], None]:
    def tell(event: Event) -> None:
        if isinstance(event, RoundRecord) and event.round == number:
            raise Stop

    return tell


@pytest.mark.parametrize("crashes", [(1,), (2, 3), (4,)])
def test_a_resumed_run_charges_and_forgets_nothing(tmp_path: Path, crashes: tuple[int, ...]) -> None:
    lay_out(tmp_path, METRICS)
    manifest, laboratory = make_manifest(tmp_path), Laboratory(tmp_path / "runs")
    for number in crashes:
        with pytest.raises(Stop):
            simulate(manifest, laboratory, stop_after(number))
    result = simulate(manifest, laboratory)
    assert result.rounds == 4
    for site in CLINICS:
        plan = plan_of(manifest.study, result, tmp_path, site)
        assert spent(tmp_path / "runs" / "run", site, manifest.study, "train") == counted(plan.events())
        assert "spent-by-crash" not in [entry.kind for entry in entries_of(tmp_path / "runs" / "run", site)]
    assert [record.epsilon for record in result.history][-1] == result.epsilon


def test_a_finished_run_resumed_costs_nothing(tmp_path: Path) -> None:
    first = run(tmp_path, FEW)
    before = entries_of(tmp_path / "runs" / "run", "north")
    again = run(tmp_path)
    assert again.history == first.history
    assert again.privacy == first.privacy
    assert entries_of(tmp_path / "runs" / "run", "north") == before


def test_a_site_that_does_not_answer_pays_for_what_it_did_only(tmp_path: Path) -> None:
    result = run(tmp_path, faults=Faults(drop_out=0.3, seed=3))
    asked = {site: sum(site in record.sites for record in result.history) for site in CLINICS}
    assert len(set(asked.values())) > 1
    for site in CLINICS:
        assert result.privacy[site].steps == 5 * asked[site]
    assert result.epsilon == max(site.epsilon for site in result.privacy.values())
    assert result.epsilon == result.history[-1].epsilon


def test_sites_without_training_or_held_out_persons_send_noise_like_the_others(tmp_path: Path) -> None:
    """A refusal would tell that a site has nobody there."""
    lay_out(tmp_path, METRICS, FEW, ('unit_column = "patient"', 'unit_column = "row"'))
    write_csv(tmp_path / "data.csv", patients(16))
    manifest = make_manifest(tmp_path, by=None, sites=8)
    parts = site_data(manifest.study, virtual_sites(manifest, tmp_path))
    assert any(not len(part.holdout) for part in parts.values())
    assert any(not len(part.train) for part in parts.values())
    result = simulate(manifest, Laboratory(tmp_path / "runs"))
    for record in result.history:
        assert len(record.sites) == 8
        assert record.left_out == {}
        assert len(record.per_site) == 8
    assert len({site.epsilon for site in result.privacy.values()}) == 1


# Noise.


@pytest.mark.slow
def test_simulated_noise_is_repeatable_on_any_number_of_workers_and_stamped(tmp_path: Path) -> None:
    lay_out(tmp_path, METRICS, SIMULATED)
    made = [run(tmp_path, run_id=name, workers=workers) for name, workers in (("a", 0), ("b", 0), ("c", 2))]
    models = [(tmp_path / "runs" / name / "model.safetensors").read_bytes() for name in "abc"]
    assert models[0] == models[1] == models[2]
    assert made[0].history == made[1].history == made[2].history
    for result in made:
        assert {site.guarantee for site in result.privacy.values()} == {"none"}
        assert any("guarantee none" in choice for choice in result.insecure)
    holds = [entry for entry in entries_of(tmp_path / "runs" / "a", "west") if entry.kind == "hold"]
    assert [hold.guarantee for hold in holds] == ["none"]
    other = run(tmp_path, run_id="d", study=made[0].study.with_changes(seed=6))
    assert other.model_sha256 != made[0].model_sha256


def test_cryptographic_noise_is_never_the_same_twice(tmp_path: Path) -> None:
    lay_out(tmp_path, FEW)
    first, second = (run(tmp_path, run_id=name) for name in "ab")
    assert first.model_sha256 != second.model_sha256
    assert {site.guarantee for site in first.privacy.values()} == {"dp"}
    keys = {result.privacy[site].fingerprint for result in (first, second) for site in CLINICS}
    assert len(keys) == 6


# Other guarantees.


@pytest.mark.parametrize("unit", ['unit_column = "row"', 'unit = "record"'])
def test_a_row_may_be_a_person(tmp_path: Path, unit: str) -> None:
    result = run(tmp_path, FEW, ('unit_column = "patient"', unit))
    assert result.epsilon == pytest.approx(3.0, rel=0.01)
    registered = [e for e in entries_of(tmp_path / "runs" / "run", "north") if e.kind == "register"]
    assert registered[0].population.persons == 50
    assert registered[0].row_is_person == ("row" in unit)


def test_a_number_of_persons_that_is_not_public_is_in_no_ledger(tmp_path: Path) -> None:
    result = run(tmp_path, FEW, ADD_REMOVE)
    assert result.epsilon == pytest.approx(3.0, rel=0.01)
    registered = [e for e in entries_of(tmp_path / "runs" / "run", "north") if e.kind == "register"]
    assert registered[0].population.persons is None
    assert registered[0].population.adjacency == "add-remove"


@pytest.mark.parametrize("standardise", [DECLARED, PER_SITE])
def test_a_whole_site_may_be_the_unit(tmp_path: Path, standardise: tuple[str, str]) -> None:
    result = run(tmp_path, FEW, SITE, standardise)
    assert {site.steps for site in result.privacy.values()} == {2}
    assert result.epsilon == pytest.approx(3.0, rel=0.01)
    assert any("one patient" in choice for choice in result.insecure)


def test_a_model_standardised_at_each_site_is_measured_as_it_was_trained(tmp_path: Path) -> None:
    result = run(tmp_path, FEW, SITE, PER_SITE)
    own, shared = (by_hand(tmp_path, result, own=own) for own in (True, False))
    assert {site: part["accuracy"] for site, part in result.federated.per_site.items()} == pytest.approx(own)
    assert own != shared


@pytest.mark.parametrize("noise_at", ["site", "server"])
def test_the_second_guarantee_is_reported_apart(tmp_path: Path, noise_at: str) -> None:
    result = run(tmp_path, FEW, DECLARED, second(noise_at))
    for site in result.privacy.values():
        assert site.epsilon == pytest.approx(3.0, rel=0.01)
        assert site.site_epsilon == pytest.approx(2.0, rel=0.01)
    assert any("noise_at = 'server'" in choice for choice in result.insecure) == (noise_at == "server")


@pytest.mark.slow
@pytest.mark.parametrize("sampling", ["poisson", "truncated_poisson"])
def test_sampled_steps_are_charged_as_they_are_drawn(tmp_path: Path, sampling: str) -> None:
    """A cap depends on the persons, so each site has an epsilon of its own; its noise takes long to find."""
    noise = (
        "epsilon = 3.0",
        "noise_multiplier = 2.0" if sampling == "truncated_poisson" else "epsilon = 3.0",
    )
    lay_out(tmp_path, FEW, DECLARED, noise, ("delta", f'sampling = "{sampling}"\ndelta'), sampled=True)
    result = run(tmp_path)
    shown = [record.epsilon or 0.0 for record in result.history]
    assert shown == sorted(shown)
    assert result.epsilon == shown[-1]
    for site in CLINICS:
        plan = plan_of(result.study, result, tmp_path, site)
        assert spent(tmp_path / "runs" / "run", site, result.study, "train") == counted(plan.events())
        assert result.privacy[site].epsilon == pytest.approx(plan.epsilon())
    if sampling == "poisson":
        assert 2.9 < shown[-1] <= 3.0


# What does not start.


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            [("delta = 1e-3", "delta = 0.05")],
            r"privacy\.delta: 0\.05 is not below 1/\d+: .*use \de-0\d or less",
        ),
        ([("epsilon = 3.0", "epsilon = 1e-9")], r"privacy\.epsilon: no noise meets this plan"),
    ],
)
def test_a_plan_that_protects_nobody_makes_no_run(
    tmp_path: Path, changes: list[tuple[str, str]], said: str
) -> None:
    with pytest.raises(PlanError, match=said):
        run(tmp_path, *changes)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_ledger_that_cannot_be_opened_stops_its_site_and_no_other(tmp_path: Path, workers: int) -> None:
    lay_out(tmp_path)
    with pytest.raises(Stop):
        simulate(make_manifest(tmp_path), Laboratory(tmp_path / "runs"), stop_after(2))
    sites = tmp_path / "runs" / "run" / "sites"
    whole = (sites / "north" / "ledger.sqlite").read_bytes()
    (sites / "north" / "ledger.sqlite").write_bytes(b"no ledger" * 1000)
    told: list[RoundRecord] = []

    def tell(event: Event) -> None:
        told.extend([event] if isinstance(event, RoundRecord) else [])

    with pytest.raises(LedgerUnavailable, match="north"):  # at the end, when all ledgers are read
        simulate(make_manifest(tmp_path, workers=workers), Laboratory(tmp_path / "runs"), tell)
    assert [record.round for record in told] == [3, 4]
    for record in told:
        assert record.sites == ("south", "west")
        assert record.left_out["north"].startswith("ledger: ledger ")
    (sites / "north" / "ledger.sqlite").write_bytes(whole)
    assert run(tmp_path).privacy["north"].steps == 10


def test_a_ledger_that_is_gone_while_its_head_is_there_stops_everything(tmp_path: Path) -> None:
    """It might have been restored from an old backup: nobody trains on it."""
    lay_out(tmp_path)
    with pytest.raises(Stop):
        simulate(make_manifest(tmp_path), Laboratory(tmp_path / "runs"), stop_after(2))
    for site in CLINICS:
        (tmp_path / "runs" / "run" / "sites" / site / "ledger.sqlite").unlink()
    with pytest.raises(NotEnoughSites, match="north: ledger: "):
        run(tmp_path)
