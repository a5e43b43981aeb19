"""Order in, reply out: the same gates in simulation and in production.

    VestryError
    └── (PolicyRefusal, DataError, StudyError, TrainingDiverged ...)   become a Refusal with their message

Any other exception becomes a Refusal with a class name and a reference number; its text, which might hold
a patient's value, stays in the site's own log.
"""

import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

from vestry_client.datasets import SiteData, open_data
from vestry_client.evaluate import evaluate_locally
from vestry_client.policy import PolicyRefusal, SitePolicy
from vestry_client.state import SiteStates
from vestry_client.train import TrainingDiverged, choose_device, train_locally
from vestry_privacy.errors import VestryError
from vestry_strategies.orders import (
    DescribeOrder,
    DescribeReply,
    EvaluateReply,
    Order,
    Refusal,
    RefusalCode,
    Reply,
    StatisticsOrder,
    StatisticsReply,
    TrainOrder,
    TrainReply,
)
from vestry_strategies.parameters import FlatModel
from vestry_strategies.rows import DataError, Rows
from vestry_strategies.strategies import build_strategy
from vestry_strategies.strategy import Strategy
from vestry_strategies.study import StudyError, StudySpec, study_from_json
from vestry_strategies.sums import Arrays
from vestry_strategies.support import check_supported
from vestry_strategies.task import Task
from vestry_strategies.tasks.registry import find_task

__all__ = ["Site", "handle"]

_log = logging.getLogger("vestry.site")


@dataclass
class Site:
    """One site: its name, its data, its rules and its memory.

    Attributes:
        name: in the federation.
        load: gives the rows for a study; called once for each study.
        policy: what this site allows.
        states: gives the place of the site's own arrays in a study, by the study's hash.
    """

    name: str
    load: Callable[[StudySpec, Task], Rows]
    policy: SitePolicy = field(default_factory=SitePolicy)
    states: Callable[[str], SiteStates] = lambda study_hash: SiteStates()
    _data: dict[str, SiteData] = field(default_factory=dict)
    _states: dict[str, SiteStates] = field(default_factory=dict)


@dataclass(frozen=True)
class _Bench:
    """What a process needs for a study, whichever site it works for."""

    study: StudySpec
    digest: str
    task: Task
    strategy: Strategy
    flat: FlatModel


@lru_cache(maxsize=4)
def _bench(study_json: str, allowed_plugins: tuple[str, ...]) -> _Bench:
    study = study_from_json(study_json)
    check_supported(study)
    task = find_task(study, allowed_plugins)
    flat = FlatModel(task.build_model(study), choose_device(study.training.device))
    return _Bench(study, study.digest(), task, build_strategy(study.strategy), flat)


def handle(site: Site, order: Order) -> Reply:
    """Carry out an order, or say why not.

    Returns:
        The order's reply, or a Refusal. Never raises for what an order or the data may hold.

    Guarantees:
        The policy is asked before any row is read. No message of a Refusal holds a value of a row.
    """
    try:
        return _reply(site, order)
    except VestryError as error:
        return Refusal(site.name, _code(error), str(error))
    except Exception as error:  # noqa: BLE001  a site answers whatever happens; the text stays here
        reference = secrets.token_hex(4)
        _log.exception("order failed, reference %s", reference)
        message = f"{type(error).__name__}, reference {reference} in the site's log"
        return Refusal(site.name, "internal", message)


def _code(error: VestryError) -> RefusalCode:
    if isinstance(error, PolicyRefusal):
        return "policy"
    if isinstance(error, DataError):
        return "data"
    if isinstance(error, TrainingDiverged):
        return "diverged"
    return "study" if isinstance(error, StudyError) else "internal"


def _reply(site: Site, order: Order) -> Reply:
    if isinstance(order, DescribeOrder):
        return DescribeReply(site.name)
    bench = _bench(order.study, site.policy.allowed_plugins)
    site.policy.check_study(bench.study)
    data = _open(site, bench)
    if isinstance(order, StatisticsOrder):
        sums = bench.task.features.statistics(bench.study, data.train)
        return StatisticsReply(site.name, sums)
    if isinstance(order, TrainOrder):
        return _train(site, bench, data, order)
    preprocessing = _preprocessing(bench, data, order.preprocessing)
    examples = data.examples(bench.study, bench.task, preprocessing, holdout=True)
    sums = evaluate_locally(bench.study, bench.task, bench.flat, examples, order.model, preprocessing)
    return EvaluateReply(site.name, order.round, sums)


def _open(site: Site, bench: _Bench) -> SiteData:
    data = site._data.get(bench.digest)  # noqa: SLF001  the site's cache, kept here only
    if data is None:
        data = open_data(bench.study, bench.task, site.name, lambda: site.load(bench.study, bench.task))
        site.policy.check_examples(len(data.train))
        site._data[bench.digest] = data  # noqa: SLF001
        site._states[bench.digest] = site.states(bench.digest)  # noqa: SLF001
    return data


def _preprocessing(bench: _Bench, data: SiteData, shared: Arrays) -> Arrays:
    """The shared preprocessing, or the site's own where the study says so."""
    if getattr(bench.study.task, "standardise", "shared") != "per-site":
        return shared
    own = bench.task.features.statistics(bench.study, data.train)
    return bench.task.features.fit(bench.study, own)


def _train(site: Site, bench: _Bench, data: SiteData, order: TrainOrder) -> TrainReply:
    study, states = bench.study, site._states[bench.digest]  # noqa: SLF001
    preprocessing = _preprocessing(bench, data, order.preprocessing)
    result = train_locally(
        study,
        bench.task,
        bench.strategy,
        bench.flat,
        site.name,
        order.round,
        data.examples(study, bench.task, preprocessing),
        order.model,
        order.shared,
        states.before(order.round),
    )
    states.keep(order.round, order.finished, result.state)
    weight = float(len(data.train)) if study.aggregation.weighting == "examples" else 1.0
    return TrainReply(site.name, order.round, result.update, weight, result.loss, result.steps)
