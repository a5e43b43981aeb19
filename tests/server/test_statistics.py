"""Round 0 in the clear: who has good data, and what is fitted on the sums."""

import numpy as np
import pytest

from tests.server.scripted import Course, obedient, statistics
from vestry_server.run import NotEnoughSites
from vestry_server.statistics import fit, gather_statistics
from vestry_strategies.orders import Order, Refusal, Reply, StatisticsOrder
from vestry_strategies.sums import add_sums


def test_sums_and_examples_of_those_that_answer() -> None:
    def script(site: str, order: Order) -> Reply | None:
        if site == "b" and isinstance(order, StatisticsOrder):
            return Refusal("b", "data", "column 'age' is missing")
        return obedient(site, order)

    found = gather_statistics(Course(script=script).run)
    assert (found.roster, found.sites) == (("a", "c"), ("a", "c"))
    assert found.left_out == {"b": "data: column 'age' is missing"}
    assert (found.examples, found.weight_limit) == (20, 0)
    assert found.sums["examples"].tolist() == [20.0]


def test_too_few() -> None:
    with pytest.raises(NotEnoughSites, match=r"round 0 \(statistics\): 1 sites"):
        gather_statistics(Course(script=lambda site, order: statistics(site) if site == "a" else None).run)


def test_the_fit_is_the_tasks() -> None:
    course = Course()
    total = add_sums([statistics("a").sums, statistics("b").sums])
    fitted = fit(course.run, total)
    np.testing.assert_allclose(fitted["mean"][0], 60.5)  # counted from the middle of the declared range
