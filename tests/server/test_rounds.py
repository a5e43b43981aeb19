"""The round over scripted sites: means, stragglers, attempts, stops, resume, both halves of a strategy."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import vestry_strategies.strategies as listing
from tests.server.scripted import SIZE, Course, Scripted, metric_sums, obedient, statistics, update
from vestry_server.checkpoint import RunState
from vestry_server.progress import StatisticsDone
from vestry_server.rounds import Diverged, NotEnoughSites, NoWeight
from vestry_strategies.orders import (
    EvaluateOrder,
    EvaluateReply,
    Order,
    Refusal,
    Reply,
    StatisticsOrder,
    TrainOrder,
    TrainReply,
)
from vestry_strategies.parameters import model_hash
from vestry_strategies.strategy import Mean, Strategy
from vestry_strategies.study import StudyError, StudyMismatch
from vestry_strategies.sums import Arrays

VALUES = {"a": 1.0, "b": 2.0, "c": 6.0}
WEIGHTS = {"a": 1.0, "b": 2.0, "c": 5.0}


def weighted(site: str, order: Order) -> Reply | None:
    if isinstance(order, TrainOrder):
        return update(site, order.round, VALUES[site], WEIGHTS[site])
    return obedient(site, order)


def silent(*names: str, only_round: int | None = None) -> Any:
    """A script in which some sites do not answer train orders."""

    def script(site: str, order: Order) -> Reply | None:
        if isinstance(order, TrainOrder) and site in names and only_round in (None, order.round):
            return None
        return weighted(site, order)

    return script


def test_the_model_moves_by_the_weighted_mean() -> None:
    course = Course(("rounds = 4", "rounds = 2"), script=weighted)
    state = course.go()
    mean = (1 * 1 + 2 * 2 + 5 * 6) / 8
    np.testing.assert_allclose(state.model, course.first + 2 * mean, rtol=1e-6)
    assert [record.model_hash for record in course.records][-1] == model_hash(state.model)


def test_the_order_of_arrival_changes_no_bit() -> None:
    def awkward(site: str, order: Order) -> Reply | None:
        if isinstance(order, TrainOrder):
            return update(site, order.round, {"a": 1e-8, "b": 0.1, "c": 12345.678}[site], WEIGHTS[site])
        return obedient(site, order)

    forward, backward = (
        Course(exchange=Scripted(awkward, reverse=reverse)).go() for reverse in (False, True)
    )
    assert np.array_equal(forward.model, backward.model)


def test_round_zero_makes_the_preprocessing_and_the_roster() -> None:
    course = Course()
    course.go()
    assert course.kept[0].round == 0
    assert course.kept[0].sites == ("a", "b", "c")
    middle_of_the_ages = 60.0  # what is summed is counted from the middle of a declared range
    expected = [middle_of_the_ages + 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
    np.testing.assert_allclose(course.kept[0].preprocessing["mean"], expected)
    (done,) = [event for event in course.events if isinstance(event, StatisticsDone)]
    assert (done.sites, done.left_out, done.examples) == (("a", "b", "c"), {}, 30)


def test_a_site_that_breaks_the_contract_takes_no_part() -> None:
    def script(site: str, order: Order) -> Reply | None:
        if site == "b" and isinstance(order, StatisticsOrder):
            return Refusal("b", "data", "column 'age' is missing")
        return obedient(site, order)

    course = Course(script=script)
    state = course.go()
    assert state.sites == ("a", "c")
    (done,) = [event for event in course.events if isinstance(event, StatisticsDone)]
    assert done.left_out == {"b": "data: column 'age' is missing"}
    assert {site for site, order in course.exchange.asked if isinstance(order, TrainOrder)} == {"a", "c"}


def test_too_few_sites_with_good_data_stop_the_study() -> None:
    def script(site: str, order: Order) -> Reply | None:
        return statistics(site) if site == "a" else None

    course = Course(script=script)
    with pytest.raises(
        NotEnoughSites, match=r"round 0 \(statistics\): 1 sites.*min_sites = 2\n  b: no reply"
    ):
        course.go()
    assert course.kept == []


def test_a_straggler_is_left_behind_by_name() -> None:
    course = Course(script=silent("c", only_round=2))
    state = course.go()
    assert [record.sites for record in course.records][1] == ("a", "b")
    assert course.records[1].left_out == {"c": "no reply before the deadline"}
    assert course.records[2].left_out == {}
    assert state.round == 4


def test_a_bad_update_is_left_out_and_the_round_goes_on() -> None:
    def script(site: str, order: Order) -> Reply | None:
        if site == "c" and isinstance(order, TrainOrder):
            return update(site, order.round, float("nan"))
        return weighted(site, order)

    course = Course(("rounds = 4", "rounds = 1"), script=script)
    state = course.go()
    np.testing.assert_allclose(state.model, course.first + 5 / 3, rtol=1e-6)
    assert course.records[0].left_out == {"c": "its update is not finite"}


def test_a_round_is_tried_again_and_then_fails_with_reasons() -> None:
    course = Course(("secure = false", "secure = false\nattempts = 2"), script=silent("b", "c"))
    with pytest.raises(
        NotEnoughSites, match=r"round 1: 1 sites.*\n  b: no reply.*\n  c: .*\nafter 2 attempts"
    ):
        course.go()
    assert [(failure.round, failure.attempt) for failure in course.failures] == [(1, 1), (1, 2)]
    assert [state.round for state in course.kept] == [0]


def test_a_second_attempt_may_succeed() -> None:
    asked: list[str] = []

    def script(site: str, order: Order) -> Reply | None:
        if isinstance(order, TrainOrder) and order.round == 2:
            asked.append(site)
            if len(asked) <= 3 and site != "a":
                return None
        return weighted(site, order)

    course = Course(script=script)
    course.go()
    assert [record.attempt for record in course.records] == [1, 2, 1, 1]


def test_nobody_answers() -> None:
    with pytest.raises(NotEnoughSites, match="round 1: 0 sites"):
        Course(script=silent("a", "b", "c")).go()


def test_weights_that_are_all_zero_are_refused() -> None:
    def script(site: str, order: Order) -> Reply | None:
        if isinstance(order, TrainOrder):
            return update(site, order.round, weight=0.0)
        return obedient(site, order)

    course = Course(script=script)
    with pytest.raises(NoWeight, match="all weights are zero"):
        course.go()
    assert [state.round for state in course.kept] == [0]


def test_when_all_diverge_the_last_good_round_is_kept_and_advice_given() -> None:
    def script(site: str, order: Order) -> Reply | None:
        if isinstance(order, TrainOrder) and order.round == 3:
            return Refusal(site, "diverged", "the loss is not finite in round 3")
        return weighted(site, order)

    course = Course(script=script)
    with pytest.raises(Diverged, match=r"lower training\.learning_rate"):
        course.go()
    assert course.kept[-1].round == 2
    assert len(course.failures) == 1  # the same steps would diverge again


def test_a_model_that_overflows_is_not_kept() -> None:
    def script(site: str, order: Order) -> Reply | None:
        if isinstance(order, TrainOrder):
            return update(site, order.round, 1e38)
        return obedient(site, order)

    change = ("secure = false", "secure = false\nmax_update_norm = 1e39")
    course = Course(change, ("rounds = 4", "rounds = 9"), script=script)
    with pytest.raises(Diverged, match="the new model is not finite"):
        course.go()
    assert np.isfinite(course.kept[-1].model).all()


def falling(site: str, order: Order) -> Reply | None:
    """Accuracy .8, .9, .7, .6 ... over the rounds."""
    if isinstance(order, EvaluateOrder):
        right = {1: 8.0, 2: 9.0}.get(order.round, 10.0 - order.round)
        return EvaluateReply(site, order.round, metric_sums(right=right, loss=20 - right))
    return weighted(site, order)


PRIMARY = ('metrics = ["accuracy", "auc"]', 'primary = "accuracy"')


def test_the_best_model_is_kept_beside_the_last() -> None:
    course = Course(PRIMARY, script=falling)
    state = course.go()
    assert (state.best_round, state.best_value) == (2, 0.9)
    assert np.array_equal(state.best_model, course.kept[2].model)
    assert not np.array_equal(state.best_model, state.model)


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_a_run_stops_early_when_a_metric_no_longer_improves(metric: str) -> None:
    stop = (
        "[evaluation.holdout]",
        f'[early_stopping]\nmetric = "{metric}"\npatience = 2\n[evaluation.holdout]',
    )
    course = Course(PRIMARY, stop, ("rounds = 4", "rounds = 9"), script=falling)
    state = course.go()
    assert state.round == 4
    assert state.stopped == f"{metric} has not improved for 2 evaluations"
    assert course.go(state) is state


def test_an_improvement_below_the_least_one_does_not_count() -> None:
    stop = (
        "[evaluation.holdout]",
        '[early_stopping]\nmetric = "accuracy"\npatience = 1\nmin_delta = 0.2\n[evaluation.holdout]',
    )
    assert Course(stop, script=falling).go().round == 2


def test_rounds_are_evaluated_every_so_often_and_at_the_end() -> None:
    course = Course(("[evaluation]", "[evaluation]\nevery = 3"), script=weighted)
    course.go()
    assert [bool(record.metrics) for record in course.records] == [False, False, True, True]
    assert [bool(record.per_site) for record in course.records] == [False, False, True, True]


def test_metrics_are_of_the_summed_rows_and_of_each_site() -> None:
    def script(site: str, order: Order) -> Reply | None:
        if isinstance(order, EvaluateOrder):
            return EvaluateReply(site, order.round, metric_sums(right={"a": 10.0, "b": 6.0, "c": 8.0}[site]))
        return weighted(site, order)

    course = Course(script=script)
    course.go()
    record = course.records[0]
    assert record.metrics["accuracy"] == pytest.approx(0.8)
    assert {site: part["accuracy"] for site, part in record.per_site.items()} == {
        "a": 1.0,
        "b": 0.6,
        "c": 0.8,
    }


def test_a_site_that_is_not_evaluated_is_named() -> None:
    def script(site: str, order: Order) -> Reply | None:
        if isinstance(order, EvaluateOrder) and site == "b":
            return Refusal("b", "lost", "its worker process died")
        return weighted(site, order)

    course = Course(script=script)
    course.go()
    assert course.records[0].left_out == {"b": "evaluation: lost: its worker process died"}
    assert set(course.records[0].per_site) == {"a", "c"}
    assert course.records[0].sites == ("a", "b", "c")


def test_cohorts_are_drawn_by_the_seed() -> None:
    names = tuple("abcdefgh")

    def cohorts(seed: int) -> list[tuple[str, ...]]:
        change = ("secure = false", "secure = false\ncohort = 3")
        course = Course(change, ("seed = 5", f"seed = {seed}"), exchange=Scripted(names=names))
        course.go()
        return [record.sites for record in course.records]

    assert all(len(cohort) == 3 for cohort in cohorts(1))
    assert cohorts(1) == cohorts(1)
    assert cohorts(1) != cohorts(2)
    assert len(set(cohorts(1))) > 1


def same_end(left: RunState, right: RunState) -> bool:
    arrays_equal = all(np.array_equal(left.server[name], right.server[name]) for name in left.server)
    return arrays_equal and np.array_equal(left.model, right.model) and left.history == right.history


@pytest.mark.parametrize("strategy", ["fedavg", "fedavgm", "fedadagrad", "fedadam", "fedyogi"])
def test_a_run_resumed_after_any_round_ends_the_same(strategy: str) -> None:
    change = ("[aggregation]", f'[strategy]\nname = "{strategy}"\n[aggregation]')
    course = Course(change, script=weighted)
    whole = course.go()
    for kept in course.kept:
        again = Course(change, script=weighted)
        assert same_end(again.go(kept), whole)


def test_a_state_of_another_study_is_refused() -> None:
    state = Course().go()
    with pytest.raises(StudyMismatch, match="resume with the study file of the run"):
        Course(("rounds = 4", "rounds = 8")).go(state)


def test_secure_aggregation_without_identities_is_refused() -> None:
    with pytest.raises(StudyError, match=r"aggregation\.secure: this run has no directory.*secure = false"):
        Course(("secure = false", "secure = true"))


def test_the_median_withstands_one_hostile_site() -> None:
    def script(site: str, order: Order) -> Reply | None:
        if isinstance(order, TrainOrder):
            return update(site, order.round, {"a": 1.0, "b": 1.5, "c": -5000.0}[site])
        return obedient(site, order)

    change = ("[aggregation]", '[strategy]\nname = "fedmedian"\n[aggregation]')
    course = Course(change, ("rounds = 4", "rounds = 1"), script=script)
    np.testing.assert_allclose(course.go().model, course.first + 1.0, rtol=1e-6)


def controlled() -> Strategy:
    """A strategy in the shape of SCAFFOLD: the server broadcasts c, sites send a change of it too."""

    def server_step(state: Arrays, model: np.ndarray, mean: Mean) -> tuple[np.ndarray, Arrays]:
        size = len(model)
        return (model + mean[:size]).astype(np.float32), {"c": state["c"] + mean[size:]}

    return Strategy(
        "controlled",
        server_step,
        start_state=lambda size: {"c": np.zeros(size)},
        broadcast=("c",),
        extra=lambda size: size,
    )


def test_values_beside_the_update_go_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = listing.StrategyEntry("fedavg", "controlled")
    monkeypatch.setitem(listing.STRATEGIES, "controlled", entry)
    monkeypatch.setattr("vestry_strategies.fedavg.controlled", controlled, raising=False)
    seen: list[Arrays] = []

    def script(site: str, order: Order) -> Reply | None:
        if isinstance(order, TrainOrder):
            seen.append(order.shared)
            made = update(site, order.round)
            extra = np.full(SIZE, VALUES[site], dtype=np.float32)
            return replace(made, update=np.concatenate([made.update, extra]))
        return obedient(site, order)

    change = ("[aggregation]", '[strategy]\nname = "controlled"\n[aggregation]')
    state = Course(change, ("rounds = 4", "rounds = 2"), script=script).go()
    np.testing.assert_allclose(state.server["c"], 2 * 3.0)
    assert [float(shared["c"][0]) for shared in seen] == [0.0] * 3 + [3.0] * 3


def test_an_update_without_the_extra_values_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = listing.StrategyEntry("fedavg", "controlled")
    monkeypatch.setitem(listing.STRATEGIES, "controlled", entry)
    monkeypatch.setattr("vestry_strategies.fedavg.controlled", controlled, raising=False)
    change = ("[aggregation]", '[strategy]\nname = "controlled"\nparameters = {}\n[aggregation]')
    with pytest.raises(NotEnoughSites, match=r"has shape \(7,\), not \(14,\)"):
        Course(change, script=weighted).go()


def test_buffers_take_the_mean_and_are_no_part_of_the_servers_step() -> None:
    change = ('kind = "logistic"', 'kind = "mlp"\nhidden = [2]\nnorm = "batch"')
    adam = ("[aggregation]", '[strategy]\nname = "fedadam"\n[aggregation]')

    def script(site: str, order: Order) -> Reply | None:
        if isinstance(order, TrainOrder):
            update = np.full(len(order.model), 0.25, dtype=np.float32)
            return TrainReply(site, order.round, update, 1.0, 0.5, 5)
        return obedient(site, order)

    course = Course(change, adam, ("rounds = 4", "rounds = 1"), script=script)
    state = course.go()
    tail = course.run.layout.trainable
    np.testing.assert_allclose(state.model[tail:], course.first[tail:] + 0.25)
    assert state.server["m"].shape == (tail,)
    assert not np.allclose(state.model[:tail], course.first[:tail] + 0.25)
