"""What a site allows. Everything is refused that is not allowed here.

VestryError
└── PolicyRefusal     a rule of this site forbids what was asked
"""

import re
from collections.abc import Iterable
from datetime import date
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field, model_validator

from vestry_client.privacy_rules import DatasetRule, PrivacyRules
from vestry_privacy.errors import VestryError
from vestry_privacy.plan import PrivacyPlan
from vestry_strategies.schema import Section
from vestry_strategies.study import StudySpec

__all__ = ["PolicyRefusal", "SitePolicy", "Told", "check_privacy"]

Told = Literal["nothing", "rule", "full"]
"""What a refusal may tell the coordinator."""

_LEAST_SUM = 3
"""No secure sum has fewer sites, whatever a study says: ``MIN_SITES`` of a plan, without loading numpy."""


def _name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", text):
        raise ValueError("a name has lower-case letters, digits, '-' and '_', at most 63")
    return text


Named = Annotated[str, AfterValidator(_name)]


class PolicyRefusal(VestryError):
    """A rule of the site's policy forbids what was asked.

    Attributes:
        rule: its key in the policy file, dotted.
        asked: by the study.
        allowed: by the rule.
    """

    def __init__(self, rule: str, asked: object, allowed: object) -> None:
        self.rule, self.asked, self.allowed = rule, asked, allowed
        super().__init__(f"policy rule {rule}: asked {asked}, allowed {allowed}")

    def for_coordinator(self, level: Told) -> str:
        """The message that may leave the site; the site's own log gets ``str(refusal)``."""
        if level == "full":
            return str(self)
        return "refused by the site's policy" + (f", rule {self.rule}" if level == "rule" else "")


