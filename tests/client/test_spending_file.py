"""Files of past spending: a closed schema in TOML or JSON."""

import json
from pathlib import Path

import pytest

from vestry_client.spending_file import SpendingFileError, load_spending
from vestry_privacy.accounting import GaussianRelease, PoissonGaussian, TruncatedPoissonGaussian

TEXT = """
version = 1
note = "Pilot of 2025, before Vestry"
[[spent]]
population = "cardiology"
mechanism = "poisson-gaussian"
noise_multiplier = 1.0
sampling_probability = 0.01
count = 1000
[[spent]]
population = "cardiology"
mechanism = "gaussian"
noise_multiplier = 4
count = 2
[[spent]]
population = "stroke"
mechanism = "truncated-poisson-gaussian"
noise_multiplier = 1.5
sampling_probability = 0.1
cap = 90
persons = 500
count = 30
"""
EVENTS = {
    "cardiology": (
        PoissonGaussian(noise_multiplier=1.0, sampling_probability=0.01, count=1000),
        GaussianRelease(noise_multiplier=4.0, count=2),
    ),
    "stroke": (
        TruncatedPoissonGaussian(
            noise_multiplier=1.5, sampling_probability=0.1, cap=90, persons=500, count=30
        ),
    ),
}


def said(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SpendingFileError) as error:
        load_spending(path)
    return str(error.value)


def test_toml_and_json_say_the_same(tmp_path: Path) -> None:
    import tomllib

    (tmp_path / "a.toml").write_text(TEXT, encoding="utf-8")
    (tmp_path / "a.json").write_text(json.dumps(tomllib.loads(TEXT)), encoding="utf-8")
    spending = load_spending(tmp_path / "a.toml")
    assert spending.by_population() == EVENTS
    assert spending.note == "Pilot of 2025, before Vestry"
    assert load_spending(tmp_path / "a.json") == spending


def test_a_note_alone_is_a_file_without_spending(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('note = "nothing ran"', encoding="utf-8")
    assert load_spending(path).by_population() == {}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('note = "Pilot of 2025, before Vestry"\n', "", "note: is required and missing"),
        ("version = 1", "version = 2", "version: should be 1 (found 2)"),
        ("count = 1000", "count = 0", "spent[0].count: should be greater than or equal to 1 (found 0)"),
        (
            "noise_multiplier = 4",
            "noise_multiplier = 0",
            "spent[1].noise_multiplier: should be greater than or equal to 0.01 (found 0)",
        ),
        ('"gaussian"', '"laplace"', "spent[1].mechanism: should be 'gaussian', 'poisson-gaussian' or"),
        ('"gaussian"', '"poisson-gaussian"', "spent[1]: sampling_probability is needed with mechanism"),
        (
            "noise_multiplier = 4",
            "noise_multiplier = 1e300",
            "spent[1].noise_multiplier: should be less than",
        ),
        ("count = 2", "count = 1000000000000", "spent[1].count: should be less than or equal to 1000000"),
        ("cap = 90\n", "", "spent[2]: cap is needed with mechanism = 'truncated-poisson-gaussian'"),
        ("count = 2", "count = 2\ncap = 5", "spent[1]: cap does not go with mechanism = 'gaussian'"),
        ("count = 2", "count = 2\nepsilon = 1.0", "spent[1].epsilon: there is no such key"),
        ("count = 2", "coun = 2", "did you mean 'count'?"),
        ("sampling_probability = 0.01", "sampling_probability = 1.5", "spent[0].sampling_probability"),
        ("version = 1", "version = ", "this is no TOML"),
    ],
)
def test_a_wrong_key_is_named(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in TEXT
    assert expected in said(tmp_path / "a.toml", TEXT.replace(old, new, 1))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SpendingFileError, match="no such file"):
        load_spending(tmp_path / "none.toml")
    with pytest.raises(SpendingFileError, match="cannot be read"):
        load_spending(tmp_path)
    assert "this is no JSON" in said(tmp_path / "a.json", "{")
    assert "should be" in said(tmp_path / "b.json", "[1]")
