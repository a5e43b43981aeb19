"""When the ledger refuses: pure checks of a request against the state, before anything is written."""

from collections.abc import Mapping, Sequence
from datetime import date

from vestry_privacy.accounting import Event, TruncatedPoissonGaussian, epsilon
from vestry_privacy.budget import StudyClaim, count_events, covers, events_of, how_often
from vestry_privacy.ledger_entries import Hold, Reserve
from vestry_privacy.ledger_errors import (
    BudgetExceeded,
    DuplicateRound,
    NotHeld,
    PopulationError,
    ReservationError,
    RoundOpen,
)
from vestry_privacy.ledger_state import (
    PARTITIONS,
    LedgerState,
    PopulationState,
    Reservation,
    StudyState,
    day_of,
)
from vestry_privacy.plan import Partition
from vestry_privacy.population import Population

__all__ = [
    "allow_hold",
    "allow_population",
    "allow_reserve",
    "fits",
    "held_study",
    "known_population",
    "known_study",
    "left",
    "open_reservation",
]


def known_population(state: LedgerState, name: str) -> PopulationState:
    """A registered population.

    Raises:
        PopulationError: it is not registered.
    """
    found = state.populations.get(name)
    if found is None:
        raise PopulationError(f"population {name!r}: is not registered in this ledger")
    return found


def known_study(state: LedgerState, study_hash: str) -> StudyState:
    """A study that was held, whether it has ended or not.

    Raises:
        NotHeld: the ledger does not know it.
    """
    study = state.studies.get(study_hash)
    if study is None:
        raise NotHeld(
            f"study {study_hash[:12]}: nothing is held for it; hold the whole study at its approval"
        )
    return study


def held_study(state: LedgerState, study_hash: str) -> StudyState:
    """A study that holds.

    Raises:
        NotHeld: the ledger does not know the study, or it has ended.
    """
    study = known_study(state, study_hash)
    if study.released:
        raise NotHeld(
            f"study {study_hash[:12]}: has ended and its hold is released; approve it again to go on"
        )
    return study


def open_reservation(state: LedgerState, seq: int, owner: str) -> Reservation:
    """An open reservation of one handle.

    Raises:
        ReservationError: no such, ended, or another handle's.
    """
    if seq not in state.study_of:
        raise ReservationError(f"reservation {seq}: the ledger has no such reservation")
    found = state.reservation(seq)
    if found.state != "reserve":
        raise ReservationError(f"reservation {seq}: has ended already ({found.state})")
    if found.entry.owner != owner:
        raise ReservationError(f"reservation {seq}: belongs to another process, which alone can end it")
    return found


def allow_population(state: LedgerState, new: Population, amend: bool) -> bool:
    """May a population be registered or amended like this?

    Returns:
        False where there is nothing to write.

    Raises:
        PopulationError: a change that needs ``amend``, or that not even ``amend`` allows.

    Guarantees:
        The order never changes once something was claimed, and ``none`` never becomes ``dp``: neither would
        be true of what was done before.
    """
    known = state.populations.get(new.name)
    if known is None:
        return True
    old = known.population
    if old == new:
        return False
    said = f"population {new.name!r}"
    if old.budget.order != new.budget.order and state.claimed(new.name) > 0:
        raise PopulationError(
            f"{said}, budget.order={new.budget.order:g}: stays {old.budget.order:g}, since a filter whose "
            "order is chosen after something was claimed protects nobody; keep it, or register another "
            "population"
        )
    if old.guarantee == "none" and new.guarantee == "dp":
        raise PopulationError(f"{said}, guarantee: stays 'none', since exact sums may have left before")
    changed = _changes(old, new)
    if changed and not amend:
        raise PopulationError(
            f"{said}, {', '.join(changed)}: differs from what is registered; its steward must amend it"
        )
    return True


def _changes(old: Population, new: Population) -> list[str]:
    """What only a steward may change; a smaller budget is everybody's right."""
    changed = [
        field
        for field in ("unit", "unit_column", "adjacency", "persons", "guarantee")
        if getattr(old, field) != getattr(new, field)
    ]
    before, after = old.budget, new.budget
    changed += [
        "budget." + field for field in ("epsilon", "delta") if getattr(after, field) > getattr(before, field)
    ]
    same = ("order", "starts", "ends")
    return changed + ["budget." + field for field in same if getattr(after, field) != getattr(before, field)]


def allow_hold(state: LedgerState, hold: Hold) -> bool:
    """May a study be held?

    Returns:
        False where the same hold stands.

    Raises:
        BudgetExceeded: the filter, the window or the cap has no room.
        NotHeld: another hold was made under the same hash.
        PopulationError: an unknown population, or an event that its adjacency has no bound for.
    """
    population = known_population(state, hold.population).population
    before = state.studies.get(hold.study.study_hash)
    if before is not None:
        if not _same_hold(before.hold, hold):
            raise NotHeld(
                f"study {hold.study.study_hash[:12]}: was held before with another population, plan or cap; "
                "a changed study has another hash"
            )
        if not before.released:
            return False
    for event in (*hold.train, *hold.holdout):
        if isinstance(event, TruncatedPoissonGaussian) and population.adjacency != "zero-out":
            raise PopulationError(
                f"population {population.name!r}, adjacency: truncated batches need 'zero-out'; use 'poisson'"
            )
    study = StudyState.of(hold, before)
    for partition in PARTITIONS:
        _allow_cap(study, population, study.held.get(partition, {}))
    _allow_claim(state, study, day_of(hold.time))
    return True


