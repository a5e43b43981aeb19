"""May this sum be? Its plan held against the study, the pinned directory, policy, journal and ledger.

The site takes from the coordinator the run's name, a sequence number that its journal holds against the last,
a weight limit within bounds, and a roster that must be the pinned directory's. Everything else of a plan it
computes itself, and refuses a plan that differs.
"""

import math

from vestry_client.policy import PolicyRefusal
from vestry_client.private_orders import PrivateOrder, check_place, usable_data
from vestry_client.secure import SecureSeat
from vestry_client.site import Bench, Site
from vestry_privacy.secagg.errors import PlanRefused, RosterRefused
from vestry_privacy.secagg.history import NO_HEAD, Head, Rules
from vestry_privacy.secagg.keys import same
from vestry_privacy.secagg.messages import read_plan
from vestry_privacy.secagg.plan import KINDS, Plan, most_colluders
from vestry_privacy.secagg.roster import Roster
from vestry_strategies.orders import EvaluateOrder, StatisticsOrder, TrainOrder
from vestry_strategies.parameters import model_hash
from vestry_strategies.secure_plan import (
    LARGEST_WEIGHT_LIMIT,
    STATISTICS_WEIGHT_LIMIT,
    SumKind,
    configuration_hash,
    evaluates_after,
    round_plan,
    sum_layout,
)
from vestry_strategies.sums import Arrays

__all__ = ["admit", "heads_of", "kind_of", "require_order", "require_study"]

_KIND: dict[type[PrivateOrder], SumKind] = {
    StatisticsOrder: "statistics",
    TrainOrder: "train",
    EvaluateOrder: "evaluate",
}


def admit(site: Site, bench: Bench, seat: SecureSeat, message: bytes, plan_hash: str) -> tuple[Plan, Roster]:
    """Check a signed plan, and let the journal accept it.

    Args:
        site: this site.
        bench: the study that the order came with.
        seat: of this site.
        message: the signed plan.
        plan_hash: that the order names, 64 hexadecimal digits.

    Returns:
        The plan and the sites in it.

    Raises:
        ProtocolAbort: the plan is not what this site computes, or its journal refuses it.
        PolicyRefusal, PlanError, LedgerError, DataError: the site takes no part.

    Guarantees:
        Nothing has left this site when it refuses. Under [privacy] the study's whole cost is held.
    """
    plan = read_plan(message, seat.directory)
    if plan.digest.hex() != plan_hash:
        raise PlanRefused(
            "order.plan", "is the hash of another plan than the one that came", round=plan.round
        )
    require_study(bench, plan)
    _check_round(bench, plan)
    _check_weight_limit(plan)
    _check_roster(site, bench, seat, plan)
    plan.require(_expected(bench, seat, plan))
    roster = Roster.of(plan, seat.directory)
    roster.index(site.name)
    rules = _let_in(site, bench, plan)
    seat.journal.accept(
        plan.digest, plan.run, plan.kind, plan.sequence, plan.round, plan.roster, plan.model, rules
    )
    return plan, roster


def require_study(bench: Bench, plan: Plan) -> None:
    """The plan is of the study that the order came with.

    Raises:
        PlanRefused: it is of another.
    """
    if plan.study != bytes.fromhex(bench.digest):
        raise PlanRefused("plan.study", "is another than the order's", round=plan.round)


def _check_round(bench: Bench, plan: Plan) -> None:
    """Rounds that the study has, and no others."""
    rounds, number = bench.study.training.rounds, plan.round
    there = {
        "statistics": number == 0,
        "train": 1 <= number <= rounds,
        "evaluate": evaluates_after(bench.study, number),
    }
    if not there.get(plan.kind, False):
        raise PlanRefused(
            "plan.round", f"{number}; the study has no such round of kind '{plan.kind}'", round=number
        )


def _check_weight_limit(plan: Plan) -> None:
    """Bounded, since a larger limit makes every site's values smaller, and no site's weight known."""
    if not 1 <= plan.weight_limit <= LARGEST_WEIGHT_LIMIT:
        raise PlanRefused(
            "plan.weight_limit", f"{plan.weight_limit}; it lies between 1 and 2^40", round=plan.round
        )


