"""`vestry simulate` as a user types it: results, and every bad input."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.simulations.laboratory import refused, rows, vestry, write_csv, write_study


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study, data, and one finished run."""
    folder = tmp_path_factory.mktemp("lab")
    write_study(folder / "study.toml")
    write_csv(folder / "data.csv", rows())
    return folder


@pytest.fixture(scope="module")
def finished(lab: Path) -> list[dict[str, Any]]:
    """The JSON lines of a run with baselines."""
    result = vestry(
        "simulate", "study.toml", "--data", "data.csv", "--by", "clinic", "--json", "--baselines", folder=lab
    )
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def simulate(lab: Path, *more: object, study: str = "study.toml", data: str = "data.csv") -> Any:
    return vestry("simulate", study, "--data", data, "--workers", 0, *more, folder=lab)


def test_one_line_a_round_and_a_final_one(finished: list[dict[str, Any]]) -> None:
    *rounds, final = finished
    assert [line["round"] for line in rounds] == [1, 2, 3, 4]
    assert all(line["sites"] == ["north", "south", "west"] for line in rounds)
    assert final["final"] is True
    assert final["rounds"] == 4
    assert set(final["per_site"]) == {"north", "south", "west"}
    assert final["pooled_test"] == rounds[-1]["metrics"]


def test_metrics_are_the_mean_over_sites(finished: list[dict[str, Any]]) -> None:
    final = finished[-1]
    values = [site["accuracy"] for site in final["per_site"].values()]
    assert final["metrics"]["accuracy"] == pytest.approx(sum(values) / 3)


def test_the_model_hash_is_that_of_the_file(finished: list[dict[str, Any]], lab: Path) -> None:
    final = finished[-1]
    file = lab / "runs" / final["run"] / "model.safetensors"
    assert hashlib.sha256(file.read_bytes()).hexdigest() == final["model_sha256"]


def test_insecure_choices_are_stamped(finished: list[dict[str, Any]]) -> None:
    assert any("aggregation.secure = false" in choice for choice in finished[-1]["insecure"])


def test_baselines_stand_beside_the_federation(finished: list[dict[str, Any]]) -> None:
    baselines = finished[-1]["baselines"]
    assert set(baselines) == {"pooled", "local-only"}
    for outcome in baselines.values():
        assert set(outcome["per_site"]) == {"north", "south", "west"}


def test_the_report_needs_no_network(finished: list[dict[str, Any]], lab: Path) -> None:
    text = (lab / "runs" / finished[-1]["run"] / "report.html").read_text()
    assert "http://" not in text
    assert "https://" not in text
    assert text.count("<svg") == 3


def test_tables_for_people(lab: Path) -> None:
    result = simulate(lab, "--by", "clinic", "--rounds", 2, "--png")
    assert result.returncode == 0, result.stderr
    for part in ("north", "mean of sites", "all rows", "insecure: aggregation.secure", "SHA-256"):
        assert part in result.stdout
    assert "no [privacy]" in result.stdout
    report = Path(result.stdout.split("report  ")[1].split()[0])
    assert report.is_file()
    assert report.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_seeds_give_mean_and_deviation(lab: Path) -> None:
    result = simulate(lab, "--by", "clinic", "--seeds", 3, "--rounds", 2, "--json")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    final = lines[-1]
    assert final["seeds"] == 3
    runs = [run["metrics"]["accuracy"] for run in final["runs"]]
    assert [run["seed"] for run in final["runs"]] == [5, 6, 7]
    spread = final["spread"]["federated"]["metrics"]["accuracy"]
    assert spread["mean"] == pytest.approx(sum(runs) / 3)
    assert spread["sd"] == pytest.approx((sum((r - spread["mean"]) ** 2 for r in runs) / 2) ** 0.5)
    assert len(lines) == 3 * 2 + 1


def test_rounds_and_seed_of_the_command_line_win(lab: Path) -> None:
    result = simulate(lab, "--by", "clinic", "--rounds", 1, "--seed", 42, "--json")
    final = json.loads(result.stdout.splitlines()[-1])
    assert (final["rounds"], final["seed"]) == (1, 42)


