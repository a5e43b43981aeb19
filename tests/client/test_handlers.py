"""Every gate of a site: policy first, refusals by code, never an exception, never a patient's value."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.client.bench import OPEN, make_bench, make_site, make_study, make_table
from tests.client.secure_bench import open_federation
from vestry_client.handlers import Site, handle
from vestry_client.policy import SitePolicy, Told
from vestry_client.state import SiteStates
from vestry_strategies.orders import (
    DescribeOrder,
    DescribeReply,
    EvaluateOrder,
    EvaluateReply,
    Refusal,
    SecureOrder,
    StatisticsOrder,
    StatisticsReply,
    TrainOrder,
    TrainReply,
)
from vestry_strategies.study import StudySpec
from vestry_strategies.task import Task

BENCH = make_bench()


def refusal(site: Site, order: Any) -> Refusal:
    reply = handle(site, order)
    assert isinstance(reply, Refusal)
    return reply


def test_a_site_says_its_name_without_opening_its_data() -> None:
    def never(study: StudySpec, task: Task) -> Any:
        raise AssertionError("the data were opened")

    assert handle(Site("north", never), DescribeOrder()) == DescribeReply("north")


def test_the_policy_is_asked_before_the_data_are_opened() -> None:
    def never(study: StudySpec, task: Task) -> Any:
        raise AssertionError("the data were opened")

    site = Site("north", never, SitePolicy())
    for order in (StatisticsOrder(BENCH.study.to_json()), BENCH.train_order(), BENCH.evaluate_order()):
        said = refusal(site, order)
        assert said.code == "policy"
        assert "allow_individual_updates" in said.message


def test_statistics_are_of_the_training_rows_only() -> None:
    reply = handle(make_site(), StatisticsOrder(BENCH.study.to_json()))
    assert isinstance(reply, StatisticsReply)
    assert reply.sums["examples"][0] == 45


def test_a_round_trains_and_weighs_by_examples() -> None:
    reply = handle(make_site(), BENCH.train_order())
    assert isinstance(reply, TrainReply)
    assert (reply.site, reply.round, reply.weight, reply.steps) == ("north", 1, 45.0, 5)
    assert reply.update.shape == BENCH.model.shape
    assert reply.update.dtype == np.float32


def test_equal_weighting_weighs_every_site_as_one() -> None:
    bench = make_bench(("secure = false", 'secure = false\nweighting = "equal"'))
    reply = handle(make_site(), bench.train_order())
    assert isinstance(reply, TrainReply)
    assert reply.weight == 1.0


def test_evaluation_is_of_the_held_out_rows_only() -> None:
    reply = handle(make_site(), BENCH.evaluate_order())
    assert isinstance(reply, EvaluateReply)
    assert reply.sums["examples"][0] == 15


def test_the_same_order_gives_the_same_update_and_another_site_another() -> None:
    first, again = handle(make_site(), BENCH.train_order()), handle(make_site(), BENCH.train_order())
    other = handle(make_site(name="south"), BENCH.train_order())
    assert isinstance(first, TrainReply)
    assert isinstance(again, TrainReply)
    assert isinstance(other, TrainReply)
    assert np.array_equal(first.update, again.update)
    assert not np.array_equal(first.update, other.update)


def test_per_site_standardisation_ignores_the_shared_one() -> None:
    bench = make_bench(('kind = "tabular"', 'kind = "tabular"\nstandardise = "per-site"'))
    strange = {name: array + 100 for name, array in bench.preprocessing.items()}
    orders = [
        TrainOrder(bench.study.to_json(), 1, 0, bench.model, preprocessing)
        for preprocessing in (bench.preprocessing, strange)
    ]
    one, two = (handle(make_site(), order) for order in orders)
    assert isinstance(one, TrainReply)
    assert isinstance(two, TrainReply)
    assert np.array_equal(one.update, two.update)


def test_what_cannot_be_is_refused_at_the_site_too() -> None:
    study = make_study(("secure = false", "secure = true\nmin_sites = 201"))
    said = refusal(make_site(), StatisticsOrder(study.to_json()))
    assert said.code == "study"
    assert "aggregation.min_sites: 201" in said.message


SUMMED = make_study(("secure = false", "secure = true\nmin_sites = 5"))


def test_a_study_that_aggregates_securely_gets_nothing_in_the_clear() -> None:
    for policy in (OPEN, SitePolicy(allow_training_without_privacy=True)):
        said = refusal(make_site(policy=policy), StatisticsOrder(SUMMED.to_json()))
        assert said.code == "secure"
        assert "no reply in the clear" in said.message


def test_a_site_without_a_seat_says_so() -> None:
    for order in (
        SecureOrder(SUMMED.to_json(), "keys", "0" * 64, b""),
        StatisticsOrder(SUMMED.to_json(), "0" * 64),
    ):
        said = refusal(make_site(), order)
        assert said.code == "secure"
        assert "site 'north': this site has no identity, directory and journal" in said.message


def test_what_is_wrong_with_the_journal_is_told_to_the_operator(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    levels: tuple[Told, ...] = ("rule", "full")
    with open_federation(tmp_path) as federation:
        site = federation.sites["north"]
        assert site.secure is not None
        site.secure.journal.close()
        for level in levels:
            site.policy = site.policy.model_copy(update={"tell_coordinator": level})
            lead = federation.begin(federation.plan(federation.order("train")))
            with caplog.at_level(logging.WARNING, "vestry.site"):
                federation.step(lead, "north", "keys", lead.server.signed_plan)
            said = lead.refused("north", "keys")
            assert said.code == "secure"
            hidden = said.message == "this site's journal of secure sums cannot be used; its own log says why"
            assert hidden == (level == "rule")
            assert "secure aggregation stopped" in caplog.text


@pytest.mark.parametrize("text", ["", "{", "{}", '{"version": 2}', "null", "[]"])
def test_a_study_that_is_none_is_refused(text: str) -> None:
    assert refusal(make_site(), StatisticsOrder(text)).code == "study"


def test_rows_outside_the_contract_are_refused_without_their_values() -> None:
    said = refusal(make_site(make_table(colour="Mrs Miller")), StatisticsOrder(BENCH.study.to_json()))
    assert said.code == "data"
    assert "column 'colour': 60 rows" in said.message
    assert "Miller" not in said.message


def test_an_empty_site_is_refused() -> None:
    empty = make_table().take(np.zeros(0, dtype=np.int64))
    assert refusal(make_site(empty), BENCH.train_order()).code == "data"


def test_too_few_examples_are_refused_by_policy() -> None:
    policy = OPEN.model_copy(update={"min_examples": 100})
    said = refusal(make_site(policy=policy), BENCH.train_order())
    assert said.code == "policy"
    assert "45" not in said.message


def test_a_site_with_one_class_takes_part() -> None:
    site = make_site(make_table(sick="yes"))
    assert isinstance(handle(site, BENCH.train_order()), TrainReply)
    reply = handle(site, BENCH.evaluate_order())
    assert isinstance(reply, EvaluateReply)
    metrics = BENCH.task.summarise(BENCH.study, reply.sums)
    assert metrics["auc"] is None
    assert metrics["accuracy"] is not None


def test_training_that_diverges_is_refused_as_such() -> None:
    bench = make_bench(("learning_rate = 0.1", "learning_rate = 1e30"), ('"logistic"', '"mlp"'))
    assert refusal(make_site(), bench.train_order()).code == "diverged"


def test_a_defect_is_told_by_reference_and_stays_in_the_sites_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(study: StudySpec, task: Task) -> Any:
        raise RuntimeError("Mrs Miller, 63, has the gout")

    with caplog.at_level(logging.ERROR, logger="vestry.site"):
        said = refusal(Site("north", broken, OPEN), BENCH.train_order())
    assert said.code == "internal"
    assert said.message.startswith("RuntimeError, reference ")
    assert "Miller" not in said.message
    reference = said.message.split()[2]
    assert reference in caplog.text
    assert "Miller" in caplog.text


def test_a_plug_in_must_be_allowed_here() -> None:
    text = BENCH.study.to_json()
    start = text.index('"task":{')
    end = text.index('"training"', start)
    plugin = '"task":{"kind":"plugin","plugin":"nobody","target":{"name":"y","type":"regression"}},'
    study = text[:start] + plugin + text[end:]
    study = study.replace('"kind":"logistic"', '"kind":"plugin"')
    study = study.replace('"metrics":["accuracy","auc"],', "")
    said = refusal(make_site(), StatisticsOrder(study))
    assert "'nobody' is not on the list of allowed plug-ins" in said.message


def test_state_is_kept_between_rounds() -> None:
    bench = make_bench(
        ("learning_rate = 0.1", 'learning_rate = 0.1\nmomentum = 0.9\noptimizer_state = "keep"')
    )
    places: dict[str, SiteStates] = {}

    def states(study_hash: str) -> SiteStates:
        return places.setdefault(study_hash, SiteStates())

    site = make_site(states=states)
    handle(site, bench.train_order(1, 0))
    handle(site, bench.train_order(2, 1))
    (kept,) = places.values()
    assert set(kept.before(3)) == {"optimizer/momentum"}
    assert list(places) == [bench.study.digest()]


@settings(max_examples=60, deadline=None)
@given(
    length=st.integers(0, 12),
    value=st.sampled_from([0.0, float("nan"), float("inf"), 1e38]),
    number=st.integers(-3, 10**9),
    names=st.lists(st.sampled_from(["mean", "scale", "x"]), unique=True),
    size=st.integers(0, 9),
)
def test_no_order_raises(length: int, value: float, number: int, names: list[str], size: int) -> None:
    model = np.full(length, value, dtype=np.float32)
    preprocessing = {name: np.ones(size) for name in names}
    for kind in (TrainOrder, EvaluateOrder):
        if kind is TrainOrder:
            order: Any = TrainOrder(BENCH.study.to_json(), number, 0, model, preprocessing)
        else:
            order = EvaluateOrder(BENCH.study.to_json(), number, model, preprocessing)
        reply = handle(SITE, order)
        assert isinstance(reply, Refusal | TrainReply | EvaluateReply)


SITE = make_site()
