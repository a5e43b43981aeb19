"""A study's plan against the rules of a population: the rule, the value asked and the value allowed."""

from datetime import date
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.client.ward import make_plan, make_rules
from vestry_client.policy import PolicyRefusal, SitePolicy, check_privacy
from vestry_client.privacy_rules import BudgetRules, DatasetRule, PrivacyRules
from vestry_privacy.plan import PrivacyPlan, Release

TODAY = date(2026, 7, 1)
YEAR = BudgetRules(epsilon=4.0, delta=1e-5, window=(date(2026, 1, 1), date(2026, 12, 31)))


def check(rules: PrivacyRules, plan: PrivacyPlan, metrics: tuple[str, ...] = ("auc",), **more: Any) -> None:
    check_privacy("cardiology", rules, plan, metrics=metrics, today=more.pop("today", TODAY), **more)


def refusal(rules: PrivacyRules, plan: PrivacyPlan, **more: Any) -> PolicyRefusal:
    with pytest.raises(PolicyRefusal) as error:
        check(rules, plan, **more)
    return error.value


def test_a_plan_within_the_rules_passes() -> None:
    check(make_rules(), make_plan())
    check(make_rules(max_epsilon_per_study=0.93, max_steps=40, min_noise_multiplier=2.0), make_plan())
    check(make_rules(budget=YEAR, expires=TODAY), make_plan())


def test_what_is_exactly_at_a_limit_passes() -> None:
    plan = make_plan()
    check(make_rules(max_epsilon_per_study=plan.epsilon("pld"), min_units=400, max_records=16), plan)
    for day in (date(2026, 1, 1), date(2026, 12, 31)):
        check(make_rules(budget=YEAR, expires=date(2026, 12, 31)), plan, today=day)


@pytest.mark.parametrize(
    ("rules", "plan", "rule", "asked", "allowed"),
    [
        ({}, {"unit": "record"}, "unit", "record", "patient"),
        ({}, {"unit_column": "case"}, "unit_column", "case", "patient_id"),
        ({}, {"unit_column": "row"}, "unit_column", "row", "patient_id"),
        ({}, {"adjacency": "add-remove", "persons": None}, "adjacency", "add-remove", "zero-out"),
        ({}, {"persons": 300}, "persons", "300", "400"),
        ({"min_units": 500}, {}, "min_units", "400", "500 or more"),
        ({}, {"delta": 1e-4}, "budget.delta", "0.0001", "1e-05 or less"),
        ({"max_epsilon_per_study": 0.92}, {}, "max_epsilon_per_study", "epsilon 0.9263", "0.92 or less"),
        (
            {"budget": BudgetRules(epsilon=0.9, delta=1e-5)},
            {},
            "budget.epsilon",
            "epsilon 0.9263",
            "0.9 or less",
        ),
        (
            {"max_epsilon_per_study": 1.5, "federation_sites": 4},
            {},
            "max_epsilon_per_study",
            "epsilon 1.99",
            "1.5",
        ),
        ({"min_noise_multiplier": 2.1}, {}, "min_noise_multiplier", "2 for the steps", "2.1 or more"),
        (
            {"min_noise_multiplier": 2.0},
            {"releases": (Release("evaluation", "holdout", 1.5, 1),)},
            "min_noise_multiplier",
            "1.5 for evaluation",
            "2 or more",
        ),
        ({"max_steps": 39}, {}, "max_steps", "40", "39"),
        ({}, {"sampling": "truncated_poisson", "cap": 60}, "mechanisms", "truncated_poisson", "poisson"),
        ({}, {"noise": "simulation"}, "secure_noise", "simulation noise", "cryptographic noise"),
        ({"max_records": 4}, {"max_records": 5}, "max_records", "5", "4"),
    ],
)
def test_each_rule_names_itself_the_asked_and_the_allowed(
    rules: dict[str, Any], plan: dict[str, Any], rule: str, asked: str, allowed: str
) -> None:
    error = refusal(make_rules(**rules), make_plan(**plan))
    assert error.rule == f"populations.cardiology.{rule}"
    assert asked in str(error.asked)
    assert allowed in str(error.allowed)
    assert str(error) == f"policy rule {error.rule}: asked {error.asked}, allowed {error.allowed}"


