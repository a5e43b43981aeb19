"""A study under differential privacy at this site: what is held, reserved, computed, committed, and sent.

Everything data-derived that leaves goes through :func:`pay`: the ledger's reservation is durable before the
first look at the data, the reply is on the disk before the commit, and both before it is sent. An order that
was answered gets the identical reply and is not charged again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, TypeVar

import numpy as np
import torch

from vestry_client.policy import PolicyRefusal, SitePolicy, check_privacy
from vestry_client.privacy_rules import PrivacyRules, population_of
from vestry_client.replies import PaidReply, Replies, ReplyError
from vestry_privacy.accounting import Event
from vestry_privacy.canonical import canonical_hash
from vestry_privacy.clipping import clip_vector
from vestry_privacy.ledger import Ledger
from vestry_privacy.ledger_entries import Purpose, StudyRef
from vestry_privacy.ledger_state import PARTITIONS
from vestry_privacy.noise import NoiseSource, SecureStream, SimulationStream, add_gaussian
from vestry_privacy.plan import Partition, PrivacyPlan
from vestry_privacy.release import noised_sum, person_vectors
from vestry_strategies.bounded import BoundedSums
from vestry_strategies.orders import EvaluateOrder, MaskedReply, StatisticsOrder, TrainOrder
from vestry_strategies.parameters import Vector, model_hash
from vestry_strategies.private_plan import site_level_plan, study_plan
from vestry_strategies.rows import Indexes
from vestry_strategies.seeds import derive_seed
from vestry_strategies.study import StudySpec
from vestry_strategies.sums import Arrays, Sums

__all__ = ["PrivateStudy", "Release", "approve", "bound_update", "order_hash", "pay", "release_sums"]


@dataclass(frozen=True)
class PrivateStudy:
    """A study that this site's policy and ledger have let in.

    Attributes:
        study: with a section [privacy].
        digest: its hash.
        population: whose budget it spends.
        rules: of that population.
        plan: of the whole study at this site.
        site_plan: of the second guarantee, for the whole site; None without one.
        ledger: where it is charged.
        replies: paid replies.
        seed: for noise that protects nobody; None for cryptographic noise.
        day: on which it was let in; the policy may expire.
    """

    study: StudySpec
    digest: str
    population: str
    rules: PrivacyRules
    plan: PrivacyPlan
    site_plan: PrivacyPlan | None
    ledger: Ledger
    replies: Replies
    seed: int | None
    day: date

    @property
    def current(self) -> bool:
        """Was it let in today?"""
        return self.day == _today()

    def source(self, purpose: str, round_number: int) -> NoiseSource:
        """Randomness of one release."""
        seed = self.noise_seed(purpose, round_number)
        return SecureStream() if seed is None else SimulationStream(seed)

    def noise_seed(self, purpose: str, round_number: int) -> int | None:
        """Seed of simulated noise; None for cryptographic noise."""
        return None if self.seed is None else derive_seed(self.seed, "noise", purpose, round_number)

    @property
    def guarantee(self) -> str:
        """``cryptographic``, or ``none`` for simulated noise or exact sums."""
        return "none" if self.rules.exact_sums else self.plan.guarantee

    @property
    def weight(self) -> float:
        """Weight of this site's update: a public constant, never today's count."""
        persons = self.rules.persons if self.rules.publish_persons else None
        if self.study.aggregation.weighting == "equal" or self.plan.unit == "site" or persons is None:
            return 1.0
        return float(persons)


def _today() -> date:
    return datetime.now(UTC).date()


def approve(
    study: StudySpec,
    digest: str,
    dataset: str,
    policy: SitePolicy,
    ledger: Ledger | None,
    replies: Replies,
    site: str,
    secret: bytes,
) -> PrivateStudy:
    """Hold a study's whole cost, if policy and ledger allow it. No row is read.

    Raises:
        PolicyRefusal: the first broken rule.
        PlanError: the study's privacy parameters protect nobody here.
        LedgerError: no budget is left, the ledger is not fit to be written, or it knows the population by
            other rules than the policy.
    """
    spec = study.privacy
    population, rules = policy.rules_for(dataset)
    if ledger is None or spec is None:
        raise PolicyRefusal("privacy", "a study with [privacy]", "only with a privacy ledger at this site")
    plan = study_plan(study, rules.persons if rules.publish_persons else None)
    site_plan = site_level_plan(study)
    at_server = spec.site is not None and spec.site.noise_at == "server"
    today = _today()
    check_privacy(population, rules, plan, metrics=spec.metrics, today=today, noise_at_server=at_server)
    registered = ledger.population(population)
    if registered is not None:
        ledger.register(population_of(population, policy.populations[population], registered))
    split = canonical_hash("vestry-split-key/1", secret)
    ledger.hold(
        population,
        StudyRef(digest, study.study.name, digest[:16]),
        {partition: rules.charged(plan.events(partition)) for partition in PARTITIONS},
        delta=plan.delta,
        epsilon_cap=rules.study_limit,
        details={**rules.stamp(), **_details(study, plan, site_plan), "split": split},
        guarantee="none" if plan.guarantee == "none" else rules.guarantee,
    )
    _require_split(ledger, digest, split)
    seed = derive_seed(study.seed, "simulated-noise", site) if plan.noise == "simulation" else None
    return PrivateStudy(study, digest, population, rules, plan, site_plan, ledger, replies, seed, today)


def _details(study: StudySpec, plan: PrivacyPlan, site_plan: PrivacyPlan | None) -> dict[str, Any]:
    """Public values beside the events, for the record."""
    details: dict[str, Any] = {"noise": plan.noise, "sampling": plan.sampling, "clip": plan.clip}
    guarantee = study.privacy.site if study.privacy is not None else None
    if site_plan is not None and guarantee is not None:
        details["second guarantee"] = {
            "unit": "site",
            "noise_at": guarantee.noise_at,
            "noise_multiplier": site_plan.noise_multiplier,
            "delta": site_plan.delta,
            "clip": site_plan.clip,
        }
    return details


def _require_split(ledger: Ledger, digest: str, split: str) -> None:
    """The same split as when the study was let in: else a person could be trained on and held out."""
    for entry in ledger.entries():
        if entry.kind == "hold" and entry.study.study_hash == digest and entry.details.get("split") != split:
            raise PolicyRefusal(
                "privacy", "another split of persons", "the secret that this study began with"
            )


@dataclass(frozen=True)
class Release:
    """One thing to be paid for.

    Attributes:
        purpose: what it is.
        partition: whose persons are looked at.
        round: of the order; 0 for round 0.
        event: what it does to a person.
        order: hash of the order.
        model: hash of the model that came with it, or "".
    """

    purpose: Purpose
    partition: Partition
    round: int
    event: Event
    order: str
    model: str = ""


Reply = TypeVar("Reply", bound=PaidReply)


def pay(private: PrivateStudy, kind: type[Reply], release: Release, compute: Callable[[], Reply]) -> Reply:
    """Reserve, compute, keep, commit.

    Args:
        private: the study.
        kind: type of the reply.
        release: what is charged.
        compute: looks at the data; called at most once.

    Returns:
        The reply; to an order that was answered before, the identical one, without a new charge.

    Raises:
        LedgerError: no reservation, and then ``compute`` is not called.
        ReplyError: a later round was answered; or the reply could not be kept, or not read again, and then
            nothing may be sent, and the release counts as spent.

    Guarantees:
        When ``compute`` begins, the charge is on the disk. When it fails, all of it counts as spent.
    """
    kept = _kept_reply(private, kind, release)
    if kept is not None:
        return kept
    _refuse_older(private, kind, release)
    (charged,) = private.rules.charged([release.event])
    reservation = private.ledger.reserve(
        private.digest,
        release.partition,
        release.purpose,
        release.round,
        charged,
        release.order,
        repeat=_times(private, kind, release),
    )
    try:
        reply = compute()
        digest = private.replies.keep(release.order, reply, _purpose(kind, release))
    except Exception:
        private.ledger.commit(reservation, charged.count, model_hash=release.model)
        raise
    private.ledger.commit(reservation, charged.count, reply_hash=digest, model_hash=release.model)
    return reply


def _times(private: PrivateStudy, kind: type[object], release: Release) -> int:
    """How often a masked round was charged before: each sum is a new release. A clear one is charged once."""
    answer = private.ledger.answered(private.digest, release.purpose, release.round)
    return answer.committed if answer is not None and kind is MaskedReply else 0


def _purpose(kind: type[object], release: Release) -> str:
    return f"-{release.purpose}" if kind is MaskedReply else ""


def _kept_reply(private: PrivateStudy, kind: type[Reply], release: Release) -> Reply | None:
    """The reply that was paid for; what the ledger knows nothing of is not looked for, and not sent."""
    answer = private.ledger.answered(private.digest, release.purpose, release.round)
    if answer is None or answer.order_hash != release.order:
        return None
    kept = private.replies.find(kind, release.order, _purpose(kind, release))
    if kept is None or not isinstance(kept.reply, kind):
        return None
    if answer.state == "commit" and answer.reply_hash != kept.digest:
        raise ReplyError("this site's kept reply is not the one that was paid for, and cannot be sent")
    return kept.reply


def _refuse_older(private: PrivateStudy, kind: type[Reply], release: Release) -> None:
    """Rounds only go on: a reply that was sent after a crash is in no commit, and is not kept for ever."""
    try:
        newest = private.replies.newest(kind, _purpose(kind, release))
    except ReplyError:
        return  # of another round; of this one the ledger has an answer, or there was none
    if newest is not None and getattr(newest.reply, "round", 0) > release.round:
        raise ReplyError(f"round {release.round}: a later round was answered already; rounds only go on")


def release_sums(
    private: PrivateStudy, name: str, bounded: BoundedSums, owners: Indexes, round_number: int
) -> Sums:
    """Sums over this site's persons, noised by the plan; exact where the site's policy says so.

    Args:
        private: the study.
        name: of the plan's release, ``statistics`` or ``evaluation``.
        bounded: a vector for each record.
        owners: (n,) number of each record's person.
        round_number: 0 for round 0.

    Guarantees:
        Without ``exact_sums`` in the site's policy the result has noise of deviation sigma S.
    """
    sigma = private.plan.release_event(name).noise_multiplier
    most, source = private.plan.max_records, private.source(name, round_number)
    if private.rules.exact_sums:
        vectors = person_vectors(bounded.values, owners, bounded.bound, most, source)
        return bounded.read(vectors.sum(axis=0))
    return bounded.read(noised_sum(bounded.values, owners, bounded.bound, sigma, most, source))


def bound_update(private: PrivateStudy, update: Vector, round_number: int) -> Vector:
    """A whole site's update under the site-level guarantee: clipped, and noised unless the server does it.

    Guarantees:
        The L2 norm of what is noised is at most the plan's clip.
    """
    spec = private.study.privacy
    plan = private.plan if private.plan.unit == "site" else private.site_plan
    if plan is None or spec is None:
        return update
    clipped = clip_vector(torch.from_numpy(update), plan.clip).numpy()
    if private.plan.unit == "site" or (spec.site is not None and spec.site.noise_at == "site"):
        source = private.source("site", round_number)
        clipped = add_gaussian(clipped, plan.clip, plan.noise_multiplier, source)
    noised: Vector = clipped.astype(np.float32)
    return noised


def order_hash(digest: str, order: StatisticsOrder | TrainOrder | EvaluateOrder) -> str:
    """Hash of everything in an order that decides its answer.

    Of a masked answer the sum's plan is part: a failed sum that is repeated is another order, which is
    computed, noised and charged afresh.
    """
    plain: list[object] = [type(order).__name__, digest]
    if isinstance(order, TrainOrder | EvaluateOrder):
        plain += [order.round, model_hash(order.model), _hashes(order.preprocessing)]
    if isinstance(order, TrainOrder):
        plain.append(_hashes(order.shared))
    if order.secure:
        plain.append(order.secure)
    return canonical_hash("vestry-order/1", plain)


def _hashes(arrays: Arrays) -> dict[str, list[object]]:
    return {
        name: [str(array.dtype), list(array.shape), np.ascontiguousarray(array).tobytes()]
        for name, array in arrays.items()
    }