class SitePolicy(BaseModel):
    """The rules of one site."""

    model_config = Section.model_config

    version: Literal[1] = Field(default=1, description="Of this format.")
    tell_coordinator: Told = Field(
        default="rule",
        description="What a refusal tells the coordinator: nothing, the rule's name, or all of it.",
    )
    allow_individual_updates: bool = Field(
        default=False, description="May the coordinator see this site's own update?"
    )
    allow_training_without_privacy: bool = Field(
        default=False, description="May a study train without a [privacy] section?"
    )
    allowed_plugins: tuple[str, ...] = Field(
        default=(), description="Names of third-party tasks that may be imported."
    )
    allowed_initiators: tuple[str, ...] | None = Field(
        default=None, description="Who may ask; default: everybody."
    )
    allowed_purposes: tuple[str, ...] | None = Field(
        default=None,
        description="A study's purpose must be one of these, but for case and blanks; default: any.",
    )
    max_rounds: int | None = Field(default=None, ge=1, description="Most rounds of one study.")
    min_cohort: int = Field(
        default=5, ge=3, description="Fewest sites among whose updates this site's own is hidden."
    )
    roster_change: int = Field(
        default=2,
        ge=1,
        description="A roster is an earlier one on the data set, or one of the two has this many sites "
        "that the other has not.",
    )
    max_colluding_sites: int | None = Field(
        default=None,
        ge=0,
        description=(
            "So many sites may help a malicious coordinator; a drawn cohort must withstand them. "
            "Default: the study's whole roster only."
        ),
    )
    max_repeats: int = Field(
        default=3,
        ge=0,
        description=(
            "How often a failed round may be repeated with the same model; rounds beyond the study's number."
        ),
    )
    allow_repeats_without_privacy: bool = Field(
        default=False,
        description="May a failed round be repeated with the same model without local differential privacy?",
    )
    min_examples: int = Field(
        default=10,
        ge=1,
        description="Fewer training examples take no part in a study; in a secure sum fewer training or "
        "held-out rows count as none, and nobody is told.",
    )
    populations: dict[Named, PrivacyRules] = Field(
        default_factory=dict, description="Whose data are here: tables [populations.NAME]."
    )
    datasets: dict[Named, DatasetRule] = Field(
        default_factory=dict, description="Which persons are in a data set: tables [datasets.NAME]."
    )

    @model_validator(mode="after")
    def _declared(self) -> "SitePolicy":
        broken = []
        for name, dataset in self.datasets.items():
            rules = self.populations.get(dataset.population)
            if rules is None:
                known = ", ".join(self.populations) or "none"
                broken.append(
                    f"datasets.{name}.population: '{dataset.population}' is not declared under "
                    f"[populations]; declared: {known}"
                )
            elif dataset.unit_column is not None and rules.unit != "patient":
                broken.append(f'datasets.{name}.unit_column: goes with unit = "patient", not "{rules.unit}"')
        if broken:
            raise ValueError("\n".join(broken))
        return self

    def rules_for(self, dataset: str) -> tuple[str, PrivacyRules]:
        """The population of a data set and its rules, with the data set's own unit column.

        Raises:
            PolicyRefusal: the data set or its population is not declared; nothing is allowed then.
        """
        declared = self.datasets.get(dataset)
        rules = None if declared is None else self.populations.get(declared.population)
        if declared is None or rules is None:
            raise PolicyRefusal("privacy", f"data set '{dataset}'", "declared data sets only")
        if declared.unit_column is not None:
            rules = rules.model_copy(update={"unit_column": declared.unit_column})
        return declared.population, rules

    def check_study(self, study: StudySpec) -> None:
        """Refuse a study that breaks a rule. Its plan is checked by :func:`check_privacy`.

        Raises:
            PolicyRefusal: names the rule, what was asked and what is allowed.
        """
        if not study.aggregation.secure and not self.allow_individual_updates:
            raise PolicyRefusal("allow_individual_updates", "aggregation.secure = false", False)
        if study.privacy is None and not self.allow_training_without_privacy:
            raise PolicyRefusal("allow_training_without_privacy", "no [privacy] section", False)
        initiators, purposes = self.allowed_initiators, self.allowed_purposes
        if initiators is not None and study.study.initiator not in initiators:
            raise PolicyRefusal("allowed_initiators", study.study.initiator, list(initiators))
        if purposes is not None and _plain(study.study.purpose) not in map(_plain, purposes):
            raise PolicyRefusal("allowed_purposes", study.study.purpose, list(purposes))
        if self.max_rounds is not None and study.training.rounds > self.max_rounds:
            raise PolicyRefusal("max_rounds", study.training.rounds, self.max_rounds)
        least = max(study.aggregation.min_sites, _LEAST_SUM)
        if study.aggregation.secure and least < self.min_cohort:
            asked = f"min_sites = {study.aggregation.min_sites}"
            raise PolicyRefusal("min_cohort", asked, self.min_cohort)

    def check_examples(self, examples: int) -> None:
        """Refuse to take part with too few training examples.

        Raises:
            PolicyRefusal: names the rule, not the number of examples.
        """
        if examples < self.min_examples:
            raise PolicyRefusal("min_examples", "fewer", self.min_examples)


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def check_privacy(
    population: str,
    rules: PrivacyRules,
    plan: PrivacyPlan,
    *,
    metrics: Iterable[str],
    today: date,
    exact: bool = False,
    noise_at_server: bool = False,
) -> None:
    """Refuse a plan that breaks a rule of a population. Reads no data and no ledger.

    Args:
        population: its name, for the rule's name in a refusal.
        rules: of the population, as :meth:`SitePolicy.rules_for` gives them.
        plan: of the whole study at this site.
        metrics: names of the metrics that would leave.
        today: at the site.
        exact: would sums leave without noise?
        noise_at_server: would the noise for the whole site be added by the coordinator?

    Raises:
        PolicyRefusal: the first broken rule, what was asked and what is allowed.

    Guarantees:
        The answer is a function of public values, so a refusal tells nothing about a person. A number of
        persons that is not public is in no message.
    """
    where = f"populations.{population}"
    _check_dates(where, rules, today)
    _check_unit(where, rules, plan)
    _check_mechanism(where, rules, plan)
    _check_leaving(where, rules, tuple(metrics), exact, noise_at_server)
    _check_cost(where, rules, plan)


