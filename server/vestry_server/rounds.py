"""One round, top to bottom, and the study made of rounds.

VestryError
└── RoundError               a round cannot finish
    ├── NotEnoughSites       too few usable updates, after all attempts
    ├── NoWeight             all weights are zero
    └── Diverged             the loss or the model is not finite
"""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np

from vestry_privacy.errors import VestryError
from vestry_server.checkpoint import RunState
from vestry_server.exchange import Exchange
from vestry_server.private_rounds import server_noise, spent_epsilon, update_limit
from vestry_server.progress import Listener, RoundFailed, RoundRecord, StatisticsDone
from vestry_server.updates import sort_replies
from vestry_strategies.catalogue import better
from vestry_strategies.orders import (
    EvaluateOrder,
    EvaluateReply,
    FinishOrder,
    Refusal,
    StatisticsOrder,
    StatisticsReply,
    TrainOrder,
    TrainReply,
)
from vestry_strategies.parameters import FlatModel, Layout, Vector, model_hash
from vestry_strategies.seeds import derive_seed
from vestry_strategies.strategies import build_strategy
from vestry_strategies.strategy import Mean, Strategy, weighted_mean
from vestry_strategies.study import StudyMismatch, StudySpec
from vestry_strategies.sums import Arrays, add_sums
from vestry_strategies.support import check_supported
from vestry_strategies.task import Metrics, Task
from vestry_strategies.tasks.registry import find_task

__all__ = [
    "Diverged",
    "NoWeight",
    "NotEnoughSites",
    "RoundError",
    "Run",
    "open_run",
    "run_round",
    "run_study",
]


class RoundError(VestryError):
    """A round cannot finish. Earlier rounds are kept; the run can be resumed."""


class NotEnoughSites(RoundError):
    """Too few sites gave a usable reply."""


class NoWeight(RoundError):
    """All weights are zero."""


class Diverged(RoundError):
    """The loss or the model is not finite."""


@dataclass(frozen=True)
class Run:
    """What stays the same over the rounds of a run.

    Attributes:
        study: the study.
        task: its functions.
        strategy: both halves.
        layout: of the global model.
        exchange: how sites are reached.
        save: called with the state after each round, before anybody is told of it.
        tell: called with what happens.
    """

    study: StudySpec
    task: Task
    strategy: Strategy
    layout: Layout
    exchange: Exchange
    save: Callable[[RunState], None]
    tell: Listener


def open_run(
    study: StudySpec,
    exchange: Exchange,
    save: Callable[[RunState], None],
    tell: Listener,
    allowed_plugins: Collection[str] = (),
) -> tuple[Run, Vector]:
    """Prepare a run.

    Returns:
        The run, and the first global model, drawn from the study's seed.

    Raises:
        StudyError: this version cannot run the study.
        PluginError: the task is a plug-in that is not allowed here.
    """
    import torch

    check_supported(study)
    task = find_task(study, allowed_plugins)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(study.seed, "model"))
        flat = FlatModel(task.build_model(study))
    strategy = build_strategy(study.strategy)
    return Run(study, task, strategy, flat.layout, exchange, save, tell), flat.read()


def run_study(run: Run, first_model: Vector, state: RunState | None = None) -> RunState:
    """All rounds of a study, from the start or from a checkpoint.

    Args:
        run: from :func:`open_run`.
        first_model: (d,) the model before round 1; not used when ``state`` is given.
        state: where to go on.

    Raises:
        StudyMismatch: ``state`` belongs to another study.
        RoundError: a round cannot finish; the state of the round before it is saved.
    """
    if state is None:
        state = _start(run, first_model)
    elif state.study_hash != run.study.digest():
        raise StudyMismatch(
            f"the run was started with study {state.study_hash[:12]}, this is study "
            f"{run.study.digest()[:12]}; resume with the study file of the run"
        )
    while state.round < run.study.training.rounds and not state.stopped:
        state = run_round(run, state)
    _finish(run, state)
    return state


