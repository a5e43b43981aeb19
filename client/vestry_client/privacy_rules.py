"""What a steward declares about a population of persons, and what may be computed about them.

A budget belongs to the population, not to a file: every extract, copy and derived data set of the same
persons spends from it. Only declarations here; ``policy.py`` holds a study's plan against them.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator, model_validator

from vestry_privacy.accounting import Adjacency, Event, epsilon
from vestry_privacy.budget import Budget, BudgetError, filter_order
from vestry_privacy.plan import PrivacyPlan, SamplingScheme, Unit
from vestry_privacy.population import Population
from vestry_strategies.schema import Section

__all__ = ["BudgetRules", "DatasetRule", "PrivacyRules", "Window", "population_of"]

Name = Annotated[str, Field(min_length=1, max_length=200)]
Positive = Annotated[float, Field(gt=0)]


def _day(value: object) -> date:
    return value if isinstance(value, date) else date.fromisoformat(str(value))


def _window(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    """One sentence in place of pydantic's findings for each branch of the union."""
    try:
        # Strict pydantic takes a day's text from JSON, but behind a function it no longer knows of the JSON.
        window = handler(value if isinstance(value, str) else tuple(map(_day, value)))
    except (ValidationError, ValueError, TypeError):
        raise ValueError('should be "lifetime" or two dates, [2027-01-01, 2027-12-31]') from None
    if window != "lifetime" and window[0] > window[1]:
        raise ValueError(f"ends on {window[1]}, before it starts on {window[0]}")
    return window


Window = Annotated[Literal["lifetime"] | tuple[date, date], WrapValidator(_window)]
"""When a budget may be spent."""


class BudgetRules(Section):
    """The most that a population can ever lose, or can lose between two dates."""

    epsilon: Positive = Field(description="Of all studies together, imports included.")
    delta: Annotated[float, Field(gt=0, lt=1)] = Field(
        description="Of all studies together; below 1 / number of persons."
    )
    order: Annotated[float, Field(gt=1)] | None = Field(
        default=None,
        description="Renyi order of the filter, fixed when the population is registered; default: a good "
        "one for epsilon and delta.",
    )
    window: Window = Field(
        default="lifetime",
        description='"lifetime", or [first day, last day] (UTC), outside of which nothing runs.',
    )

    @model_validator(mode="after")
    def _room(self) -> "BudgetRules":
        try:
            self.for_ledger()
        except BudgetError as error:
            raise ValueError(str(error).removeprefix("budget.")) from None
        return self

    def for_ledger(self, registered: float | None = None) -> Budget:
        """The budget with its order: the policy's, else the registered one, else a good one.

        Args:
            registered: order in the ledger, which stays once something was claimed.

        Raises:
            BudgetError: the order leaves nothing of it.
        """
        order = self.order or registered or filter_order(self.epsilon, self.delta)
        return Budget(self.epsilon, self.delta, order, self.starts, self.ends)

    @property
    def starts(self) -> date | None:
        """First day of the window; None for a lifetime."""
        return None if self.window == "lifetime" else self.window[0]

    @property
    def ends(self) -> date | None:
        """Last day of the window; None for a lifetime."""
        return None if self.window == "lifetime" else self.window[1]


class DatasetRule(Section):
    """Which persons are in a data set."""

    population: Name = Field(description="Name of the population under [populations] whose budget it spends.")
    unit_column: Name | None = Field(
        default=None, description="Where this file's column of patients has another name."
    )


