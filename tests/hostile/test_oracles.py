"""Questions about one site's rows that go around the sum: by arrays, refusals, limits, or rounds again."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.client.bench import OPEN
from tests.client.secure_bench import Federation, InputOrder, open_federation
from vestry_client.handlers import handle
from vestry_privacy.secagg.messages import sign_plan
from vestry_strategies.orders import EvaluateOrder, MaskedReply, Refusal, Reply, SecureOrder, TrainOrder
from vestry_strategies.secure_plan import SumKind
from vestry_strategies.study import StudySpec

DEFAULT = OPEN.model_copy(
    update={
        "min_cohort": 3,
        "allow_individual_updates": False,
        "min_examples": 10,
        "tell_coordinator": "rule",
    }
)


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    with open_federation(tmp_path, sites=4, policy=DEFAULT) as found:
        yield found


def masked(fed: Federation, order: InputOrder) -> dict[str, Reply]:
    """What every site answers to an order of its own sum."""
    lead = fed.begin(fed.plan(order))
    return {name: fed.input(lead, name, order) for name in fed.until_input(lead, {})}


@pytest.mark.parametrize("kind", ["U8", "f4", "i8", "c16", "g", ">f8", "M8[s]"])
def test_arrays_of_another_type_are_refused_by_everybody(federation: Federation, kind: str) -> None:
    """Complex numbers had the hash of real ones, and made all other sites' inputs vanish."""
    order = federation.order("train")
    assert isinstance(order, TrainOrder)
    odd = {name: array.astype(kind) for name, array in order.preprocessing.items()}
    for name, reply in masked(federation, replace(order, preprocessing=odd)).items():
        assert isinstance(reply, Refusal), name
        assert "float64" in reply.message


@pytest.mark.parametrize("rows", [1, 2, 28, 29, 30, 31, 32, 40])
def test_arrays_with_a_row_dimension_do_not_count_rows(federation: Federation, rows: int) -> None:
    order = federation.order("train")
    assert isinstance(order, TrainOrder)
    guess = {
        name: np.zeros((rows, *array.shape)) if name == "mean" else array
        for name, array in order.preprocessing.items()
    }
    replies = masked(federation, replace(order, preprocessing=guess))
    # A site that answers, among others that refuse, has that many rows; one row fits everybody's.
    assert {type(reply) for reply in replies.values()} == {MaskedReply if rows == 1 else Refusal}
    assert len({reply.message for reply in replies.values() if isinstance(reply, Refusal)}) <= 1


@pytest.mark.parametrize("kind", ["train", "evaluate"])
@pytest.mark.parametrize("size", [1e30, 1e300, -1e300])
def test_extreme_arrays_are_answered_by_all_or_none(
    federation: Federation, kind: SumKind, size: float
) -> None:
    """Overflow depends on a site's largest value; whether it answers must not."""
    order = federation.order(kind)
    assert isinstance(order, TrainOrder | EvaluateOrder)
    arrays = {name: np.full_like(array, size) for name, array in order.preprocessing.items()}
    replies = masked(federation, replace(order, preprocessing=arrays))
    assert {type(reply) for reply in replies.values()} == {MaskedReply}


def keys(fed: Federation, study: StudySpec, site: str) -> Reply:
    """A site's answer to the plan of a study's first round."""
    before, fed.study = fed.study, study
    plan = fed.plan(fed.order("train"))
    order = SecureOrder(study.to_json(), "keys", plan.digest.hex(), sign_plan(plan, fed.coordinator))
    fed.study = before
    return handle(fed.sites[site], order)


def test_a_broken_contract_is_told_in_no_number(tmp_path: Path) -> None:
    """A study that narrows a range would read a column's distribution out of the counts."""
    with open_federation(tmp_path, ("range = [0, 120]", "range = [0, 40]"), policy=DEFAULT) as federation:
        reply = keys(federation, federation.study, "north")
        assert isinstance(reply, Refusal)
        assert reply.message == "the site's data cannot be used; its own log says why"
        federation.sites["north"].policy = DEFAULT.model_copy(update={"tell_coordinator": "nothing"})
        reply = keys(federation, federation.study, "north")
        assert isinstance(reply, Refusal)
        assert not any(letter.isdigit() for letter in reply.message)


def test_too_few_rows_are_zeros_and_no_refusal(tmp_path: Path) -> None:
    """A study chooses which rows count, so a refusal would answer a question about any of them."""
    strict = DEFAULT.model_copy(update={"min_examples": 10_000})
    with open_federation(tmp_path, policy=DEFAULT) as federation:
        federation.sites["north"].policy = strict
        lead = federation.sum(federation.order("train"))
        assert sorted(lead.server.u3) == sorted(federation.sites)
        others = [
            federation.sites[name].data(federation.bench) for name in federation.sites if name != "north"
        ]
        assert lead.sum.weight == sum(min(len(data.train), 200) for data in others)


def test_a_second_weight_limit_is_refused(federation: Federation) -> None:
    federation.sum(federation.order("train"))
    plan = federation.plan(federation.order("train", 2), weight_limit=46)
    lead = federation.begin(plan)
    replies = [federation.step(lead, name, "keys", lead.server.signed_plan) for name in federation.sites]
    assert all(isinstance(reply, Refusal) and "weight limit" in reply.message for reply in replies)


def test_a_round_is_not_had_again_by_another_model(federation: Federation) -> None:
    """The sign of a zero makes another model, and trains the same."""
    order = federation.order("train")
    assert isinstance(order, TrainOrder)
    federation.sum(order)
    other = order.model.copy()
    other[np.argmin(np.abs(other))] = -0.0
    assert other.tobytes() != order.model.tobytes()
    lead = federation.begin(federation.plan(replace(order, model=other)))
    replies = [federation.step(lead, name, "keys", lead.server.signed_plan) for name in federation.sites]
    assert all(isinstance(reply, Refusal) and "has left before" in reply.message for reply in replies)


def test_random_streams_of_a_site_are_its_own(federation: Federation) -> None:
    """Whoever can tell which units a site's dropout keeps can read its update out of a sum."""
    site = federation.sites["north"]
    one, other = replace(site, secret=b"1" * 32), replace(site, secret=b"2" * 32)
    assert len({site.stream, one.stream, other.stream}) == 3
    assert "north" not in one.stream


def test_what_goes_wrong_with_rows_is_logged_without_a_value(
    federation: Federation, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def quoting(*arguments: object) -> None:
        raise ValueError("could not convert SECRET-17 to float")

    monkeypatch.setattr("vestry_client.plain_orders.train_locally", quoting)
    with caplog.at_level(logging.DEBUG):
        replies = masked(federation, federation.order("train"))
    assert {type(reply) for reply in replies.values()} == {MaskedReply}
    assert "ValueError in test_oracles.py:" in caplog.text
    assert "SECRET" not in caplog.text
