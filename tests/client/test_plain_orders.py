"""What a site computes without [privacy]: of its own rows, and what weight it gives itself."""

import numpy as np
import pytest

from tests.client.bench import OPEN, make_bench, make_site, make_study
from vestry_client.plain_orders import plain_reply, plain_weight
from vestry_client.policy import PolicyRefusal
from vestry_client.site import make_bench as make_own_bench
from vestry_strategies.orders import EvaluateReply, StatisticsOrder, StatisticsReply, TrainReply

BENCH = make_bench()
OWN = make_own_bench(BENCH.study.to_json(), ())


def test_each_order_has_its_reply() -> None:
    site = make_site()
    statistics = plain_reply(site, OWN, StatisticsOrder(BENCH.study.to_json()))
    assert isinstance(statistics, StatisticsReply)
    assert statistics.sums["examples"][0] == 45
    trained = plain_reply(site, OWN, BENCH.train_order())
    assert isinstance(trained, TrainReply)
    assert (trained.weight, trained.steps) == (45.0, 5)
    assert np.isfinite(trained.update).all()
    evaluated = plain_reply(site, OWN, BENCH.evaluate_order())
    assert isinstance(evaluated, EvaluateReply)
    assert evaluated.sums["examples"][0] == 15


@pytest.mark.parametrize(("weighting", "weight"), [("examples", 45), ("equal", 1)])
def test_a_site_weighs_its_training_examples_or_one(weighting: str, weight: int) -> None:
    study = make_study(("secure = false", f'secure = false\nweighting = "{weighting}"'))
    assert plain_weight(make_site(), make_own_bench(study.to_json(), ())) == weight


def test_too_few_rows_are_refused_by_policy() -> None:
    site = make_site(policy=OPEN.model_copy(update={"min_examples": 46}))
    with pytest.raises(PolicyRefusal, match="min_examples"):
        plain_reply(site, OWN, BENCH.train_order())