class PrivacyRules(Section):
    """One population of persons: who is protected, what they may lose, and how."""

    unit: Unit = Field(description="Who is protected: patient, record (one a person) or site.")
    unit_column: Name | None = Field(
        default=None,
        description='Column that tells patients apart; "row" declares that every row is another person, '
        "and the declaration is stamped into the ledger.",
    )
    adjacency: Adjacency = Field(
        default="zero-out",
        description="zero-out takes the number of persons as public; add-remove does not.",
    )
    persons: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="Number of persons, declared and not counted; needed for zero-out. Of a site: 1.",
    )
    publish_persons: bool = Field(
        default=False, description="May the number of persons be known outside? zero-out needs true."
    )
    budget: BudgetRules = Field(description="Table [populations.NAME.budget].")
    max_epsilon_per_study: Positive | None = Field(
        default=None, description="Most that one study may cost; default: the whole budget."
    )
    min_units: int = Field(
        default=10,
        ge=1,
        description="A population declared with fewer persons takes no part with its data; nobody is "
        "counted, since that would tell their number.",
    )
    max_records: int = Field(default=16, ge=1, description="Most records of one person in a step.")
    min_noise_multiplier: Positive | None = Field(
        default=None, description="Least noise of every step and release; default: the budget decides."
    )
    max_steps: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Most local steps of one study; default: the budget decides."
    )
    mechanisms: tuple[SamplingScheme, ...] = Field(
        default=("poisson", "full_batch"), description="How persons may be drawn for a step."
    )
    secure_noise: bool = Field(
        default=True, description="Must noise be cryptographic? Simulated noise protects nobody."
    )
    metrics: tuple[Name, ...] = Field(
        default=(), description="Metrics that may leave, noised and charged; default: none."
    )
    exact_sums: bool = Field(
        default=False,
        description="May sums leave without noise? The ledger then records guarantee: none for this "
        "population, and every report says so.",
    )
    allow_site_noise_at_server: bool = Field(
        default=False,
        description="May the noise for the whole site be added by the coordinator? It then protects "
        "against the model's recipients, not against the coordinator.",
    )
    cross_site_overlap: Literal["assumed-disjoint", "unknown"] = Field(
        default="unknown", description="May the same person be a patient of another site of the federation?"
    )
    federation_sites: Annotated[int, Field(ge=2)] | None = Field(
        default=None,
        description="Number of sites; with overlap unknown this site then charges itself as if every "
        "person were at all of them.",
    )
    expires: date | None = Field(default=None, description="Last day on which these rules allow anything.")
    approvers: tuple[Name, ...] = Field(
        default=(), description="Who at the site approved these rules; stamped into the ledger."
    )

    @model_validator(mode="after")
    def _whole(self) -> "PrivacyRules":
        broken = [*_broken_unit(self), *_broken_numbers(self)]
        if broken:
            raise ValueError("\n".join(broken))
        return self

    @property
    def study_limit(self) -> float:
        """The most epsilon of one study."""
        return self.max_epsilon_per_study or self.budget.epsilon

    @property
    def guarantee(self) -> Literal["dp", "none"]:
        """``none`` where sums may leave without noise."""
        return "none" if self.exact_sums else "dp"

    def charged(self, events: Sequence[Event]) -> tuple[Event, ...]:
        """What a study's events cost this population: themselves, or once for each site.

        Guarantees:
            With ``federation_sites`` = s, a person who is at up to s sites of the federation, each of which
            runs the same events, loses at most what is charged here.
        """
        sites = self.federation_sites or 1
        return tuple(event.model_copy(update={"count": event.count * sites}) for event in events)

    def study_epsilon(self, plan: PrivacyPlan) -> float:
        """PLD epsilon of a person of this population for a whole study, in the worse partition."""
        return max(
            epsilon(self.charged(plan.events(partition)), plan.delta, "pld", plan.adjacency)
            for partition in ("train", "holdout")
        )

    def stamp(self) -> Mapping[str, Any]:
        """The declarations that an entry of the ledger keeps beside its events, as plain values."""
        return {
            "unit_column": self.unit_column,
            "cross_site_overlap": self.cross_site_overlap,
            "federation_sites": self.federation_sites,
            "approvers": list(self.approvers),
            "guarantee": self.guarantee,
        }


def population_of(name: str, rules: PrivacyRules, registered: Population | None = None) -> Population:
    """What the ledger registers of a population's rules.

    Args:
        name: of the population.
        rules: the population's own, not those of a data set whose unit column has another name.
        registered: the population as the ledger has it; its order stays where the rules name none.

    Raises:
        BudgetError: the order leaves nothing of the budget.
    """
    order = None if registered is None else registered.budget.order
    return Population(
        name=name,
        unit=rules.unit,
        unit_column=rules.unit_column,
        adjacency=rules.adjacency,
        persons=rules.persons,
        budget=rules.budget.for_ledger(order),
        guarantee=rules.guarantee,
    )


def _broken_unit(rules: PrivacyRules) -> list[str]:
    broken = []
    if rules.unit == "patient" and rules.unit_column is None:
        broken.append(
            "unit_column: unit = \"patient\" needs the column that tells patients apart, or 'row' to declare "
            "that every row is another person"
        )
    if rules.unit != "patient" and rules.unit_column not in {None, "row"}:
        broken.append(f'unit_column: goes with unit = "patient", not "{rules.unit}"; remove it')
    if rules.adjacency == "zero-out" and rules.persons is None:
        broken.append(
            'persons: adjacency = "zero-out" needs the public number of persons; give it, or use "add-remove"'
        )
    if rules.unit == "site" and rules.persons not in {None, 1}:
        broken.append('persons: unit = "site" has one unit, the site; write persons = 1')
    if rules.publish_persons != (rules.adjacency == "zero-out"):
        broken.append(
            'publish_persons: adjacency = "zero-out" takes the number of persons as public: write '
            'publish_persons = true, or use "add-remove"'
            if rules.adjacency == "zero-out"
            else 'publish_persons: adjacency = "add-remove" protects the number of persons; use "zero-out"'
        )
    if rules.federation_sites is not None and rules.cross_site_overlap == "assumed-disjoint":
        broken.append(
            'federation_sites: goes with cross_site_overlap = "unknown"; disjoint sites share nobody, '
            "so remove one of the two"
        )
    return broken


def _broken_numbers(rules: PrivacyRules) -> list[str]:
    broken = []
    delta, limit = rules.budget.delta, rules.max_epsilon_per_study
    if rules.persons is not None and rules.unit != "site" and delta >= 1 / rules.persons:
        broken.append(
            f"budget.delta: {delta:g} is not below 1/{rules.persons}: publishing one person's whole record "
            f"would satisfy it; use {0.1 / rules.persons:.0e} or less"
        )
    if limit is not None and limit > rules.budget.epsilon:
        broken.append(
            f"max_epsilon_per_study: {limit:g} is more than the whole budget of {rules.budget.epsilon:g}; "
            "lower it"
        )
    if not rules.mechanisms:
        broken.append("mechanisms: allows no sampling, so nothing trains; remove the population instead")
    return broken
