"""What a coordinator that means harm can learn or force: each attack, and what stops it."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
from vestry_client.privacy_rules import BudgetRules
from vestry_privacy.accounting import Event, epsilon
from vestry_privacy.ledger_state import PARTITIONS
from vestry_strategies.orders import FinishOrder, Refusal, StatisticsOrder, StatisticsReply, TrainReply
from vestry_strategies.rows import Table
from vestry_strategies.study import StudySpec

NOT_OURS = "order.preprocessing: its arrays are not those of the study"


@pytest.mark.parametrize("off", [-1, 0, 1])
@pytest.mark.parametrize("evaluation", [False, True])
def test_arrays_of_a_guessed_number_of_rows_tell_no_number(
    off: int, evaluation: bool, tmp_path: Path
) -> None:
    """A mean for each row would fit the true number of rows only, and an error would say so."""
    with make_clinic(tmp_path) as clinic:
        data = clinic.site.data(clinic.bench)
        rows = len(data.holdout if evaluation else data.train) + off
        guess = {name: np.tile(array, (rows, 1)) for name, array in clinic.preprocessing.items()}
        order: Any = clinic.evaluate() if evaluation else clinic.train()
        assert refused(clinic.ask(replace(order, preprocessing=guess)), "study") == NOT_OURS
        assert (clinic.charged(), clinic.charged("holdout")) == (0, 0)


def test_arrays_that_cannot_be_used_are_refused_before_they_are_charged(tmp_path: Path) -> None:
    with make_clinic(tmp_path) as clinic:
        good = clinic.preprocessing
        for arrays in (
            {},
            {"mean": good["mean"]},
            {**good, "mean": good["mean"][:-1]},
            {**good, "scale": good["scale"][None, None]},
            {**good, "scale": np.zeros((0, len(good["scale"])))},
            {**good, "mean": np.zeros((2, len(good["mean"])))},
        ):
            assert refused(clinic.ask(clinic.train(preprocessing=arrays)), "study") == NOT_OURS
        for kind in ("U8", "f4", "i8", "c16", "g", ">f8"):
            odd = {**good, "mean": good["mean"].astype(kind)}
            said = refused(clinic.ask(clinic.train(preprocessing=odd)), "study")
            assert said == "order: its arrays are not all of float64", kind
        for finished in (-1, 10**6, "x", True):
            said = refused(clinic.ask(clinic.train(finished=finished)), "study")
            assert said.startswith("order.finished")
        assert clinic.charged() == 0


def outcome(folder: Path, table: Table, study: StudySpec, text: str | None = None) -> Any:
    """What a coordinator sees of round 0 and a round, its noisy values left out."""
    with make_clinic(folder, study=study, table=table) as clinic:
        replies = [
            handle(clinic.site, StatisticsOrder(text or study.to_json())),
            clinic.ask(clinic.train(1)),
            clinic.ask(clinic.finish()),
        ]
        return [
            (r.code, r.message) if isinstance(r, Refusal) else (type(r).__name__, getattr(r, "steps", None))
            for r in replies
        ]


QUESTIONS = {
    "is anybody above 80": ("range = [0, 120]", "range = [0, 80]"),
    "has everybody one of two colours": ('"red", "green", "blue"', '"red", "green"'),
    "is anybody's age missing": ('missing = "mean"', 'missing = "refuse"'),
    "is anybody left": ('missing = "mean"', f'missing = "drop-row"\nmissing_codes = {[*range(20, 91)]}'),
    "is anybody ill": ('classes = ["no", "yes"]', 'classes = ["no", "maybe"]'),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_contract_is_no_question_about_the_rows(question: str, tmp_path: Path) -> None:
    """A refusal would be an exact answer, free of charge: the study is given up and the next one asked."""
    study = private_study(QUESTIONS[question])
    one = visits(1, 1, age="30", colour="red", sick="no")
    two = visits(1, 1, age="85", colour="blue", sick="yes")
    spaced = study.to_json().replace('"privacy":{', '"privacy": {')
    seen = [
        outcome(tmp_path / f"{number}{text is None}", table, study, text)
        for number, table in enumerate((one, two, visits()))
        for text in (None, spaced)
    ]
    assert all(one == seen[0] for one in seen)
    assert [kind for kind, _ in seen[0]] == ["StatisticsReply", "TrainReply", "FinishReply"]


def test_rows_outside_the_contract_are_told_to_the_operator_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = visits(40, 2)
    names = table.column("colour").copy()
    names[:12] = "Mrs Miller"
    spoilt = Table({**table.columns, "colour": names})
    with caplog.at_level(logging.DEBUG), make_clinic(tmp_path, table=spoilt) as clinic:
        answered(clinic.ask(clinic.statistics()))
        data = clinic.site.data(clinic.bench)
        assert sorted([*data.train.kept, *data.holdout.kept]) == list(range(12, 80))
        assert "12 rows left out, first because: column 'colour': 12 rows break the rule" in caplog.text
        assert "Miller" not in caplog.text


@pytest.mark.parametrize("number", [0, -1, 5, 10**9, 2**70, True, 1.0, "1", None])
def test_rounds_outside_the_study_are_refused_and_not_charged(number: Any, tmp_path: Path) -> None:
    with make_clinic(tmp_path) as clinic:
        for order in (clinic.train(1, round=number), clinic.evaluate(1, round=number)):
            assert "the study has rounds 1 to 4" in refused(clinic.ask(order), "study")
        assert clinic.kinds() == []


def test_a_study_never_costs_more_than_was_approved(tmp_path: Path) -> None:
    """Whatever is ordered without a crash stays inside the hold, and the hold is what was asked for."""
    with make_clinic(tmp_path, ("[evaluation]", "[evaluation]\nevery = 3")) as clinic:
        for number in range(-1, 9):
            clinic.ask(clinic.statistics())
            clinic.ask(clinic.train(number))
            clinic.ask(clinic.evaluate(number))
            clinic.ask(clinic.evaluate(number, model=clinic.model + np.float32(1)))
        private = clinic.site.private(clinic.bench)
        assert clinic.charged() == sum(event.count for event in private.plan.events("train")) == 9
        assert clinic.charged("holdout") == sum(e.count for e in private.plan.events("holdout")) == 2
        assert clinic.kinds().count("hold") == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_model_that_is_not_finite_is_refused_whatever_the_rows(value: float, tmp_path: Path) -> None:
    said = set()
    for place, table in (("some", visits()), ("one", visits(1, 1)), ("none", visits(1, 1, colour="none"))):
        with make_clinic(tmp_path / place, table=table) as clinic:
            model = clinic.model
            model[3] = value
            said.add(refused(clinic.ask(clinic.train(model=model)), "study"))
            said.add(refused(clinic.ask(clinic.evaluate(model=model)), "study"))
            assert clinic.charged() == 0
    assert said == {"order.model: the study's model is 7 finite float32 values"}


@pytest.mark.parametrize(
    "model", [np.zeros(6, np.float32), np.zeros((7, 1), np.float32), np.zeros(7), np.zeros(7, np.float16)]
)
def test_a_model_of_another_shape_or_type_is_refused(model: Any, tmp_path: Path) -> None:
    with make_clinic(tmp_path) as clinic:
        assert "7 finite float32 values" in refused(clinic.ask(clinic.train(model=model)), "study")


class Endless:
    """A clinic that answers many orders: each example is another study of its own."""

    def __init__(self, clinic: Clinic) -> None:
        self.clinic, self.number = clinic, 0

    def next(self) -> Clinic:
        self.number += 1
        self.clinic.study = private_study(("seed = 5", f"seed = {self.number + 100}"))
        return self.clinic


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    scale=st.sampled_from([0.0, 1e-300, -1e-30, 5e-324, 1.0, 1e30, 1e308, np.inf, np.nan]),
    mean=st.sampled_from([0.0, 1e308, -1e308, np.inf, np.nan]),
    weight=st.sampled_from([0.0, 1.0, 1e30, 3.4e38, -3.4e38]),
)
@pytest.mark.filterwarnings("error")
def test_extreme_arrays_give_noise_and_no_error_of_the_data(
    scale: float, mean: float, weight: float, shared_clinic: Endless
) -> None:
    clinic = shared_clinic.next()
    arrays = {
        "mean": np.full_like(clinic.preprocessing["mean"], mean),
        "scale": np.full_like(clinic.preprocessing["scale"], scale),
    }
    model = np.full_like(clinic.model, weight)
    reply = clinic.ask(clinic.train(model=model, preprocessing=arrays))
    assert isinstance(reply, TrainReply) or refused(
        reply, "diverged"
    )  # weights beyond float32, by noise alone
    metrics = answered(clinic.ask(clinic.evaluate(model=model, preprocessing=arrays)))
    assert all(np.isfinite(array).all() for array in metrics.sums.values())


@pytest.fixture(scope="module")
def shared_clinic(tmp_path_factory: pytest.TempPathFactory) -> Any:
    rules = make_rules(budget=BudgetRules(epsilon=5000.0, delta=1e-5), max_epsilon_per_study=10.0)
    with make_clinic(tmp_path_factory.mktemp("site"), policy=make_policy(rules)) as clinic:
        yield Endless(clinic)


def spent(clinic: Clinic) -> float:
    """PLD epsilon of a person in the worse partition of every study there was."""
    events: list[Event] = []
    for entry in clinic.ledger.entries():
        if entry.kind == "hold":
            parts = [clinic.ledger.spent(entry.study.study_hash, part) for part in PARTITIONS]
            events += max(parts, key=lambda part: epsilon(tuple(part), 1e-5))
    return epsilon(events, 1e-5)


def test_many_studies_together_stay_inside_the_budget(tmp_path: Path) -> None:
    rules = make_rules(budget=BudgetRules(epsilon=6.0, delta=1e-5))
    with make_clinic(tmp_path, policy=make_policy(rules)) as clinic:
        replies = []
        for seed in range(100, 120):
            clinic.study = private_study(("seed = 5", f"seed = {seed}"))
            replies.append(clinic.ask(clinic.statistics()))
            if seed % 2:
                clinic.ask(clinic.finish())  # what is done is not given back
        told = {r.message for r in replies if isinstance(r, Refusal)}
        assert told == {"refused by the site's privacy ledger (BudgetExceeded)"}
        assert sum(isinstance(r, StatisticsReply) for r in replies) >= 2
        assert isinstance(replies[-1], Refusal)
        assert spent(clinic) <= 6.0


def test_a_larger_epsilon_under_another_hash_meets_the_same_rules(tmp_path: Path) -> None:
    rules = make_rules(budget=BudgetRules(epsilon=6.0, delta=1e-5), max_epsilon_per_study=3.0)
    with make_clinic(tmp_path, policy=make_policy(rules)) as clinic:
        answered(clinic.ask(clinic.statistics()))
        clinic.study = private_study(("noise_multiplier = 3.0", "noise_multiplier = 2.0"))
        assert "max_epsilon_per_study" in refused(clinic.ask(clinic.statistics()), "policy")
        assert "max_epsilon_per_study" in refused(clinic.ask(clinic.train()), "policy")
        assert clinic.kinds().count("hold") == 1


def test_a_study_that_is_finished_and_begun_again_gains_nothing(tmp_path: Path) -> None:
    with make_clinic(tmp_path) as clinic:
        first = answered(clinic.ask(clinic.train(1))).update
        for _ in range(3):
            answered(clinic.ask(clinic.finish()))
            answered(clinic.ask(clinic.finish()))
            assert np.array_equal(answered(clinic.ask(clinic.train(1))).update, first)
            other = clinic.model + np.float32(1)
            refused(clinic.ask(clinic.train(1, model=other)), "ledger")
        for number in (2, 3, 4):
            answered(clinic.ask(clinic.train(number)))
        assert clinic.charged() == 8
        assert [clinic.kinds().count(kind) for kind in ("hold", "release", "reserve")] == [4, 3, 4]


def test_a_finished_study_leaves_its_room_to_others(tmp_path: Path) -> None:
    rules = make_rules(budget=BudgetRules(epsilon=6.0, delta=1e-5))
    wide = private_study(("noise_multiplier = 3.0", "noise_multiplier = 2.0"))
    other = private_study(("noise_multiplier = 3.0", "noise_multiplier = 2.0"), ("seed = 5", "seed = 6"))
    with make_clinic(tmp_path, study=wide, policy=make_policy(rules)) as clinic:
        answered(clinic.ask(clinic.train(1)))
        clinic.study = other
        assert "BudgetExceeded" in refused(clinic.ask(clinic.train(1)), "ledger")
        answered(clinic.ask(FinishOrder(wide.to_json())))
        answered(clinic.ask(clinic.train(1)))
        clinic.study = wide
        assert "BudgetExceeded" in refused(clinic.ask(clinic.train(2)), "ledger")


def test_to_finish_an_unknown_study_does_nothing(tmp_path: Path) -> None:
    with make_clinic(tmp_path) as clinic:
        assert "NotHeld" in refused(clinic.ask(clinic.finish()), "ledger")
        assert "study" in refused(clinic.ask(FinishOrder("{}")), "study")
        assert clinic.kinds() == []


def test_statistics_after_training_are_charged_once(tmp_path: Path) -> None:
    with make_clinic(tmp_path) as clinic:
        answered(clinic.ask(clinic.train(1)))
        first = answered(clinic.ask(clinic.statistics())).sums["persons"]
        assert answered(clinic.ask(clinic.statistics())).sums["persons"] == first
        assert clinic.charged() == 3


def test_one_study_has_one_hash_however_it_is_written(tmp_path: Path) -> None:
    with make_clinic(tmp_path) as clinic:
        first = answered(clinic.ask(clinic.statistics())).sums["persons"]
        plain = json.loads(clinic.study.to_json())
        for text in (json.dumps(plain, indent=1), json.dumps(dict(reversed(plain.items())))):
            assert answered(handle(clinic.site, StatisticsOrder(text))).sums["persons"] == first
        assert clinic.charged() == 1
