"""Which updates may be added, and why the others may not."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.server.scripted import SIZE, update
from vestry_server.updates import check_update, sort_replies
from vestry_strategies.orders import DescribeReply, Refusal, Reply, TrainReply

GOOD = update("a", 3)


def check(**changes: Any) -> str | None:
    return check_update(replace(GOOD, **changes), 3, SIZE, 100.0)


def test_a_good_update_is_taken() -> None:
    assert check() is None
    assert check(weight=0.0) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"round": 2}, "its update is of round 2"),
        ({"update": np.ones(SIZE, dtype=np.float64)}, "its update has type float64, not float32"),
        ({"update": np.ones(SIZE + 1, dtype=np.float32)}, "its update has shape (8,), not (7,)"),
        ({"update": np.ones((SIZE, 1), dtype=np.float32)}, "its update has shape (7, 1), not (7,)"),
        ({"update": np.full(SIZE, np.nan, dtype=np.float32)}, "its update is not finite"),
        ({"update": np.full(SIZE, -np.inf, dtype=np.float32)}, "its update is not finite"),
        (
            {"update": np.full(SIZE, 3e38, dtype=np.float32)},
            "its update has norm 7.94e+38, above aggregation.max_update_norm = 100",
        ),
        ({"weight": -1.0}, "its weight is negative or not finite"),
        ({"weight": float("nan")}, "its weight is negative or not finite"),
        ({"weight": float("inf")}, "its weight is negative or not finite"),
    ],
)
def test_a_bad_update_is_named_with_its_reason(changes: dict[str, Any], reason: str) -> None:
    assert check(**changes) == reason


def test_the_norm_bound_is_inclusive() -> None:
    vector = np.zeros(SIZE, dtype=np.float32)
    vector[0] = 100.0
    assert check(update=vector) is None
    vector[1] = 1.0
    assert check(update=vector) is not None


def sort(replies: list[Reply], asked: str = "abc") -> tuple[list[TrainReply], dict[str, str]]:
    good, left_out = sort_replies(replies, asked, 3, SIZE, 100.0)
    return good, dict(left_out)


def test_who_does_not_answer_is_left_out() -> None:
    good, left_out = sort([update("b", 3)])
    assert [reply.site for reply in good] == ["b"]
    assert left_out == dict.fromkeys("ac", "no reply before the deadline")


def test_refusals_and_strange_replies_are_named() -> None:
    _, left_out = sort([Refusal("a", "data", "column 'x'"), DescribeReply("b"), update("c", 2)])
    assert left_out == {
        "a": "data: column 'x'",
        "b": "an unexpected DescribeReply",
        "c": "its update is of round 2",
    }


def test_nobody_answers_who_was_not_asked() -> None:
    good, left_out = sort([update("mallory", 3), update("a", 3)])
    assert [reply.site for reply in good] == ["a"]
    assert "mallory" not in left_out


def test_a_second_reply_does_not_count() -> None:
    good, _ = sort([update("a", 3, value=1.0), update("a", 3, value=9.0), Refusal("a", "data", "x")])
    assert [reply.update[0] for reply in good] == [1.0]


@given(st.permutations("abcdefgh"))
def test_the_order_of_arrival_changes_nothing(names: list[str]) -> None:
    def made(order: Iterable[str]) -> list[Reply]:
        return [update(name, 3, value=float(ord(name) - 96)) for name in order]

    expected, _ = sort(made("abcdefgh"), "abcdefgh")
    shuffled, left_out = sort(made(names), "abcdefgh")
    assert [reply.site for reply in shuffled] == sorted(names)
    assert all(np.array_equal(x.update, y.update) for x, y in zip(expected, shuffled, strict=True))
    assert left_out == {}
