"""A site with patients, a policy and a ledger on the disk, for tests of studies with [privacy]."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.simulations.laboratory import STUDY, rows
from vestry_client.handlers import Site, handle
from vestry_client.policy import SitePolicy
from vestry_client.privacy_rules import BudgetRules, DatasetRule, PrivacyRules, population_of
from vestry_client.replies import Replies
from vestry_client.site import Bench, make_bench
from vestry_client.state import SiteStates
from vestry_privacy.identity import load_or_create_identity
from vestry_privacy.ledger import Ledger
from vestry_strategies.orders import (
    EvaluateOrder,
    FinishOrder,
    Order,
    Refusal,
    Reply,
    StatisticsOrder,
    TrainOrder,
)
from vestry_strategies.parameters import Vector
from vestry_strategies.rows import Rows, Table
from vestry_strategies.study import StudySpec, parse_study
from vestry_strategies.sums import Arrays
from vestry_strategies.task import Task

__all__ = [
    "PRIVACY",
    "SECRET",
    "Clinic",
    "answered",
    "guaranteed_study",
    "make_clinic",
    "make_policy",
    "make_rules",
    "private_study",
    "refused",
    "site_rules",
    "site_study",
    "visits",
]

SECRET = b"a split key of thirty-two bytes."

PRIVACY = """
[privacy]
unit = "patient"
unit_column = "patient"
noise_multiplier = 3.0
delta = 1e-5
clip = 1.0
sampling_probability = 0.2
max_records = 4
metrics = ["accuracy"]
"""

_TEXT = STUDY.replace(
    'name = "dose"\ntype = "number"', 'name = "dose"\ntype = "number"\nrange = [-9, 9]'
).replace("local_steps = 5", "local_steps = 2")


def private_study(*changes: tuple[str, str]) -> StudySpec:
    """The small study with [privacy], some of its text replaced; each text must be there."""
    text = _TEXT + PRIVACY
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return parse_study(text)


def site_study(*changes: tuple[str, str]) -> StudySpec:
    """The same with unit = 'site': the whole site is what is protected, and nothing else leaves."""
    privacy = '[privacy]\nunit = "site"\nnoise_multiplier = 1.0\ndelta = 1e-5\nclip = 2.0\n'
    declared = ('kind = "tabular"', 'kind = "tabular"\nstandardise = "declared"')
    return private_study((PRIVACY.strip(), privacy + 'sampling = "full_batch"\n'), declared, *changes)


def guaranteed_study(place: str, *changes: tuple[str, str]) -> StudySpec:
    """The same with a second guarantee, for the whole site, whose noise is added at ``place``."""
    table = f'[privacy.site]\nnoise_multiplier = 1.0\ndelta = 1e-5\nclip = 2.0\nnoise_at = "{place}"\n'
    declared = ('kind = "tabular"', 'kind = "tabular"\nstandardise = "declared"')
    return private_study(('metrics = ["accuracy"]\n', table), declared, *changes)


def visits(persons: int = 40, each: int = 2, seed: int = 0, **columns: str) -> Table:
    """Several rows of each person; a keyword puts one text into a whole column."""
    made = [{"patient": f"P{n // each:03d}", **row} for n, row in enumerate(rows(persons * each, seed))]
    made = [{**row, **columns} for row in made]
    return Table({name: np.array([row[name] for row in made]) for name in made[0]})


def make_rules(**changes: Any) -> PrivacyRules:
    """Rules of 50 declared patients."""
    settings: dict[str, Any] = {
        "unit": "patient",
        "unit_column": "patient",
        "persons": 50,
        "publish_persons": True,
        "budget": BudgetRules(epsilon=20.0, delta=1e-5),
        "metrics": ("accuracy", "auc", "loss", "r2"),
        "cross_site_overlap": "assumed-disjoint",
    }
    return PrivacyRules(**{**settings, **changes})


def site_rules() -> PrivacyRules:
    """Rules of a site that is one unit."""
    return make_rules(unit="site", unit_column=None, persons=1)


def make_policy(rules: PrivacyRules | None = None, **changes: Any) -> SitePolicy:
    """A policy of one population and one data set."""
    settings: dict[str, Any] = {
        "allow_individual_updates": True,
        "populations": {"ward": make_rules() if rules is None else rules},
        "datasets": {"data": DatasetRule(population="ward")},
    }
    return SitePolicy(**{**settings, **changes})


@dataclass
class Clinic:
    """A site, the study that is asked of it, and its ledger."""

    site: Site
    ledger: Ledger
    study: StudySpec
    loads: list[str]

    @property
    def bench(self) -> Bench:
        """What the handlers make of the study."""
        return make_bench(self.study.to_json(), self.site.policy.allowed_plugins)

    @property
    def model(self) -> Vector:
        """A model of the right shape."""
        return np.linspace(-0.1, 0.1, self.bench.flat.layout.size, dtype=np.float32)

    @property
    def preprocessing(self) -> Arrays:
        """What the study declares, in the right shapes."""
        features = self.bench.task.features
        assert features.fit_released is not None
        return features.fit_released(self.study, {})

    def statistics(self) -> StatisticsOrder:
        """Round 0."""
        return StatisticsOrder(self.study.to_json())

    def train(self, number: int = 1, **changes: Any) -> TrainOrder:
        """An order to train."""
        order = TrainOrder(self.study.to_json(), number, number - 1, self.model, self.preprocessing)
        return replace(order, **changes)

    def evaluate(self, number: int = 1, **changes: Any) -> EvaluateOrder:
        """An order to evaluate."""
        return replace(EvaluateOrder(self.study.to_json(), number, self.model, self.preprocessing), **changes)

    def finish(self) -> FinishOrder:
        """The end of the study."""
        return FinishOrder(self.study.to_json())

    def kinds(self) -> list[str]:
        """Kinds of the ledger's entries, those of the site's own set-up left out."""
        made = {"create", "register", "dataset"}
        return [entry.kind for entry in self.ledger.entries() if entry.kind not in made]

    def charged(self, partition: Any = "train") -> int:
        """How many steps and releases this study was charged for a partition."""
        return sum(event.count for event in self.ledger.spent(self.study.digest(), partition))

    def ask(self, order: Order) -> Reply:
        """Let the site answer."""
        return handle(self.site, order)


@contextmanager
def make_clinic(
    folder: Path,
    *changes: tuple[str, str],
    table: Rows | None = None,
    policy: SitePolicy | None = None,
    study: StudySpec | None = None,
    register: bool = True,
    **settings: Any,
) -> Iterator[Clinic]:
    """A site over a table with a real ledger in a folder, which may be of an earlier one."""
    torch.set_num_threads(1)  # tiny matrices on a busy machine
    found = visits() if table is None else table
    rules = make_policy() if policy is None else policy
    loads: list[str] = []

    def load(study: StudySpec, task: Task) -> Rows:
        loads.append(study.digest())
        return found

    folder.mkdir(parents=True, exist_ok=True)
    identity = load_or_create_identity(folder / "identity.pem")
    with Ledger(folder / "ledger.sqlite", identity, patience=settings.pop("patience", 5.0)) as ledger:
        if register:
            for name, population in rules.populations.items():
                ledger.register(population_of(name, population, ledger.population(name)))
                ledger.add_dataset(name, f"data of {name}", "f" * 64, None)
        defaults: dict[str, Any] = {
            "ledger": ledger,
            "secret": SECRET,
            "states": lambda digest: SiteStates(folder / digest[:16]),
            "replies": lambda digest: Replies(folder / digest[:16] / "replies"),
        }
        site = Site("north", load, rules, **{**defaults, **settings})
        yield Clinic(site, ledger, private_study(*changes) if study is None else study, loads)


def answered(reply: Reply) -> Any:
    """A reply that is no refusal."""
    assert not isinstance(reply, Refusal), reply
    return reply


def refused(reply: Reply, code: str) -> str:
    """What a refusal says; it must have this code."""
    assert isinstance(reply, Refusal), reply
    assert reply.code == code, reply
    return reply.message
