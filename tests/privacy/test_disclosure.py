"""Counts that may be said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vestry_privacy.disclosure import MINIMUM_CELL, safe_count


def test_the_threshold_is_ten() -> None:
    assert MINIMUM_CELL == 10
    assert safe_count(9) == "fewer than 10 rows"
    assert safe_count(10) == "10 rows"


def test_none_may_be_said() -> None:
    assert safe_count(0) == "no rows"


@given(st.integers(1, MINIMUM_CELL - 1))
def test_small_counts_cannot_be_told_apart(rows: int) -> None:
    assert safe_count(rows) == safe_count(1)


@given(st.integers(MINIMUM_CELL, 10**12))
def test_large_counts_are_said(rows: int) -> None:
    assert safe_count(rows) == f"{rows} rows"


def test_a_negative_count_is_a_defect() -> None:
    with pytest.raises(ValueError, match="rows=-1"):
        safe_count(-1)
