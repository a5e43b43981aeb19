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
    assert "insecure: aggregation.secure = false" in result.stdout


def test_check_for_machines() -> None:
    line = json.loads(vestry("study", "check", heart_study(), "--json").stdout)
    assert line["ok"] is True
    assert line["study_hash"] == DIGEST
    assert len(line["insecure"]) == 2


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
