"""Vectors of bounded norm: parts beside each other, one bound over all, read back by name."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vestry_strategies.bounded import BoundedPart, stack_parts

shapes = st.lists(st.lists(st.integers(0, 3), max_size=2).map(tuple), min_size=1, max_size=4)


@settings(max_examples=150, deadline=None)
@given(shapes, st.integers(0, 5), st.data())
def test_what_is_stacked_is_read_back_by_name(
    parts: list[tuple[int, ...]], records: int, data: st.DataObject
) -> None:
    numbers = st.floats(-1e6, 1e6)
    values = {
        f"part-{place}": data.draw(arrays(np.float64, (records, *shape), elements=numbers))
        for place, shape in enumerate(parts)
    }
    units = {name: data.draw(st.floats(0.1, 10.0)) for name in values}
    stacked = stack_parts({name: BoundedPart(array, 1.0, units[name]) for name, array in values.items()})
    assert stacked.values.shape == (records, sum(math.prod(shape) for shape in parts))
    read = stacked.read(stacked.values.sum(axis=0))
    assert list(read) == list(values)
    for name, array in values.items():
        np.testing.assert_allclose(read[name], array.sum(axis=0) * units[name], rtol=1e-12, atol=1e-9)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.floats(0.0, 9.0)), min_size=1, max_size=4), st.integers())
def test_rows_whose_parts_keep_their_bounds_keep_the_whole_bound(
    parts: list[tuple[int, float]], seed: int
) -> None:
    generator = np.random.default_rng(abs(seed))
    made: dict[str, BoundedPart] = {}
    for place, (width, bound) in enumerate(parts):
        values = generator.normal(size=(8, width))
        values *= bound / np.linalg.norm(values, axis=1, keepdims=True)  # on the bound, the worst case
        made[str(place)] = BoundedPart(values, bound)
    stacked = stack_parts(made)
    assert (np.linalg.norm(stacked.values, axis=1) <= stacked.bound * (1 + 1e-12)).all()
    assert stacked.bound == pytest.approx(np.linalg.norm(stacked.values[0]))


def test_values_of_different_sizes_share_a_bound_by_their_units() -> None:
    part = BoundedPart(np.array([[0.5, 1.0]]), 2**0.5, np.array([100.0, 0.01]))
    assert stack_parts({"x": part}).read(np.array([0.5, 1.0]))["x"].tolist() == [50.0, 0.01]


def test_flags_count_as_numbers() -> None:
    stacked = stack_parts({"there": BoundedPart(np.array([[True, False], [True, True]]), 2**0.5)})
    assert stacked.values.dtype == np.float64
    assert stacked.values.sum(axis=0).tolist() == [2.0, 1.0]


def test_without_records_there_are_no_rows_but_all_names() -> None:
    stacked = stack_parts(
        {"a": BoundedPart(np.zeros((0, 2, 3)), 1.0), "b": BoundedPart(np.zeros((0, 1)), 1.0)}
    )
    assert stacked.values.shape == (0, 7)
    assert {name: part.shape for name, part in stacked.read(np.zeros(7)).items()} == {"a": (2, 3), "b": (1,)}


@pytest.mark.parametrize("total", [np.zeros(3), np.zeros(5), np.zeros((2, 2))])
def test_a_sum_of_another_length_is_refused(total: Any) -> None:
    stacked = stack_parts({"a": BoundedPart(np.zeros((2, 4)), 1.0)})
    with pytest.raises(ValueError, match=r"must be \(4,\)"):
        stacked.read(total)