def run_round(run: Run, state: RunState) -> RunState:
    """One round.

    Raises:
        RoundError: it cannot finish; ``state`` stands.
    """
    study, number = run.study, state.round + 1
    asked = _cohort(study, state.sites, number)
    order = TrainOrder(
        study=study.to_json(),
        round=number,
        finished=state.round,
        model=state.model,
        preprocessing=state.preprocessing,
        shared={name: state.server[name] for name in run.strategy.broadcast},
    )
    updates, left_out, attempt = _gather(run, order, asked)
    mean = server_noise(study, _combine(run.strategy, updates), [u.weight for u in updates], number)
    model, server = _server_step(run, state, mean)
    if not np.isfinite(model).all():
        raise Diverged(f"round {number}: the new model is not finite; {_ADVICE}")
    metrics, per_site, missing = _evaluate(run, state, model, number)
    record = RoundRecord(
        round=number,
        loss=_mean_loss(updates),
        metrics=metrics,
        per_site=per_site,
        sites=tuple(update.site for update in updates),
        left_out={**missing, **left_out},
        attempt=attempt,
        model_hash=model_hash(model),
        bytes_up=sum(update.update.nbytes for update in updates),
        bytes_down=state.model.nbytes * len(asked) * attempt,
        epsilon=spent_epsilon(
            study,
            {update.site: update.spent for update in updates},
            state.history[-1].epsilon if state.history else None,
        ),
    )
    state = replace(state, round=number, model=model, server=server, history=(*state.history, record))
    state = _judge(run, state, metrics)
    run.save(state)
    run.tell(record)
    return state


_ADVICE = (
    "lower training.learning_rate or the server's, and check the data for extreme values; "
    "the last good round is kept; start a new run with the changed study"
)


_DIVERGING = ("diverged", "its update is not finite", "its update has norm")


def _start(run: Run, model: Vector) -> RunState:
    """Round 0: sums over the sites give the shared preprocessing, and say who takes part."""
    study = run.study
    order = StatisticsOrder(study.to_json())
    orders = dict.fromkeys(run.exchange.sites(), order)
    left_out = dict.fromkeys(orders, "no reply before the deadline")
    sums: dict[str, Arrays] = {}
    for reply in run.exchange.send(orders, study.aggregation.deadline_seconds):
        if isinstance(reply, StatisticsReply):
            sums[reply.site] = reply.sums
        elif isinstance(reply, Refusal):
            left_out[reply.site] = f"{reply.code}: {reply.message}"
    left_out = {site: reason for site, reason in sorted(left_out.items()) if site not in sums}
    if len(sums) < study.aggregation.min_sites:
        raise NotEnoughSites(_too_few("round 0 (statistics)", len(sums), study, left_out))
    total = add_sums(sums[site] for site in sorted(sums))
    state = RunState(
        study_hash=study.digest(),
        round=0,
        model=model,
        best_model=model,
        server=run.strategy.start_state(run.layout.trainable),
        preprocessing=_fit(run, total),
        sites=tuple(sorted(sums)),
    )
    run.save(state)
    examples = int(total["examples"][0]) if "examples" in total else 0
    run.tell(StatisticsDone(state.sites, left_out, examples))
    return state


def _fit(run: Run, total: Arrays) -> Arrays:
    """The shared preprocessing: of exact sums, or under [privacy] of noised ones."""
    features, privacy = run.task.features, run.study.privacy
    if privacy is None or features.fit_released is None:
        return features.fit(run.study, total)
    return features.fit_released(run.study, total)


def _finish(run: Run, state: RunState) -> None:
    """Let the sites close their books on the study, so that what it held and did not use is free again."""
    if run.study.privacy is None:
        return
    order = FinishOrder(run.study.to_json())
    for _ in run.exchange.send(dict.fromkeys(state.sites, order), run.study.aggregation.deadline_seconds):
        pass  # who does not answer keeps its hold until its steward releases it


def _too_few(what: str, usable: int, study: StudySpec, left_out: Mapping[str, str]) -> str:
    reasons = "".join(f"\n  {site}: {reason}" for site, reason in left_out.items())
    return (
        f"{what}: {usable} sites gave a usable reply, aggregation.min_sites = "
        f"{study.aggregation.min_sites}{reasons}"
    )


def _cohort(study: StudySpec, sites: tuple[str, ...], number: int) -> tuple[str, ...]:
    """All sites, or the round's sample of them."""
    wanted = study.aggregation.cohort
    if wanted is None or wanted >= len(sites):
        return sites
    generator = np.random.default_rng(derive_seed(study.seed, "cohort", number))
    return tuple(sites[i] for i in sorted(generator.choice(len(sites), wanted, replace=False)))