def _same_hold(old: Hold, new: Hold) -> bool:
    fields = ("population", "delta", "epsilon_cap", "guarantee")
    return all(getattr(old, field) == getattr(new, field) for field in fields) and all(
        count_events(getattr(old, part)) == count_events(getattr(new, part)) for part in PARTITIONS
    )


def allow_reserve(state: LedgerState, reserve: Reserve) -> None:
    """May a round begin?

    Raises:
        NotHeld: nothing is held, or the plan has no such event.
        DuplicateRound: it was committed already.
        RoundOpen: a running process is on it.
        BudgetExceeded: a repetition after a crash that the budget or the study's cap has no room for.

    Guarantees:
        Within the hold it is refused only outside the budget's window, or where the budget shrank or past
        spending was imported since.
    """
    study = held_study(state, reserve.study)
    _refuse_second(study, reserve)
    population = known_population(state, study.hold.population).population
    if reserve.event.count < 1 and population.guarantee == "dp":
        raise NotHeld(f"study {reserve.study[:12]}, event.count={reserve.event.count}: must be at least 1")
    approved = study.approved.get(reserve.partition, {})
    after = study.with_reservation(reserve)
    done = after.done(reserve.partition)
    if any(kind not in approved for kind in done):
        raise NotHeld(
            f"study {reserve.study[:12]}, {reserve.partition}: a {reserve.event.mechanism} event with these "
            "parameters is no part of the plan that was approved"
        )
    if not covers(approved, done):
        _allow_cap(study, population, done)
    _allow_claim(state, after, day_of(reserve.time))


def _refuse_second(study: StudyState, reserve: Reserve) -> None:
    said = f"study {reserve.study[:12]}, {reserve.purpose}, round {reserve.round}"
    attempts = study.attempts(reserve.purpose, reserve.round)
    committed = sum(earlier.state == "commit" for earlier in attempts)
    announced = reserve.repeat is not None and reserve.repeat == committed
    for earlier in attempts:
        if earlier.state == "commit" and not announced:
            raise DuplicateRound(
                f"{said}: was answered already and is charged once",
                earlier.entry.order_hash,
                earlier.reply_hash,
            )
        if earlier.state == "reserve":
            raise RoundOpen(f"{said}: a running process has reserved it; wait for its answer")


def _allow_cap(study: StudyState, population: Population, counts: Mapping[Event, int]) -> None:
    """The study's own limit, as everybody reports it: by PLD, at the study's delta."""
    cap, delta = study.hold.epsilon_cap, study.hold.delta
    if cap is None:
        return
    asked = epsilon(events_of(counts), delta, "pld", population.adjacency)
    if asked > cap:
        raise BudgetExceeded(
            population.name,
            "epsilon_cap",
            f"study {study.hold.study.study_hash[:12]} would cost epsilon {asked:.4g} at delta {delta:g}, "
            f"and at most {cap:g} was approved",
            asked,
            cap,
        )


def _allow_claim(state: LedgerState, study: StudyState, today: date) -> None:
    """Every population that the persons may be in must have room."""
    name = study.hold.population
    _refuse_closed(state.populations[name].population, today)
    studies = {**state.studies, study.hold.study.study_hash: study}
    for other in state.with_overlap(name):
        budget = state.populations[other].population.budget
        if not budget.open_on(today):
            continue  # what is done today is outside its window
        claimed = state.claimed(other, studies)
        if claimed > budget.rho:
            asked = budget.epsilon_of(claimed)
            before = budget.epsilon_of(state.claimed(other))
            shared = "" if other == name else f" (its overlap with {name!r} is unknown, so both add up)"
            raise BudgetExceeded(
                other,
                "budget",
                f"{before:.4g} of epsilon {budget.epsilon:g} is claimed, and with study "
                f"{study.hold.study.study_hash[:12]} it would be {asked:.4g} (delta {budget.delta:g}, order "
                f"{budget.order:g}){shared}; take fewer steps or more noise, or release a finished study",
                asked,
                budget.epsilon,
            )


def _refuse_closed(population: Population, today: date) -> None:
    budget = population.budget
    if not budget.open_on(today):
        raise BudgetExceeded(
            population.name,
            "window",
            f"grants from {budget.starts} to {budget.ends} only, and the ledger's day is {today}",
            None,
            budget.epsilon,
        )


def left(state: LedgerState, name: str, today: date) -> float:
    """D that a population's persons have left, at its budget's order.

    Raises:
        PopulationError: it is not registered.
    """
    budget = known_population(state, name).population.budget
    return max(0.0, budget.rho - state.claimed(name)) if budget.open_on(today) else 0.0


def fits(state: LedgerState, name: str, events: Mapping[Partition, Sequence[Event]], today: date) -> int:
    """How often a study or a round with these events fits into what is left.

    Raises:
        PopulationError: the population is not registered.
        BudgetError: the events cost nothing.
    """
    claim = StudyClaim({part: count_events(events.get(part, ())) for part in PARTITIONS}, {})
    known_population(state, name)
    open_ones = [
        other
        for other in state.with_overlap(name)
        if other == name or state.populations[other].population.budget.open_on(today)
    ]
    return min(
        how_often(
            left(state, other, today), claim.divergence(state.populations[other].population.budget.order)
        )
        for other in open_ones
    )
