"""Rounds made of secure sums: the same course as in the clear, without any single site in what is kept."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.server.scripted import Course, Script, Scripted, metric_sums, obedient, update
from tests.server.secure_scripted import SecureCourse, SecureScripted
from tests.server.test_rounds import PRIMARY, VALUES, WEIGHTS, falling, silent, weighted
from vestry_server.checkpoint import RunState
from vestry_server.progress import SecureAggregation, StatisticsDone
from vestry_server.rounds import Diverged, NotEnoughSites, NoWeight
from vestry_strategies.orders import (
    EvaluateOrder,
    EvaluateReply,
    Order,
    Refusal,
    Reply,
    SecureOrder,
    StatisticsOrder,
    TrainOrder,
)

ABC = ("a", "b", "c")
ABCD = ("a", "b", "c", "d")


def both(*changes: tuple[str, str], script: Script = weighted) -> tuple[Course, SecureCourse]:
    """The same scripted sites in the clear and in secure sums, run to the end."""
    plain = Course(*changes, script=script)
    secure = SecureCourse(*changes, sites=SecureScripted(ABC, script))
    plain.go()
    secure.go()
    return plain, secure


def four(site: str, order: Order) -> Reply | None:
    if isinstance(order, TrainOrder):
        return update(site, order.round, VALUES.get(site, 3.0), WEIGHTS.get(site, 2.0))
    return obedient(site, order)


def test_a_secure_run_comes_to_the_plain_runs_course() -> None:
    plain, secure = both()
    bound = 4 * 3 * secure.plans("train")[0].ring.step * 30 / 8  # rounds, sites, step, w_max / sum w
    np.testing.assert_allclose(secure.kept[-1].model, plain.kept[-1].model, atol=bound, rtol=0)
    for one, other in zip(secure.records, plain.records, strict=True):
        assert one.metrics == pytest.approx(other.metrics)
        assert one.loss == pytest.approx(other.loss)
        assert (one.sites, one.left_out, one.attempt) == (other.sites, other.left_out, other.attempt)
    for name, array in plain.kept[0].preprocessing.items():
        np.testing.assert_allclose(secure.kept[0].preprocessing[name], array, rtol=1e-12)


def test_nothing_of_a_single_site_is_kept_or_told() -> None:
    _, secure = both()
    assert [record.per_site for record in secure.records] == [{}] * 4
    orders = [order for _, order in secure.sites.asked if not isinstance(order, SecureOrder)]
    assert all(order.secure for order in orders)  # type: ignore[union-attr]


def test_every_strategy_with_a_mean_goes_through_secure_sums() -> None:
    for strategy in ("fedavgm", "fedadam", "fedyogi"):
        change = ("[aggregation]", f'[strategy]\nname = "{strategy}"\n[aggregation]')
        plain, secure = both(change)
        np.testing.assert_allclose(secure.kept[-1].model, plain.kept[-1].model, atol=0.02)


def test_a_run_says_at_its_start_and_on_resume_among_whom_an_update_hides() -> None:
    course = SecureCourse()
    course.go()
    (said,) = [event for event in course.events if isinstance(event, SecureAggregation)]
    assert course.events[0] is said
    assert said.sites == 4
    assert "t - c = 2 honest sites" in said.words
    again = SecureCourse()
    again.go(course.kept[2])
    assert isinstance(again.events[0], SecureAggregation)


def test_weights_are_hidden_and_their_limit_is_the_sum_of_round_zero() -> None:
    _, secure = both()
    assert secure.kept[0].weight_limit == 30  # three sites of ten training rows
    assert {plan.weight_limit for plan in secure.plans("train")} == {30}
    assert {plan.weight_limit for plan in secure.plans("evaluate")} == {1}
    equal = SecureCourse(("secure = true", 'secure = true\nweighting = "equal"'))
    equal.go()
    assert equal.kept[0].weight_limit == 1


def test_the_statistics_are_told_as_before() -> None:
    course = SecureCourse(sites=SecureScripted(ABC))
    course.go()
    (done,) = [event for event in course.events if isinstance(event, StatisticsDone)]
    assert (done.sites, done.left_out, done.examples) == (ABC, {}, 30)


def test_a_site_without_usable_data_keeps_its_seat_and_is_lost_in_every_round() -> None:
    def script(site: str, order: Order) -> Reply | None:
        if site == "d" and not isinstance(order, EvaluateOrder):
            return Refusal("d", "data", "column 'age' is missing")
        return four(site, order)

    course = SecureCourse(sites=SecureScripted(ABCD, script))
    state = course.go()
    assert state.sites == ABCD
    (done,) = [event for event in course.events if isinstance(event, StatisticsDone)]
    assert (done.sites, done.left_out) == (ABC, {"d": "data: column 'age' is missing"})
    for record in course.records:
        assert record.sites == ABC
        assert record.left_out == {"d": "data: column 'age' is missing"}
    assert {len(plan.roster) for plan in course.sites.plans} == {4}


def test_a_straggler_is_recovered_from_and_comes_back() -> None:
    def script(site: str, order: Order) -> Reply | None:
        lost = isinstance(order, TrainOrder) and (site, order.round) == ("c", 2)
        return None if lost else four(site, order)

    course = SecureCourse(sites=SecureScripted(ABCD, script))
    course.go()
    assert [record.sites for record in course.records] == [ABCD, ("a", "b", "d"), ABCD, ABCD]
    assert course.records[1].left_out == {"c": "no reply before the deadline"}
    assert course.failures == []


def test_too_few_survivors_fail_the_attempt_and_the_next_goes_on() -> None:
    tries: dict[int, int] = {}

    def script(site: str, order: Order) -> Reply | None:
        if isinstance(order, TrainOrder) and order.round == 2 and site == "c":
            tries[2] = tries.get(2, 0) + 1
            return None if tries[2] == 1 else four(site, order)
        return four(site, order)

    course = SecureCourse(sites=SecureScripted(ABC, script))
    state = course.go()
    (failure,) = course.failures
    assert (failure.round, failure.attempt) == (2, 1)
    assert failure.left_out == {"c": "no reply before the deadline"}
    assert "survivors: 2 sites" in failure.reason
    assert "nothing is unmasked" in failure.reason
    assert [record.attempt for record in course.records] == [1, 2, 1, 1]
    numbers = [plan.sequence for plan in course.sites.plans]
    assert numbers == sorted(set(numbers))  # each attempt is a sum of its own
    assert state.sequence == numbers[-1]
    unmasked = {h for seat in course.sites.seats.values() for what, h in seat.notes.lines if what == "reveal"}
    failed = course.plans("train")[1].digest
    assert failed not in unmasked


def test_attempts_end() -> None:
    course = SecureCourse(sites=SecureScripted(ABC, silent("c")))
    with pytest.raises(NotEnoughSites, match=r"(?s)round 1: .*needed are 3.*c: no reply.*after 3 attempts"):
        course.go()
    assert [failure.attempt for failure in course.failures] == [1, 2, 3]
    assert course.kept[-1].round == 0


def test_statistics_are_tried_again_and_end_too() -> None:
    def script(site: str, order: Order) -> Reply | None:
        return None if site == "a" and isinstance(order, StatisticsOrder) else obedient(site, order)

    course = SecureCourse(sites=SecureScripted(ABC, script))
    with pytest.raises(NotEnoughSites, match=r"(?s)round 0 \(statistics\).*after 3 attempts"):
        course.go()
    assert course.kept == []


def test_a_training_that_diverges_is_not_tried_again() -> None:
    def script(site: str, order: Order) -> Reply | None:
        if isinstance(order, TrainOrder) and site == "b":
            return Refusal("b", "diverged", "its loss is not finite")
        return obedient(site, order)

    course = SecureCourse(sites=SecureScripted(ABC, script))
    with pytest.raises(Diverged, match=r"(?s)b: diverged.*lower training\.learning_rate"):
        course.go()
    assert len(course.failures) == 1


@pytest.mark.parametrize(("wrong", "ends"), [(("b",), False), (("b", "c"), True)])
def test_sites_that_add_zeros_are_counted(wrong: tuple[str, ...], ends: bool) -> None:
    """A site whose training goes wrong does not say so by itself; the sum says how many there are."""

    def script(site: str, order: Order) -> Reply | None:
        if isinstance(order, TrainOrder) and site in wrong:
            return replace(update(site, order.round, 0.0), loss=None)
        return weighted(site, order)

    course = SecureCourse(sites=SecureScripted(ABC, script))
    if ends:
        with pytest.raises(Diverged, match=r"2 of 3 sites diverged.*lower training\.learning_rate"):
            course.go()
        assert course.kept[-1].round == 0
        return
    course.go()
    assert [record.loss for record in course.records] == [None] * 4  # a mean over whom?
    assert [record.sites for record in course.records] == [ABC] * 4


def test_no_weight_at_all_is_said() -> None:
    def script(site: str, order: Order) -> Reply | None:
        if isinstance(order, TrainOrder):
            return update(site, order.round, 1.0, 0.0)
        return obedient(site, order)

    with pytest.raises(NoWeight):
        SecureCourse(sites=SecureScripted(ABC, script)).go()


def test_an_evaluation_that_fails_costs_the_metrics_and_not_the_round() -> None:
    def script(site: str, order: Order) -> Reply | None:
        if isinstance(order, EvaluateOrder) and site == "b" and order.round == 2:
            return Refusal("b", "lost", "its worker process died")
        return obedient(site, order)

    course = SecureCourse(sites=SecureScripted(ABC, script))
    course.go()
    assert [bool(record.metrics) for record in course.records] == [True, False, True, True]
    assert course.records[1].left_out == {"b": "evaluation: lost: its worker process died"}
    assert course.records[1].sites == ABC


def test_metrics_are_of_the_rows_of_those_that_last() -> None:
    def script(site: str, order: Order) -> Reply | None:
        if isinstance(order, EvaluateOrder):
            right = {"a": 10.0, "b": 6.0, "c": 8.0, "d": 2.0}[site]
            return None if site == "d" else EvaluateReply(site, order.round, metric_sums(right=right))
        return obedient(site, order)

    course = SecureCourse(sites=SecureScripted(ABCD, script))
    course.go()
    assert course.records[0].metrics["accuracy"] == pytest.approx(0.8)
    assert course.records[0].left_out == {"d": "evaluation: no reply before the deadline"}


def test_the_best_round_and_early_stopping_go_by_the_sum() -> None:
    stop = '[early_stopping]\nmetric = "accuracy"\npatience = 2\n[evaluation.holdout]'
    changes = (PRIMARY, ("[evaluation.holdout]", stop), ("rounds = 4", "rounds = 9"))
    course = SecureCourse(*changes, sites=SecureScripted(ABC, falling))
    state = course.go()
    assert (state.best_round, state.round) == (2, 4)
    assert state.stopped


def test_cohorts_are_the_rosters_of_their_rounds() -> None:
    names = tuple("abcdefgh")
    sites = SecureScripted(names, four)
    course = SecureCourse(("secure = true", "secure = true\ncohort = 4"), sites=sites)
    course.go()
    assert {len(plan.roster) for plan in course.plans("train")} == {4}
    assert {len(plan.roster) for plan in course.plans("evaluate")} == {8}
    assert len({record.sites for record in course.records}) > 1
    (said,) = [event for event in course.events if isinstance(event, SecureAggregation)]
    assert said.sites == 4


def test_strangers_to_the_directory_are_named_and_not_asked() -> None:
    class Crowded(SecureScripted):
        def sites(self) -> tuple[str, ...]:
            return (*super().sites(), "stranger")

    course = SecureCourse(sites=Crowded(ABC))
    course.go()
    (done,) = [event for event in course.events if isinstance(event, StatisticsDone)]
    assert done.left_out == {"stranger": "has no seat in the directory"}
    assert "stranger" not in {site for site, _ in course.sites.asked}


def test_a_convicted_dealer_stays_out_for_the_rest_of_the_run() -> None:
    sites = SecureScripted(ABCD, four)
    course = SecureCourse(sites=sites)
    course.secure.convicted["d"] = "convicted in this run: dealt shares"
    course.go()
    assert all(record.sites == ABC for record in course.records)
    assert "d" not in {site for site, _ in sites.asked}


@pytest.mark.parametrize("strategy", ["fedavg", "fedadam"])
def test_a_run_resumed_after_any_round_goes_on_with_higher_sequence_numbers(strategy: str) -> None:
    change = ("[aggregation]", f'[strategy]\nname = "{strategy}"\n[aggregation]')
    course = SecureCourse(change, sites=SecureScripted(ABC, weighted))
    whole = course.go()
    for kept in course.kept[:-1]:
        again = SecureCourse(change, sites=SecureScripted(ABC, weighted))
        end = again.go(kept)
        assert end.round == whole.round
        assert min(plan.sequence for plan in again.sites.plans) > kept.sequence
        assert end.weight_limit == whole.weight_limit
        np.testing.assert_allclose(end.model, whole.model, atol=0.02)


def test_a_site_that_was_set_back_is_left_out_by_name() -> None:
    """Its journal knows of fewer masked inputs than the coordinator has had from it."""
    sites = SecureScripted(ABCD, four)

    def meddle(site: str, order: Order, reply: Reply) -> Reply | None:
        if site == "d" and isinstance(order, TrainOrder) and order.round == 2:
            sites.seats["d"].notes.lines.clear()
        return reply

    sites.meddle = meddle
    course = SecureCourse(sites=sites)
    course.go()
    assert [record.sites for record in course.records] == [ABCD, ABCD, ABC, ABC]
    assert "an older copy was restored" in course.records[2].left_out["d"]


def test_the_state_in_the_clear_knows_of_no_sums() -> None:
    course = Course(exchange=Scripted(weighted))
    state: RunState = course.go()
    assert (state.sequence, state.weight_limit) == (0, 0)
    assert not any(isinstance(event, SecureAggregation) for event in course.events)
    orders: list[Any] = [order for _, order in course.exchange.asked]
    assert not any(getattr(order, "secure", "") for order in orders)
