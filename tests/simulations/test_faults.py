"""Faults on a simulated clock: reproducible, of the asked frequency, and by attempt."""

import math

import numpy as np
import pytest

from vestry_simulations.faults import Faults


def answers(faults: Faults, deadline: float = 60.0) -> list[bool]:
    return [
        faults.answers(f"site-{site}", number, 1, deadline) for site in range(50) for number in range(1, 41)
    ]


def test_without_faults_everybody_answers() -> None:
    assert all(answers(Faults()))


def test_with_certain_drop_out_nobody_answers() -> None:
    assert not any(answers(Faults(drop_out=1.0)))


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_sites_drop_out_with_the_asked_probability(probability: float) -> None:
    share = 1 - np.mean(answers(Faults(drop_out=probability, seed=3)))
    deviation = math.sqrt(probability * (1 - probability) / 2000)
    assert abs(share - probability) < 4 * deviation


def test_half_of_the_sites_are_slower_than_the_median() -> None:
    share = np.mean(answers(Faults(latency_seconds=60.0, seed=4)))
    assert abs(share - 0.5) < 4 * math.sqrt(0.25 / 2000)


def test_a_longer_deadline_loses_fewer() -> None:
    faults = Faults(latency_seconds=60.0)
    shares = [np.mean(answers(faults, deadline)) for deadline in (10.0, 60.0, 600.0)]
    assert shares == sorted(shares)
    assert shares[0] < 0.1 < 0.9 < shares[2]


def test_who_fails_does_not_change_from_run_to_run() -> None:
    assert answers(Faults(drop_out=0.5, seed=1)) == answers(Faults(drop_out=0.5, seed=1))
    assert answers(Faults(drop_out=0.5, seed=1)) != answers(Faults(drop_out=0.5, seed=2))


def test_another_attempt_is_another_draw() -> None:
    faults = Faults(drop_out=0.5)
    draws = [[faults.answers(f"s{i}", 1, attempt, 60.0) for i in range(64)] for attempt in (1, 2)]
    assert draws[0] != draws[1]
