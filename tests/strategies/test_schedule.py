"""Learning rates over the rounds."""

import math

import pytest

from tests.strategies.samples import make_study
from vestry_strategies.schedule import learning_rate


def rates(schedule: str, rounds: int = 5) -> list[float]:
    change = ("[aggregation]", f"[training.schedule]\n{schedule}\n[aggregation]")
    training = make_study(change, ("rounds = 4", f"rounds = {rounds}")).training
    return [learning_rate(training, number) for number in range(1, rounds + 1)]


def test_constant() -> None:
    assert rates('kind = "constant"') == [0.1] * 5


def test_steps() -> None:
    found = rates('kind = "step"\nstep_rounds = 2\nfactor = 0.5')
    assert found == pytest.approx([0.1, 0.1, 0.05, 0.05, 0.025])


def test_cosine_falls_from_all_to_the_floor() -> None:
    found = rates('kind = "cosine"\nfloor = 0.1')
    expected = [0.1 * (0.1 + 0.9 * (1 + math.cos(math.pi * k / 4)) / 2) for k in range(5)]
    assert found == pytest.approx(expected)
    assert found[0] == pytest.approx(0.1)
    assert found[-1] == pytest.approx(0.01)


def test_cosine_over_one_round_is_the_full_rate() -> None:
    assert rates('kind = "cosine"', rounds=1) == [0.1]
