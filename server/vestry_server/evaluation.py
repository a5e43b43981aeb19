"""How good a round's model is, each site's sums seen by the coordinator; and what follows from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from vestry_server.checkpoint import RunState
from vestry_server.run import Run
from vestry_strategies.catalogue import better
from vestry_strategies.orders import EvaluateOrder, EvaluateReply, Refusal
from vestry_strategies.sums import Arrays, add_sums
from vestry_strategies.task import Metrics

__all__ = ["Evaluated", "evaluate", "judge"]


@dataclass(frozen=True)
class Evaluated:
    """Metrics of a model.

    Attributes:
        metrics: over all held-out rows; empty in a round without evaluation.
        per_site: for each site, where the coordinator sees them.
        missing: site -> why its rows are not in it.
    """

    metrics: Metrics = field(default_factory=dict)
    per_site: Mapping[str, Metrics] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)


def evaluate(run: Run, sites: tuple[str, ...], order: EvaluateOrder) -> Evaluated:
    """Ask for metric sums and add them up."""
    study = run.study
    missing = dict.fromkeys(sites, "evaluation: no reply before the deadline")
    sums: dict[str, Arrays] = {}
    for reply in run.exchange.send(dict.fromkeys(sites, order), study.aggregation.deadline_seconds):
        if isinstance(reply, EvaluateReply) and reply.round == order.round and reply.site in missing:
            sums[reply.site] = reply.sums
            del missing[reply.site]
        elif isinstance(reply, Refusal) and reply.site in missing:
            missing[reply.site] = f"evaluation: {reply.code}: {reply.message}"
    if not sums:
        return Evaluated(missing=missing)
    ordered = {site: sums[site] for site in sorted(sums)}
    pooled = run.task.summarise(study, add_sums(ordered.values()))
    per_site = {site: run.task.summarise(study, part) for site, part in ordered.items()}
    return Evaluated(pooled, per_site, missing)


def judge(run: Run, state: RunState, metrics: Metrics) -> RunState:
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
