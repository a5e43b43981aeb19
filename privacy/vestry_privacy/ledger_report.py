"""A ledger in figures: what the filter claims and leaves, and what accountants make of what was done.

The filter alone decides. Epsilon by an accountant over everything spent is an estimate: it composes as if
all events had been chosen beforehand (fully adaptive composition of privacy loss distributions is not
covered), and takes of each study the partition that cost more at the filter's order.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any, Literal

from vestry_privacy.accounting import AccountantName, AccountingError, Adjacency, Event, epsilon
from vestry_privacy.budget import Budget, count_events, divergence, events_of
from vestry_privacy.ledger_rules import left
from vestry_privacy.ledger_state import PARTITIONS, LedgerState, StudyState, day_of
from vestry_privacy.plan import Partition
from vestry_privacy.population import Guarantee, Population

__all__ = ["Answer", "LedgerReport", "PopulationReport", "StudyReport", "answer_of", "build_report"]

Epsilons = Mapping[AccountantName, float | None]
"""Accountant -> epsilon; None where it cannot handle an event."""


@dataclass(frozen=True)
class Answer:
    """What became of a round.

    Attributes:
        order_hash: of the order it answers.
        reply_hash: of the reply; empty until committed.
        state: ``reserve`` while a process is on it.
        committed: how often it was committed: more than once where its secure sums failed.
    """

    order_hash: str
    reply_hash: str
    state: Literal["commit", "spent-by-crash", "reserve"]
    committed: int = 0


def answer_of(study: StudyState | None, purpose: str, number: int) -> Answer | None:
    """What became of a study's round; None where it was never begun, or voided."""
    attempts = study.attempts(purpose, number) if study else []
    committed = sum(found.state == "commit" for found in attempts)
    for found in reversed(attempts):
        if found.state != "void":
            return Answer(found.entry.order_hash, found.reply_hash, found.state, committed)
    return None


@dataclass(frozen=True)
class StudyReport:
    """One study.

    Attributes:
        study_hash: its identity.
        name: for people.
        run: which run.
        population: whose persons.
        guarantee: ``none`` where the noise, or the population, protects nobody.
        state: ``held`` or ``released``.
        delta: of its epsilons.
        epsilon_cap: most that was approved.
        planned: partition -> events of the approved plan.
        spent: partition -> events charged so far.
        epsilon_planned: of the approved plan, in the worse partition: the figure to report.
        epsilon_spent: of what is charged, in the worse partition.
        rounds: state of a reservation -> how many.
        claimed: share of the budget, 0 to 1, that the filter counts for it.
    """

    study_hash: str
    name: str
    run: str
    population: str
    guarantee: Guarantee
    state: str
    delta: float
    epsilon_cap: float | None
    planned: Mapping[Partition, tuple[Event, ...]]
    spent: Mapping[Partition, tuple[Event, ...]]
    epsilon_planned: Epsilons
    epsilon_spent: Epsilons
    rounds: Mapping[str, int]
    claimed: float


@dataclass(frozen=True)
class PopulationReport:
    """One population.

    Attributes:
        population: as registered or last amended.
        row_is_person: the steward declared that each row is another person.
        amended: how often.
        overlap: ``unknown`` where its persons may be in other populations too.
        adds_up_with: those populations.
        open_today: the budget's window.
        claimed_epsilon: what the filter reads: held, spent and imported.
        left_epsilon: how far that reading may still rise.
        estimate_spent: accountant -> epsilon of everything spent, an estimate (see the module).
        estimate_left: accountant -> the budget's epsilon less that; nothing enforces it.
        studies: oldest first.
    """

    population: Population
    row_is_person: bool
    amended: int
    overlap: str
    adds_up_with: tuple[str, ...]
    open_today: bool
    claimed_epsilon: float
    left_epsilon: float
    estimate_spent: Epsilons
    estimate_left: Epsilons
    studies: tuple[StudyReport, ...]


