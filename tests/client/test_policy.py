"""The site's rules: everything is refused that is not allowed."""

import pytest
from pydantic import ValidationError

from tests.client.bench import OPEN, make_study
from tests.client.ward import make_rules
from vestry_client.policy import PolicyRefusal, SitePolicy
from vestry_client.privacy_rules import DatasetRule

STUDY = make_study()


def test_an_empty_policy_allows_nothing() -> None:
    with pytest.raises(PolicyRefusal):
        SitePolicy().check_study(STUDY)


@pytest.mark.parametrize("rule", ["allow_individual_updates", "allow_training_without_privacy"])
def test_each_insecure_choice_needs_its_own_permission(rule: str) -> None:
    with pytest.raises(PolicyRefusal, match=rule) as refusal:
        OPEN.model_copy(update={rule: False}).check_study(STUDY)
    assert refusal.value.rule == rule


def test_a_policy_that_allows_it_lets_the_study_in() -> None:
    OPEN.check_study(STUDY)


def test_initiators_may_be_limited() -> None:
    OPEN.model_copy(update={"allowed_initiators": ("tests",)}).check_study(STUDY)
    with pytest.raises(PolicyRefusal, match="allowed_initiators: asked tests, allowed"):
        OPEN.model_copy(update={"allowed_initiators": ("others",)}).check_study(STUDY)
    with pytest.raises(PolicyRefusal):
        OPEN.model_copy(update={"allowed_initiators": ()}).check_study(STUDY)


def test_rounds_may_be_limited() -> None:
    OPEN.model_copy(update={"max_rounds": 4}).check_study(STUDY)
    with pytest.raises(PolicyRefusal, match="max_rounds: asked 4, allowed 3"):
        OPEN.model_copy(update={"max_rounds": 3}).check_study(STUDY)


def test_purposes_may_be_limited_and_are_compared_without_case_and_blanks() -> None:
    assert STUDY.study.purpose == "a test"
    OPEN.model_copy(update={"allowed_purposes": ("Care", " A \n test ")}).check_study(STUDY)
    with pytest.raises(PolicyRefusal, match="allowed_purposes: asked a test, allowed"):
        OPEN.model_copy(update={"allowed_purposes": ("a tester",)}).check_study(STUDY)


def test_an_update_hides_among_at_least_so_many_sites() -> None:
    alone = make_study(("secure = false", "secure = true\nmin_sites = 4"))
    with pytest.raises(PolicyRefusal, match="min_cohort: asked min_sites = 4, allowed 5"):
        OPEN.check_study(alone)
    OPEN.check_study(make_study(("secure = false", "secure = true\nmin_sites = 5")))
    OPEN.model_copy(update={"min_cohort": 3}).check_study(alone)
    OPEN.check_study(STUDY)  # whoever allows individual updates hides among nobody
    with pytest.raises(ValidationError):
        SitePolicy(min_cohort=2)


def test_a_secure_sum_has_three_sites_whatever_the_study_says() -> None:
    tiny = make_study(("secure = false", "secure = true\nmin_sites = 2"))
    OPEN.model_copy(update={"min_cohort": 3}).check_study(tiny)
    with pytest.raises(PolicyRefusal, match="min_cohort: asked min_sites = 2, allowed 4"):
        OPEN.model_copy(update={"min_cohort": 4}).check_study(tiny)


def test_what_several_sums_tell_is_bounded_by_default() -> None:
    policy = SitePolicy()
    assert (policy.roster_change, policy.max_repeats) == (2, 3)
    assert policy.allow_repeats_without_privacy is False
    assert policy.max_colluding_sites is None


@pytest.mark.parametrize(
    ("key", "least"), [("roster_change", 1), ("max_repeats", 0), ("max_colluding_sites", 0)]
)
def test_what_several_sums_tell_may_be_set(key: str, least: int) -> None:
    assert getattr(SitePolicy.model_validate({key: least}), key) == least
    with pytest.raises(ValidationError, match=key):
        SitePolicy.model_validate({key: least - 1})


def test_too_few_examples_take_no_part_and_are_not_counted_out() -> None:
    policy = OPEN.model_copy(update={"min_examples": 10})
    policy.check_examples(10)
    with pytest.raises(PolicyRefusal) as refusal:
        policy.check_examples(7)
    assert "7" not in str(refusal.value)


def test_unknown_rules_and_wrong_types_are_refused() -> None:
    with pytest.raises(ValidationError):
        SitePolicy.model_validate({"allow_everything": True})
    with pytest.raises(ValidationError):
        SitePolicy.model_validate({"max_rounds": "3"})
    with pytest.raises(ValidationError):
        SitePolicy.model_validate({"min_examples": 0})
    with pytest.raises(ValidationError):
        SitePolicy.model_validate({"version": 2})


def test_data_sets_name_declared_populations() -> None:
    with pytest.raises(ValidationError, match=r"datasets\.angio\.population: 'x' is not declared"):
        SitePolicy(populations={"cardiology": make_rules()}, datasets={"angio": DatasetRule(population="x")})
    rows = make_rules(unit="record", unit_column=None)
    with pytest.raises(ValidationError, match=r"datasets\.angio\.unit_column: goes with"):
        SitePolicy(
            populations={"cardiology": rows},
            datasets={"angio": DatasetRule(population="cardiology", unit_column="case")},
        )
    with pytest.raises(ValidationError):
        SitePolicy(populations={"Cardiology ward": make_rules()})
