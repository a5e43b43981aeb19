"""FedProx: the corrected gradient is that of the loss with the proximal term."""

import numpy as np
import pytest
import torch

from tests.client.bench import make_bench
from tests.strategies.oracles import our_course
from vestry_client.train import train_locally
from vestry_strategies.fedavg import fedavg
from vestry_strategies.fedprox import fedprox
from vestry_strategies.strategy import LocalStart, Strategy


def start(strategy: Strategy, anchor: torch.Tensor) -> object:
    assert strategy.start_local is not None
    return strategy.start_local(LocalStart(anchor, {}, {}, 0.1))


@pytest.mark.parametrize("mu", [0.0, 0.01, 3.0])
def test_the_gradient_is_that_of_the_loss_with_the_term(mu: float) -> None:
    generator = torch.Generator().manual_seed(0)
    anchor, weights = (torch.randn(6, generator=generator) for _ in range(2))
    x = torch.randn(10, 6, generator=generator)
    variable = weights.clone().requires_grad_()
    loss = torch.nn.functional.softplus(x @ variable).mean()
    (plain,) = torch.autograd.grad(loss, variable, retain_graph=True)
    term = mu / 2 * (variable - anchor).pow(2).sum()
    (expected,) = torch.autograd.grad(loss + term, variable)
    gradient = plain.clone()
    start(fedprox(mu), anchor).correct(gradient, weights)  # type: ignore[attr-defined]
    torch.testing.assert_close(gradient, expected)


def test_the_server_takes_the_mean_as_in_fedavg() -> None:
    assert np.array_equal(our_course(fedprox(0.5)), our_course(fedavg()))


def distance(mu: float) -> float:
    """How far a site moves in 200 steps."""
    bench = make_bench(("local_steps = 5", "local_steps = 200"))
    result = train_locally(
        bench.study, bench.task, fedprox(mu), bench.flat, "north", 1, bench.examples, bench.model, {}, {}
    )
    return float(np.linalg.norm(result.update))


def test_a_site_stays_the_nearer_the_larger_mu_is() -> None:
    near = [distance(mu) for mu in (0.0, 0.1, 1.0, 8.0)]
    assert near == sorted(near, reverse=True)
    assert near[-1] < near[0] / 3
