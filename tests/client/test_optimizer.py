"""The local optimizers take exactly the steps of torch.optim's classes."""

from typing import Any

import pytest
import torch

from tests.client.bench import make_study
from vestry_client.optimizer import LocalOptimizer

CASES: list[tuple[str, Any]] = [
    ("", lambda p: torch.optim.SGD([p], lr=0.05)),
    ("weight_decay = 0.1", lambda p: torch.optim.SGD([p], lr=0.05, weight_decay=0.1)),
    ("momentum = 0.9", lambda p: torch.optim.SGD([p], lr=0.05, momentum=0.9)),
    ('optimizer = "adam"', lambda p: torch.optim.Adam([p], lr=0.05)),
    (
        'optimizer = "adam"\nweight_decay = 0.1',
        lambda p: torch.optim.Adam([p], lr=0.05, weight_decay=0.1),
    ),
    (
        'optimizer = "adamw"\nweight_decay = 0.1',
        lambda p: torch.optim.AdamW([p], lr=0.05, weight_decay=0.1),
    ),
]


def gradients(steps: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    return [torch.randn(7, generator=generator) for _ in range(steps)]


@pytest.mark.parametrize(("setting", "reference"), CASES)
def test_steps_are_those_of_torch(setting: str, reference: Any) -> None:
    training = make_study(("learning_rate = 0.1", f"learning_rate = 0.05\n{setting}")).training
    ours, theirs = torch.ones(7), torch.ones(7, requires_grad=True)
    optimizer, oracle = LocalOptimizer(training, 0.05, {}), reference(theirs)
    for gradient in gradients(10):
        optimizer.step(ours, gradient.clone())
        theirs.grad = gradient.clone()
        oracle.step()
    torch.testing.assert_close(ours, theirs.detach(), rtol=0, atol=0)


@pytest.mark.parametrize(("setting", "reference"), CASES)
def test_moments_that_are_kept_continue_where_they_stopped(setting: str, reference: Any) -> None:
    training = make_study(("learning_rate = 0.1", f"learning_rate = 0.05\n{setting}")).training
    whole, parts = torch.ones(7), torch.ones(7)
    uninterrupted = LocalOptimizer(training, 0.05, {})
    for gradient in gradients(10):
        uninterrupted.step(whole, gradient.clone())
    first = LocalOptimizer(training, 0.05, {})
    for gradient in gradients(10)[:4]:
        first.step(parts, gradient.clone())
    second = LocalOptimizer(training, 0.05, first.state())
    for gradient in gradients(10)[4:]:
        second.step(parts, gradient.clone())
    assert torch.equal(whole, parts)


def test_plain_sgd_has_no_state() -> None:
    optimizer = LocalOptimizer(make_study().training, 0.05, {})
    optimizer.step(torch.ones(3), torch.ones(3))
    assert optimizer.state() == {}


def test_moments_are_handed_out_as_copies_that_hold_float32() -> None:
    training = make_study(("learning_rate = 0.1", 'learning_rate = 0.1\noptimizer = "adam"')).training
    optimizer = LocalOptimizer(training, 0.05, {})
    weights = torch.ones(3)
    optimizer.step(weights, torch.full((3,), 0.1))
    state = optimizer.state()
    assert set(state) == {"mean", "square", "step"}
    assert all(str(array.dtype) == "float64" for array in state.values())
    before = {name: array.copy() for name, array in state.items()}
    optimizer.step(weights, torch.ones(3))
    assert all((state[name] == before[name]).all() for name in state)
