"""Orders of a study without [privacy]: what is computed from this site's rows as they are."""

from vestry_client.datasets import SiteData
from vestry_client.evaluate import evaluate_locally
from vestry_client.replies import ClearReply
from vestry_client.site import Bench, Site, preprocessing_of
from vestry_client.train import train_locally
from vestry_strategies.orders import (
    EvaluateOrder,
    EvaluateReply,
    StatisticsOrder,
    StatisticsReply,
    TrainOrder,
    TrainReply,
)

__all__ = ["plain_reply", "plain_weight"]


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
        site.name,
        order.round,
        data.examples(study, bench.task, preprocessing),
        order.model,
        order.shared,
        states.before(order.round),
    )
    states.keep(order.round, order.finished, result.state)
    weight = float(plain_weight(site, bench))
    return TrainReply(site.name, order.round, result.update, weight, result.loss, result.steps)
