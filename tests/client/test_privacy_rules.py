"""A steward's declarations: what contradicts itself or protects nobody is refused with the way out."""

from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.client.ward import make_plan, make_rules
from vestry_client.privacy_rules import BudgetRules, DatasetRule, PrivacyRules, population_of
from vestry_privacy.accounting import GaussianRelease, PoissonGaussian, epsilon, renyi_to_epsilon
from vestry_privacy.budget import Budget, filter_order


def refused(**changes: Any) -> str:
    with pytest.raises(ValidationError) as error:
        make_rules(**changes)
    return str(error.value)


def test_what_is_not_written_is_not_allowed() -> None:
    rules = make_rules(metrics=())
    assert rules.metrics == ()
    assert rules.secure_noise
    assert not rules.exact_sums
    assert not rules.allow_site_noise_at_server
    assert "truncated_poisson" not in rules.mechanisms
    assert rules.cross_site_overlap == "unknown"
    assert rules.budget.window == "lifetime"
    assert rules.guarantee == "dp"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"unit_column": None}, 'unit_column: unit = "patient" needs the column'),
        ({"unit": "site", "unit_column": None}, 'persons: unit = "site" has one unit'),
        ({"unit": "record"}, 'unit_column: goes with unit = "patient"'),
        ({"persons": None}, 'persons: adjacency = "zero-out" needs the public number'),
        ({"publish_persons": False}, "write publish_persons = true"),
        ({"adjacency": "add-remove"}, "protects the number of persons"),
        ({"budget": BudgetRules(epsilon=1.0, delta=1 / 400)}, "budget.delta: 0.0025 is not below 1/400"),
        ({"max_epsilon_per_study": 4.5}, "max_epsilon_per_study: 4.5 is more than the whole budget of 4"),
        ({"mechanisms": ()}, "mechanisms: allows no sampling"),
        ({"mechanisms": ("shuffled",)}, "mechanisms.0"),
        ({"cross_site_overlap": "assumed-disjoint", "federation_sites": 4}, "disjoint sites share nobody"),
        ({"federation_sites": 1}, "federation_sites"),
        ({"epsilon": 1.0}, "Extra inputs"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, Any], said: str) -> None:
    assert said in refused(**changes)


def test_every_contradiction_is_told_at_once() -> None:
    said = refused(unit_column=None, publish_persons=False, max_epsilon_per_study=9.0)
    for key in ("unit_column: ", "publish_persons: ", "max_epsilon_per_study: "):
        assert key in said


def test_the_number_of_persons_may_stay_inside() -> None:
    rules = make_rules(adjacency="add-remove", publish_persons=False)
    assert rules.persons == 400
    assert make_rules(adjacency="add-remove", publish_persons=False, persons=None).persons is None


def test_a_site_is_no_person_so_delta_is_not_held_against_their_number() -> None:
    rules = make_rules(unit="site", unit_column=None, persons=1, budget=BudgetRules(epsilon=1.0, delta=1e-3))
    assert rules.unit == "site"


@pytest.mark.parametrize(
    "changes",
    [
        {"epsilon": 0.0},
        {"delta": 0.0},
        {"delta": 1.0},
        {"epsilon": float("inf")},
        {"order": 1.0},
        {"window": "year"},
    ],
)
def test_budgets_out_of_range_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        BudgetRules(**{"epsilon": 1.0, "delta": 1e-5, **changes})


def test_an_order_that_leaves_nothing_of_the_budget_is_refused() -> None:
    assert renyi_to_epsilon(0.0, 10.0, 1e-5) < 1.5
    assert BudgetRules(epsilon=1.5, delta=1e-5, order=10.0).for_ledger().order == 10.0
    with pytest.raises(ValidationError, match="order=2: leaves no room"):
        BudgetRules(epsilon=1.5, delta=1e-5, order=2.0)


def test_the_ledger_registers_what_the_rules_declare() -> None:
    days = (date(2027, 1, 1), date(2027, 12, 31))
    rules = make_rules(unit_column="row", budget=BudgetRules(epsilon=4.0, delta=1e-5, window=days))
    population = population_of("cardiology", rules)
    assert (population.name, population.unit, population.persons) == ("cardiology", "patient", 400)
    assert population.row_is_person
    assert population.budget == Budget(4.0, 1e-5, filter_order(4.0, 1e-5), *days)
    assert population.guarantee == "dp"
    assert population_of("cardiology", make_rules(exact_sums=True)).guarantee == "none"
    hidden = make_rules(adjacency="add-remove", publish_persons=False)
    assert population_of("cardiology", hidden).adjacency == "add-remove"


def test_a_window_has_two_days() -> None:
    assert (BudgetRules(epsilon=1.0, delta=1e-5).starts, BudgetRules(epsilon=1.0, delta=1e-5).ends) == (
        None,
        None,
    )
    year = BudgetRules(epsilon=1.0, delta=1e-5, window=(date(2027, 1, 1), date(2027, 12, 31)))
    assert (year.starts, year.ends) == (date(2027, 1, 1), date(2027, 12, 31))
    day = BudgetRules(epsilon=1.0, delta=1e-5, window=(date(2027, 1, 1), date(2027, 1, 1)))
    assert day.starts == day.ends
    with pytest.raises(ValidationError, match="ends on 2026-01-01, before it starts on 2027-01-01"):
        BudgetRules(epsilon=1.0, delta=1e-5, window=(date(2027, 1, 1), date(2026, 1, 1)))


def test_rules_are_frozen_and_strict() -> None:
    with pytest.raises(ValidationError):
        make_rules().persons = 3  # type: ignore[misc]
    assert "persons" in refused(persons="400")
    with pytest.raises(ValidationError):
        DatasetRule(population="")


def test_a_study_may_cost_the_whole_budget_unless_the_rules_say_less() -> None:
    assert make_rules().study_limit == 4.0
    assert make_rules(max_epsilon_per_study=1.5).study_limit == 1.5
    assert make_rules(max_epsilon_per_study=4.0).study_limit == 4.0


@given(sites=st.integers(2, 12), count=st.integers(0, 50))
def test_a_local_bound_charges_once_for_each_site(sites: int, count: int) -> None:
    events = (
        PoissonGaussian(noise_multiplier=2.0, sampling_probability=0.1, count=count),
        GaussianRelease(noise_multiplier=3.0, count=1),
    )
    assert make_rules().charged(events) == events
    charged = make_rules(federation_sites=sites).charged(events)
    assert [event.count for event in charged] == [count * sites, sites]
    assert [event.model_copy(update={"count": 1}) for event in charged] == [
        event.model_copy(update={"count": 1}) for event in events
    ]


def test_the_local_bound_is_what_a_person_at_every_site_loses() -> None:
    plan, rules = make_plan(), make_rules(federation_sites=3)
    everywhere = [event for _ in range(3) for event in plan.events("holdout")]
    assert rules.study_epsilon(plan) == pytest.approx(epsilon(everywhere, 1e-5), rel=1e-9)
    assert make_rules().study_epsilon(plan) == plan.epsilon("pld") < rules.study_epsilon(plan)


def test_the_stamp_holds_the_declarations() -> None:
    stamp = make_rules(unit_column="row", approvers=("A. Steward",), exact_sums=True).stamp()
    assert stamp == {
        "unit_column": "row",
        "cross_site_overlap": "unknown",
        "federation_sites": None,
        "approvers": ["A. Steward"],
        "guarantee": "none",
    }


def test_every_key_is_described() -> None:
    for model in (PrivacyRules, BudgetRules, DatasetRule):
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"
