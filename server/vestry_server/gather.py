"""The updates of a round, each seen by the coordinator: asked for until enough are usable."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from vestry_server.private_rounds import update_limit
from vestry_server.progress import RoundFailed
from vestry_server.run import ADVICE, Diverged, NotEnoughSites, NoWeight, Run, diverging, too_few
from vestry_server.updates import sort_replies
from vestry_strategies.orders import TrainOrder, TrainReply
from vestry_strategies.seeds import derive_seed
from vestry_strategies.strategy import Mean, Strategy, weighted_mean
from vestry_strategies.study import StudySpec

__all__ = ["Gathered", "cohort", "gather"]


@dataclass(frozen=True)
class Gathered:
    """What a round's updates come to.

    Attributes:
        mean: (d + k,) weighted mean update.
        share: the largest share of one site in it.
        loss: mean training loss; None where it may not leave.
        sites: whose updates are in it.
        left_out: site -> reason.
        attempt: which try it was, from 1.
        bytes_up: received.
        bytes_down: sent.
        spent: under [privacy] what each site says that the study has cost.
        rounding: most by which rounding moves one site's update, as an L2 norm.
    """

    mean: Mean
    share: float
    loss: float | None
    sites: tuple[str, ...]
    left_out: Mapping[str, str]
    attempt: int
    bytes_up: int
    bytes_down: int
    spent: Mapping[str, Sequence[str]] = field(default_factory=dict)
    rounding: float = 0.0


def cohort(study: StudySpec, sites: tuple[str, ...], number: int) -> tuple[str, ...]:
    """All sites, or the round's sample of them."""
    wanted = study.aggregation.cohort
    if wanted is None or wanted >= len(sites):
        return sites
    generator = np.random.default_rng(derive_seed(study.seed, "cohort", number))
    return tuple(sites[i] for i in sorted(generator.choice(len(sites), wanted, replace=False)))


def gather(run: Run, order: TrainOrder, asked: tuple[str, ...]) -> Gathered:
    """Ask for updates until enough are usable.

    Raises:
        Diverged: too few are usable, and a site's loss or update is not finite or too large.
        NotEnoughSites: too few are usable.
        NoWeight: all weights are zero.
    """
    rule, message = run.study.aggregation, ""
    for attempt in range(1, rule.attempts + 1):
        replies = run.exchange.send(dict.fromkeys(asked, order), rule.deadline_seconds)
        updates, left_out = sort_replies(
            replies, asked, order.round, run.update_size, *update_limit(run.study)
        )
        if len(updates) >= rule.min_sites:
            return _gathered(run.strategy, order, asked, updates, left_out, attempt)
        message = too_few(f"round {order.round}", len(updates), run.study, left_out)
        run.tell(RoundFailed(order.round, attempt, left_out))
        if diverging(left_out):
            raise Diverged(f"{message}\n{ADVICE}")
    raise NotEnoughSites(f"{message}\nafter {rule.attempts} attempts")


def _gathered(
    strategy: Strategy,
    order: TrainOrder,
    asked: tuple[str, ...],
    updates: list[TrainReply],
    left_out: Mapping[str, str],
    attempt: int,
) -> Gathered:
    weights = [update.weight for update in updates]
    return Gathered(
        mean=_combine(strategy, updates),
        share=max(weights) / sum(weights),
        loss=_mean_loss(updates),
        sites=tuple(update.site for update in updates),
        left_out=left_out,
        attempt=attempt,
        bytes_up=sum(update.update.nbytes for update in updates),
        bytes_down=order.model.nbytes * len(asked) * attempt,
        spent={update.site: update.spent for update in updates},
    )


def _combine(strategy: Strategy, updates: list[TrainReply]) -> Mean:
    weights = [update.weight for update in updates]
    if not sum(weights) > 0:
        raise NoWeight("all weights are zero: no site has an example that counts")
    if strategy.combine is not None:
        stacked = np.stack([update.update.astype(np.float64) for update in updates])
        return strategy.combine(stacked, np.array(weights))
    return weighted_mean([update.update for update in updates], weights)


def _mean_loss(updates: list[TrainReply]) -> float | None:
    """Weighted over the sites; None where losses may not leave."""
    losses = [(update.loss, update.weight) for update in updates if update.loss is not None]
    total = sum(weight for _, weight in losses)
    return math.fsum(loss * weight for loss, weight in losses) / total if total > 0 else None
