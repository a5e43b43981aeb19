"""Orders of a study with [privacy]: what is computed between a reservation and its commit.

An order is checked against the study before anything is charged, and by what is public only: whether an
array of the coordinator's happens to fit the number of rows must not show.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeVar, overload

import numpy as np
import torch

from vestry_client.datasets import SiteData
from vestry_client.evaluate import bounds_of, evaluate_bounded, predict
from vestry_client.private import PrivateStudy, Release, bound_update, order_hash, pay, release_sums
from vestry_client.replies import ClearReply, PaidReply
from vestry_client.site import Bench, Site, preprocessing_of
from vestry_client.train import LocalResult, PersonRecords, TrainingDiverged, train_locally
from vestry_privacy.coupling import RecordShape, check_coupling
from vestry_privacy.errors import VestryError
from vestry_privacy.ledger_state import PARTITIONS
from vestry_strategies.orders import (
    EvaluateOrder,
    EvaluateReply,
    MaskedReply,
    StatisticsOrder,
    StatisticsReply,
    TrainOrder,
    TrainReply,
)
from vestry_strategies.parameters import model_hash
from vestry_strategies.private_plan import releases_statistics
from vestry_strategies.rows import DataError
from vestry_strategies.study import StudyMismatch
from vestry_strategies.sums import Arrays
from vestry_strategies.task import Design, Examples

__all__ = ["PrivateOrder", "Seal", "check_arrays", "check_place", "private_reply", "usable_data"]

PrivateOrder = StatisticsOrder | TrainOrder | EvaluateOrder
"""Orders whose answers depend on data."""

Reply = TypeVar("Reply", StatisticsReply, TrainReply, EvaluateReply)


Seal = Callable[[ClearReply], MaskedReply]
"""Masks a reply for a secure sum; between the reservation that pays for it and its commit."""


@overload
def private_reply(site: Site, bench: Bench, order: PrivateOrder) -> ClearReply: ...


@overload
def private_reply(site: Site, bench: Bench, order: PrivateOrder, seal: Seal) -> MaskedReply: ...


def private_reply(site: Site, bench: Bench, order: PrivateOrder, seal: Seal | None = None) -> PaidReply:
    """Answer an order of a study with [privacy].

    Args:
        site: this site.
        bench: the study.
        order: what is asked.
        seal: where the answer goes into a secure sum.

    Raises:
        VestryError: of policy, plan, ledger, data or training.

    Guarantees:
        Nothing that depends on data leaves without a reservation in the ledger that was durable before.
    """
    check_place(bench, order)
    private = site.private(bench)
    data = usable_data(site, bench, private)
    if not isinstance(order, StatisticsOrder):
        check_arrays(bench, data.train, order.preprocessing)
    if isinstance(order, StatisticsOrder):
        return _statistics(site, bench, private, data, order, seal)
    if isinstance(order, TrainOrder):
        return _train(site, bench, private, data, order, seal)
    return _evaluate(site, bench, private, data, order, seal)


def _paid(
    private: PrivateStudy,
    kind: type[Reply],
    release: Release,
    compute: Callable[[], Reply],
    seal: Seal | None,
) -> Reply | MaskedReply:
    if seal is None:
        return pay(private, kind, release, compute)
    return pay(private, MaskedReply, release, lambda: seal(compute()))


def usable_data(site: Site, bench: Bench, private: PrivateStudy) -> SiteData:
    """The rows; a site that cannot use them does not keep the budget that it holds for nothing."""
    try:
        return site.data(bench)
    except DataError:
        if not any(private.ledger.spent(bench.digest, part) for part in PARTITIONS):
            private.ledger.release(bench.digest)
            site.forget(bench.digest)
        raise


def check_place(bench: Bench, order: PrivateOrder) -> None:
    """Refuse an order that is no part of the study, before it is charged.

    Raises:
        StudyMismatch: the round is none of the study's, the model is not the study's, or an array is of
            another type than float64.
    """
    if isinstance(order, StatisticsOrder):
        return
    arrays = [*order.preprocessing.values()]
    if isinstance(order, TrainOrder):
        arrays += order.shared.values()
        if type(order.finished) is not int or not 0 <= order.finished < max(1, bench.study.training.rounds):
            raise StudyMismatch("order.finished: is no earlier round of the study")
    if any(array.dtype != np.float64 for array in arrays):
        # Other types can hold values that look alike to a hash and differ to a site's arithmetic.
        raise StudyMismatch("order: its arrays are not all of float64")
    rounds, number = bench.study.training.rounds, order.round
    if type(number) is not int or not 1 <= number <= rounds:
        raise StudyMismatch(f"order.round: the study has rounds 1 to {rounds}")
    every = bench.study.evaluation.every
    if isinstance(order, EvaluateOrder) and number % every and number != rounds:
        raise StudyMismatch(f"order.round={number}: the study evaluates every {every} rounds and at the end")
    model, size = order.model, bench.flat.layout.size
    if model.dtype != np.float32 or model.shape != (size,) or not np.isfinite(model).all():
        raise StudyMismatch(f"order.model: the study's model is {size} finite float32 values")


def check_arrays(bench: Bench, design: Design, preprocessing: Arrays) -> None:
    """Refuse a preprocessing, network or losses that would fail in training, by rows that are made up.

    Arrays with a row dimension would fit one number of rows only, and so tell it; no and two rows both pass
    only where there is no such dimension. An error in training would tell whether anybody was drawn.

    Raises:
        StudyMismatch: the arrays are not those of the study.
        UnsupportedLayer, CoupledRecords: the network or its losses couple records.
    """
    _made_up(bench, design, preprocessing, 0)
    examples = _made_up(bench, design, preprocessing, 2)
    if bench.study.privacy is None or bench.study.privacy.unit == "site":
        return
    device = bench.flat.weights.device
    inputs, targets = torch.from_numpy(examples.inputs), torch.from_numpy(examples.targets)
    shape = RecordShape.of(inputs.to(device), targets.to(device))
    if shape not in bench.probed:
        check_coupling(bench.flat.module, partial(bench.task.losses, bench.study), shape)
        bench.probed.add(shape)


def _made_up(bench: Bench, design: Design, preprocessing: Arrays, rows: int) -> Examples:
    """So many rows of zeros, of the design's shapes, that went through preprocessing and network."""
    zeros = Design(
        np.zeros((rows, *design.inputs.shape[1:]), dtype=design.inputs.dtype),
        np.zeros(rows, dtype=design.targets.dtype),
        np.arange(rows, dtype=np.int64),
    )
    try:
        with np.errstate(all="ignore"):
            examples = bench.task.features.encode(bench.study, preprocessing, zeros)
        if len(examples.inputs) == len(examples.targets) == rows:
            predict(bench.study, bench.task, bench.flat, examples)
            return examples
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError):
        pass
    raise StudyMismatch("order.preprocessing: its arrays are not those of the study")


