"""Sums over sites."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vestry_strategies.sums import add_sums

part = st.fixed_dictionaries(
    {
        "a": arrays(np.float64, 3, elements=st.floats(-1e6, 1e6)),
        "b": arrays(np.float64, (2, 2), elements=st.floats(-1e6, 1e6)),
    }
)


@given(st.lists(part, min_size=1, max_size=5))
def test_sums_are_element_by_element(parts: list[dict[str, np.ndarray]]) -> None:
    total = add_sums(parts)
    for name in ("a", "b"):
        np.testing.assert_allclose(total[name], sum(p[name] for p in parts), atol=1e-6)


def test_the_parts_are_left_alone() -> None:
    parts = [{"a": np.ones(2)}, {"a": np.ones(2)}]
    add_sums(parts)
    assert parts[0]["a"].tolist() == [1.0, 1.0]


def test_nothing_cannot_be_added() -> None:
    with pytest.raises(ValueError, match="nothing to add"):
        add_sums([])


def test_names_and_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="names="):
        add_sums([{"a": np.ones(2)}, {"b": np.ones(2)}])
    with pytest.raises(ValueError, match=r"a: shape=\(3,\) differs from \(2,\)"):
        add_sums([{"a": np.ones(2)}, {"a": np.ones(3)}])
