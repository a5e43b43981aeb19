"""Orders and replies: each has a type of its own, none can be changed."""

import dataclasses
from typing import get_args

import numpy as np
import pytest

from vestry_strategies.orders import Order, Refusal, RefusalCode, Reply, TrainOrder


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
    assert set(get_args(RefusalCode)) == {"policy", "ledger", "study", "data", "diverged", "lost", "internal"}
    with pytest.raises(dataclasses.FrozenInstanceError):
        Refusal("a", "data", "x").code = "lost"  # type: ignore[misc]


def test_an_order_without_preprocessing_has_none() -> None:
    order = TrainOrder("{}", 1, 0, np.zeros(1, dtype=np.float32))
    assert order.preprocessing == {}
    assert order.shared == {}
