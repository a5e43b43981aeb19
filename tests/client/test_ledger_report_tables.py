"""The report for people: the filter's figures apart from the estimates, and every declaration said."""

from dataclasses import replace
from datetime import date

from tests.client.ward import make_rules
from vestry_client.ledger_report_tables import epsilon_text, population_tables
from vestry_client.plan_fit import PlanFit
from vestry_client.privacy_rules import BudgetRules, population_of
from vestry_privacy.ledger_report import PopulationReport, StudyReport

STUDY = StudyReport(
    study_hash="ab" * 32,
    name="small",
    run="run",
    population="cardiology",
    guarantee="dp",
    state="held",
    delta=1e-5,
    epsilon_cap=1.5,
    planned={},
    spent={},
    epsilon_planned={"pld": 0.9263, "prv": None},
    epsilon_spent={"pld": 0.5, "prv": None},
    rounds={"commit": 3, "spent-by-crash": 1},
    claimed=0.256,
)
FOUND = PopulationReport(
    population=population_of("cardiology", make_rules()),
    row_is_person=False,
    amended=0,
    overlap="checked",
    adds_up_with=(),
    open_today=True,
    claimed_epsilon=1.25,
    left_epsilon=2.75,
    estimate_spent={"pld": 0.75, "prv": None},
    estimate_left={"pld": 3.25, "prv": None},
    studies=(STUDY,),
)


def said(found: PopulationReport, fit: PlanFit | None = None) -> dict[str, str]:
    _, _, rows = next(population_tables(found, fit))
    return {row[0]: row[1] for row in rows}


def test_the_filter_and_the_estimates_are_told_apart() -> None:
    words = said(FOUND)
    order = FOUND.population.budget.order
    assert words[f"filter (order {order:g}): claimed"] == "epsilon 1.25"
    assert words[f"filter (order {order:g}): left"] == "epsilon 2.75"
    assert words["PLD, an estimate: spent, left"] == "epsilon 0.75, 3.25"
    assert words["PRV, an estimate: spent, left"] == "epsilon –, –"
    assert words["guarantee"] == "dp"
    assert words["overlap with other populations"] == "checked"
    assert "amended" not in words


def test_a_study_is_a_row_of_figures() -> None:
    title, columns, rows = list(population_tables(FOUND, None))[1]
    assert title == "studies of cardiology: epsilon"
    assert len(columns) == len(rows[0]) == 9
    assert rows[0][0] == "small abababababab"
    assert rows[0][3] == "3 commit, 1 spent-by-crash"
    assert rows[0][4:] == ("0.9263", "–", "0.5", "–", "26%")
    assert list(population_tables(replace(FOUND, studies=()), None))[1:] == []


def test_every_declaration_and_weakness_is_said() -> None:
    window = (date(2027, 1, 1), date(2027, 12, 31))
    rules = make_rules(
        unit_column="row",
        adjacency="add-remove",
        publish_persons=False,
        persons=None,
        exact_sums=True,
        budget=BudgetRules(epsilon=4.0, delta=1e-5, window=window),
    )
    found = replace(
        FOUND,
        population=population_of("cardiology", rules),
        row_is_person=True,
        open_today=False,
        overlap="unknown",
        adds_up_with=("stroke",),
        amended=2,
    )
    words = said(found)
    assert "declared: every row is another person" in words["who is protected"]
    assert "number not public" in words["who is protected"]
    assert "2027-01-01 to 2027-12-31, closed today" in words["budget"]
    assert words["guarantee"] == "none"
    assert words["overlap with other populations"] == "unknown, adds up with stroke"
    assert words["amended"] == "2 times"


def test_how_a_study_fits() -> None:
    words = said(FOUND, PlanFit("small", 0.9263, 3, 14))
    assert words["small: PLD epsilon of its plan"] == "0.9263"
    assert words["small: more such studies that fit"] == "3"
    assert words["small: more of its rounds that fit"] == "14"
    words = said(FOUND, PlanFit("small", None, 0, 0, "no noise meets it"))
    assert words["small: does not fit"] == "no noise meets it"
    assert "small: more such studies that fit" not in words


def test_epsilons_for_people() -> None:
    assert [epsilon_text(value) for value in (None, 0.0, 1.23456, float("inf"))] == ["–", "0", "1.235", "inf"]