@dataclass(frozen=True)
class LedgerReport:
    """All of a ledger.

    Attributes:
        day: of the ledger (UTC).
        lost: why entries must have been lost; then nothing is left.
        reconciled: how often lost entries were made up for.
        populations: by name.
    """

    day: date
    lost: str | None
    reconciled: int
    populations: tuple[PopulationReport, ...]

    def plain(self) -> dict[str, Any]:
        """As JSON values; an infinite epsilon is the text ``inf``."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


def build_report(
    state: LedgerState, lost: str | None, today: date, accountants: Sequence[AccountantName]
) -> LedgerReport:
    """Report a ledger's state.

    Args:
        state: of the ledger.
        lost: why entries must have been lost, if they were.
        today: the ledger's day.
        accountants: whose epsilon is told beside the filter's.
    """
    populations = tuple(
        _population(state, name, lost, today, accountants) for name in sorted(state.populations)
    )
    return LedgerReport(today, lost, state.reconciled, populations)


def _population(
    state: LedgerState, name: str, lost: str | None, today: date, accountants: Sequence[AccountantName]
) -> PopulationReport:
    found = state.populations[name]
    population, budget = found.population, found.population.budget
    claimed = state.claimed(name)
    spent = _spent_by_a_person(state, name)
    estimate = _epsilons(spent, budget.delta, population.adjacency, accountants)
    own = [study for study in state.studies.values() if study.hold.population == name]
    claimed_epsilon = budget.epsilon_of(claimed)
    closed = lost is not None or left(state, name, today) == 0
    return PopulationReport(
        population=population,
        row_is_person=population.row_is_person,
        amended=found.amended,
        overlap="checked" if found.overlap_known else "unknown",
        adds_up_with=state.with_overlap(name)[1:],
        open_today=budget.open_on(today),
        claimed_epsilon=claimed_epsilon,
        left_epsilon=0.0 if closed else budget.epsilon - claimed_epsilon,
        estimate_spent=estimate,
        estimate_left={
            accountant: None if value is None else max(0.0, budget.epsilon - value)
            for accountant, value in estimate.items()
        },
        studies=tuple(_study(study, population, budget, accountants) for study in own),
    )


def _study(
    study: StudyState, population: Population, budget: Budget, accountants: Sequence[AccountantName]
) -> StudyReport:
    hold = study.hold
    planned: dict[Partition, tuple[Event, ...]] = {"train": hold.train, "holdout": hold.holdout}
    spent = {partition: events_of(study.done(partition)) for partition in PARTITIONS}
    states = [reservation.state for reservation in study.reservations.values()]
    return StudyReport(
        study_hash=hold.study.study_hash,
        name=hold.study.name,
        run=hold.study.run,
        population=hold.population,
        guarantee="none" if population.guarantee == "none" else hold.guarantee,
        state="released" if study.released else "held",
        delta=hold.delta,
        epsilon_cap=hold.epsilon_cap,
        planned=planned,
        spent=spent,
        epsilon_planned=_worse(planned, hold.delta, population.adjacency, accountants),
        epsilon_spent=_worse(spent, hold.delta, population.adjacency, accountants),
        rounds={state: states.count(state) for state in sorted(set(states))},
        claimed=study.claim(budget).divergence(budget.order) / budget.rho,
    )


def _spent_by_a_person(state: LedgerState, name: str) -> tuple[Event, ...]:
    """What was done to one person at most, as far as the budget's window counts it."""
    budget, persons = state.populations[name].population.budget, state.with_overlap(name)
    events: list[Event] = []
    for study in state.studies.values():
        if study.hold.population in persons:
            parts = [study.done(partition, budget) for partition in PARTITIONS]
            events += events_of(max(parts, key=lambda counts: divergence(counts, budget.order)))
    for other in persons:
        for lump in state.populations[other].lump_sums:
            if budget.counts(day_of(lump.time), day_of(lump.time)):
                events += events_of(lump.counts)
    return events_of(count_events(events))


def _worse(
    events: Mapping[Partition, tuple[Event, ...]],
    delta: float,
    adjacency: Adjacency,
    accountants: Sequence[AccountantName],
) -> Epsilons:
    parts = [_epsilons(part, delta, adjacency, accountants) for part in events.values()]
    worse: dict[AccountantName, float | None] = {}
    for accountant in accountants:
        values = [part[accountant] for part in parts]
        known = [value for value in values if value is not None]
        worse[accountant] = max(known, default=0.0) if len(known) == len(values) else None
    return worse


def _epsilons(
    events: Sequence[Event], delta: float, adjacency: Adjacency, accountants: Sequence[AccountantName]
) -> Epsilons:
    found: dict[AccountantName, float | None] = {}
    for accountant in accountants:
        try:
            found[accountant] = epsilon(events, delta, accountant, adjacency)
        except AccountingError:
            found[accountant] = None
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return "inf"
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value
