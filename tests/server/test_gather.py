"""The updates of a round in the clear: their mean, the largest share in it, and who is drawn."""

import numpy as np
import pytest

from tests.client.bench import make_study
from tests.server.scripted import SIZE, Course, obedient, update
from tests.server.test_rounds import VALUES, WEIGHTS, weighted
from vestry_server.gather import cohort, gather
from vestry_server.run import NoWeight
from vestry_strategies.orders import Order, Reply, TrainOrder


def order(course: Course) -> TrainOrder:
    return TrainOrder(course.study.to_json(), 1, 0, course.first)


def test_what_is_gathered_is_of_all_usable_updates() -> None:
    course = Course(script=weighted)
    found = gather(course.run, order(course), ("a", "b", "c"))
    total = sum(WEIGHTS.values())
    np.testing.assert_allclose(found.mean, sum(VALUES[s] * WEIGHTS[s] for s in VALUES) / total)
    assert found.share == 5 / total
    assert found.loss == pytest.approx(0.5)
    assert (found.sites, found.left_out, found.attempt) == (("a", "b", "c"), {}, 1)
    assert (found.bytes_up, found.bytes_down) == (3 * 4 * SIZE, 3 * 4 * SIZE)
    assert found.rounding == 0.0


def test_no_weight_is_no_mean() -> None:
    def script(site: str, order: Order) -> Reply | None:
        return update(site, 1, weight=0.0) if isinstance(order, TrainOrder) else obedient(site, order)

    course = Course(script=script)
    with pytest.raises(NoWeight):
        gather(course.run, order(course), ("a", "b", "c"))


def test_a_cohort_is_drawn_by_seed_and_round() -> None:
    names = tuple("abcdefgh")
    study = make_study(("secure = false", "secure = false\ncohort = 3"))
    drawn = [cohort(study, names, number) for number in range(1, 9)]
    assert all(len(set(one)) == 3 and list(one) == sorted(one) for one in drawn)
    assert drawn == [cohort(study, names, number) for number in range(1, 9)]
    assert len(set(drawn)) > 1
    assert cohort(make_study(), names, 1) == names
    assert cohort(study, ("a", "b"), 1) == ("a", "b")
