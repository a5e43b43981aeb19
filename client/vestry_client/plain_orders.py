"""Orders of a study without [privacy]: what is computed from this site's rows as they are."""

import logging
import traceback
from pathlib import Path

import numpy as np

from vestry_client.datasets import SiteData
from vestry_client.evaluate import evaluate_locally
from vestry_client.private_orders import check_arrays
from vestry_client.replies import ClearReply
from vestry_client.site import Bench, Site, preprocessing_of
from vestry_client.train import train_locally
from vestry_privacy.errors import VestryError
from vestry_strategies.orders import (
    EvaluateOrder,
    EvaluateReply,
    StatisticsOrder,
    StatisticsReply,
    TrainOrder,
    TrainReply,
)
from vestry_strategies.secure_plan import SumKind, sum_layout

__all__ = ["plain_reply", "plain_weight", "summand"]

_log = logging.getLogger("vestry.site")


def plain_reply(site: Site, bench: Bench, order: StatisticsOrder | TrainOrder | EvaluateOrder) -> ClearReply:
    """Answer an order.

    Raises:
        VestryError: of policy, data or training.
    """
    data = site.data(bench)
    if isinstance(order, StatisticsOrder):
        return StatisticsReply(site.name, bench.task.features.statistics(bench.study, data.train))
    if isinstance(order, TrainOrder):
        return _train(site, bench, data, order)
    preprocessing = preprocessing_of(bench, data, order.preprocessing)
    examples = data.examples(bench.study, bench.task, preprocessing, holdout=True)
    sums = evaluate_locally(bench.study, bench.task, bench.flat, examples, order.model, preprocessing)
    return EvaluateReply(site.name, order.round, sums)


def summand(site: Site, bench: Bench, order: StatisticsOrder | TrainOrder | EvaluateOrder) -> ClearReply:
    """This site's answer as it goes into a secure sum; zeros where its rows spoil it.

    Returns:
        The answer. Of training that went wrong: no change, this site's weight, and no loss.

    Raises:
        StudyMismatch: the order's arrays fit no rows, or some number of rows only.

    Guarantees:
        Once the order is known to be the study's, whether the site answers does not depend on its rows: what
        a single site refuses would tell the coordinator of them, as often as it likes to ask.
    """
    data = site.data(bench)
    if not isinstance(order, StatisticsOrder) and getattr(bench.study.task, "standardise", "") != "per-site":
        check_arrays(bench, data.train, order.preprocessing)
    try:
        return plain_reply(site, bench, order)
    except VestryError as error:
        _log.warning("this site adds zeros: %s", error)
    except Exception as error:  # noqa: BLE001  whatever rows can do to training or scores must not show
        # Where it happened, not what it says: a library's text may quote a value of a row.
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}:{last.lineno}"
        _log.warning("this site adds zeros: %s in %s", type(error).__name__, where)
    if isinstance(order, TrainOrder):
        size = len(order.model) + bench.strategy.extra(bench.flat.layout.trainable)
        weight = float(plain_weight(site, bench))
        return TrainReply(site.name, order.round, np.zeros(size, dtype=np.float32), weight, None, 0)
    kind: SumKind = "statistics" if isinstance(order, StatisticsOrder) else "evaluate"
    zeros = {
        name: np.zeros(shape) for name, shape in sum_layout(bench.study, bench.task, kind).shapes.items()
    }
    if isinstance(order, StatisticsOrder):
        return StatisticsReply(site.name, zeros)
    return EvaluateReply(site.name, order.round, zeros)


def plain_weight(site: Site, bench: Bench) -> int:
    """Weight of this site's update: its number of training examples, or 1."""
    return len(site.data(bench).train) if bench.study.aggregation.weighting == "examples" else 1


def _train(site: Site, bench: Bench, data: SiteData, order: TrainOrder) -> TrainReply:
    study, states = bench.study, site.own_states(bench.digest)
    preprocessing = preprocessing_of(bench, data, order.preprocessing)
    result = train_locally(
        study,
        bench.task,
        bench.strategy,
        bench.flat,
        site.stream,
        order.round,
        data.examples(study, bench.task, preprocessing),
        order.model,
        order.shared,
        states.before(order.round),
    )
    states.keep(order.round, order.finished, result.state)
    weight = float(plain_weight(site, bench))
    return TrainReply(site.name, order.round, result.update, weight, result.loss, result.steps)
