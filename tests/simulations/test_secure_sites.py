"""Secure aggregation of virtual sites: identities on the disk, and a result that only the study decides."""

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.simulations.laboratory import rows, write_csv, write_study
from vestry_client.policy import SitePolicy
from vestry_privacy.identity import load_identity
from vestry_privacy.secagg.directory import Directory
from vestry_privacy.secagg.transcript import verify_transcript
from vestry_server.checkpoint import load_latest
from vestry_server.progress import Event, RoundFailed, RoundRecord
from vestry_server.rounds import NotEnoughSites
from vestry_simulations.faults import Faults
from vestry_simulations.manifest import Manifest, file_hash
from vestry_simulations.partition import SimulationError
from vestry_simulations.results import SimulationResult, load_result
from vestry_simulations.secure_sites import (
    SeatPlan,
    check_sites,
    make_directory,
    make_secure_run,
    open_seat,
    secure_rules,
)
from vestry_simulations.simulate import Laboratory, simulate
from vestry_strategies.study import load_study

SECURE = ("secure = false", "secure = true")
STATEFUL = (
    ("learning_rate = 0.1", 'learning_rate = 0.05\nmomentum = 0.9\noptimizer_state = "keep"'),
    ("rounds = 4", "rounds = 6"),
    ("[aggregation]", '[strategy]\nname = "fedadam"\n[aggregation]'),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_study(tmp_path / "study.toml", *STATEFUL, SECURE)
    write_csv(tmp_path / "data.csv", rows())
    return tmp_path


def manifest(folder: Path, **changes: Any) -> Manifest:
    plain = Manifest(
        run_id="run",
        study=load_study(folder / "study.toml"),
        data=folder / "data.csv",
        data_hash=file_hash(folder / "data.csv"),
        by="clinic",
        workers=0,
    )
    return replace(plain, **changes)


def model_of(folder: Path) -> bytes:
    return (folder / "run" / "model.safetensors").read_bytes()


class Stop(Exception):
    """In the place of a crash."""


def stop_after(number: int) -> Any:
    def tell(event: Event) -> None:
        if isinstance(event, RoundRecord) and event.round == number:
            raise Stop

    return tell


def test_the_result_depends_on_the_study_alone(folder: Path) -> None:
    """Keys, masks and sequence numbers differ from run to run; workers differ; the model does not."""
    for place, workers in (("one", 0), ("other", 2)):
        simulate(manifest(folder, workers=workers), Laboratory(folder / place))
    assert model_of(folder / "one") == model_of(folder / "other")
    one, other = (load_result(folder / place / "run" / "result.json") for place in ("one", "other"))
    assert one.history == other.history
    directories = [(folder / place / "run" / "directory.bin").read_bytes() for place in ("one", "other")]
    assert directories[0] != directories[1]


def test_a_secure_run_comes_close_to_the_plain_one(folder: Path) -> None:
    write_study(folder / "study.toml", SECURE)
    simulate(manifest(folder), Laboratory(folder / "secure"))
    write_study(folder / "study.toml")
    simulate(manifest(folder), Laboratory(folder / "plain"))
    states = [load_latest(folder / place / "run" / "checkpoints") for place in ("secure", "plain")]
    assert states[0] is not None
    assert states[1] is not None
    np.testing.assert_allclose(states[0].model, states[1].model, atol=2e-3)
    assert states[0].history[-1].loss == pytest.approx(states[1].history[-1].loss, abs=2e-3)


def test_a_run_resumed_from_any_round_ends_the_same(folder: Path) -> None:
    simulate(manifest(folder), Laboratory(folder / "whole"))
    laboratory = Laboratory(folder / "broken")
    for number in (1, 4, 5):
        with pytest.raises(Stop):
            simulate(manifest(folder), laboratory, stop_after(number))
    result = simulate(manifest(folder), laboratory)
    assert model_of(folder / "broken") == model_of(folder / "whole")
    assert result.history == load_result(folder / "whole" / "run" / "result.json").history


def test_a_round_that_a_crash_forgot_is_repeated(folder: Path) -> None:
    """The checkpoint is lost after the sites' journals have seen the round."""
    simulate(manifest(folder), Laboratory(folder / "whole"))
    laboratory = Laboratory(folder / "broken")
    with pytest.raises(Stop):
        simulate(manifest(folder), laboratory, stop_after(4))
    (folder / "broken" / "run" / "checkpoints" / "round-000004.safetensors").unlink()
    simulate(manifest(folder), laboratory)
    assert model_of(folder / "broken") == model_of(folder / "whole")


def four_sites(folder: Path, **changes: Any) -> Manifest:
    return manifest(folder, by=None, sites=4, **changes)


def test_sites_that_drop_out_are_recovered_from(folder: Path) -> None:
    faults = Faults(drop_out=0.1, seed=3)
    failed: list[RoundFailed] = []

    def tell(event: Event) -> None:
        if isinstance(event, RoundFailed):
            failed.append(event)

    result = simulate(four_sites(folder, faults=faults), Laboratory(folder / "runs"), tell)
    sizes = [len(record.sites) for record in result.history]
    assert min(sizes) == 3
    for record in result.history:
        missing = sorted({"site-1", "site-2", "site-3", "site-4"} - set(record.sites))
        assert record.left_out == dict.fromkeys(missing, "no reply before the deadline")
    assert all("nothing is unmasked" in event.reason for event in failed)


def test_three_sites_can_lose_none(folder: Path) -> None:
    faults = Faults(drop_out=0.9, seed=3)
    with pytest.raises(NotEnoughSites, match="needed are 3 of the 3 sites"):
        simulate(manifest(folder, faults=faults), Laboratory(folder / "runs"))


def test_single_sites_are_measured_by_the_laboratory(folder: Path) -> None:
    result = simulate(manifest(folder), Laboratory(folder / "runs"))
    assert all(record.per_site == {} for record in result.history)
    assert set(result.federated.per_site) == {"north", "south", "west"}
    assert result.federated.pooled_test == pytest.approx(result.history[-1].metrics)
    assert result.sites == ("north", "south", "west")
    assert "t - c = 3 honest sites" in result.crowd
    loaded: SimulationResult = load_result(folder / "runs" / "run" / "result.json")
    assert loaded.crowd == result.crowd


def test_a_site_whose_data_cannot_be_used_is_named_and_not_measured(folder: Path) -> None:
    records = rows(120)
    for number, row in enumerate(records):
        row["clinic"] = ("north", "south", "west", "east")[number % 4]
        if row["clinic"] == "east":
            row["dose"] = "much"
    write_csv(folder / "data.csv", records)
    result = simulate(manifest(folder), Laboratory(folder / "runs"))
    assert result.sites == ("north", "south", "west")
    assert list(result.left_out) == ["east"]
    assert result.left_out["east"].startswith("data: ")
    assert set(result.federated.per_site) == {"north", "south", "west"}


def test_every_sum_leaves_a_transcript_that_verifies(folder: Path) -> None:
    simulate(manifest(folder), Laboratory(folder / "runs"))
    paths = sorted((folder / "runs" / "run" / "transcripts").iterdir())
    reports = [verify_transcript(path.read_bytes()) for path in paths]
    assert [report.plan.kind for report in reports] == ["statistics", *["train", "evaluate"] * 6]
    directory = Directory.decode((folder / "runs" / "run" / "directory.bin").read_bytes())
    assert {report.directory for report in reports} == {directory.fingerprint}


@pytest.mark.parametrize("count", [2, 201])
def test_a_number_of_sites_that_cannot_add_up_is_refused(folder: Path, count: int) -> None:
    study = load_study(folder / "study.toml")
    with pytest.raises(SimulationError, match=f"sites: {count}.*secure = false"):
        check_sites(study, count)
    write_study(folder / "study.toml")
    check_sites(load_study(folder / "study.toml"), count)


def test_rules_let_no_update_out_in_the_clear(folder: Path) -> None:
    rules = secure_rules(load_study(folder / "study.toml"))
    assert not SitePolicy(**rules).allow_individual_updates
    write_study(folder / "study.toml")
    assert SitePolicy(**secure_rules(load_study(folder / "study.toml"))).allow_individual_updates


def test_identities_are_made_once_and_belong_to_their_sites(tmp_path: Path) -> None:
    first = make_directory(tmp_path, ["a/../b", "ü", "c"])
    again = make_directory(tmp_path, ["c", "ü", "a/../b"])
    assert first == again
    key = load_identity(tmp_path / "sites" / "a%2F..%2Fb" / "identity.pem")
    assert first.by_name("a/../b").public_key == key.public_key
    secure = make_secure_run(tmp_path, "run", first, lambda: 1.0)
    assert secure.coordinator.public_key == first.coordinator
    assert secure.newest is None
    assert make_secure_run(tmp_path, "run", many(), lambda: 1.0).newest == 20


def many() -> Directory:
    from tests.server.secure_scripted import federation

    return federation(tuple(f"s{number}" for number in range(51)))[0]


def test_a_seat_travels_to_its_worker_without_a_secret(tmp_path: Path) -> None:
    directory = make_directory(tmp_path, ["a", "b", "c"])
    plan: SeatPlan = pickle.loads(pickle.dumps(SeatPlan(directory, 7)))  # noqa: S301  made here
    assert plan.directory == directory
    seat = open_seat(plan, "a", tmp_path / "sites" / "a")
    assert seat.identity.public_key == directory.by_name("a").public_key
    one, same, other = (seat.rounding("train", number).expose() for number in (1, 1, 2))
    assert one == same != other
    assert seat.rounding("evaluate", 1).expose() != one
    neighbour = open_seat(plan, "b", tmp_path / "sites" / "b")
    assert neighbour.rounding("train", 1).expose() != one
    for opened in (seat, neighbour):
        opened.journal.close()