@pytest.mark.parametrize("partition", ["iid", "dirichlet:0.5", "quantity:2"])
def test_random_sites(lab: Path, partition: str) -> None:
    result = simulate(lab, "--sites", 4, "--partition", partition, "--rounds", 1, "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout.splitlines()[0])["sites"] == ["site-1", "site-2", "site-3", "site-4"]


def test_drop_outs_are_named_and_the_run_goes_on(lab: Path) -> None:
    result = simulate(lab, "--sites", 6, "--drop-out", 0.3, "--rounds", 6, "--json")
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    left_out = [line["left_out"] for line in lines if "model_hash" in line]
    assert any(left_out)
    assert {reason for part in left_out for reason in part.values()} == {"no reply before the deadline"}


def test_stragglers_are_left_behind_on_the_simulated_clock(lab: Path) -> None:
    study = write_study(lab / "slow.toml", ("secure = false", "secure = false\ndeadline_seconds = 60.0"))
    result = simulate(lab, "--sites", 6, "--latency", 40, "--rounds", 4, "--json", study=study.name)
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert any(line["left_out"] for line in lines)


# What a user may get wrong.


def test_no_data_file(lab: Path) -> None:
    refused(simulate(lab, "--by", "clinic", data="none.csv"), "--data: none.csv", "no such file")


def test_no_study_file(lab: Path) -> None:
    refused(simulate(lab, "--by", "clinic", study="none.toml"), "none.toml", "no such file")


def test_no_way_to_split(lab: Path) -> None:
    refused(simulate(lab), "--by COLUMN or --sites N")
    refused(simulate(lab, "--by", "clinic", "--sites", 3), "exactly one")


@pytest.mark.parametrize("partition", ["dirichlet", "dirichlet:-1", "quantity:x", "random"])
def test_a_partition_that_is_none(lab: Path, partition: str) -> None:
    refused(simulate(lab, "--sites", 3, "--partition", partition), "--partition", "dirichlet:0.5")


def test_one_site_is_no_federation(lab: Path) -> None:
    refused(simulate(lab, "--sites", 1), "--sites: 1", "at least 2")


def test_a_wrong_delimiter(lab: Path) -> None:
    write_csv(lab / "semicolon.csv", rows(), delimiter=";")
    refused(simulate(lab, "--by", "clinic", data="semicolon.csv"), "semicolon", "task.delimiter")


def test_a_column_to_split_by_that_is_not_there(lab: Path) -> None:
    refused(simulate(lab, "--by", "hospital"), "column 'hospital' is missing", "clinic, age")


def test_a_column_that_is_not_there(lab: Path) -> None:
    write_csv(lab / "less.csv", [{k: v for k, v in row.items() if k != "dose"} for row in rows()])
    refused(simulate(lab, "--by", "clinic", data="less.csv"), "column 'dose' is missing")


def test_rows_outside_the_contract_at_one_site_leave_it_out(lab: Path) -> None:
    records = rows()
    for row in records:
        if row["clinic"] == "south":
            row["colour"] = "ultraviolet"
    write_csv(lab / "odd.csv", records)
    result = simulate(lab, "--by", "clinic", "--json", "--rounds", 1, data="odd.csv")
    assert result.returncode == 0
    final = json.loads(result.stdout.splitlines()[-1])
    assert set(final["per_site"]) == {"north", "west"}
    reason = final["left_out"]["south"]
    assert "column 'colour': 30 rows break the rule: one of the categories" in reason
    assert "ultraviolet" not in result.stdout + result.stderr


def test_few_rows_outside_the_contract_are_not_counted_out(lab: Path) -> None:
    records = rows()
    for row in records[:5]:
        row["age"] = "131"
    write_csv(lab / "old.csv", records)
    result = simulate(lab, "--by", "clinic", "--json", data="old.csv")
    said = refused(result, "column 'age': fewer than 10 rows", "range [0, 120]", "min_sites")
    assert "131" not in said


def test_a_value_that_is_no_number_is_not_repeated(lab: Path) -> None:
    records = rows()
    for row in records:
        row["dose"] = "Mrs Miller"
    write_csv(lab / "text.csv", records)
    said = refused(simulate(lab, "--by", "clinic", data="text.csv"), "column 'dose'", "a number")
    assert "Miller" not in said


def test_an_empty_file(lab: Path) -> None:
    (lab / "empty.csv").write_text("")
    refused(simulate(lab, "--by", "clinic", data="empty.csv"), "is empty")


def test_a_site_without_a_usable_row_is_left_out(lab: Path) -> None:
    study = write_study(
        lab / "drop.toml",
        ('name = "dose"\ntype = "number"', 'name = "dose"\ntype = "number"\nmissing = "drop-row"'),
    )
    records = rows()
    for row in records:
        if row["clinic"] == "west":
            row["dose"] = ""
    write_csv(lab / "gone.csv", records)
    result = simulate(lab, "--by", "clinic", "--json", "--rounds", 1, data="gone.csv", study=study.name)
    final = json.loads(result.stdout.splitlines()[-1])
    assert "no row is left" in final["left_out"]["west"]


def test_a_site_with_one_class_takes_part(lab: Path) -> None:
    records = rows()
    for row in records:
        if row["clinic"] == "west":
            row["sick"] = "yes"
    write_csv(lab / "one.csv", records)
    result = simulate(lab, "--by", "clinic", "--json", "--rounds", 2, data="one.csv")
    final = json.loads(result.stdout.splitlines()[-1])
    assert final["per_site"]["west"]["auc"] is None
    assert final["per_site"]["west"]["accuracy"] is not None
    assert final["metrics"]["auc"] is not None


@pytest.mark.parametrize(
    ("rate", "model", "reason"),
    [
        ("1e38", "logistic", "e+37, above aggregation.max_update_norm"),
        ("1e30", "mlp", "diverged: the loss or the model is not finite in round 1"),
    ],
)
def test_training_that_diverges_stops_with_advice(lab: Path, rate: str, model: str, reason: str) -> None:
    study = write_study(
        lab / "hot.toml", ("learning_rate = 0.1", f"learning_rate = {rate}"), ("logistic", model)
    )
    result = simulate(lab, "--by", "clinic", "--out", f"hot-{model}", study=study.name)
    refused(result, reason, "lower training.learning_rate", "start a new run")
    (run,) = (path for path in (lab / f"hot-{model}").iterdir() if path.is_dir())
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["round-000000.safetensors"]


def test_too_few_sites(lab: Path) -> None:
    study = write_study(lab / "many.toml", ("secure = false", "secure = false\nmin_sites = 5"))
    refused(simulate(lab, "--by", "clinic", study=study.name), "3 sites", "aggregation.min_sites = 5")


def test_nobody_answers(lab: Path) -> None:
    result = simulate(lab, "--by", "clinic", "--drop-out", 1)
    refused(result, "round 1: 0 sites gave a usable reply", "after 3 attempts", "west: no reply")


@pytest.mark.parametrize(("sites", "limit"), [(2, "at least 3"), (201, "at most 200")])
def test_secure_aggregation_of_too_few_or_too_many_sites(lab: Path, sites: int, limit: str) -> None:
    secure = write_study(lab / "secure.toml", ("secure = false", "secure = true"))
    write_csv(lab / "many.csv", rows(420))
    result = simulate(lab, "--sites", sites, study=secure.name, data="many.csv")
    refused(result, f"sites: {sites}", limit, "secure = false")


def test_secure_aggregation_is_said_and_shows_sums_only(lab: Path) -> None:
    secure = write_study(lab / "secure.toml", ("secure = false", "secure = true"))
    result = simulate(lab, "--by", "clinic", "--rounds", 2, "--json", study=secure.name)
    assert result.returncode == 0, result.stderr
    *rounds, final = [json.loads(line) for line in result.stdout.splitlines()]
    assert "secure aggregation: an update is hidden among at least t - c = 3" in result.stderr
    assert [line["per_site"] for line in rounds] == [{}, {}]
    assert all(line["sites"] == ["north", "south", "west"] for line in rounds)
    assert set(final["per_site"]) == {"north", "south", "west"}  # measured by the laboratory
    assert final["pooled_test"] == pytest.approx(rounds[-1]["metrics"])
    assert final["crowd"].startswith("an update is hidden")
    assert not any("aggregation.secure" in choice for choice in final["insecure"])


def test_an_unknown_key_is_named_with_a_suggestion(lab: Path) -> None:
    study = write_study(lab / "typo.toml", ("batch_size", "batchsize"))
    refused(simulate(lab, "--by", "clinic", study=study.name), "training.batchsize", "'batch_size'")


def test_a_plug_in_that_is_not_allowed(lab: Path) -> None:
    study = write_study(
        lab / "plug.toml",
        ('kind = "tabular"', 'kind = "plugin"\nplugin = "survival"'),
        ('kind = "logistic"', 'kind = "plugin"'),
    )
    text = study.read_text()
    first, last = text.index("[[task.features]]"), text.index("[model]")
    study.write_text(text[:first] + text[last:])
    refused(simulate(lab, "--by", "clinic", study=study.name), "'survival'", "--allow-plugin survival")


def test_a_place_that_cannot_be_written(lab: Path) -> None:
    (lab / "file").write_text("")
    refused(simulate(lab, "--by", "clinic", "--out", "file/runs"), "--out: cannot make")


def test_resume_takes_nothing_else(lab: Path) -> None:
    refused(vestry("simulate", "study.toml", "--resume", "runs/x", folder=lab), "--resume", "leave both out")
    refused(vestry("simulate", "--resume", "runs/x", folder=lab), "holds no run")


def test_nothing_at_all(lab: Path) -> None:
    refused(vestry("simulate", folder=lab), "STUDY.toml: is missing")
