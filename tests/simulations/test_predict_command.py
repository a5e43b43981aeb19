"""`vestry predict` as a user types it."""

import json
from pathlib import Path

import pytest

from tests.simulations.laboratory import refused, rows, vestry, write_csv, write_study


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run's model and new rows."""
    folder = tmp_path_factory.mktemp("predict")
    write_study(folder / "study.toml")
    write_csv(folder / "data.csv", rows())
    done = vestry(
        "simulate", "study.toml", "--data", "data.csv", "--by", "clinic", "--workers", 0, folder=folder
    )
    assert done.returncode == 0, done.stderr
    (model,) = folder.glob("runs/small-*/model.safetensors")
    model.rename(folder / "model.safetensors")
    write_csv(folder / "new.csv", [{k: v for k, v in row.items() if k != "sick"} for row in rows(20, 7)])
    return folder


def test_csv_on_standard_output(lab: Path) -> None:
    result = vestry("predict", "model.safetensors", "new.csv", folder=lab)
    lines = result.stdout.splitlines()
    assert lines[0] == "row,prediction,probability:no,probability:yes"
    assert len(lines) == 21


def test_json_lines(lab: Path) -> None:
    result = vestry("predict", "model.safetensors", "new.csv", "--json", folder=lab)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(lines) == 20
    assert set(lines[0]) == {"row", "prediction", "probability:no", "probability:yes"}


def test_a_file(lab: Path) -> None:
    result = vestry("predict", "model.safetensors", "new.csv", "--out", "out.csv", folder=lab)
    assert result.stdout.strip() == "20 predictions in out.csv"
    assert len((lab / "out.csv").read_text().splitlines()) == 21


def test_the_model_has_learned_something(lab: Path) -> None:
    write_csv(lab / "old.csv", rows(200, 8))
    lines = vestry("predict", "model.safetensors", "old.csv", folder=lab).stdout.splitlines()[1:]
    right = sum(line.split(",")[1] == row["sick"] for line, row in zip(lines, rows(200, 8), strict=True))
    assert right > 140


def test_what_cannot_be_used_is_refused(lab: Path) -> None:
    refused(vestry("predict", "none.safetensors", "new.csv", folder=lab), "there is no such file")
    refused(vestry("predict", "model.safetensors", "none.csv", folder=lab), "there is no such file")
    whole = (lab / "model.safetensors").read_bytes()
    (lab / "half.safetensors").write_bytes(whole[: len(whole) // 2])
    refused(vestry("predict", "half.safetensors", "new.csv", folder=lab), "truncated")
    write_csv(lab / "odd.csv", [{**row, "colour": "SECRET"} for row in rows(20)])
    said = refused(vestry("predict", "model.safetensors", "odd.csv", folder=lab), "column 'colour': 20 rows")
    assert "SECRET" not in said
