"""The contract of strategies, and the weighted mean."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vestry_strategies.fedavg import fedavg
from vestry_strategies.strategy import LocalEnd, Strategy, weighted_mean

vectors = arrays(np.float32, 4, elements=st.floats(-1000, 1000, width=32))
pairs = st.lists(st.tuples(vectors, st.floats(0.01, 100)), min_size=1, max_size=6)


@given(pairs)
def test_the_mean_is_numpys(found: list[tuple[np.ndarray, float]]) -> None:
    updates, weights = zip(*found, strict=True)
    expected = np.average(np.stack(updates).astype(np.float64), axis=0, weights=weights)
    np.testing.assert_allclose(weighted_mean(updates, weights), expected, rtol=1e-9, atol=1e-9)


@given(pairs, st.floats(0.1, 10))
def test_only_the_proportions_of_the_weights_count(
    found: list[tuple[np.ndarray, float]], factor: float
) -> None:
    updates, weights = zip(*found, strict=True)
    scaled = weighted_mean(updates, [factor * weight for weight in weights])
    np.testing.assert_allclose(scaled, weighted_mean(updates, weights), rtol=1e-9, atol=1e-9)


@given(pairs)
def test_the_mean_lies_between_the_updates(found: list[tuple[np.ndarray, float]]) -> None:
    updates, weights = zip(*found, strict=True)
    mean, stacked = weighted_mean(updates, weights), np.stack(updates).astype(np.float64)
    assert (mean >= stacked.min(axis=0) - 1e-6).all()
    assert (mean <= stacked.max(axis=0) + 1e-6).all()


def test_a_site_of_weight_zero_does_not_count() -> None:
    one, two = np.ones(2, dtype=np.float32), np.full(2, 9, dtype=np.float32)
    assert weighted_mean([one, two], [3.0, 0.0]).tolist() == [1.0, 1.0]


def test_nothing_has_no_mean() -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        weighted_mean([], [])
    with pytest.raises(ValueError, match="must be above 0"):
        weighted_mean([np.ones(2, dtype=np.float32)], [0.0])


def test_half_a_declaration_is_refused() -> None:
    step = fedavg().server_step
    with pytest.raises(ValueError, match="needs_individual_updates goes with combine"):
        Strategy("x", step, needs_individual_updates=True)
    with pytest.raises(ValueError, match="needs_individual_updates goes with combine"):
        Strategy("x", step, combine=lambda updates, weights: updates[0])


def test_a_local_rule_leaves_nothing_behind_by_default() -> None:
    assert LocalEnd().state == {}
    assert LocalEnd().extra.shape == (0,)
