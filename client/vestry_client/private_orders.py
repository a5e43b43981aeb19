"""Orders of a study with [privacy]: what is computed between a reservation and its commit."""

from vestry_client.datasets import SiteData
from vestry_client.evaluate import evaluate_bounded
from vestry_client.private import PrivateStudy, Release, bound_update, order_hash, pay, release_sums
from vestry_client.site import Bench, Site, preprocessing_of
from vestry_client.train import LocalResult, PersonRecords, train_locally
from vestry_privacy.errors import VestryError
from vestry_strategies.orders import (
    EvaluateOrder,
    EvaluateReply,
    StatisticsOrder,
    StatisticsReply,
    TrainOrder,
    TrainReply,
)
from vestry_strategies.parameters import model_hash
from vestry_strategies.private_plan import releases_statistics

__all__ = ["private_reply"]


def private_reply(
    site: Site, bench: Bench, order: StatisticsOrder | TrainOrder | EvaluateOrder
) -> StatisticsReply | TrainReply | EvaluateReply:
    """Answer an order of a study with [privacy].

    Raises:
        VestryError: of policy, plan, ledger, data or training.

    Guarantees:
        Nothing that depends on data leaves without a reservation in the ledger that was durable before.
    """
    private = site.private(bench)
    data = site.data(bench)
    if isinstance(order, StatisticsOrder):
        return _statistics(site, bench, private, data, order)
    if isinstance(order, TrainOrder):
        return _train(site, bench, private, data, order)
    return _evaluate(site, bench, private, data, order)


def _statistics(
    site: Site, bench: Bench, private: PrivateStudy, data: SiteData, order: StatisticsOrder
) -> StatisticsReply:
    if private.plan.unit == "site" or not releases_statistics(bench.study):
        return StatisticsReply(site.name, {}, private.guarantee)
    make = bench.task.features.bounded_statistics
    if make is None:
        raise VestryError(
            f"task: '{bench.task.name}' has no bounded form of its statistics, so nothing of round 0 may "
            "leave under [privacy]; give the plug-in bounded_statistics and fit_released"
        )

    def compute() -> StatisticsReply:
        bounded = make(bench.study, data.train)
        sums = release_sums(private, "statistics", bounded, data.train_owners, 0)
        return StatisticsReply(site.name, sums, private.guarantee)

    event = private.plan.release_event("statistics")
    release = Release("statistics", "train", 0, event, order_hash(bench.digest, order))
    return pay(private, StatisticsReply, release, compute)


def _train(site: Site, bench: Bench, private: PrivateStudy, data: SiteData, order: TrainOrder) -> TrainReply:
    steps = 1 if private.plan.unit == "site" else bench.study.training.local_steps or 1
    release = Release(
        "train",
        "train",
        order.round,
        private.plan.event(steps),
        order_hash(bench.digest, order),
        model_hash(order.model),
    )

    def compute() -> TrainReply:
        result = _local_steps(site, bench, private, data, order)
        update = bound_update(private, result.update, order.round)
        spent = tuple(event.model_dump_json() for event in private.ledger.spent(bench.digest, "train"))
        return TrainReply(site.name, order.round, update, private.weight, None, result.steps, spent)

    return pay(private, TrainReply, release, compute)


def _local_steps(
    site: Site, bench: Bench, private: PrivateStudy, data: SiteData, order: TrainOrder
) -> LocalResult:
    states = site.own_states(bench.digest)
    preprocessing = preprocessing_of(bench, data, order.preprocessing)
    persons: PersonRecords | None = None
    if private.plan.unit != "site":
        seed = private.noise_seed("train", order.round)
        persons = PersonRecords(private.plan.mechanism(seed), data.train_owners)
    result = train_locally(
        bench.study,
        bench.task,
        bench.strategy,
        bench.flat,
        site.name,
        order.round,
        data.examples(bench.study, bench.task, preprocessing),
        order.model,
        order.shared,
        states.before(order.round),
        persons,
    )
    states.keep(order.round, order.finished, result.state)
    return result


def _evaluate(
    site: Site, bench: Bench, private: PrivateStudy, data: SiteData, order: EvaluateOrder
) -> EvaluateReply:
    study = bench.study
    names = study.privacy.metrics if study.privacy is not None else ()
    if not names:
        return EvaluateReply(site.name, order.round, {})

    def compute() -> EvaluateReply:
        examples = data.examples(study, bench.task, order.preprocessing, holdout=True)
        bounded = evaluate_bounded(
            study, bench.task, bench.flat, examples, order.model, order.preprocessing, names
        )
        sums = release_sums(private, "evaluation", bounded, data.holdout_owners, order.round)
        return EvaluateReply(site.name, order.round, sums)

    event = private.plan.release_event("evaluation")
    release = Release(
        "evaluation",
        "holdout",
        order.round,
        event,
        order_hash(bench.digest, order),
        model_hash(order.model),
    )
    return pay(private, EvaluateReply, release, compute)
