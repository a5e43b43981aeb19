"""`vestry-site dataset add`: fingerprint and overlap; refusals hold no identifier."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.client.ward import POLICY, asked, make_home, said_no
from vestry_client.cli import app
from vestry_client.dataset_file import file_fingerprint
from vestry_client.home import SiteHome

TWO = f"""{POLICY}
[populations.stroke]
unit = "patient"
unit_column = "row"
persons = 50
publish_persons = true
budget = {{ epsilon = 2.0, delta = 1e-4 }}

[datasets.ct]
population = "stroke"

[populations.visits]
unit = "record"
persons = 50
publish_persons = true
budget = {{ epsilon = 2.0, delta = 1e-4 }}

[datasets.clinic]
population = "visits"
"""


@pytest.fixture
def home(tmp_path: Path) -> SiteHome:
    made = make_home(tmp_path, TWO)
    for name in ("cardiology", "stroke", "visits"):
        asked("population", "register", name, home=made)
    return made


def write(path: Path, identifiers: list[str], column: str = "patient_id") -> Path:
    lines = [f"{column},age", *(f"{name},50" for name in identifiers)]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_a_data_set_is_entered_once(tmp_path: Path, home: SiteHome) -> None:
    path = write(tmp_path / "a.csv", ["A", "B", "A"])
    told = json.loads(asked("dataset", "add", "angio", path, "--json", home=home)[0])
    assert told == {
        "dataset": "angio",
        "population": "cardiology",
        "fingerprint": file_fingerprint(path),
        "overlap": "checked",
        "written": True,
    }
    said, notes = asked("dataset", "add", "angio", path, "--population", "cardiology", home=home)
    assert told["fingerprint"] in said
    assert "nothing changed" in notes


def test_no_identifier_is_stored_or_said(tmp_path: Path, home: SiteHome) -> None:
    path = write(tmp_path / "a.csv", ["SECRET-17", "SECRET-18"])
    said, notes = asked("dataset", "add", "angio", path, home=home)
    assert "SECRET" not in said + notes
    assert all(b"SECRET" not in file.read_bytes() for file in home.folder.iterdir() if file.is_file())


def test_persons_of_another_population_are_refused(tmp_path: Path, home: SiteHome) -> None:
    asked("dataset", "add", "angio", write(tmp_path / "a.csv", ["SECRET-1", "B"]), home=home)
    other = write(tmp_path / "b.csv", ["C", "SECRET-1"], "case")
    said = said_no("dataset", "add", "ct", other, "--unit-column", "case", home=home)
    assert "cardiology" in said
    assert "SECRET" not in said


def test_a_data_sets_own_column_is_taken(tmp_path: Path, home: SiteHome) -> None:
    asked("dataset", "add", "echo", write(tmp_path / "e.csv", ["A"], "case"), home=home)
    said = said_no("dataset", "add", "angio", write(tmp_path / "a.csv", ["A"], "case"), home=home)
    assert "column 'patient_id' is missing; the file has: case, age" in said


@pytest.mark.parametrize(("missing", "count"), [(2, "fewer than 10 rows"), (11, "11 rows")])
def test_a_row_without_an_identifier_is_refused(
    tmp_path: Path, home: SiteHome, missing: int, count: str
) -> None:
    path = write(tmp_path / "a.csv", ["SECRET-1", *[""] * missing])
    said = said_no("dataset", "add", "angio", path, home=home)
    assert f"column 'patient_id': {count} break the rule: every row has an identifier" in said
    assert "SECRET" not in said
    with home.open_ledger() as ledger:
        assert all(entry.kind != "dataset" for entry in ledger.entries())


def test_without_identifiers_the_overlap_is_unknown_and_said_to_be(tmp_path: Path, home: SiteHome) -> None:
    path = write(tmp_path / "c.csv", ["A"])
    for name in ("ct", "clinic"):  # every row a person; records
        said = said_no("dataset", "add", name, path, home=home)
        assert "--unit-column" in said
        assert "--overlap-unknown" in said
    told = json.loads(asked("dataset", "add", "ct", path, "--overlap-unknown", "--json", home=home)[0])
    assert told["overlap"] == "unknown"


def test_a_declaration_of_one_row_a_person_is_checked(tmp_path: Path, home: SiteHome) -> None:
    path = write(tmp_path / "c.csv", ["A", "B", "A"])
    said = said_no("dataset", "add", "ct", path, "--unit-column", "patient_id", home=home)
    assert "every row is another person" in said
    path = write(tmp_path / "d.csv", ["A", "B"])
    told = json.loads(
        asked("dataset", "add", "ct", path, "--unit-column", "patient_id", "--json", home=home)[0]
    )
    assert told["overlap"] == "checked"


def test_the_policy_says_whose_data_they_are(tmp_path: Path, home: SiteHome) -> None:
    path = write(tmp_path / "a.csv", ["A"])
    said = said_no("dataset", "add", "angio", path, "--population", "stroke", home=home)
    assert "data set 'angio' belongs to 'cardiology', not to 'stroke'" in said
    said = said_no("dataset", "add", "xray", path, home=home)
    assert "declares no data set 'xray'; declared: angio, echo, ct, clinic" in said
    assert "[datasets.xray]" in said


def test_two_answers_about_identifiers_are_a_usage_error(tmp_path: Path, home: SiteHome) -> None:
    words = ["dataset", "add", "ct", str(tmp_path / "a.csv"), "--overlap-unknown", "--unit-column", "x"]
    result = CliRunner().invoke(app, [*words, "--home", str(home.folder)])
    assert result.exit_code == 2
    assert "not both" in result.output


def test_other_delimiters(tmp_path: Path, home: SiteHome) -> None:
    path = tmp_path / "a.csv"
    path.write_text("patient_id;age\nA;50\n", encoding="utf-8")
    assert "semicolon" in said_no("dataset", "add", "angio", path, home=home)
    asked("dataset", "add", "angio", path, "--delimiter", ";", home=home)