def _check_dates(where: str, rules: PrivacyRules, today: date) -> None:
    if rules.expires is not None and today > rules.expires:
        raise PolicyRefusal(f"{where}.expires", today, f"until {rules.expires}")
    starts, ends = rules.budget.starts, rules.budget.ends
    if (starts is not None and today < starts) or (ends is not None and today > ends):
        raise PolicyRefusal(f"{where}.budget.window", today, f"{starts} to {ends}")


def _check_unit(where: str, rules: PrivacyRules, plan: PrivacyPlan) -> None:
    if plan.unit != rules.unit:
        raise PolicyRefusal(f"{where}.unit", plan.unit, rules.unit)
    if rules.unit == "patient" and plan.unit_column != rules.unit_column:
        raise PolicyRefusal(f"{where}.unit_column", plan.unit_column, rules.unit_column)
    if plan.adjacency != rules.adjacency:
        raise PolicyRefusal(f"{where}.adjacency", plan.adjacency, rules.adjacency)
    if rules.adjacency == "zero-out" and plan.persons != rules.persons:
        raise PolicyRefusal(f"{where}.persons", plan.persons, rules.persons)
    public = rules.persons if rules.publish_persons else None
    if public is not None and rules.unit != "site" and public < rules.min_units:
        raise PolicyRefusal(f"{where}.min_units", public, f"{rules.min_units} or more")


def _check_mechanism(where: str, rules: PrivacyRules, plan: PrivacyPlan) -> None:
    if plan.sampling not in rules.mechanisms:
        raise PolicyRefusal(f"{where}.mechanisms", plan.sampling, list(rules.mechanisms))
    if rules.secure_noise and plan.noise != "cryptographic":
        raise PolicyRefusal(f"{where}.secure_noise", f"{plan.noise} noise", "cryptographic noise")
    if plan.max_records > rules.max_records:
        raise PolicyRefusal(f"{where}.max_records", plan.max_records, rules.max_records)
    if rules.max_steps is not None and plan.steps > rules.max_steps:
        raise PolicyRefusal(f"{where}.max_steps", plan.steps, rules.max_steps)
    least = rules.min_noise_multiplier
    if least is None:
        return
    multipliers = {"the steps": plan.noise_multiplier}
    multipliers |= {release.name: release.noise_multiplier for release in plan.releases}
    for name, multiplier in multipliers.items():
        if multiplier < least:
            asked = f"{multiplier:g} for {name}"
            raise PolicyRefusal(f"{where}.min_noise_multiplier", asked, f"{least:g} or more")


def _check_leaving(
    where: str, rules: PrivacyRules, metrics: tuple[str, ...], exact: bool, noise_at_server: bool
) -> None:
    more = [name for name in metrics if name not in rules.metrics]
    if more:
        raise PolicyRefusal(f"{where}.metrics", ", ".join(more), ", ".join(rules.metrics) or "none")
    if exact and not rules.exact_sums:
        raise PolicyRefusal(f"{where}.exact_sums", "sums without noise", "noised and charged sums")
    if noise_at_server and not rules.allow_site_noise_at_server:
        raise PolicyRefusal(f"{where}.allow_site_noise_at_server", "noise at the server", "noise at the site")


def _check_cost(where: str, rules: PrivacyRules, plan: PrivacyPlan) -> None:
    if plan.delta > rules.budget.delta:
        raise PolicyRefusal(f"{where}.budget.delta", f"{plan.delta:g}", f"{rules.budget.delta:g} or less")
    if rules.persons is not None and rules.unit != "site" and plan.delta >= 1 / rules.persons:
        number = str(rules.persons) if rules.publish_persons else "number of persons"
        raise PolicyRefusal(f"{where}.persons", f"delta {plan.delta:g}", f"below 1 / {number}")
    cost = rules.study_epsilon(plan)
    if cost > rules.study_limit:
        rule = "budget.epsilon" if rules.max_epsilon_per_study is None else "max_epsilon_per_study"
        raise PolicyRefusal(f"{where}.{rule}", f"epsilon {cost:.4g}", f"{rules.study_limit:g} or less")
