"""`vestry simulate` under [privacy] as a user types it: the course, the curve, and every bad input."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn
from typer.testing import CliRunner

import vestry_strategies.tasks.tabular as tabular
from tests.simulations.laboratory import vestry, write_csv, write_study
from tests.simulations.private_laboratory import CLINICS, METRICS, SIMULATED, lay_out, patients
from tests.strategies.samples import DECLARED
from vestry_privacy.accounting import epsilon, parse_event
from vestry_privacy.errors import VestryError
from vestry_privacy.identity import load_identity
from vestry_privacy.ledger_verify import verify_ledger
from vestry_simulations.cli import app
from vestry_strategies.study import StudySpec

FEW = ("rounds = 4", "rounds = 2")
UNIT = 'unit_column = "patient"'


def words(folder: Path, *more: object) -> list[str]:
    """`simulate` in this process; runs go into the same folder."""
    plain = ("simulate", folder / "study.toml", "--data", folder / "data.csv", "--by", "clinic")
    return [*map(str, (*plain, "--out", folder / "runs", "--workers", 0, *more))]


def lines(folder: Path, *more: object) -> list[dict[str, Any]]:
    """What `--json` prints."""
    result = CliRunner().invoke(app, words(folder, "--json", *more), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def said_no(folder: Path, *more: object) -> str:
    """What is said of a command that is refused."""
    result = CliRunner().invoke(app, words(folder, *more))
    assert isinstance(result.exception, VestryError), (result.exit_code, result.output, result.exception)
    return str(result.exception)


def test_epsilon_is_in_every_line_and_in_the_last_one(tmp_path: Path) -> None:
    *rounds, final = lines(lay_out(tmp_path, METRICS))
    shown = [line["epsilon"] for line in rounds]
    assert len(shown) == 4
    assert shown == sorted(shown)
    assert 0 < shown[0] < shown[-1] <= 3.0
    assert [line["loss"] for line in rounds] == [None] * 4
    assert final["epsilon"] == shown[-1]
    assert set(final["privacy"]) == set(CLINICS)
    for site in final["privacy"].values():
        assert site["guarantee"] == "dp"
        assert site["epsilon"] == epsilon([parse_event(text) for text in site["events"]], site["delta"])
        key = load_identity(Path(site["ledger"]).with_name("identity.pem"))
        assert verify_ledger(Path(site["ledger"]), key.public_key).fingerprint == site["fingerprint"]


def test_people_see_what_each_ledger_says(tmp_path: Path) -> None:
    """In a real process, with workers."""
    lay_out(tmp_path, FEW)
    result = vestry("simulate", "study.toml", "--data", "data.csv", "--by", "clinic", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    for part in ("per patient: epsilon at delta 0.001", "in training", "a person at all sites", "dp"):
        assert part in result.stdout, part
    assert "no [privacy]" not in result.stdout
    assert "refused" not in result.stderr
    report = Path(result.stdout.split("report  ")[1].split()[0])
    assert "<h2>Privacy</h2>" in report.read_text(encoding="utf-8")


def test_a_curve_has_a_point_for_each_epsilon(tmp_path: Path) -> None:
    lay_out(tmp_path, FEW, DECLARED)
    write_study(tmp_path / "plain.toml", ("learning_rate = 0.1", "learning_rate = 0.7"), FEW)
    made = lines(tmp_path, "--epsilons", "none,8,1", "--plain", tmp_path / "plain.toml", "--seeds", 2)
    *rounds, final = made
    assert len(rounds) == 3 * 2 * 2
    assert final["final"] is True
    curve = final["curve"]
    assert [point["epsilon"] for point in curve] == [None, 8.0, 1.0]
    assert curve[0]["epsilon_spent"] is None
    for point, target in zip(curve[1:], (8.0, 1.0), strict=True):
        assert 0.98 * target < point["epsilon_spent"] <= target
    for point in curve:
        assert len(point["runs"]) == 2
        assert point["pooled_test"]["accuracy"]["sd"] is not None
        assert point["metrics"]["auc"]["mean"] is not None
    manifest = json.loads((tmp_path / "runs" / curve[0]["runs"][0] / "manifest.json").read_text())
    assert manifest["study"]["training"]["learning_rate"] == 0.7
    assert "privacy" not in manifest["study"]
    last = tmp_path / "runs" / curve[-1]["runs"][-1]
    assert "Utility by epsilon" in (last / "privacy-utility.html").read_text(encoding="utf-8")


def test_a_curve_is_a_table_for_people(tmp_path: Path) -> None:
    lay_out(tmp_path, FEW, DECLARED)
    result = CliRunner().invoke(
        app, words(tmp_path, "--epsilons", "none,2", "--png"), catch_exceptions=False, env={"COLUMNS": "100"}
    )
    assert result.exit_code == 0, result.output
    assert "utility by epsilon" in result.stdout
    report = Path(result.stdout.split("report  ")[1].split()[0])
    assert report.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_simulated_noise_is_stamped_wherever_it_shows(tmp_path: Path) -> None:
    lay_out(tmp_path, FEW, SIMULATED)
    finals = [lines(tmp_path)[-1] for _ in range(2)]
    assert finals[0]["model_sha256"] == finals[1]["model_sha256"]
    assert {site["guarantee"] for site in finals[0]["privacy"].values()} == {"none"}
    assert any("guarantee none" in choice for choice in finals[0]["insecure"])


def test_baselines_stand_beside_a_private_federation(tmp_path: Path) -> None:
    final = lines(lay_out(tmp_path, FEW), "--baselines")[-1]
    assert set(final["baselines"]) == {"pooled", "local-only"}


# What a user may get wrong.


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ([(UNIT, 'unit_column = "nobody"')], ["column 'nobody' is missing", "clinic, age"]),
        ([("epsilon = 3.0", "epsilon = 0")], ["privacy.epsilon", "greater than 0"]),
        ([("epsilon = 3.0", "epsilon = -2.0")], ["privacy.epsilon", "greater than 0"]),
        ([("delta = 1e-3", "delta = 1.0")], ["privacy.delta", "less than 1"]),
        (
            [("delta = 1e-3", "delta = 0.2")],
            ["privacy.delta: 0.2 is not below 1/", "publishing one person's whole record would satisfy it"],
        ),
        ([("epsilon = 3.0", "epsilon = 1e-9")], ["privacy.epsilon: no noise meets this plan"]),
        ([("epsilon = 3.0", "noise_multiplier = 1e-6")], ["noise_multiplier 1e-06 must lie between"]),
        ([("delta", 'adjacency = "add-remove"\ndelta')], ["privacy.expected_batch: is needed", "add-remove"]),
        (
            [('kind = "tabular"', 'kind = "tabular"\nstandardise = "per-site"')],
            ["task.standardise: 'per-site'", "use 'declared'"],
        ),
        ([('kind = "logistic"', 'kind = "mlp"\nnorm = "batch"')], ["model.norm: 'batch'", "'layer'"]),
        ([("local_steps = 5", "local_epochs = 2")], ["training.local_epochs", "write local_steps"]),
        ([("range = [-6, 6]", "")], ["task.features 'dose'.range", "'declared'"]),
    ],
)
def test_a_study_that_protects_nobody_is_refused_with_the_way_out(
    tmp_path: Path, changes: list[tuple[str, str]], parts: list[str]
) -> None:
    message = said_no(lay_out(tmp_path, *changes))
    for part in parts:
        assert part in message
    assert not list(tmp_path.glob("runs/*/sites"))


@pytest.mark.parametrize("gap", ["", "  "])
def test_a_patient_without_an_identifier_stops_the_site_and_is_not_shown(tmp_path: Path, gap: str) -> None:
    lay_out(tmp_path, FEW)
    records = patients()
    for row in records[:40]:
        if row["clinic"] == "south":
            row["patient"] = gap
    write_csv(tmp_path / "data.csv", records)
    final = lines(tmp_path)[-1]
    reason = final["left_out"]["south"]
    assert reason.startswith("data: column 'patient': ")
    assert "an identifier of the patient in every row" in reason
    assert not any(row["patient"] in reason for row in records if row["patient"].strip())
    assert set(final["privacy"]) == {"north", "west"}


def test_a_layer_that_couples_persons_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(study: StudySpec) -> nn.Module:
        return nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))

    monkeypatch.setattr(tabular, "TABULAR", replace(tabular.TABULAR, build_model=build))
    message = said_no(lay_out(tmp_path, ("seed = 5", "seed = 50")))
    assert "north: study: model layer '1' (BatchNorm1d): mixes the records of a batch" in message
    assert "use GroupNorm or LayerNorm" in message


def test_options_that_do_not_go_together(tmp_path: Path) -> None:
    lay_out(tmp_path)
    study = tmp_path / "study.toml"
    assert "--epsilons: 'x' is no epsilon" in said_no(tmp_path, "--epsilons", "8,x")
    assert "--baselines: goes with one epsilon" in said_no(tmp_path, "--epsilons", "8", "--baselines")
    assert "--plain: goes with --epsilons" in said_no(tmp_path, "--plain", study)
    assert "--plain: has a section [privacy]" in said_no(tmp_path, "--epsilons", "none,8", "--plain", study)
    assert "no such file" in said_no(tmp_path, "--epsilons", "none,8", "--plain", tmp_path / "none.toml")
    write_study(study)
    assert "--epsilons: the study has no section" in said_no(tmp_path, "--epsilons", "8")
    assert not (tmp_path / "runs").exists()