def _gather(
    run: Run, order: TrainOrder, asked: tuple[str, ...]
) -> tuple[list[TrainReply], Mapping[str, str], int]:
    """Ask for updates until enough are usable.

    Raises:
        Diverged: too few are usable, and a site's loss or update is not finite or too large.
        NotEnoughSites: too few are usable.
    """
    rule = run.study.aggregation
    size = len(order.model) + run.strategy.extra(run.layout.trainable)
    message = ""
    for attempt in range(1, rule.attempts + 1):
        replies = run.exchange.send(dict.fromkeys(asked, order), rule.deadline_seconds)
        updates, left_out = sort_replies(replies, asked, order.round, size, *update_limit(run.study))
        if len(updates) >= rule.min_sites:
            return updates, left_out, attempt
        message = _too_few(f"round {order.round}", len(updates), run.study, left_out)
        run.tell(RoundFailed(order.round, attempt, left_out))
        if any(reason.startswith(_DIVERGING) for reason in left_out.values()):
            raise Diverged(f"{message}\n{_ADVICE}")  # another attempt would take the same steps
    raise NotEnoughSites(f"{message}\nafter {rule.attempts} attempts")


def _combine(strategy: Strategy, updates: list[TrainReply]) -> Mean:
    weights = [update.weight for update in updates]
    if not sum(weights) > 0:
        raise NoWeight("all weights are zero: no site has an example that counts")
    if strategy.combine is not None:
        stacked = np.stack([update.update.astype(np.float64) for update in updates])
        return strategy.combine(stacked, np.array(weights))
    return weighted_mean([update.update for update in updates], weights)


def _server_step(run: Run, state: RunState, mean: Mean) -> tuple[Vector, Arrays]:
    """The strategy steps on parameters (and its extra values); buffers take the mean."""
    parameters, size = run.layout.trainable, run.layout.size
    seen = np.concatenate([mean[:parameters], mean[size:]])
    with np.errstate(over="ignore", invalid="ignore"):  # run_round looks for what is not finite
        stepped, server = run.strategy.server_step(state.server, state.model[:parameters], seen)
        buffers = (state.model[parameters:].astype(np.float64) + mean[parameters:size]).astype("f4")
    return np.concatenate([stepped, buffers]), server


def _mean_loss(updates: list[TrainReply]) -> float | None:
    """Weighted over the sites; None where losses may not leave."""
    losses = [(update.loss, update.weight) for update in updates if update.loss is not None]
    total = sum(weight for _, weight in losses)
    return math.fsum(loss * weight for loss, weight in losses) / total if total > 0 else None


def _evaluate(
    run: Run, state: RunState, model: Vector, number: int
) -> tuple[Metrics, dict[str, Metrics], dict[str, str]]:
    """Metrics over all sites, for each, and why a site has none; all empty in a round without."""
    study = run.study
    if number % study.evaluation.every and number != study.training.rounds:
        return {}, {}, {}
    if study.privacy is not None and not study.privacy.metrics:
        return {}, {}, {}  # none may leave
    order = EvaluateOrder(study.to_json(), number, model, state.preprocessing)
    missing = dict.fromkeys(state.sites, "evaluation: no reply before the deadline")
    sums: dict[str, Arrays] = {}
    orders = dict.fromkeys(state.sites, order)
    for reply in run.exchange.send(orders, study.aggregation.deadline_seconds):
        if isinstance(reply, EvaluateReply) and reply.round == number and reply.site in missing:
            sums[reply.site] = reply.sums
            del missing[reply.site]
        elif isinstance(reply, Refusal) and reply.site in missing:
            missing[reply.site] = f"evaluation: {reply.code}: {reply.message}"
    if not sums:
        return {}, {}, missing
    ordered = {site: sums[site] for site in sorted(sums)}
    pooled = run.task.summarise(study, add_sums(ordered.values()))
    per_site = {site: run.task.summarise(study, part) for site, part in ordered.items()}
    return pooled, per_site, missing


def _judge(run: Run, state: RunState, metrics: Metrics) -> RunState:
    """Keep the best model; stop early where the study says so."""
    primary = run.task.primary(run.study)
    value = metrics.get(primary)
    lower = run.task.lower_is_better
    if value is not None and (state.best_value is None or better(value, state.best_value, primary in lower)):
        state = replace(state, best_model=state.model, best_round=state.round, best_value=value)
    rule = run.study.early_stopping
    watched = metrics.get(rule.metric) if rule else None
    if rule is None or watched is None:
        return state
    if state.stop_best is None or better(watched, state.stop_best, rule.metric in lower, rule.min_delta):
        return replace(state, stop_best=watched, stop_wait=0)
    waited = state.stop_wait + 1
    why = f"{rule.metric} has not improved for {waited} evaluations"
    return replace(state, stop_wait=waited, stopped=why if waited >= rule.patience else "")
