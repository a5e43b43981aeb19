"""`vestry attack canary`: the claim of a study, held against what its trainer lets through."""

import json
from pathlib import Path

import pytest

from tests.simulations.laboratory import STUDY, refused, rows, vestry, write_csv
from vestry_simulations.attack_command import audit_study
from vestry_simulations.partition import SimulationError
from vestry_strategies.study import StudySpec, parse_study

PRIVACY = """
[privacy]
unit = "patient"
unit_column = "row"
epsilon = 3.0
delta = 1e-5
clip = 0.5
sampling_probability = 0.5
noise = "cryptographic"
"""


def private_text() -> str:
    text = STUDY.replace("[aggregation]", PRIVACY + "[aggregation]")
    return text.replace('name = "dose"\ntype = "number"', 'name = "dose"\ntype = "number"\nrange = [-5, 5]')


def private_study() -> StudySpec:
    return parse_study(private_text())


@pytest.mark.slow
def test_the_estimate_is_near_the_claim() -> None:
    seen: list[tuple[int, int]] = []
    result = audit_study(private_study(), canaries=2000, progress=lambda *place: seen.append(place))
    assert seen[-1] == (20, 20)
    assert result.holds
    assert result.interval[0] <= result.epsilon_claimed <= result.interval[1] * 1.05
    assert result.canaries == 2000


@pytest.mark.slow
def test_real_records_can_keep_the_canaries_company(tmp_path: Path) -> None:
    data = write_csv(tmp_path / "a.csv", rows(120))
    result = audit_study(private_study(), data, canaries=500)
    assert result.holds


def test_a_study_that_protects_no_person_claims_nothing() -> None:
    with pytest.raises(SimulationError, match="claims nothing to audit"):
        audit_study(parse_study(STUDY))


@pytest.mark.slow
def test_the_command_prints_table_and_json(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(private_text())
    done = vestry("attack", "canary", tmp_path / "s.toml", "--canaries", 400, "--epsilon", 8, "--json")
    assert done.returncode == 0, done.stderr
    plain = json.loads(done.stdout)
    assert plain["epsilon_claimed"] <= 8
    low, high = plain["interval"]
    assert low <= plain["epsilon_estimate"] <= high
    done = vestry("attack", "canary", tmp_path / "s.toml", "--canaries", 400)
    assert "epsilon claimed (PLD)" in done.stdout
    assert "not refuted" in done.stdout


def test_bad_input_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plain.toml").write_text(STUDY)
    (tmp_path / "s.toml").write_text(private_text())
    refused(vestry("attack", "canary", tmp_path / "plain.toml"), "no section [privacy]")
    refused(vestry("attack", "canary", tmp_path / "s.toml", "--epsilon", 0), "--epsilon", "above 0")
    refused(vestry("attack", "canary", tmp_path / "none.toml"), "no such file")
