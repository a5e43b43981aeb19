"""The plan: one encoding, one hash, and every field that no plan may have is refused by name."""

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.privacy.secagg.federation import Federation, make_plan
from vestry_privacy.secagg.errors import BadMessage, PlanRefused
from vestry_privacy.secagg.plan import (
    MAX_SITES,
    Plan,
    honest_crowd,
    most_colluders,
    threshold,
    tolerated_dropouts,
)

DIRECTORY = Federation(5).directory
PLAN = make_plan(DIRECTORY)


@pytest.mark.parametrize(
    ("n", "t", "dropouts", "c", "crowd"),
    [(3, 3, 0, 0, 3), (4, 3, 1, 1, 2), (5, 4, 1, 1, 3), (10, 7, 3, 3, 4), (50, 34, 16, 16, 18)],
)
def test_table_of_thresholds(n: int, t: int, dropouts: int, c: int, crowd: int) -> None:
    """The table of the protocol's design."""
    assert (threshold(n), tolerated_dropouts(n), most_colluders(n), honest_crowd(n)) == (
        t,
        dropouts,
        c,
        crowd,
    )


@pytest.mark.parametrize("n", range(3, MAX_SITES + 1))
def test_two_sets_of_survivors_need_more_double_signers_than_may_collude(n: int) -> None:
    assert 2 * threshold(n) - n > most_colluders(n)
    assert honest_crowd(n) >= 2


def test_plan_is_read_back() -> None:
    assert Plan.decode(PLAN.encode()) == PLAN
    assert len(PLAN.digest) == 32


CHANGED: dict[str, Any] = {
    "study": b"t" * 32, "run": "run-2", "kind": "evaluate", "sequence": 2, "round": 2, "directory": 2,
    "roster": DIRECTORY.roster()[:4], "model": b"n" * 32, "configuration": b"d" * 32, "code": b"w" * 32,
    "values": 11, "wide": 2, "lane_bits": 32, "value_range": 5.0, "weight_limit": 101, "threshold": 5,
    "least": 4, "privacy": b"dp", "deadline": 61.0,
}  # fmt: skip


@pytest.mark.parametrize("name", [item.name for item in fields(Plan)])
def test_every_field_is_in_the_hash_and_is_compared(name: str) -> None:
    changed = replace(PLAN, **{name: CHANGED[name]})
    assert changed.digest != PLAN.digest
    with pytest.raises(PlanRefused, match=rf"plan\.{name}"):
        changed.require(PLAN)
    PLAN.require(replace(PLAN))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"threshold": 3}, "threshold"),
        ({"threshold": 5}, "threshold"),
        ({"roster": DIRECTORY.roster()[:2], "threshold": 2}, "roster"),
        ({"roster": DIRECTORY.roster()[::-1]}, "roster"),
        ({"roster": DIRECTORY.roster()[:1] * 5}, "roster"),
        ({"kind": "inference"}, "kind"),
        ({"least": 2}, "least"),
        ({"least": 6}, "least"),
        ({"lane_bits": 8}, "lane_bits"),
        ({"value_range": 0.0}, "value_range"),
        ({"value_range": -1.0}, "value_range"),
        ({"weight_limit": 0}, "weight_limit"),
        ({"weight_limit": 2**62}, "weight_limit"),
        ({"values": 0, "wide": 0}, "values"),
        ({"values": 2**41}, "values"),
        ({"deadline": 0.0}, "deadline"),
        ({"sequence": 0}, "sequence"),
        ({"model": b"short"}, "model"),
    ],
)
def test_what_no_plan_may_have_is_refused_by_name(changes: dict[str, Any], field: str) -> None:
    plan = replace(PLAN, **changes)
    with pytest.raises(PlanRefused, match=rf"plan\.{field}"):
        plan.check()
    if field != "model":  # its length is refused before
        with pytest.raises((PlanRefused, BadMessage)):
            Plan.decode(plan.encode())


def test_statistics_may_ask_for_the_weights_alone() -> None:
    replace(PLAN, kind="statistics", values=0, wide=0).check()


def test_too_many_sites_are_refused() -> None:
    roster = tuple(number.to_bytes(32, "big") for number in range(201))
    with pytest.raises(PlanRefused, match="201 sites"):
        replace(PLAN, roster=roster, threshold=threshold(201)).check()


def test_other_versions_and_neighbours_are_refused() -> None:
    content = PLAN.encode()
    with pytest.raises(BadMessage, match="version is 'vestry-secagg/2'"):
        Plan.decode(content.replace(b"vestry-secagg/1", b"vestry-secagg/2"))
    place = len(content) - 8 - 4 - 4  # before the empty privacy block and the deadline
    with pytest.raises(PlanRefused, match="neighbours"):
        Plan.decode(content[:place] + (7).to_bytes(4, "big") + content[place + 4 :])
    with pytest.raises(BadMessage, match="follow its end"):
        Plan.decode(content + b"x")


@given(st.integers(0, len(PLAN.encode()) - 1), st.integers(1, 255))
def test_a_changed_byte_is_refused_or_makes_another_plan(place: int, flip: int) -> None:
    content = bytearray(PLAN.encode())
    content[place] ^= flip
    try:
        plan = Plan.decode(bytes(content))
    except (BadMessage, PlanRefused):
        return
    assert plan.digest != PLAN.digest
