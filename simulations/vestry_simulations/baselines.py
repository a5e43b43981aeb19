"""What a federation is compared with: one model on all data, and a model for each site alone.

Both see as many examples as they do in the federation: the pooled model all of the sites' (with
``local_steps``, that many for each site), a local one its own. Both start from the federation's first
model, and standardise by the data they may see. Under [privacy] both train with the study's own mechanism, so
that each person has the same epsilon as in the federation; nothing is charged, since nothing leaves the
laboratory.
"""

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import numpy as np

from vestry_client.datasets import SiteData, open_data
from vestry_client.evaluate import evaluate_locally
from vestry_client.train import PersonRecords, choose_device, train_locally
from vestry_privacy.plan import Mechanism, PrivacyPlan
from vestry_privacy.release import noised_sum
from vestry_privacy.sampling import PoissonSampler
from vestry_simulations.engine import mp_context
from vestry_simulations.results import Outcome, mean_over_sites
from vestry_simulations.worker import VirtualSite, one_thread
from vestry_strategies.parameters import FlatModel, Vector
from vestry_strategies.private_plan import releases_statistics, study_plan
from vestry_strategies.recipe import StrategySpec
from vestry_strategies.seeds import derive_seed
from vestry_strategies.strategies import build_strategy
from vestry_strategies.study import StudySpec
from vestry_strategies.sums import Arrays, Sums, add_sums
from vestry_strategies.task import Design, Task
from vestry_strategies.tasks.registry import find_task

__all__ = ["local_baseline", "model_outcome", "pooled_baseline", "run_baselines", "site_data"]


def site_data(
    study: StudySpec, sites: Sequence[VirtualSite], allowed_plugins: Collection[str] = ()
) -> dict[str, SiteData]:
    """The rows of each site, split as the site itself splits them."""
    task = find_task(study, allowed_plugins)
    return {
        site.name: open_data(study, task, site.name, lambda site=site: site.rows, site.secret)  # type: ignore[misc]
        for site in sites
    }


def model_outcome(
    study: StudySpec,
    data: Mapping[str, SiteData],
    model: Vector,
    preprocessing: Arrays,
    allowed_plugins: Collection[str] = (),
) -> Outcome:
    """How good one model is on every site's held-out rows, exactly: for a laboratory that holds them."""
    task = find_task(study, allowed_plugins)
    sums: dict[str, Sums] = {}
    for name in sorted(data):
        used = preprocessing
        if getattr(study.task, "standardise", "shared") == "per-site":
            used = task.features.fit(study, task.features.statistics(study, data[name].train))
        sums[name] = _evaluate(study, task, data[name], model, used)
    return _outcome(study, task, sums)


def pooled_baseline(
    study: StudySpec,
    data: Mapping[str, SiteData],
    first_model: Vector,
    allowed_plugins: Collection[str] = (),
) -> dict[str, Sums]:
    """Metric sums at each site of one model trained on the training rows of all sites."""
    task = find_task(study, allowed_plugins)
    names = sorted(data)
    pooled, persons = _pool([data[name] for name in names]), [data[name].persons for name in names]
    model, preprocessing = _train(_longer(study, len(names)), task, "pooled", pooled, first_model, persons)
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
        persons = [data[name].persons]
        model, preprocessing = _train(study, task, name, data[name], first_model, persons)
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
    """So many steps for each site; under [privacy] as many as one site, since steps cost privacy."""
    if study.training.local_steps is None or study.privacy is not None:
        return study
    steps = study.training.local_steps * sites
    training = study.training.model_copy(update={"local_steps": steps})
    return study.model_copy(update={"training": training})


def _pool(parts: Sequence[SiteData]) -> SiteData:
    """The training rows of all sites; a person of one site is nobody of another."""
    train = Design(
        np.concatenate([part.train.inputs for part in parts]),
        np.concatenate([part.train.targets for part in parts]),
        np.concatenate([part.train.kept for part in parts]),
    )
    offsets = np.cumsum([0, *(part.persons for part in parts)])
    owners = [part.train_owners + offset for part, offset in zip(parts, offsets, strict=False)]
    return SiteData(train, parts[0].holdout, np.concatenate(owners), persons=int(offsets[-1]))


def _train(
    study: StudySpec, task: Task, name: str, data: SiteData, model: Vector, persons: Sequence[int]
) -> tuple[Vector, Arrays]:
    """Train on the rows of one site or of several, with so many persons each."""
    flat = FlatModel(task.build_model(study), choose_device(study.training.device))
    strategy = build_strategy(StrategySpec(name="fedavg"))
    plan = _plan(study, persons)
    preprocessing = _preprocessing(study, task, data, plan)
    examples = task.features.encode(study, preprocessing, data.train)
    state: Arrays = {}
    for number in range(1, study.training.rounds + 1):
        private = None
        if plan is not None:
            seed = derive_seed(study.seed, "baseline", name, number) if plan.noise == "simulation" else None
            private = PersonRecords(_mechanism(study, plan, persons, seed), data.train_owners)
        result = train_locally(study, task, strategy, flat, name, number, examples, model, {}, state, private)
        model, state = model + result.update, result.state
    return model, preprocessing


def _plan(study: StudySpec, persons: Sequence[int]) -> PrivacyPlan | None:
    """The plan of the largest of these sites; None without one for persons.

    Not of all persons together: the study's delta need not suit so many.
    """
    if study.privacy is None or study.privacy.unit == "site":
        return None
    return study_plan(study, max(persons))


def _mechanism(study: StudySpec, plan: PrivacyPlan, persons: Sequence[int], seed: int | None) -> Mechanism:
    """The sites' mechanism over all their persons: the same noise, divided by the batches of all."""
    own = plan.mechanism(seed)
    if len(persons) == 1:
        return own
    return replace(
        own,
        sampler=PoissonSampler(plan.sampling_probability),
        slots=None if own.slots is None else sum(persons),
        normaliser=sum(study_plan(study, number).expected_batch for number in persons),
    )


def _preprocessing(study: StudySpec, task: Task, data: SiteData, plan: PrivacyPlan | None) -> Arrays:
    features = task.features
    if plan is None or features.bounded_statistics is None or features.fit_released is None:
        return features.fit(study, features.statistics(study, data.train))
    if not releases_statistics(study):
        return features.fit_released(study, {})
    bounded = features.bounded_statistics(study, data.train)
    sigma = plan.release_event("statistics").noise_multiplier
    source = plan.mechanism(study.seed if plan.noise == "simulation" else None).source
    total = noised_sum(bounded.values, data.train_owners, bounded.bound, sigma, plan.max_records, source)
    return features.fit_released(study, bounded.read(total))


def _evaluate(study: StudySpec, task: Task, data: SiteData, model: Vector, preprocessing: Arrays) -> Sums:
    examples = task.features.encode(study, preprocessing, data.holdout)
    flat = FlatModel(task.build_model(study), choose_device(study.training.device))
    return evaluate_locally(study, task, flat, examples, model, preprocessing)


def _outcome(study: StudySpec, task: Task, sums: Mapping[str, Sums]) -> Outcome:
    per_site = {name: task.summarise(study, part) for name, part in sums.items()}
    pooled = task.summarise(study, add_sums(sums.values()))
    return Outcome(mean_over_sites(per_site), pooled, per_site)
