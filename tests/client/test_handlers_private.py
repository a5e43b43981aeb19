"""Deny by default, and what a refusal of a private study says to whom."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.client.clinic import (
    Clinic,
    answered,
    make_clinic,
    make_policy,
    make_rules,
    private_study,
    refused,
    visits,
)
from vestry_client.handlers import handle
from vestry_client.policy import SitePolicy, Told
from vestry_client.privacy_rules import BudgetRules, DatasetRule
from vestry_strategies.orders import DescribeOrder, FinishOrder, Order, Refusal
from vestry_strategies.rows import Table

LEVELS: tuple[Told, ...] = ("nothing", "rule", "full")


def orders(clinic: Clinic) -> list[Order]:
    return [clinic.statistics(), clinic.train(1), clinic.evaluate(1)]


BARE = SitePolicy(allow_individual_updates=True)
OTHER = make_policy(datasets={"other": DatasetRule(population="ward")})


@pytest.mark.parametrize(
    ("policy", "settings"),
    [
        (SitePolicy(), {}),
        (BARE, {}),
        (OTHER, {}),
        (make_policy(), {"ledger": None}),
        (make_policy(), {"dataset": "elsewhere"}),
        (make_policy(), {"secret": b""}),
        (make_policy(make_rules(metrics=())), {}),
        (make_policy(make_rules(unit="record", unit_column=None)), {}),
        (make_policy(make_rules(unit_column="case")), {}),
        (make_policy(make_rules(mechanisms=("full_batch",))), {}),
        (make_policy(make_rules(max_steps=7)), {}),
        (make_policy(make_rules(max_records=3)), {}),
        (make_policy(make_rules(min_noise_multiplier=3.5)), {}),
        (make_policy(make_rules(max_epsilon_per_study=2.0)), {}),
        (make_policy(make_rules(budget=BudgetRules(epsilon=20.0, delta=1e-6))), {}),
        (make_policy(allowed_initiators=("somebody else",)), {}),
        (make_policy(allowed_purposes=("another",)), {}),
        (make_policy(max_rounds=3), {}),
    ],
)
def test_what_is_not_allowed_is_refused_before_anything_is_read_or_written(
    policy: SitePolicy, settings: dict[str, Any], tmp_path: Path
) -> None:
    with make_clinic(tmp_path, policy=policy, **settings) as clinic:
        for order in orders(clinic):
            assert refused(clinic.ask(order), "policy").startswith("refused by the site's policy, rule ")
        assert (clinic.loads, clinic.kinds()) == ([], [])
        assert clinic.site._data == {}


def test_without_a_policy_file_nothing_is_declared_and_nothing_trains(tmp_path: Path) -> None:
    with make_clinic(tmp_path, policy=SitePolicy(), ledger=None, secret=b"") as clinic:
        for order in orders(clinic):
            refused(clinic.ask(order), "policy")
        assert clinic.loads == []


SAYS = {
    "nothing": "refused by the site's policy",
    "rule": "refused by the site's policy, rule populations.ward.max_epsilon_per_study",
    "full": "policy rule populations.ward.max_epsilon_per_study: asked epsilon 2.753, allowed 2 or less",
}


@pytest.mark.parametrize("level", LEVELS)
def test_a_policys_refusal_says_what_the_policy_lets_it_say(
    level: Told, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    policy = make_policy(make_rules(max_epsilon_per_study=2.0), tell_coordinator=level)
    with make_clinic(tmp_path, policy=policy) as clinic, caplog.at_level(logging.WARNING, "vestry.site"):
        assert refused(clinic.ask(clinic.train(1)), "policy") == SAYS[level]
    (record,) = caplog.records
    assert record.getMessage() == f"refused: {SAYS['full']}"


@pytest.mark.parametrize("level", LEVELS)
def test_a_ledgers_refusal_says_what_the_policy_lets_it_say(
    level: Told, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rules = make_rules(budget=BudgetRules(epsilon=3.0, delta=1e-5))
    with make_clinic(tmp_path, policy=make_policy(rules, tell_coordinator=level)) as clinic:
        answered(clinic.ask(clinic.train(1)))
        clinic.study = private_study(("seed = 5", "seed = 6"))
        with caplog.at_level(logging.WARNING, "vestry.site"):
            said = refused(clinic.ask(clinic.train(1)), "ledger")
    full = caplog.records[-1].getMessage()
    assert "is claimed, and with study" in full
    if level == "full":
        assert full == f"refused: {said}"
    else:
        rule = " (BudgetExceeded)" if level == "rule" else ""
        assert said == f"refused by the site's privacy ledger{rule}"


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("case", ["unknown column", "no identifier", "no rows", "no file"])
def test_data_that_cannot_be_used_are_told_to_the_operator(
    case: str, level: Told, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = visits(40, 2)
    names = table.column("patient").copy()
    names[:12] = ""
    changed: dict[str, Any] = {
        "unknown column": Table({n: c for n, c in table.columns.items() if n != "patient"}),
        "no identifier": Table({**table.columns, "patient": names}),
        "no rows": table.take(np.zeros(0, dtype=np.int64)),
        "no file": table,
    }
    expected = {
        "unknown column": "column 'patient' is missing; the file has: clinic, age",
        "no identifier": "column 'patient': 12 rows break the rule: an identifier of the patient",
        "no rows": "the data file has no rows",
        "no file": "there is no such file",
    }[case]
    policy = make_policy(tell_coordinator=level)
    with make_clinic(tmp_path, table=changed[case], policy=policy) as clinic:
        if case == "no file":

            def missing(study: Any, task: Any) -> Any:
                return task.features.read(study, tmp_path / "nowhere.csv")

            clinic.site.load = missing
        with caplog.at_level(logging.WARNING, "vestry.site"):
            said = refused(clinic.ask(clinic.statistics()), "data")
        assert clinic.charged() == 0
    assert expected in caplog.text
    general = "the site's data cannot be used; its own log says why"
    assert expected in said if level == "full" else said == general


SPELT = "MILLER-1953"


@pytest.mark.parametrize("level", LEVELS)
def test_no_value_of_a_patient_is_in_a_reply_a_refusal_or_a_log(
    level: Told, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = visits(20, 2)
    patients = np.array([f"{SPELT}-{n // 2}" for n in range(40)])
    colours = table.column("colour").astype("<U20")
    colours[3] = SPELT
    ages = table.column("age").astype("<U20")
    ages[4], ages[5] = SPELT, "77777"
    spoilt = Table({**table.columns, "patient": patients, "colour": colours, "age": ages})
    studies = [
        private_study(),
        private_study(('name = "dose"', 'name = "weight"')),
        private_study(
            ('unit_column = "patient"', 'unit_column = "age"'), ('name = "age"', 'name = "clinic"')
        ),
        private_study(("delta = 1e-5", "delta = 0.5")),
        private_study(("fraction = 0.25", 'column = "nowhere"')),
        private_study(("fraction = 0.25", f'column = "patient"\ntest_value = "{SPELT}-3"')),
    ]
    seen = []
    with (
        caplog.at_level(logging.DEBUG),
        make_clinic(tmp_path, table=spoilt, policy=make_policy(tell_coordinator=level)) as clinic,
    ):
        for study in studies:
            clinic.study = study
            asked = [clinic.statistics(), *(make(1) for make in (clinic.train, clinic.evaluate))]
            seen += [clinic.ask(order) for order in [*asked, clinic.finish()]]
        seen.append(clinic.ask(DescribeOrder()))
        for entry in clinic.ledger.entries():
            assert SPELT not in entry.model_dump_json()
    text = caplog.text + "".join(map(repr, seen))
    assert "77777" not in text
    assert SPELT not in text
    assert {type(reply) for reply in seen} >= {Refusal}
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or SPELT.encode() not in path.read_bytes()


def test_the_end_of_a_study_closes_the_books(tmp_path: Path) -> None:
    with make_clinic(tmp_path) as clinic:
        answered(clinic.ask(clinic.train(1)))
        answered(clinic.ask(clinic.finish()))
        assert clinic.kinds()[-1] == "release"
        assert not any((clinic.site._data, clinic.site._private, clinic.site._states))
        answered(clinic.ask(clinic.finish()))
        assert clinic.kinds().count("release") == 1


def test_a_site_without_a_ledger_has_no_books_to_close(tmp_path: Path) -> None:
    with make_clinic(tmp_path, ledger=None) as clinic:
        answered(clinic.ask(clinic.finish()))
        assert isinstance(handle(clinic.site, FinishOrder("nonsense")), Refusal)
