"""The learning rate of a round."""

import math

from vestry_strategies.recipe import TrainingSpec

__all__ = ["learning_rate"]


def learning_rate(training: TrainingSpec, round_number: int) -> float:
    """The local learning rate of round 1, 2, ...

    ``cosine`` falls from the full rate in round 1 to ``floor`` of it in the last (Loshchilov and Hutter,
    ICLR 2017, arXiv:1608.03983, equation 5, without restarts); ``step`` multiplies by ``factor`` after
    every ``step_rounds`` rounds.
    """
    schedule, rate = training.schedule, training.learning_rate
    if schedule.kind == "cosine":
        progress = (round_number - 1) / max(training.rounds - 1, 1)
        wave = (1 + math.cos(math.pi * min(progress, 1.0))) / 2
        return rate * (schedule.floor + (1 - schedule.floor) * wave)
    if schedule.kind == "step":
        return rate * schedule.factor ** ((round_number - 1) // schedule.step_rounds)
    return rate
