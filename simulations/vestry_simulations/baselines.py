"""What a federation is compared with: one model on all data, and a model for each site alone.

Both see as many examples as they do in the federation: the pooled model all of the sites' (with
``local_steps``, that many for each site), a local one its own. Both start from the federation's first
model, and standardise by the data they may see.
"""

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from vestry_client.datasets import SiteData, open_data
from vestry_client.evaluate import evaluate_locally
from vestry_client.train import choose_device, train_locally
from vestry_simulations.engine import mp_context
from vestry_simulations.results import Outcome, mean_over_sites
from vestry_simulations.worker import VirtualSite, one_thread
from vestry_strategies.parameters import FlatModel, Vector
from vestry_strategies.recipe import StrategySpec
from vestry_strategies.strategies import build_strategy
from vestry_strategies.study import StudySpec
from vestry_strategies.sums import Arrays, Sums, add_sums
from vestry_strategies.task import Design, Task
from vestry_strategies.tasks.registry import find_task

__all__ = ["local_baseline", "pooled_baseline", "run_baselines", "site_data"]


def site_data(
    study: StudySpec, sites: Sequence[VirtualSite], allowed_plugins: Collection[str] = ()
) -> dict[str, SiteData]:
    """The rows of each site, split as the site itself splits them."""
    task = find_task(study, allowed_plugins)
    return {
        site.name: open_data(study, task, site.name, lambda site=site: site.rows)  # type: ignore[misc]
        for site in sites
    }


def pooled_baseline(
    study: StudySpec,
    data: Mapping[str, SiteData],
    first_model: Vector,
    allowed_plugins: Collection[str] = (),
) -> dict[str, Sums]:
    """Metric sums at each site of one model trained on the training rows of all sites."""
    task = find_task(study, allowed_plugins)
    names = sorted(data)
    pooled = _concatenate([data[name].train for name in names])
    model, preprocessing = _train(_longer(study, len(names)), task, "pooled", pooled, first_model)
    return {name: _evaluate(study, task, data[name], model, preprocessing) for name in names}


def local_baseline(
    study: StudySpec,
    data: Mapping[str, SiteData],
    first_model: Vector,
    allowed_plugins: Collection[str] = (),
) -> dict[str, Sums]:
    """Metric sums at each site of a model trained on its own training rows."""
    task = find_task(study, allowed_plugins)
    sums: dict[str, Sums] = {}
    for name in sorted(data):
        model, preprocessing = _train(study, task, name, data[name].train, first_model)
        sums[name] = _evaluate(study, task, data[name], model, preprocessing)
    return sums


def run_baselines(
    study: StudySpec,
    data: Mapping[str, SiteData],
    first_model: Vector,
    allowed_plugins: Collection[str] = (),
    workers: int = 0,
) -> dict[str, Outcome]:
    """Both baselines, in worker processes: the pooled model in one, the sites' models in the others.

    Returns:
        ``pooled`` and ``local-only``.
    """
    task = find_task(study, allowed_plugins)
    plugins = tuple(allowed_plugins)
    if not workers:
        pooled = pooled_baseline(study, data, first_model, plugins)
        local = local_baseline(study, data, first_model, plugins)
        return {"pooled": _outcome(study, task, pooled), "local-only": _outcome(study, task, local)}
    with ProcessPoolExecutor(workers, mp_context(), initializer=one_thread) as pool:
        whole = pool.submit(pooled_baseline, study, data, first_model, plugins)
        parts = [
            pool.submit(local_baseline, study, {name: data[name]}, first_model, plugins)
            for name in sorted(data)
        ]
        pooled = whole.result()
        local = {name: sums for part in parts for name, sums in part.result().items()}
    return {"pooled": _outcome(study, task, pooled), "local-only": _outcome(study, task, local)}


def _longer(study: StudySpec, sites: int) -> StudySpec:
    if study.training.local_steps is None:
        return study
    steps = study.training.local_steps * sites
    training = study.training.model_copy(update={"local_steps": steps})
    return study.model_copy(update={"training": training})


def _concatenate(designs: Sequence[Design]) -> Design:
    return Design(
        np.concatenate([design.inputs for design in designs]),
        np.concatenate([design.targets for design in designs]),
        np.concatenate([design.kept for design in designs]),
    )


def _train(study: StudySpec, task: Task, name: str, design: Design, model: Vector) -> tuple[Vector, Arrays]:
    preprocessing = task.features.fit(study, task.features.statistics(study, design))
    examples = task.features.encode(study, preprocessing, design)
    flat = FlatModel(task.build_model(study), choose_device(study.training.device))
    strategy = build_strategy(StrategySpec(name="fedavg"))
    state: Arrays = {}
    for number in range(1, study.training.rounds + 1):
        result = train_locally(study, task, strategy, flat, name, number, examples, model, {}, state)
        model, state = model + result.update, result.state
    return model, preprocessing


def _evaluate(study: StudySpec, task: Task, data: SiteData, model: Vector, preprocessing: Arrays) -> Sums:
    examples = task.features.encode(study, preprocessing, data.holdout)
    flat = FlatModel(task.build_model(study), choose_device(study.training.device))
    return evaluate_locally(study, task, flat, examples, model, preprocessing)


def _outcome(study: StudySpec, task: Task, sums: Mapping[str, Sums]) -> Outcome:
    per_site = {name: task.summarise(study, part) for name, part in sums.items()}
    pooled = task.summarise(study, add_sums(sums.values()))
    return Outcome(mean_over_sites(per_site), pooled, per_site)
