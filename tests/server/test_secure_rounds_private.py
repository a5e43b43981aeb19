"""Secure sums under [privacy]: public weights, epsilon from what sites say, noise that covers rounding."""

import math
from dataclasses import replace

import numpy as np
import pytest

from tests.server.scripted import Script, metric_sums
from tests.server.secure_scripted import SecureCourse, SecureScripted
from tests.server.test_rounds_private import AT_SERVER, METRICS, private, spent
from tests.strategies.samples import DECLARED, FULL_BATCH, PRIVATE
from vestry_privacy.accounting import epsilon
from vestry_privacy.events import PoissonGaussian
from vestry_strategies.orders import (
    EvaluateOrder,
    EvaluateReply,
    FinishOrder,
    MaskedReply,
    Order,
    Reply,
    StatisticsOrder,
    TrainOrder,
)
from vestry_strategies.private_plan import site_level_plan

ABC = ("a", "b", "c")


def course(
    *changes: tuple[str, str], script: Script = private, sites: SecureScripted | None = None
) -> SecureCourse:
    return SecureCourse(*PRIVATE, FULL_BATCH, *changes, sites=sites or SecureScripted(ABC, script))


def evaluated(site: str, order: Order) -> Reply | None:
    """The released scores have bins of their own."""
    if isinstance(order, EvaluateOrder):
        bins = {name: np.eye(16)[place] * 5 for name, place in (("positives", 9), ("negatives", 6))}
        return EvaluateReply(site, order.round, {**metric_sums(), **bins})
    return private(site, order)


def test_a_private_run_goes_through_secure_sums() -> None:
    made = course(METRICS, script=evaluated)
    state = made.go()
    assert state.round == 4
    assert [record.loss for record in made.records] == [None] * 4
    assert made.records[-1].metrics["accuracy"] == pytest.approx(0.8)
    assert [plan.wide for plan in made.plans("train")] == [0] * 4
    assert {plan.privacy for plan in made.sites.plans} != {b""}
    finished = [site for site, order in made.sites.asked if isinstance(order, FinishOrder)]
    assert finished == ["a", "b", "c"]


def test_the_limit_of_weights_is_the_largest_public_one() -> None:
    def meddle(site: str, order: Order, reply: Reply) -> Reply | None:
        if isinstance(reply, MaskedReply) and isinstance(order, StatisticsOrder):
            return replace(reply, weight={"a": 30, "b": 70, "c": None}[site])
        return reply

    made = course(sites=SecureScripted(ABC, private, meddle))
    made.go()
    assert made.kept[0].weight_limit == 70
    assert {plan.weight_limit for plan in made.plans("train")} == {70}


@pytest.mark.parametrize(("said", "limit"), [(2**50, 2**40), (-3, 1), (0, 1)])
def test_a_weight_that_no_site_would_accept_is_cut(said: int, limit: int) -> None:
    def meddle(site: str, order: Order, reply: Reply) -> Reply | None:
        if isinstance(reply, MaskedReply) and isinstance(order, StatisticsOrder):
            return replace(reply, weight=said)
        return reply

    made = course(("rounds = 4", "rounds = 1"), sites=SecureScripted(ABC, private, meddle))
    made.go()
    assert made.kept[0].weight_limit == limit


def test_epsilon_is_of_what_the_sites_of_the_sum_say() -> None:
    def script(site: str, order: Order) -> Reply | None:
        reply = private(site, order)
        if isinstance(order, TrainOrder) and site == "b":
            return replace(reply, spent=spent(2 * order.round))  # type: ignore[type-var]
        return reply

    made = course(script=script)
    made.go()
    step = PoissonGaussian(noise_multiplier=8.0, sampling_probability=1.0, count=5 * 2 * 4)
    assert made.records[-1].epsilon == pytest.approx(epsilon([step], 1e-3))


def test_the_servers_noise_covers_one_sites_clip_and_rounding() -> None:
    """Its deviation over many values: sigma (C + step sqrt d) w_max / sum w, around the clipped mean."""
    made = course(AT_SERVER, DECLARED, ("rounds = 4", "rounds = 1"))
    state = made.go()
    plan = site_level_plan(made.study)
    assert plan is not None
    ring = made.plans("train")[0].ring
    deviation = plan.noise_multiplier * (0.5 + ring.step * math.sqrt(7)) / 3
    moved = np.abs(state.model - made.first - 1.0)  # the script's update is 1 everywhere
    assert 0.05 * deviation < moved.max() < 6 * deviation
