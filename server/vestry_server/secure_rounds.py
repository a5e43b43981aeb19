"""A round of secure sums: statistics, updates and metrics of which the coordinator sees the sum alone."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass

from vestry_privacy.secagg.plan import Plan
from vestry_server.checkpoint import RunState
from vestry_server.evaluation import Evaluated
from vestry_server.gather import Gathered
from vestry_server.progress import RoundFailed
from vestry_server.run import ADVICE, Diverged, NotEnoughSites, NoWeight, Run, diverging
from vestry_server.secure_run import SecureRun
from vestry_server.secure_sum import SecureSum, SumFailed, SumOrder, secure_sum
from vestry_server.statistics import Statistics
from vestry_strategies.orders import EvaluateOrder, StatisticsOrder, TrainOrder
from vestry_strategies.parameters import model_hash
from vestry_strategies.secure_plan import (
    DIVERGED,
    LARGEST_WEIGHT_LIMIT,
    LOSS,
    STATISTICS_WEIGHT_LIMIT,
    SumKind,
    configuration_hash,
    round_plan,
    sum_layout,
)
from vestry_strategies.sums import Arrays

__all__ = ["evaluate_securely", "gather_securely", "gather_statistics_securely"]

_log = logging.getLogger("vestry.secure")


def gather_statistics_securely(run: Run) -> Statistics:
    """Round 0 as one secure sum. Every site of the directory stays in the roster, whoever is lost here.

    Raises:
        NotEnoughSites: too few are left in every attempt.
    """
    secure, study = _secure(run), run.study
    layout = sum_layout(study, run.task, "statistics")
    order = StatisticsOrder(study.to_json())
    shape = _Shape("statistics", 0, 0, layout.size, STATISTICS_WEIGHT_LIMIT)
    found, _ = _attempts(run, secure.names, order, shape, 0)
    total = layout.read(found.total.wide)
    counted = found.total.weight if study.privacy is None and study.aggregation.weighting == "examples" else 0
    examples = int(total["examples"][0]) if "examples" in total else counted
    limit = max(1, counted, *(part.weight or 1 for part in found.public.values()))
    if study.aggregation.weighting == "equal":
        limit = 1
    strangers = set(run.exchange.sites()) - set(secure.names)
    left_out = {**dict.fromkeys(sorted(strangers), "has no seat in the directory"), **found.left_out}
    return Statistics(total, secure.names, found.sites, left_out, examples, min(limit, LARGEST_WEIGHT_LIMIT))


def gather_securely(run: Run, state: RunState, order: TrainOrder, asked: tuple[str, ...]) -> Gathered:
    """The mean update of a round, and the mean loss where it may leave.

    Raises:
        Diverged: too few sites' training went well, of those in the sum or of those that said so.
        NotEnoughSites: too few are left in every attempt.
        NoWeight: all weights are zero.
    """
    layout = sum_layout(run.study, run.task, "train")
    shape = _Shape("train", order.round, run.update_size, layout.size, state.weight_limit)
    found, attempt = _attempts(run, asked, order, shape, state.sequence)
    weight = found.total.weight
    if weight < 1:
        raise NoWeight("all weights are zero: no site has an example that counts")
    sums = layout.read(found.total.wide)
    lost = _diverged(run, order.round, sums, len(found.sites))
    return Gathered(
        mean=found.total.values / weight,
        share=min(1.0, state.weight_limit / weight),
        loss=float(sums[LOSS]) / weight if LOSS in sums and not lost else None,
        sites=found.sites,
        left_out=found.left_out,
        attempt=attempt,
        bytes_up=found.bytes_up,
        bytes_down=found.bytes_down,
        spent={site: part.spent for site, part in found.public.items()},
        rounding=found.plan.ring.step * math.sqrt(run.update_size),
    )


def _diverged(run: Run, number: int, sums: Arrays, sites: int) -> int:
    """How many sites' training went wrong; which ones, the sum does not tell. They added zeros.

    Raises:
        Diverged: fewer than aggregation.min_sites are left.
    """
    lost = round(float(sums[DIVERGED])) if DIVERGED in sums else 0
    if lost > 0 and sites - lost < run.study.aggregation.min_sites:
        raise Diverged(f"round {number}: {lost} of {sites} sites diverged, and added nothing; {ADVICE}")
    if lost > 0:
        _log.warning("round %d: %d of %d sites diverged, and added nothing", number, lost, sites)
    return lost


def evaluate_securely(run: Run, state: RunState, order: EvaluateOrder) -> Evaluated:
    """Metrics over the held-out rows of the sites that last; of no single one."""
    layout = sum_layout(run.study, run.task, "evaluate")
    shape = _Shape("evaluate", order.round, 0, layout.size, 1)
    try:
        found = _one_sum(run, state.sites, order, shape, state.sequence)
    except SumFailed as error:
        reasons = error.left_out or dict.fromkeys(state.sites, str(error))
        return Evaluated(missing=_of_evaluation(reasons))
    metrics = run.task.summarise(run.study, layout.read(found.total.wide))
    return Evaluated(metrics, {}, _of_evaluation(found.left_out))


def _of_evaluation(reasons: Mapping[str, str]) -> dict[str, str]:
    return {site: f"evaluation: {reason}" for site, reason in reasons.items()}


@dataclass(frozen=True)
class _Shape:
    """What of a plan depends on the kind of sum."""

    kind: SumKind
    round: int
    values: int
    wide: int
    weight_limit: int


def _secure(run: Run) -> SecureRun:
    if run.secure is None:
        raise ValueError("secure=None: open_run lets no such run through")
    return run.secure


def _attempts(
    run: Run, asked: tuple[str, ...], order: SumOrder, shape: _Shape, last: int
) -> tuple[SecureSum, int]:
    """Try until a sum is made; each try is a sum of its own, with a plan, keys and masks of its own."""
    rule, message = run.study.aggregation, ""
    what = f"round {shape.round}" if shape.round else "round 0 (statistics)"
    for attempt in range(1, rule.attempts + 1):
        try:
            return _one_sum(run, asked, order, shape, last), attempt
        except SumFailed as error:
            reasons = "".join(f"\n  {site}: {reason}" for site, reason in error.left_out.items())
            message = f"{what}: {error}{reasons}"
            run.tell(RoundFailed(shape.round, attempt, error.left_out, str(error)))
            if diverging(error.left_out):
                raise Diverged(f"{message}\n{ADVICE}") from None
    raise NotEnoughSites(f"{message}\nafter {rule.attempts} attempts")


def _one_sum(run: Run, asked: tuple[str, ...], order: SumOrder, shape: _Shape, last: int) -> SecureSum:
    secure, study = _secure(run), run.study
    plan = _plan(run, asked, order, shape, last)
    return secure_sum(run.exchange, secure, study.to_json(), plan, order)


def _plan(run: Run, asked: tuple[str, ...], order: SumOrder, shape: _Shape, last: int) -> Plan:
    secure, study = _secure(run), run.study
    if isinstance(order, StatisticsOrder):
        model, configuration = study.digest(), configuration_hash({}, {})
    else:
        shared = order.shared if isinstance(order, TrainOrder) else {}
        model, configuration = model_hash(order.model), configuration_hash(order.preprocessing, shared)
    return round_plan(
        study,
        run=secure.run_id,
        kind=shape.kind,
        round=shape.round,
        sequence=secure.next_sequence(last),
        directory=secure.directory,
        roster=secure.directory.roster(asked),
        model=bytes.fromhex(model),
        configuration=configuration,
        values=shape.values,
        wide=shape.wide,
        weight_limit=shape.weight_limit,
    )
