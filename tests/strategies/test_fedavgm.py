"""FedAvgM against flwr's own strategy, and momentum by hand."""

import numpy as np
import pytest

from tests.strategies.oracles import flower_course, our_course
from vestry_strategies.fedavg import fedavg
from vestry_strategies.fedavgm import fedavgm


@pytest.mark.parametrize(("rate", "momentum"), [(1.0, 0.9), (0.5, 0.9), (1.0, 0.3), (0.7, 0.0)])
def test_the_course_is_that_of_flower(rate: float, momentum: float) -> None:
    from flwr.serverapp.strategy import FedAvgM

    theirs = flower_course(FedAvgM(server_learning_rate=rate, server_momentum=momentum), record=True)
    np.testing.assert_allclose(our_course(fedavgm(rate, momentum)), theirs, rtol=1e-4, atol=1e-5)


def test_without_momentum_it_is_fedavg() -> None:
    assert np.array_equal(our_course(fedavgm(1.0, 0.0)), our_course(fedavg()))


def test_a_steady_update_gathers_speed() -> None:
    strategy = fedavgm(1.0, 0.5)
    state, model, steps = strategy.start_state(1), np.zeros(1, dtype=np.float32), []
    for _ in range(3):
        stepped, state = strategy.server_step(state, model, np.ones(1))
        steps.append(float(stepped[0] - model[0]))
        model = stepped
    assert steps == [1.0, 1.5, 1.75]