@pytest.mark.parametrize(
    ("more", "rule", "said"),
    [
        ({"metrics": ("auc", "loss")}, "metrics", "asked loss, allowed auc"),
        ({"exact": True}, "exact_sums", "sums without noise"),
        ({"noise_at_server": True}, "allow_site_noise_at_server", "noise at the server"),
        ({"today": date(2027, 1, 1)}, "expires", "asked 2027-01-01, allowed until 2026-12-31"),
        ({"today": date(2025, 12, 31)}, "budget.window", "allowed 2026-01-01 to 2026-12-31"),
    ],
)
def test_what_leaves_and_when(more: dict[str, Any], rule: str, said: str) -> None:
    error = refusal(make_rules(budget=YEAR, expires=date(2026, 12, 31)), make_plan(), **more)
    assert error.rule == f"populations.cardiology.{rule}"
    assert said in str(error)


def test_what_the_rules_allow_beyond_the_defaults_passes() -> None:
    check(
        make_rules(exact_sums=True, allow_site_noise_at_server=True, secure_noise=False),
        make_plan(noise="simulation"),
        exact=True,
        noise_at_server=True,
    )


def test_no_metric_may_leave_unless_it_is_named() -> None:
    check(make_rules(metrics=()), make_plan(), metrics=())
    assert "allowed none" in str(refusal(make_rules(metrics=()), make_plan()))


def test_a_number_of_persons_that_is_not_public_is_in_no_message() -> None:
    rules = make_rules(adjacency="add-remove", publish_persons=False, persons=1234, min_units=5000)
    plan = make_plan(adjacency="add-remove", persons=None)
    check(rules, plan)
    wide = rules.model_copy(update={"budget": BudgetRules(epsilon=4.0, delta=0.5)})
    error = refusal(wide, make_plan(adjacency="add-remove", persons=None, delta=0.01))
    assert error.rule == "populations.cardiology.persons"
    assert "1234" not in str(error)
    assert "below 1 / number of persons" in str(error)


@settings(max_examples=15, deadline=None)
@given(st.floats(0.8, 8.0), st.integers(1, 60), st.floats(0.2, 4.0))
def test_no_plan_above_the_limit_passes(sigma: float, steps: int, limit: float) -> None:
    rules = make_rules(max_epsilon_per_study=limit)
    whole = {"sampling": "full_batch", "sampling_probability": 1.0, "expected_batch": 400.0}
    plan = make_plan(noise_multiplier=sigma * steps**0.5, steps=steps, **whole)
    if plan.epsilon("pld") <= limit:
        check(rules, plan)
    else:
        assert refusal(rules, plan).rule == "populations.cardiology.max_epsilon_per_study"


def test_a_data_set_belongs_to_a_population_or_nothing_is_allowed() -> None:
    policy = SitePolicy(
        populations={"cardiology": make_rules()},
        datasets={
            "angio": DatasetRule(population="cardiology"),
            "echo": DatasetRule(population="cardiology", unit_column="case"),
        },
    )
    assert policy.rules_for("angio") == ("cardiology", make_rules())
    name, rules = policy.rules_for("echo")
    assert (name, rules.unit_column) == ("cardiology", "case")
    check(rules, make_plan(unit_column="case"))
    for empty in (policy, SitePolicy(), policy.model_copy(update={"populations": {}})):
        with pytest.raises(PolicyRefusal, match="data set 'xray'") as error:
            empty.rules_for("xray")
        assert error.value.rule == "privacy"
    with pytest.raises(PolicyRefusal):
        policy.model_copy(update={"populations": {}}).rules_for("angio")


def test_a_refusal_tells_the_coordinator_what_the_policy_permits() -> None:
    error = refusal(make_rules(max_steps=39), make_plan())
    assert error.for_coordinator("nothing") == "refused by the site's policy"
    assert (
        error.for_coordinator("rule") == "refused by the site's policy, rule populations.cardiology.max_steps"
    )
    assert error.for_coordinator("full") == str(error)
    assert "39" not in error.for_coordinator("rule")
    assert SitePolicy().tell_coordinator == "rule"
