"""How often a study, and one round of it, still fit into the budgets of a ledger."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from vestry_client.policy import PolicyRefusal, SitePolicy, check_privacy
from vestry_privacy.accounting import Event
from vestry_privacy.plan import Partition, PlanError, PrivacyPlan
from vestry_strategies.private_plan import study_plan
from vestry_strategies.study import StudyError, StudySpec

if TYPE_CHECKING:
    from vestry_privacy.ledger import Ledger
    from vestry_privacy.ledger_report import LedgerReport

__all__ = ["PlanFit", "plan_fits", "round_events"]


@dataclass(frozen=True)
class PlanFit:
    """How a study fits into one population's budget.

    Attributes:
        study: its name.
        epsilon: PLD epsilon of its whole plan for a person; None where there is no plan.
        studies: how many more whole studies like it the filter lets through.
        rounds: how many more rounds of it.
        reason: why none at all, where that is not for the budget.
    """

    study: str
    epsilon: float | None
    studies: int
    rounds: int
    reason: str | None = None

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def round_events(study: StudySpec, plan: PrivacyPlan) -> dict[Partition, tuple[Event, ...]]:
    """What one round of a study does that trains and evaluates; round 0 is no part of it."""
    steps = plan.steps // study.training.rounds
    evaluations = [release.name for release in plan.releases if release.partition == "holdout"]
    return {
        "train": (plan.event(steps),),
        "holdout": tuple(plan.release_event(name) for name in evaluations),
    }


def plan_fits(
    ledger: "Ledger", report: "LedgerReport", study: StudySpec, policy: SitePolicy
) -> dict[str, PlanFit]:
    """Hold a study against every population of a ledger.

    Args:
        ledger: says what is left.
        report: of the ledger, for the populations' declarations.
        study: with a section [privacy].
        policy: of the site; a rule that refuses the plan is the reason for none.

    Raises:
        StudyError: the study has no section [privacy].
    """
    if study.privacy is None:
        raise StudyError(f"{study.study.name}: has no section [privacy], so nothing of it could be charged")
    fits: dict[str, PlanFit] = {}
    for found in report.populations:
        name, persons = found.population.name, found.population.persons
        try:
            plan = study_plan(study, persons if found.population.adjacency == "zero-out" else None)
        except PlanError as error:
            fits[name] = PlanFit(study.study.name, None, 0, 0, str(error))
            continue
        fits[name] = _fit(ledger, name, study, plan, policy, report)
    return fits


def _fit(
    ledger: "Ledger",
    name: str,
    study: StudySpec,
    plan: PrivacyPlan,
    policy: SitePolicy,
    report: "LedgerReport",
) -> PlanFit:
    rules = policy.populations.get(name)
    if rules is None:
        return PlanFit(study.study.name, plan.epsilon(), 0, 0, "the policy declares no such population")
    cost = rules.study_epsilon(plan)
    columns = {rules.unit_column} | {
        rule.unit_column for rule in policy.datasets.values() if rule.population == name and rule.unit_column
    }
    if plan.unit_column in columns:  # any of the population's data sets may be meant
        rules = rules.model_copy(update={"unit_column": plan.unit_column})
    metrics = study.privacy.metrics if study.privacy is not None else ()
    try:
        check_privacy(name, rules, plan, metrics=metrics, today=report.day)
    except PolicyRefusal as error:
        return PlanFit(study.study.name, cost, 0, 0, str(error))
    whole: dict[Partition, Sequence[Event]] = {
        "train": plan.events("train"),
        "holdout": plan.events("holdout"),
    }

    def fits(events: Mapping[Partition, Sequence[Event]]) -> int:
        return ledger.fits(name, {part: rules.charged(own) for part, own in events.items()})

    return PlanFit(study.study.name, cost, fits(whole), fits(round_events(study, plan)))
