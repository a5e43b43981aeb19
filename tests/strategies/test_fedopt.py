"""The adaptive server optimizers against flwr's and against Algorithm 2 written out again.

flwr starts v at 0 where the paper asks for at least tau^2, and corrects Adam's bias, which Algorithm 2
does not; both are set straight here before the courses are compared.
"""

from collections.abc import Callable

import numpy as np
import pytest

from tests.strategies.oracles import SIZE, flower_course, our_course, updates
from vestry_strategies.fedopt import fedadagrad, fedadam, fedyogi
from vestry_strategies.strategy import Strategy, weighted_mean

TAU = 0.01


def test_adagrad_is_that_of_flower() -> None:
    from flwr.serverapp.strategy import FedAdagrad

    theirs = flower_course(FedAdagrad(eta=0.2, tau=TAU), tau=TAU)
    ours = our_course(fedadagrad(server_learning_rate=0.2, tau=TAU))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_yogi_is_that_of_flower() -> None:
    from flwr.serverapp.strategy import FedYogi

    theirs = flower_course(FedYogi(eta=0.2, beta_1=0.8, beta_2=0.95, tau=TAU), tau=TAU)
    ours = our_course(fedyogi(server_learning_rate=0.2, beta1=0.8, beta2=0.95, tau=TAU))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_adam_is_that_of_flower_but_for_its_bias_correction() -> None:
    from flwr.serverapp.strategy import FedAdam

    theirs = flower_course(FedAdam(eta=0.2, beta_1=0.8, beta_2=0.95, tau=TAU), tau=TAU)
    model, state = updates()[0][0], fedadam(tau=TAU).start_state(SIZE)
    for number, (_, deltas, weights) in enumerate(updates(), start=1):
        corrected = 0.2 * np.sqrt(1 - 0.95 ** (number + 1)) / (1 - 0.8 ** (number + 1))
        strategy = fedadam(server_learning_rate=corrected, beta1=0.8, beta2=0.95, tau=TAU)
        model, state = strategy.server_step(state, model, weighted_mean(deltas, weights))
        np.testing.assert_allclose(model, theirs[number - 1], rtol=1e-4, atol=1e-5)


def adagrad(v: float, u: float, beta2: float) -> float:
    return v + u * u


def yogi(v: float, u: float, beta2: float) -> float:
    sign = (v > u * u) - (v < u * u)
    return v - (1 - beta2) * u * u * sign


def adam(v: float, u: float, beta2: float) -> float:
    return beta2 * v + (1 - beta2) * u * u


@pytest.mark.parametrize(
    ("strategy", "rule"),
    [
        (fedadagrad(0.3, 0.7, TAU), adagrad),
        (fedyogi(0.3, 0.7, 0.9, TAU), yogi),
        (fedadam(0.3, 0.7, 0.9, TAU), adam),
    ],
)
def test_the_course_is_that_of_algorithm_2(
    strategy: Strategy, rule: Callable[[float, float, float], float]
) -> None:
    ours = our_course(strategy)
    for place in range(SIZE):
        x, m, v = float(updates()[0][0][place]), 0.0, TAU**2
        for number, (_, deltas, weights) in enumerate(updates()):
            u = sum(w * float(d[place]) for d, w in zip(deltas, weights, strict=True)) / sum(weights)
            m = 0.7 * m + 0.3 * u
            v = rule(v, u, 0.9)
            x += 0.3 * m / (v**0.5 + TAU)
            assert ours[number][place] == pytest.approx(x, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("strategy", [fedadagrad(), fedyogi(), fedadam()])
def test_an_update_of_zero_does_no_harm(strategy: Strategy) -> None:
    model = np.ones(3, dtype=np.float32)
    stepped, _ = strategy.server_step(strategy.start_state(3), model, np.zeros(3))
    assert np.array_equal(stepped, model)
