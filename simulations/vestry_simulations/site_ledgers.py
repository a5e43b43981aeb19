"""The privacy side of virtual sites: rules that let one study in, a ledger each, and what it says at the end.

A virtual site has an identity, a ledger on the disk and a policy like a real one; only its budget is made for
the study, twice as large as the study needs, so that a round lost by a crash can be paid again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from vestry_client.policy import SitePolicy
from vestry_client.privacy_rules import BudgetRules, DatasetRule, PrivacyRules, population_of
from vestry_client.units import ROW
from vestry_privacy.accounting import Event, epsilon, renyi_divergence, renyi_to_epsilon
from vestry_privacy.budget import filter_order
from vestry_privacy.identity import load_or_create_identity
from vestry_privacy.plan import PrivacyPlan
from vestry_strategies.private_plan import site_level_plan, study_plan
from vestry_strategies.rows import Rows
from vestry_strategies.study import StudySpec
from vestry_strategies.task import Task

if TYPE_CHECKING:
    from vestry_privacy.ledger import Ledger

__all__ = ["DATASET", "SitePrivacy", "open_site_ledger", "private_policy", "public_persons", "read_privacy"]

DATASET = "data"
"""Name of a virtual site's data set in its policy."""

_POPULATION = "persons"
_LEDGER, _IDENTITY = "ledger.sqlite", "identity.pem"
_SLACK = 2.0


@dataclass(frozen=True)
class SitePrivacy:
    """What one site's ledger says of a study, for people and for ``--json``.

    Attributes:
        epsilon: PLD, of a training person, for what was done.
        delta: of the study.
        epsilon_held_out: PLD, of a held-out person.
        steps: noised steps charged.
        guarantee: ``dp``, or ``none`` where noise was simulated or sums left exactly.
        events: what a training person was charged, as JSON of the accounting's events.
        ledger: the file.
        fingerprint: of the site's identity.
        site_epsilon: of the second guarantee, for the whole site; None without one.
    """

    epsilon: float
    delta: float
    epsilon_held_out: float
    steps: int
    guarantee: str
    events: tuple[str, ...]
    ledger: str
    fingerprint: str
    site_epsilon: float | None = None

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return {**self.__dict__, "events": list(self.events)}

    @staticmethod
    def from_plain(plain: dict[str, Any]) -> "SitePrivacy":
        """Read back :meth:`plain`."""
        return SitePrivacy(**{**plain, "events": tuple(plain["events"])})


def public_persons(study: StudySpec, task: Task, rows: Rows) -> int:
    """Persons at a virtual site: in a simulation their number is declared by counting."""
    privacy = study.privacy
    if privacy is None or privacy.unit != "patient" or privacy.unit_column in {None, ROW}:
        return len(rows)
    return len(np.unique(task.features.column(rows, str(privacy.unit_column))))


def private_policy(study: StudySpec, persons: int, open_policy: Mapping[str, Any]) -> SitePolicy:
    """A policy that lets this study in and knows its persons.

    Args:
        study: with a section [privacy].
        persons: public number of persons.
        open_policy: the other rules of the site.

    Raises:
        PlanError: the study's privacy parameters protect nobody at such a site.
    """
    spec = study.privacy
    if spec is None:
        return SitePolicy(**open_policy)
    zero_out = spec.adjacency == "zero-out"
    public = 1 if spec.unit == "site" else persons
    plan = study_plan(study, public if zero_out else None)
    rules = PrivacyRules(
        unit=spec.unit,
        unit_column=spec.unit_column,
        adjacency=spec.adjacency,
        persons=public if zero_out else None,
        publish_persons=zero_out,
        budget=_budget(plan),
        max_epsilon_per_study=None,
        min_units=1,
        max_records=spec.max_records,
        mechanisms=(spec.sampling,) if spec.unit != "site" else ("full_batch",),
        secure_noise=spec.noise == "cryptographic",
        metrics=spec.metrics,
        allow_site_noise_at_server=True,
        cross_site_overlap="assumed-disjoint",
    )
    return SitePolicy(
        **open_policy,
        populations={_POPULATION: rules},
        datasets={DATASET: DatasetRule(population=_POPULATION)},
    )


def _budget(plan: PrivacyPlan) -> BudgetRules:
    """Room for the study and for as much again, at an order that suits it."""
    order = filter_order(max(plan.epsilon("rdp"), 1e-3), plan.delta)
    needed = max(_divergence(plan.events("train"), order), _divergence(plan.events("holdout"), order))
    room = renyi_to_epsilon(_SLACK * needed, order, plan.delta)
    return BudgetRules(epsilon=max(room, 1e-3) * 1.001, delta=plan.delta, order=order)


def _divergence(events: tuple[Event, ...], order: float) -> float:
    return sum(renyi_divergence(event, order) for event in events)


def open_site_ledger(folder: Path, policy: SitePolicy, fingerprint: str) -> "Ledger | None":
    """A virtual site's ledger with its population and data set; None where its policy knows no persons.

    Args:
        folder: of the site.
        policy: from :func:`private_policy`.
        fingerprint: of the site's rows.

    Raises:
        LedgerError: it cannot be opened, or is not this site's.
        IdentityError: the site's key cannot be read.
    """
    rules = policy.populations.get(_POPULATION)
    if rules is None:
        return None
    from vestry_privacy.ledger import Ledger

    folder.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(folder / _LEDGER, load_or_create_identity(folder / _IDENTITY))
    ledger.register(population_of(_POPULATION, rules))
    ledger.add_dataset(_POPULATION, DATASET, fingerprint, None)
    return ledger


def read_privacy(study: StudySpec, folder: Path, sites: tuple[str, ...]) -> dict[str, SitePrivacy]:
    """What the ledgers of a run's sites say about the study.

    Args:
        study: the study.
        folder: of the run's sites.
        sites: names.

    Returns:
        For each site that has a ledger.

    Raises:
        LedgerError: a ledger does not verify.
    """
    found: dict[str, SitePrivacy] = {}
    for name in sites if study.privacy is not None else ():
        place = folder / quote(name, safe="")
        if (place / _LEDGER).exists():
            found[name] = _read_site(study, place)
    return found


def _read_site(study: StudySpec, place: Path) -> SitePrivacy:
    from vestry_privacy.ledger import Ledger

    spec, digest = study.privacy, study.digest()
    if spec is None:
        raise ValueError("privacy=None: the study has no section [privacy]")
    identity = load_or_create_identity(place / _IDENTITY)
    with Ledger(place / _LEDGER, identity) as ledger:
        train, holdout = ledger.spent(digest, "train"), ledger.spent(digest, "holdout")
        guarantee = next(
            (entry.guarantee for entry in ledger.entries() if entry.kind == "hold"),
            "none",
        )
    site_plan = site_level_plan(study)
    return SitePrivacy(
        epsilon=epsilon(train, spec.delta, "pld", spec.adjacency),
        delta=spec.delta,
        epsilon_held_out=epsilon(holdout, spec.delta, "pld", spec.adjacency),
        steps=sum(event.count for event in train if event.mechanism != "gaussian"),
        guarantee=guarantee,
        events=tuple(event.model_dump_json() for event in train),
        ledger=str(place / _LEDGER),
        fingerprint=identity.fingerprint,
        site_epsilon=None if site_plan is None else site_plan.epsilon(),
    )
