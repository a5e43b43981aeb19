"""FedAvg against flwr's own strategy, and its formula."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies.oracles import RATES, flower_course, our_course, updates
from vestry_strategies.fedavg import fedavg


def test_the_course_is_that_of_flower() -> None:
    from flwr.serverapp.strategy import FedAvg

    np.testing.assert_allclose(our_course(fedavg()), flower_course(FedAvg()), rtol=1e-5, atol=1e-6)


@given(RATES)
def test_the_step_is_the_rate_times_the_mean(rate: float) -> None:
    model = np.arange(4, dtype=np.float32)
    mean = np.array([1.0, -1.0, 0.5, 0.0])
    stepped, state = fedavg(rate).server_step({}, model, mean)
    np.testing.assert_allclose(stepped, model + rate * mean, rtol=1e-6)
    assert state == {}
    assert stepped.dtype == np.float32


def test_it_needs_the_mean_only() -> None:
    strategy = fedavg()
    assert not strategy.needs_individual_updates
    assert strategy.start_local is None
    assert strategy.start_state(3) == {}
    assert strategy.extra(3) == 0


@given(st.integers(0, 100))
def test_equal_updates_are_taken_as_they_are(seed: int) -> None:
    (model, deltas, _), *_ = updates(seed)
    stepped, _ = fedavg().server_step({}, model, deltas[0].astype(np.float64))
    np.testing.assert_allclose(stepped, model + deltas[0], rtol=1e-6)


def test_a_small_update_to_a_large_weight_is_not_lost_before_the_end() -> None:
    stepped, _ = fedavg().server_step({}, np.array([1e8], dtype=np.float32), np.array([4.5]))
    assert stepped[0] == pytest.approx(1e8 + 8)  # the nearest float32, from a float64 sum
