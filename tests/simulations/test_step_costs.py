"""Step costs: what is measured is what a site does, and the ratios are of one run."""

import pytest
import torch

from vestry_simulations.step_costs import MODELS, NoiseCost, StepCost, noise_cost, step_cost


@pytest.mark.parametrize(
    ("name", "parameters"), [("cnn", 80_602), ("mlp", 101_770), ("logistic regression", 7_850)]
)
def test_the_models_are_those_of_the_table(name: str, parameters: int) -> None:
    module = MODELS[name]()
    assert sum(parameter.numel() for parameter in module.parameters()) == parameters
    assert module(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


@pytest.mark.slow
def test_every_method_is_measured() -> None:
    turns: list[int] = []
    cost = step_cost("logistic regression", repetitions=3, tell=lambda: turns.append(1))
    assert len(turns) == 3
    plain = cost.plain()
    assert plain.pop("model") == "logistic regression"
    assert plain.pop("parameters") == 7850
    assert all(value > 0 for value in plain.values())
    assert torch.get_num_threads() >= 1


def test_noise_is_measured_beside_torchs() -> None:
    cost = noise_cost(values=20_000, repetitions=3)
    assert cost.ours_over_torch == cost.ours_milliseconds / cost.torch_milliseconds > 0


def test_costs_are_plain_values() -> None:
    cost = StepCost("mlp", 10, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0)
    assert cost.plain()["hooks_over_plain"] == 2.0
    assert cost.plain()["ghost_with_noise_over_plain"] == 6.0
    assert NoiseCost(8.0, 4.0).ours_over_torch == 2.0
