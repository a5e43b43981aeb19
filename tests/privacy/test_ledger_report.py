"""The report: what the filter reads, what accountants estimate, and what protects nobody."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.privacy.ledgers import NOON, ONE, Site, gaussian, plan, population, study
from vestry_privacy.accounting import PoissonGaussian, TruncatedPoissonGaussian, epsilon
from vestry_privacy.budget import Budget, divergence
from vestry_privacy.ledger import Ledger
from vestry_privacy.ledger_report import PopulationReport, StudyReport
from vestry_privacy.population import Guarantee


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def only(ledger: Ledger) -> PopulationReport:
    (found,) = ledger.report().populations
    return found


def only_study(ledger: Ledger) -> StudyReport:
    (found,) = only(ledger).studies
    return found


def test_a_population_that_spent_nothing(site: Site) -> None:
    with site.open() as ledger:
        ledger.register(population())
        found = only(ledger)
    assert (found.claimed_epsilon, found.left_epsilon) == (0.0, 8.0)
    assert found.estimate_spent == {"pld": 0.0, "rdp": 0.0}
    assert found.estimate_left == {"pld": 8.0, "rdp": 8.0}
    assert (found.overlap, found.adds_up_with, found.open_today) == ("unknown", (), True)


def test_what_is_claimed_spent_and_left(site: Site) -> None:
    with site.held() as ledger:
        ledger.commit(site.reserve(ledger, 1, 40), 25)
        found, reported = only(ledger), only_study(ledger)
    budget = population().budget
    claimed = divergence({gaussian(1): 100}, 4.0)
    assert found.claimed_epsilon == pytest.approx(budget.epsilon_of(claimed))
    assert found.left_epsilon == pytest.approx(budget.rho - claimed)
    assert found.estimate_spent["pld"] == pytest.approx(epsilon([gaussian(25)], 1e-5))
    assert reported.epsilon_planned["pld"] == pytest.approx(4.377, abs=1e-3)
    assert reported.epsilon_spent == found.estimate_spent
    assert reported.spent == {"train": (gaussian(25),), "holdout": ()}
    assert reported.rounds == {"commit": 1}
    assert reported.claimed == pytest.approx(claimed / budget.rho)
    assert (reported.state, reported.guarantee) == ("held", "dp")


def test_rounds_that_recompose_to_the_one_shot_figure(site: Site) -> None:
    step = PoissonGaussian(noise_multiplier=1.0, sampling_probability=0.01, count=100)
    with site.open() as ledger:
        ledger.register(population())
        ledger.hold("heart", ONE, {"train": [step.model_copy(update={"count": 1000})]})
        for number in range(10):
            reserved = ledger.reserve(ONE.study_hash, "train", "train", number, step, "o")
            ledger.commit(reserved, 100)
        reported = only_study(ledger)
    assert reported.epsilon_spent["pld"] == pytest.approx(1.828, rel=0.005)
    assert reported.epsilon_spent["rdp"] == pytest.approx(2.101, rel=0.005)
    assert reported.epsilon_spent == reported.epsilon_planned


def test_a_person_is_charged_the_worse_partition_of_each_study(site: Site) -> None:
    with site.open() as ledger:
        ledger.register(population())
        ledger.hold("heart", ONE, plan(20, holdout=50))
        ledger.hold("heart", study("two"), plan(30, holdout=10))
        for name, train, holdout in ((ONE, 20, 50), (study("two"), 30, 10)):
            ledger.reserve(name.study_hash, "train", "train", 1, gaussian(train), "o")
            ledger.reserve(name.study_hash, "holdout", "evaluation", 1, gaussian(holdout), "o")
        found = only(ledger)
    assert found.estimate_spent["pld"] == pytest.approx(epsilon([gaussian(80)], 1e-5))


def test_imports_count_for_everybody(site: Site) -> None:
    with site.open() as ledger:
        ledger.register(population())
        ledger.import_spending("heart", [gaussian(400)], "before Vestry")
        found = only(ledger)
        assert ledger.fits("heart", {"train": [gaussian(1)]}) == 0
    assert found.left_epsilon == 0.0
    assert found.claimed_epsilon > 8.0
    assert found.estimate_left["pld"] == 0.0


def test_an_accountant_that_cannot_says_nothing(site: Site) -> None:
    event = TruncatedPoissonGaussian(
        noise_multiplier=5.0, sampling_probability=0.1, cap=60, persons=303, count=2
    )
    with site.open() as ledger:
        ledger.register(population())
        ledger.hold("heart", ONE, {"train": [event]})
        (found,) = ledger.report(["pld", "prv"]).populations
    assert found.studies[0].epsilon_planned["prv"] is None
    assert found.studies[0].epsilon_planned["pld"] is not None


@pytest.mark.slow
def test_prv_is_a_second_opinion_on_request(site: Site) -> None:
    with site.open() as ledger:
        ledger.register(population())
        ledger.hold("heart", ONE, plan(1, sigma=1.0))
        (found,) = ledger.report(["pld", "prv"]).populations
    assert found.studies[0].epsilon_planned == pytest.approx({"pld": 4.377, "prv": 4.387}, rel=1e-3)


@pytest.mark.parametrize(
    ("of_population", "of_study", "reported"),
    [("dp", "dp", "dp"), ("dp", "none", "none"), ("none", "dp", "none")],
)
def test_what_protects_nobody_is_stamped(
    of_population: Guarantee, of_study: Guarantee, reported: str, site: Site
) -> None:
    declared = replace(population(), guarantee=of_population)
    with site.open() as ledger:
        ledger.register(declared)
        ledger.hold("heart", ONE, plan(1), guarantee=of_study)
        ledger.hold("heart", ONE, plan(1), guarantee=of_study)
        found = only(ledger)
    assert found.population.guarantee == of_population
    assert found.studies[0].guarantee == reported


def test_one_row_a_person_is_stamped_in_entry_and_report(site: Site) -> None:
    with site.open() as ledger:
        ledger.register(replace(population(), unit_column="row"))
        *_, entry = ledger.entries()
        assert entry.model_dump()["row_is_person"] is True
        assert only(ledger).row_is_person
        ledger.register(population(), amend=True)
        assert not only(ledger).row_is_person
        assert only(ledger).amended == 1


def test_populations_that_add_up_are_named(site: Site) -> None:
    with site.held() as ledger:
        ledger.register(population("lung"))
        ledger.add_dataset("lung", "rows", "f2", None)
        heart, lung = ledger.report().populations
    assert (heart.overlap, heart.adds_up_with) == ("checked", ("lung",))
    assert (lung.overlap, lung.adds_up_with) == ("unknown", ("heart",))
    assert lung.claimed_epsilon == heart.claimed_epsilon > 0


def test_a_window_that_is_closed_leaves_nothing(site: Site) -> None:
    with site.open() as ledger:
        today = ledger.report().day
        budget = Budget(8.0, 1e-5, 4.0, today, today)
        ledger.register(replace(population(), budget=budget))
        assert only(ledger).left_epsilon == 8.0
        site.now = NOON + 86_400
        assert not only(ledger).open_today
        assert only(ledger).left_epsilon == 0.0


def test_the_report_is_json(site: Site) -> None:
    with site.held() as ledger:
        ledger.release(ONE.study_hash)
        text = json.dumps(ledger.report().plain(), allow_nan=False)
    found = json.loads(text)
    assert found["day"] == "2025-10-09"
    (one,) = found["populations"][0]["studies"]
    assert one["planned"]["train"] == [{"mechanism": "gaussian", "noise_multiplier": 10.0, "count": 100}]
    assert one["state"] == "released"


def test_an_infinite_epsilon_is_said_in_words(site: Site) -> None:
    with site.held() as ledger:
        report = ledger.report()
        (found,) = report.populations
        broken = replace(found, estimate_spent={"pld": float("inf")})
        assert replace(report, populations=(broken,)).plain()["populations"][0]["estimate_spent"] == {
            "pld": "inf"
        }
