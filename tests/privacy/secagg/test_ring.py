"""The ring: lanes of a sum never run over, and the figures of the design's table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vestry_privacy.secagg.errors import ValueRefused
from vestry_privacy.secagg.ring import LANE_BITS, Ring

rings = st.builds(
    Ring,
    st.sampled_from(LANE_BITS),
    st.integers(1, 200),
    st.floats(2.0**-126, 2.0**127, allow_nan=False),
)


@given(rings)
def test_n_times_the_top_stays_in_a_lane_and_one_bit_more_would_not(ring: Ring) -> None:
    assert ring.sites * ring.top < 2**ring.lane_bits
    assert ring.sites * (2 ** (ring.value_bits + 1) - 1) >= 2**ring.lane_bits or ring.sites < 3
    assert ring.top == 2**ring.value_bits - 1
    assert ring.top >= 2**8 - 1  # no roster leaves fewer than eight bits


@given(rings)
def test_lanes_of_the_sum_of_n_tops_do_not_touch(ring: Ring) -> None:
    """Every lane holds its largest sum, and each is read back as it was."""
    word = sum(ring.top << (lane * ring.lane_bits) for lane in range(ring.lanes))
    total = word * ring.sites
    assert total < 2**64
    for lane in range(ring.lanes):
        assert (total >> (lane * ring.lane_bits)) % 2**ring.lane_bits == ring.sites * ring.top


@given(rings, st.integers(0, 10**9))
def test_words_hold_all_values_and_no_word_is_empty(ring: Ring, values: int) -> None:
    words = ring.words(values)
    assert words * ring.lanes >= values
    assert (words - 1) * ring.lanes < values or values == words == 0


@pytest.mark.parametrize(
    ("lane_bits", "sites", "lanes", "value_bits"),
    [
        (16, 10, 4, 12), (21, 10, 3, 17), (32, 10, 2, 28),
        (16, 200, 4, 8), (21, 200, 3, 13), (32, 200, 2, 24),
        (21, 3, 3, 19), (21, 1, 3, 21), (32, 3, 2, 30), (16, 1, 4, 16), (32, 1, 2, 30),
    ],
)  # fmt: skip
def test_lanes_and_bits(lane_bits: int, sites: int, lanes: int, value_bits: int) -> None:
    ring = Ring(lane_bits, sites, 8.0)
    assert (ring.lanes, ring.value_bits) == (lanes, value_bits)


def test_step_spans_the_range() -> None:
    ring = Ring(21, 10, 8.0)
    assert ring.step == 16.0 / (2**17 - 1)
    assert -8.0 + ring.top * ring.step == pytest.approx(8.0, rel=1e-15)


@pytest.mark.parametrize("lane_bits", [0, -16, 8, 15, 20, 22, 64])
def test_other_lanes_are_refused(lane_bits: int) -> None:
    with pytest.raises(ValueRefused, match=f"lane_bits: {lane_bits};"):
        Ring(lane_bits, 10, 8.0)


@pytest.mark.parametrize("sites", [-1, 0, 201, 2**20])
def test_other_numbers_of_sites_are_refused(sites: int) -> None:
    with pytest.raises(ValueRefused, match=f"sites: {sites};"):
        Ring(21, sites, 8.0)


@pytest.mark.parametrize(
    "value_range", [0.0, -1.0, float("nan"), float("inf"), -float("inf"), 5e-324, 1e308, 2.0**128]
)
def test_ranges_that_are_none_are_refused(value_range: float) -> None:
    with pytest.raises(ValueRefused, match="value_range"):
        Ring(21, 10, value_range)
