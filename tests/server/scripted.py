"""A scripted exchange: a hostile or unlucky set of sites, and a study of two weights."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from tests.client.bench import make_study
from vestry_server.checkpoint import RunState
from vestry_server.exchange import Exchange
from vestry_server.progress import Event, RoundFailed, RoundRecord
from vestry_server.rounds import Run, open_run, run_study
from vestry_server.secure_run import SecureRun
from vestry_strategies.orders import (
    EvaluateOrder,
    EvaluateReply,
    Order,
    Reply,
    StatisticsOrder,
    StatisticsReply,
    TrainOrder,
    TrainReply,
)
from vestry_strategies.parameters import Vector
from vestry_strategies.study import StudySpec
from vestry_strategies.sums import Sums

__all__ = ["Course", "Script", "Scripted", "metric_sums", "statistics", "update"]

Script = Callable[[str, Order], Reply | None]
SIZE = 7  # weights of the small study's logistic model: age, age:missing, dose, three colours, bias


def statistics(site: str) -> StatisticsReply:
    """Sums of ten rows."""
    columns = SIZE - 1
    sums: Sums = {
        "count": np.full(columns, 10.0),
        "sum": np.full(columns, 5.0),
        "sum_of_squares": np.full(columns, 5.0),
        "examples": np.array([10.0]),
        "classes": np.array([5.0, 5.0]),
    }
    return StatisticsReply(site, sums)


def metric_sums(right: float = 8.0, loss: float = 5.0) -> Sums:
    """Ten rows, five of each class, ``right`` of them told rightly."""
    positives, negatives = np.zeros(1024), np.zeros(1024)
    positives[600], negatives[400] = 5.0, 5.0
    wrong = (10.0 - right) / 2
    return {
        "examples": np.array([10.0]),
        "loss": np.array([loss]),
        "confusion": np.array([[5.0 - wrong, wrong], [wrong, 5.0 - wrong]]),
        "positives": positives,
        "negatives": negatives,
        "squared_error": np.array([1.0]),
    }


def update(site: str, number: int, value: float = 1.0, weight: float = 10.0) -> TrainReply:
    """A client update with the same number everywhere."""
    return TrainReply(site, number, np.full(SIZE, value, dtype=np.float32), weight, 0.5, 5)


def obedient(site: str, order: Order) -> Reply | None:
    """A site that does what it is told."""
    if isinstance(order, StatisticsOrder):
        return statistics(site)
    if isinstance(order, TrainOrder):
        return update(site, order.round)
    if isinstance(order, EvaluateOrder):
        return EvaluateReply(site, order.round, metric_sums())
    return None


class Scripted:
    """An exchange whose sites say what a script says; None is silence.

    Args:
        script: (site, order) -> reply, or None for none.
        names: the sites.
        reverse: replies come in the opposite order of the names.
    """

    def __init__(
        self, script: Script = obedient, names: tuple[str, ...] = ("a", "b", "c"), *, reverse: bool = False
    ) -> None:
        self.script, self.names, self.reverse = script, names, reverse
        self.asked: list[tuple[str, Order]] = []

    def sites(self) -> tuple[str, ...]:
        return self.names

    def send(self, orders: Mapping[str, Order], deadline_seconds: float) -> Iterator[Reply]:
        for site, order in sorted(orders.items(), reverse=self.reverse):
            self.asked.append((site, order))
            reply = self.script(site, order)
            if reply is not None:
                yield reply


class Course:
    """A run of the small study over a scripted exchange, with everything that was told and kept."""

    def __init__(
        self,
        *changes: tuple[str, str],
        script: Script = obedient,
        exchange: Exchange | None = None,
        secure: SecureRun | None = None,
    ) -> None:
        self.study: StudySpec = make_study(*changes)
        self.exchange: Any = exchange or Scripted(script)
        self.kept: list[RunState] = []
        self.events: list[Event] = []
        self.run: Run
        self.first: Vector
        self.run, self.first = open_run(
            self.study, self.exchange, self.kept.append, self.events.append, secure=secure
        )

    def go(self, state: RunState | None = None) -> RunState:
        """Run to the end."""
        return run_study(self.run, self.first, state)

    @property
    def records(self) -> list[RoundRecord]:
        """The finished rounds that were told."""
        return [event for event in self.events if isinstance(event, RoundRecord)]

    @property
    def failures(self) -> list[RoundFailed]:
        """The failed attempts that were told."""
        return [event for event in self.events if isinstance(event, RoundFailed)]
