"""Orders and replies: each has a type of its own, none can be changed."""

import dataclasses
from typing import get_args

import numpy as np
import pytest

from vestry_strategies.orders import (
    EvaluateOrder,
    MaskedReply,
    Order,
    Refusal,
    RefusalCode,
    Reply,
    StatisticsOrder,
    TrainOrder,
)


@pytest.mark.parametrize("kind", [*get_args(Order), *get_args(Reply)])
def test_each_is_a_frozen_value(kind: type) -> None:
    assert dataclasses.is_dataclass(kind)
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]


def test_every_reply_says_who_sends_it() -> None:
    for kind in get_args(Reply):
        assert "site" in {item.name for item in dataclasses.fields(kind)}


def test_orders_name_no_site_and_no_rows() -> None:
    for kind in get_args(Order):
        assert not {"site", "rows", "filter"} & {item.name for item in dataclasses.fields(kind)}


def test_a_refusal_has_one_of_few_codes() -> None:
    known = {"policy", "ledger", "study", "data", "diverged", "lost", "internal", "secure"}
    assert set(get_args(RefusalCode)) == known
    with pytest.raises(dataclasses.FrozenInstanceError):
        Refusal("a", "data", "x").code = "lost"  # type: ignore[misc]


def test_an_order_without_preprocessing_has_none() -> None:
    order = TrainOrder("{}", 1, 0, np.zeros(1, dtype=np.float32))
    assert order.preprocessing == {}
    assert order.shared == {}


def test_an_order_asks_for_a_reply_in_the_clear_unless_it_names_a_secure_sum() -> None:
    model = np.zeros(1, dtype=np.float32)
    for order in (StatisticsOrder("{}"), TrainOrder("{}", 1, 0, model), EvaluateOrder("{}", 1, model)):
        assert order.secure == ""


def test_a_masked_reply_holds_nothing_of_its_site_alone() -> None:
    """Loss, sums and update are inside the vector; what is beside it is public or the protocol's."""
    names = {item.name for item in dataclasses.fields(MaskedReply)}
    assert not {"loss", "sums", "update"} & names
    reply = MaskedReply("a", 1, "0" * 64, b"", np.zeros(1, dtype=np.uint64))
    assert reply.weight is None
    assert (reply.steps, reply.spent, reply.guarantee) == (0, (), "")
