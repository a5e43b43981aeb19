"""How often a study still fits: what is told agrees with what the ledger then lets through."""

from pathlib import Path

import pytest

from tests.client.ward import POLICY, make_home, private_study
from tests.simulations.laboratory import STUDY as OPEN_STUDY
from vestry_client.home import SiteHome
from vestry_client.plan_fit import PlanFit, plan_fits, round_events
from vestry_client.policy_file import parse_policy
from vestry_client.privacy_rules import population_of
from vestry_privacy.events import Event
from vestry_privacy.ledger import Ledger, StudyRef
from vestry_privacy.ledger_errors import BudgetExceeded
from vestry_privacy.plan import Partition
from vestry_strategies.private_plan import study_plan
from vestry_strategies.study import StudyError, StudySpec, parse_study

STUDY = parse_study(private_study())


def registered(folder: Path, policy: str = POLICY) -> tuple[SiteHome, Ledger]:
    home = make_home(folder, policy)
    ledger = home.open_ledger()
    for name, rules in home.load_policy().populations.items():
        ledger.register(population_of(name, rules))
    return home, ledger


def fit(folder: Path, policy: str = POLICY, study: StudySpec = STUDY) -> PlanFit:
    home, ledger = registered(folder, policy)
    with ledger:
        return plan_fits(ledger, ledger.report(()), study, home.load_policy())["cardiology"]


def test_a_round_is_its_steps_and_its_evaluation() -> None:
    plan = study_plan(STUDY, 400)
    part = round_events(STUDY, plan)
    assert [event.count for event in part["train"]] == [5]
    assert [event.count for event in part["holdout"]] == [1]
    quiet = parse_study(private_study(metrics="[]"))
    assert round_events(quiet, study_plan(quiet, 400))["holdout"] == ()


def test_as_many_studies_fit_as_the_ledger_then_holds(tmp_path: Path) -> None:
    told = fit(tmp_path / "a")
    assert told.reason is None
    assert told.epsilon == pytest.approx(study_plan(STUDY, 400).epsilon("pld"))
    assert told.rounds >= 4 * told.studies > 4
    home, ledger = registered(tmp_path / "b")
    plan = study_plan(STUDY, 400)
    events: dict[Partition, tuple[Event, ...]] = {
        "train": plan.events("train"),
        "holdout": plan.events("holdout"),
    }
    with ledger:
        for number in range(told.studies):
            ledger.hold("cardiology", StudyRef(f"{number:064}", "small", "run"), events)
        with pytest.raises(BudgetExceeded):
            ledger.hold("cardiology", StudyRef("f" * 64, "small", "run"), events)
        again = plan_fits(ledger, ledger.report(()), STUDY, home.load_policy())["cardiology"]
    assert again.studies == 0


def test_a_local_bound_lets_fewer_fit(tmp_path: Path) -> None:
    alone = fit(tmp_path / "a")
    four = fit(tmp_path / "b", POLICY.replace("persons = 400", "persons = 400\nfederation_sites = 2"))
    assert four.studies <= alone.studies // 2
    assert four.epsilon is not None
    assert alone.epsilon is not None
    assert four.epsilon > alone.epsilon


def test_a_data_sets_own_column_fits_too(tmp_path: Path) -> None:
    assert fit(tmp_path, study=parse_study(private_study(unit_column='"case"'))).studies > 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"unit_column": '"other"'}, "populations.cardiology.unit_column: asked other"),
        ({"metrics": '["auc", "loss"]'}, "populations.cardiology.metrics: asked loss"),
        ({"noise_multiplier": "2.0"}, "populations.cardiology.max_epsilon_per_study: asked epsilon 4.37"),
        ({"delta": "1e-2"}, "is not below 1/400"),
    ],
)
def test_the_rule_that_is_in_the_way_is_named(tmp_path: Path, changes: dict[str, str], said: str) -> None:
    told = fit(tmp_path, study=parse_study(private_study(**changes)))
    assert (told.studies, told.rounds) == (0, 0)
    assert said in (told.reason or "")
    assert told.plain()["reason"] == told.reason


def test_a_population_that_the_policy_no_longer_declares(tmp_path: Path) -> None:
    _, ledger = registered(tmp_path)
    with ledger:
        told = plan_fits(ledger, ledger.report(()), STUDY, parse_policy(""))["cardiology"]
    assert told.reason == "the policy declares no such population"


def test_a_study_without_privacy_cannot_be_charged(tmp_path: Path) -> None:
    home, ledger = registered(tmp_path)
    with ledger, pytest.raises(StudyError, match=r"no section \[privacy\]"):
        plan_fits(ledger, ledger.report(()), parse_study(OPEN_STUDY), home.load_policy())
