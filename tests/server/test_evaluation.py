"""Metrics of a round in the clear, and the best model."""

from dataclasses import replace

import numpy as np
import pytest

from tests.server.scripted import Course, metric_sums, obedient
from vestry_server.checkpoint import RunState
from vestry_server.evaluation import Evaluated, evaluate, judge
from vestry_strategies.orders import EvaluateOrder, EvaluateReply, Order, Reply

ZEROS = np.zeros(7, dtype=np.float32)


def order(course: Course) -> EvaluateOrder:
    return EvaluateOrder(course.study.to_json(), 1, course.first)


def test_metrics_are_of_the_sum_and_of_each_site() -> None:
    def script(site: str, order: Order) -> Reply | None:
        if site == "c" and isinstance(order, EvaluateOrder):
            return EvaluateReply(site, 2, metric_sums())  # of another round
        if isinstance(order, EvaluateOrder):
            return EvaluateReply(site, order.round, metric_sums(right={"a": 10.0, "b": 6.0}[site]))
        return obedient(site, order)

    course = Course(script=script)
    found = evaluate(course.run, ("a", "b", "c"), order(course))
    assert found.metrics["accuracy"] == pytest.approx(0.8)
    assert {site: part["accuracy"] for site, part in found.per_site.items()} == {"a": 1.0, "b": 0.6}
    assert found.missing == {"c": "evaluation: no reply before the deadline"}


def test_nobody_answers() -> None:
    course = Course(script=lambda site, order: None)
    found = evaluate(course.run, ("a", "b"), order(course))
    assert found == Evaluated(missing=dict.fromkeys("ab", "evaluation: no reply before the deadline"))


def test_the_best_model_is_the_one_with_the_best_primary_metric() -> None:
    course = Course()
    state = RunState(course.study.digest(), 1, ZEROS + 1, ZEROS)
    state = judge(course.run, state, {"accuracy": 0.5, "auc": 0.7})
    assert (state.best_round, state.best_value) == (1, 0.7)
    assert state.best_model[0] == 1
    worse = judge(course.run, replace(state, round=2, model=ZEROS + 2), {"auc": 0.6})
    assert worse.best_round == 1
    none = judge(course.run, replace(state, round=2, model=ZEROS + 2), {"auc": None})
    assert none.best_round == 1
