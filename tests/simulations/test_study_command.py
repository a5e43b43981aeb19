"""`vestry study` as a user types it."""

import json
from pathlib import Path

from tests.simulations.laboratory import refused, vestry, write_study
from vestry_simulations.datasets import heart_study
from vestry_strategies.study import load_study

DIGEST = load_study(heart_study()).digest()


def test_check_says_that_it_is_fine_and_what_is_insecure() -> None:
    result = vestry("study", "check", heart_study())
    assert result.returncode == 0
    assert f"heart-four-hospitals, study hash {DIGEST}" in result.stdout
    assert "insecure: no [privacy]" in result.stdout
    assert "aggregation.secure" not in result.stdout


def test_check_for_machines() -> None:
    line = json.loads(vestry("study", "check", heart_study(), "--json").stdout)
    assert line["ok"] is True
    assert line["study_hash"] == DIGEST
    assert len(line["insecure"]) == 1
    assert line["crowd"].startswith("an update is hidden among at least")


def test_check_says_among_how_many_honest_sites_an_update_hides(tmp_path: Path) -> None:
    least = vestry("study", "check", heart_study()).stdout
    assert "secure aggregation: an update is hidden among at least t - c = 3 honest sites (3 sites" in least
    ten = vestry("study", "check", heart_study(), "--sites", 10).stdout
    assert "at least t - c = 4 honest sites (10 sites" in ten
    refused(vestry("study", "check", heart_study(), "--sites", 2), "--sites: 2", "3 to 200 sites")
    refused(vestry("study", "check", heart_study(), "--sites", 201), "--sites: 201")
    drawn = write_study(tmp_path / "s.toml", ("secure = false", "secure = true\ncohort = 7"))
    assert "(7 sites" in vestry("study", "check", drawn).stdout
    assert "(7 sites" in vestry("study", "check", drawn, "--sites", 50).stdout
    assert "(5 sites" in vestry("study", "check", drawn, "--sites", 5).stdout


def test_check_without_secure_aggregation_says_so(tmp_path: Path) -> None:
    path = write_study(tmp_path / "s.toml")
    assert "insecure: aggregation.secure = false" in vestry("study", "check", path).stdout
    assert json.loads(vestry("study", "check", path, "--json").stdout)["crowd"] == ""


def test_check_refuses_what_cannot_run(tmp_path: Path) -> None:
    path = write_study(tmp_path / "s.toml", ("secure = false", "secure = true\ncohort = 2"))
    refused(vestry("study", "check", path), "aggregation.cohort: 2", "secure = false")


def test_check_names_every_problem(tmp_path: Path) -> None:
    path = write_study(tmp_path / "s.toml", ("batch_size", "batchsize"), ("rounds = 4", 'rounds = "4"'))
    refused(vestry("study", "check", path), "2 problems", "training.batchsize", "training.rounds")


def test_check_of_nothing(tmp_path: Path) -> None:
    refused(vestry("study", "check", tmp_path / "x.toml"), "there is no such file")


def test_show_fills_in_the_defaults() -> None:
    text = vestry("study", "show", heart_study()).stdout
    assert "training.momentum" in text
    assert "aggregation.attempts" in text
    plain = json.loads(vestry("study", "show", heart_study(), "--json").stdout)
    assert plain["study_hash"] == DIGEST
    assert plain["training"]["momentum"] == 0.0


def test_schema_is_json() -> None:
    schema = json.loads(vestry("study", "schema").stdout)
    assert schema["title"] == "Vestry study"