def _statistics(
    site: Site,
    bench: Bench,
    private: PrivateStudy,
    data: SiteData,
    order: StatisticsOrder,
    seal: Seal | None,
) -> StatisticsReply | MaskedReply:
    if private.plan.unit == "site" or not releases_statistics(bench.study):
        nothing = StatisticsReply(site.name, {}, private.guarantee)
        return nothing if seal is None else seal(nothing)
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
    return _paid(private, StatisticsReply, release, compute, seal)


def _train(
    site: Site,
    bench: Bench,
    private: PrivateStudy,
    data: SiteData,
    order: TrainOrder,
    seal: Seal | None,
) -> TrainReply | MaskedReply:
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
        return TrainReply(site.name, order.round, update, private.weight, None, steps, spent)

    return _paid(private, TrainReply, release, compute, seal)


def _local_steps(
    site: Site, bench: Bench, private: PrivateStudy, data: SiteData, order: TrainOrder
) -> LocalResult:
    states = site.own_states(bench.digest)
    preprocessing = preprocessing_of(bench, data, order.preprocessing)
    persons: PersonRecords | None = None
    examples = data.examples(bench.study, bench.task, preprocessing)
    if private.plan.unit != "site":
        seed = private.noise_seed("train", order.round)
        persons = PersonRecords(private.plan.mechanism(seed), data.train_owners, probed=True)
    try:
        result = train_locally(
            bench.study,
            bench.task,
            bench.strategy,
            bench.flat,
            site.stream,
            order.round,
            examples,
            order.model,
            order.shared,
            states.before(order.round),
            persons,
        )
    except TrainingDiverged:
        if private.plan.unit != "site":
            raise  # of noised gradients, so it tells nothing more
        size = len(order.model) + bench.strategy.extra(bench.flat.layout.trainable)
        result = LocalResult(
            np.zeros(size, dtype=np.float32), None, 0
        )  # as clipping does to what is not finite
    states.keep(order.round, order.finished, result.state)
    return result


def _evaluate(
    site: Site,
    bench: Bench,
    private: PrivateStudy,
    data: SiteData,
    order: EvaluateOrder,
    seal: Seal | None,
) -> EvaluateReply | MaskedReply:
    study = bench.study
    names = study.privacy.metrics if study.privacy is not None else ()
    if not names:
        nothing = EvaluateReply(site.name, order.round, {})
        return nothing if seal is None else seal(nothing)
    bounds_of(bench.task)

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
    return _paid(private, EvaluateReply, release, compute, seal)
