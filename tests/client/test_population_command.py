"""`vestry-site population register`: from the policy into the ledger, once."""

import json
from pathlib import Path

from tests.client.ward import POLICY, asked, make_home, said_no
from vestry_client.home import SiteHome
from vestry_privacy.events import GaussianRelease


def edit(home: SiteHome, old: str, new: str) -> None:
    text = home.policy.read_text(encoding="utf-8")
    assert old in text
    home.policy.write_text(text.replace(old, new), encoding="utf-8")


def kinds(home: SiteHome) -> list[str]:
    with home.open_ledger() as ledger:
        return [entry.kind for entry in ledger.entries()]


def test_a_population_is_entered_once(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    said, notes = asked("population", "register", "cardiology", home=home)
    assert said.startswith("cardiology: epsilon 4 at delta 1e-05, filter order ")
    assert "entered" in notes
    again = json.loads(asked("population", "register", "cardiology", "--json", home=home)[0])
    assert again["written"] is False
    assert "nothing changed" in asked("population", "register", "cardiology", home=home)[1]
    assert kinds(home) == ["create", "register"]
    with home.open_ledger() as ledger:
        population = ledger.population("cardiology")
        assert population is not None
        assert (population.unit_column, population.persons) == ("patient_id", 400)
        assert again["order"] == population.budget.order


def test_changed_numbers_need_amend(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    asked("population", "register", "cardiology", home=home)
    edit(home, "epsilon = 4.0", "epsilon = 5.0")
    assert "budget.epsilon" in said_no("population", "register", "cardiology", home=home)
    assert kinds(home) == ["create", "register"]
    asked("population", "register", "cardiology", "--amend", home=home)
    assert kinds(home) == ["create", "register", "amend"]


def test_an_amended_budget_keeps_its_order_once_something_was_spent(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    asked("population", "register", "cardiology", home=home)
    with home.open_ledger() as ledger:
        before = ledger.population("cardiology")
        ledger.import_spending("cardiology", [GaussianRelease(noise_multiplier=5.0, count=1)], "pilot")
    edit(home, "epsilon = 4.0", "epsilon = 5.0")
    asked("population", "register", "cardiology", "--amend", home=home)
    with home.open_ledger() as ledger:
        after = ledger.population("cardiology")
    assert before is not None
    assert after is not None
    assert (after.budget.epsilon, after.budget.order) == (5.0, before.budget.order)


def test_only_what_the_policy_declares_is_entered(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    said = said_no("population", "register", "stroke", home=home)
    assert "declares no population 'stroke'; declared: cardiology" in said
    home.policy.write_text("version = 1", encoding="utf-8")
    assert "declared: none" in said_no("population", "register", "stroke", home=home)
    home.policy.write_text(POLICY.replace("4.0", "-4.0"), encoding="utf-8")
    assert "budget.epsilon" in said_no("population", "register", "cardiology", home=home)
    assert kinds(home) == ["create"]