def _check_roster(site: Site, bench: Bench, seat: SecureSeat, plan: Plan) -> None:
    """The whole directory; or a round's cohort, where study and policy have it so.

    Raises:
        RosterRefused, PolicyRefusal: a coordinator that chooses could put its helpers around one site.
    """
    whole, cohort = seat.directory.roster(), bench.study.aggregation.cohort
    if plan.roster == whole:
        return
    sampled = cohort is not None and plan.kind == "train" and cohort < len(whole)
    if not sampled or len(plan.roster) != cohort:
        raise RosterRefused(
            "plan.roster",
            f"it has {len(plan.roster)} of the {len(whole)} sites in this site's directory; all are in a "
            "sum, and one that is away counts as a drop-out",
            round=plan.round,
        )
    allowed = site.policy.max_colluding_sites
    withstood = most_colluders(len(plan.roster))
    if allowed is None or withstood < allowed:
        limit = "the whole roster only" if allowed is None else f"one that withstands {allowed}"
        raise PolicyRefusal("max_colluding_sites", f"a cohort that withstands {withstood}", limit)


def _expected(bench: Bench, seat: SecureSeat, plan: Plan) -> Plan:
    """The plan as this site makes it."""
    study, kind = bench.study, kind_of(plan)
    statistics, train = kind == "statistics", kind == "train"
    limit = plan.weight_limit
    if statistics:
        limit = STATISTICS_WEIGHT_LIMIT
    elif kind == "evaluate" or study.aggregation.weighting == "equal":
        limit = 1
    layout = bench.flat.layout
    return round_plan(
        study,
        run=plan.run,
        kind=kind,
        round=plan.round,
        sequence=plan.sequence,
        directory=seat.directory,
        roster=plan.roster,
        model=bytes.fromhex(bench.digest) if statistics else plan.model,
        configuration=configuration_hash({}, {}) if statistics else plan.configuration,
        values=layout.size + bench.strategy.extra(layout.trainable) if train else 0,
        wide=sum_layout(study, bench.task, kind).size,
        weight_limit=limit,
    )


def kind_of(plan: Plan) -> SumKind:
    """The plan's kind.

    Raises:
        PlanRefused: there is no such kind.
    """
    for kind in _KIND.values():
        if kind == plan.kind:
            return kind
    raise PlanRefused("plan.kind", f"{plan.kind!r}; known: {', '.join(KINDS)}", round=plan.round)


def _let_in(site: Site, bench: Bench, plan: Plan) -> Rules:
    """Policy, ledger and data, asked before this site is in the sum; and what its journal goes by.

    Raises:
        PolicyRefusal, PlanError, LedgerError, DataError: the site takes no part.
    """
    study, policy = bench.study, site.policy
    may_repeat = policy.allow_repeats_without_privacy
    if study.privacy is None:
        site.data(bench)
    else:
        private = site.private(bench)
        usable_data(site, bench, private)
        may_repeat = may_repeat or private.guarantee == "cryptographic"
    rounds = study.training.rounds
    planned = {
        "statistics": 1,
        "train": rounds,
        "evaluate": math.ceil(rounds / study.evaluation.every),
    }
    return Rules(
        dataset=site.dataset,
        study=plan.study,
        rounds_allowed=planned[plan.kind] + policy.max_repeats,
        may_repeat=may_repeat,
        max_repeats=policy.max_repeats,
        roster_change=policy.roster_change,
        weight_limit=plan.weight_limit if plan.kind == "train" and study.privacy is None else 0,
    )


def heads_of(site: Site, seat: SecureSeat) -> tuple[Head, Head]:
    """Of journal and ledger, for the other sites to remember: this site cannot go back behind them."""
    ledger = NO_HEAD
    if site.ledger is not None:
        reconciled, newest = site.ledger.witness
        ledger = Head(reconciled, newest.seq, bytes.fromhex(newest.hash) or NO_HEAD.hash)
    return seat.journal.witness(), ledger


def require_order(bench: Bench, plan: Plan, order: PrivateOrder) -> None:
    """The order is the one that the plan was made for.

    Raises:
        PlanRefused: another kind, round, model, or other arrays: what a site would be told alone.
        StudyMismatch: the round is none of the study's, or the model is not the study's.
    """
    check_place(bench, order)
    kind, number = _KIND[type(order)], getattr(order, "round", 0)
    if (kind, number) != (plan.kind, plan.round):
        raise PlanRefused(
            "order", f"is for {kind} of round {number}, the plan is for {plan.kind}", round=plan.round
        )
    if isinstance(order, StatisticsOrder):
        return
    if not same(bytes.fromhex(model_hash(order.model)), plan.model):
        raise PlanRefused("order.model", "is not the model of the plan", round=plan.round)
    shared: Arrays = order.shared if isinstance(order, TrainOrder) else {}
    if not same(configuration_hash(order.preprocessing, shared), plan.configuration):
        raise PlanRefused("order.preprocessing", "its arrays are not those of the plan", round=plan.round)
