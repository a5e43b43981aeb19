"""A policy file as a steward writes it: read strictly, and wrong ones explained key by key."""

from datetime import date
from pathlib import Path

import pytest

from tests.client.ward import POLICY
from vestry_client.policy import SitePolicy
from vestry_client.policy_file import PolicyFileError, load_policy, parse_policy

BUDGET = "epsilon = 4.0\ndelta = 1e-5\n"


def said(*changes: tuple[str, str]) -> str:
    text = POLICY
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    with pytest.raises(PolicyFileError) as error:
        parse_policy(text)
    return str(error.value)


def test_a_policy_is_read() -> None:
    policy = parse_policy(POLICY)
    name, rules = policy.rules_for("echo")
    assert (name, rules.unit_column, rules.persons) == ("cardiology", "case", 400)
    assert rules.budget.epsilon == 4.0
    assert rules.approvers == ("steward of cardiology",)


def test_an_empty_file_allows_nothing() -> None:
    assert parse_policy("") == SitePolicy()


def test_days_are_written_as_toml_has_them() -> None:
    policy = parse_policy(
        POLICY.replace("persons = 400", "persons = 400\nexpires = 2027-06-30").replace(
            BUDGET, f"{BUDGET}window = [2026-07-01, 2027-06-30]\n"
        )
    )
    rules = policy.populations["cardiology"]
    assert rules.expires == date(2027, 6, 30)
    assert rules.budget.window == (date(2026, 7, 1), date(2027, 6, 30))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("version = 1", "version = 2", "version: should be 1 (found 2)"),
        ("version = 1", "roster_change = 0", "roster_change: should be greater than or equal to 1 (found 0)"),
        ("version = 1", "max_repeats = true", "max_repeats: should be a valid integer (found True)"),
        ("version = 1", "verson = 1", "verson: there is no such key; did you mean 'version'?"),
        (
            "max_epsilon_per_study",
            "max_epsilon_per_stdy",
            (
                "populations.cardiology.max_epsilon_per_stdy: there is no such key; did you mean "
                "'max_epsilon_per_study'?"
            ),
        ),
        (
            "epsilon = 4.0",
            "epsilon = -4.0",
            "populations.cardiology.budget.epsilon: should be greater than 0 (found -4.0)",
        ),
        (
            "epsilon = 4.0\n",
            "",
            (
                "populations.cardiology.budget.epsilon: is required and missing; Of all studies together, "
                "imports included"
            ),
        ),
        (
            "delta = 1e-5",
            "delta = 1e-2",
            (
                "populations.cardiology.budget.delta: 0.01 is not below 1/400: publishing one person's whole "
                "record would satisfy it; use 3e-04 or less"
            ),
        ),
        (
            "delta = 1e-5",
            'delta = 1e-5\nwindow = "year"',
            (
                'populations.cardiology.budget.window: should be "lifetime" or two dates, '
                "[2027-01-01, 2027-12-31]"
            ),
        ),
        (
            "delta = 1e-5",
            "delta = 1e-5\nwindow = [2027-01-01, 12]",
            (
                'populations.cardiology.budget.window: should be "lifetime" or two dates, '
                "[2027-01-01, 2027-12-31]"
            ),
        ),
        (
            "persons = 400",
            "persons = 400\nexpires = 2027-01-01T10:00:00",
            "populations.cardiology.expires: should be a valid date",
        ),
        (
            'unit = "patient"',
            'unit = "person"',
            "populations.cardiology.unit: should be 'patient', 'record' or 'site' (found 'person')",
        ),
        (
            'unit_column = "case"',
            'column = "case"',
            "datasets.echo.column: there is no such key; did you mean 'unit_column'?",
        ),
        (
            '[datasets.angio]\npopulation = "cardiology"',
            '[datasets.angio]\npopulation = "neurology"',
            "datasets.angio.population: 'neurology' is not declared under [populations]; declared: card",
        ),
        ("[datasets.echo]", '[datasets."Echo 2"]', "datasets.Echo 2: a name has lower-case letters"),
    ],
)
def test_a_wrong_key_is_one_line(old: str, new: str, expected: str) -> None:
    line = said((old, new))
    assert line.startswith(expected)
    assert "\n" not in line


def test_a_population_may_have_the_name_of_a_kind_of_task() -> None:
    """Words that a study file uses as tags are plain names here and stay in the path."""
    line = said(("cardiology", "image"), ("epsilon = 4.0", "epsilon = 0"))
    assert line == "populations.image.budget.epsilon: should be greater than 0 (found 0)"


def test_every_problem_is_told_at_once() -> None:
    text = said(
        ("version = 1", "min_cohort = 2"),
        ("persons = 400", "person = 400"),
        ("delta = 1e-5", "delta = 2"),
        ('unit_column = "case"', 'unit_colum = "case"'),
    )
    lines = text.split("\n")
    assert lines[0] == f"{len(lines) - 1} problems"
    for key in ("min_cohort", "populations.cardiology.person:", "budget.delta", "datasets.echo.unit_colum"):
        assert key in text


def test_the_line_of_a_mistake_in_the_toml_is_named() -> None:
    assert "no TOML" in said(("version = 1", "version = "))
    assert "line 2" in said(("version = 1", "version = "))


@pytest.mark.parametrize("text", ["populations = 3", "populations = [1]", "[populations]\na = 1"])
def test_tables_must_be_tables(text: str) -> None:
    with pytest.raises(PolicyFileError, match=r"populations(\.a)?: should be an object"):
        parse_policy(text)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(
        PolicyFileError, match=r"Without a policy nothing trains; start from .*vestry-site init"
    ):
        load_policy(tmp_path / "none.toml")
    with pytest.raises(PolicyFileError, match="cannot be read"):
        load_policy(tmp_path)
    path = tmp_path / "latin.toml"
    path.write_bytes("# Prüfung".encode("latin-1"))
    with pytest.raises(PolicyFileError, match="UTF-8"):
        load_policy(path)
    path.write_text("version = 3", encoding="utf-8")
    with pytest.raises(PolicyFileError, match=r"latin\.toml: version: should be 1"):
        load_policy(path)
    path.write_text(POLICY, encoding="utf-8")
    assert load_policy(path) == parse_policy(POLICY)
