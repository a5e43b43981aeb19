"""One round, top to bottom, and the study made of rounds.

With secure aggregation the parts of a round are secure sums (secure_rounds.py); without it the coordinator
sees each site's own part (statistics.py, gather.py, evaluation.py). The round is the same.
"""

from dataclasses import replace

import numpy as np

from vestry_server.checkpoint import RunState
from vestry_server.evaluation import Evaluated, evaluate, judge
from vestry_server.gather import cohort, gather
from vestry_server.private_rounds import server_noise, spent_epsilon
from vestry_server.progress import RoundRecord, SecureAggregation, StatisticsDone
from vestry_server.run import ADVICE, Diverged, NotEnoughSites, NoWeight, RoundError, Run, open_run
from vestry_server.secure_rounds import evaluate_securely, gather_securely, gather_statistics_securely
from vestry_server.statistics import fit, gather_statistics
from vestry_strategies.orders import EvaluateOrder, FinishOrder, TrainOrder
from vestry_strategies.parameters import Vector, model_hash
from vestry_strategies.secure_plan import crowd_words, evaluates_after
from vestry_strategies.strategy import Mean
from vestry_strategies.study import StudyMismatch
from vestry_strategies.sums import Arrays

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
    if state is not None and state.study_hash != run.study.digest():
        raise StudyMismatch(
            f"the run was started with study {state.study_hash[:12]}, this is study "
            f"{run.study.digest()[:12]}; resume with the study file of the run"
        )
    if run.secure is not None:
        count = len(cohort(run.study, run.secure.names, 1))
        run.tell(SecureAggregation(count, crowd_words(count)))
    if state is None:
        state = _start(run, first_model)
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
    asked = cohort(study, state.sites, number)
    order = TrainOrder(
        study=study.to_json(),
        round=number,
        finished=state.round,
        model=state.model,
        preprocessing=state.preprocessing,
        shared={name: state.server[name] for name in run.strategy.broadcast},
    )
    plain = run.secure is None
    gathered = gather(run, order, asked) if plain else gather_securely(run, state, order, asked)
    mean = server_noise(study, gathered.mean, gathered.share, number, gathered.rounding)
    model, server = _server_step(run, state, mean)
    if not np.isfinite(model).all():
        raise Diverged(f"round {number}: the new model is not finite; {ADVICE}")
    evaluated = _evaluate(run, state, model, number)
    record = RoundRecord(
        round=number,
        loss=gathered.loss,
        metrics=evaluated.metrics,
        per_site=evaluated.per_site,
        sites=gathered.sites,
        left_out={**evaluated.missing, **gathered.left_out},
        attempt=gathered.attempt,
        model_hash=model_hash(model),
        bytes_up=gathered.bytes_up,
        bytes_down=gathered.bytes_down,
        epsilon=spent_epsilon(study, gathered.spent, state.history[-1].epsilon if state.history else None),
    )
    sequence = run.secure.sequence if run.secure is not None else 0
    state = replace(state, round=number, model=model, server=server, sequence=sequence)
    state = judge(run, replace(state, history=(*state.history, record)), evaluated.metrics)
    run.save(state)
    run.tell(record)
    return state


def _start(run: Run, model: Vector) -> RunState:
    """Round 0: sums over the sites give the shared preprocessing, and say who takes part."""
    found = gather_statistics(run) if run.secure is None else gather_statistics_securely(run)
    state = RunState(
        study_hash=run.study.digest(),
        round=0,
        model=model,
        best_model=model,
        server=run.strategy.start_state(run.layout.trainable),
        preprocessing=fit(run, found.sums),
        sites=found.roster,
        sequence=run.secure.sequence if run.secure is not None else 0,
        weight_limit=found.weight_limit,
    )
    run.save(state)
    run.tell(StatisticsDone(found.sites, found.left_out, found.examples))
    return state


def _server_step(run: Run, state: RunState, mean: Mean) -> tuple[Vector, Arrays]:
    """The strategy steps on parameters (and its extra values); buffers take the mean."""
    parameters, size = run.layout.trainable, run.layout.size
    seen = np.concatenate([mean[:parameters], mean[size:]])
    with np.errstate(over="ignore", invalid="ignore"):  # run_round looks for what is not finite
        stepped, server = run.strategy.server_step(state.server, state.model[:parameters], seen)
        buffers = (state.model[parameters:].astype(np.float64) + mean[parameters:size]).astype("f4")
    return np.concatenate([stepped, buffers]), server


def _evaluate(run: Run, state: RunState, model: Vector, number: int) -> Evaluated:
    """The new model on the held-out rows, in a round in which the study does so."""
    if not evaluates_after(run.study, number):
        return Evaluated()
    order = EvaluateOrder(run.study.to_json(), number, model, state.preprocessing)
    if run.secure is None:
        return evaluate(run, state.sites, order)
    return evaluate_securely(run, state, order)


def _finish(run: Run, state: RunState) -> None:
    """Let the sites close their books on the study, so that what it held and did not use is free again."""
    if run.study.privacy is None:
        return
    orders = {site: FinishOrder(run.study.to_json()) for site in state.sites if site in run.exchange.sites()}
    for _ in run.exchange.send(orders, run.study.aggregation.deadline_seconds):
        pass  # who does not answer keeps its hold until its steward releases it
