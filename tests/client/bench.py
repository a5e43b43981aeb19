"""A study, rows and orders for tests of the site's side."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tests.simulations.laboratory import STUDY, rows
from vestry_client.handlers import Site
from vestry_client.policy import SitePolicy
from vestry_strategies.orders import EvaluateOrder, TrainOrder
from vestry_strategies.parameters import FlatModel, Vector
from vestry_strategies.rows import Table
from vestry_strategies.strategies import build_strategy
from vestry_strategies.strategy import Strategy
from vestry_strategies.study import StudySpec, parse_study
from vestry_strategies.sums import Arrays
from vestry_strategies.task import Examples, Task
from vestry_strategies.tasks.registry import find_task

__all__ = ["OPEN", "Bench", "make_bench", "make_site", "make_study", "make_table"]

OPEN = SitePolicy(allow_individual_updates=True, allow_training_without_privacy=True, min_examples=1)


def make_study(*changes: tuple[str, str]) -> StudySpec:
    """The small study with some of its text replaced."""
    text = STUDY
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return parse_study(text)


def make_table(count: int = 60, seed: int = 0, **columns: str) -> Table:
    """Rows as a table; a keyword puts one text into a whole column."""
    made = [{**row, **columns} for row in rows(count, seed)]
    return Table({name: np.array([row[name] for row in made]) for name in made[0]})


@dataclass(frozen=True)
class Bench:
    """All that local training needs."""

    study: StudySpec
    task: Task
    strategy: Strategy
    flat: FlatModel
    examples: Examples
    preprocessing: Arrays
    model: Vector

    def train_order(self, number: int = 1, finished: int = 0) -> TrainOrder:
        """An order to train."""
        return TrainOrder(self.study.to_json(), number, finished, self.model, self.preprocessing)

    def evaluate_order(self, number: int = 1) -> EvaluateOrder:
        """An order to evaluate."""
        return EvaluateOrder(self.study.to_json(), number, self.model, self.preprocessing)


def make_bench(*changes: tuple[str, str], count: int = 60) -> Bench:
    """A bench for the small study, changed."""
    study = make_study(*changes)
    task = find_task(study)
    design = task.features.design(study, make_table(count))
    preprocessing = task.features.fit(study, task.features.statistics(study, design))
    examples = task.features.encode(study, preprocessing, design)
    flat = FlatModel(task.build_model(study))
    model = np.linspace(-0.1, 0.1, flat.layout.size, dtype=np.float32)
    return Bench(study, task, build_strategy(study.strategy), flat, examples, preprocessing, model)


def make_site(
    table: Table | None = None, policy: SitePolicy = OPEN, name: str = "north", **more: object
) -> Site:
    """A site over a table."""
    rows = make_table() if table is None else table
    settings: Mapping[str, object] = more
    return Site(name=name, load=lambda study, task: rows, policy=policy, **settings)  # type: ignore[arg-type]
