"""Entries and events of the ledger in words, for `vestry-site ledger show` and `report`."""

from collections.abc import Iterable
from datetime import UTC, datetime

from vestry_privacy.accounting import Event, GaussianRelease, TruncatedPoissonGaussian
from vestry_privacy.ledger_entries import (
    Amend,
    Commit,
    Create,
    Dataset,
    Entry,
    Hold,
    Import,
    Reconcile,
    Register,
    Release,
    Reserve,
    SpentByCrash,
    Void,
)

__all__ = ["entry_row", "event_words", "events_words"]


def event_words(event: Event) -> str:
    """One kind of event, as ``40 steps, sigma 2, q 0.05``."""
    if isinstance(event, GaussianRelease):
        return f"{_times(event.count, 'release')}, sigma {event.noise_multiplier:g}"
    cap = f", cap {event.cap}" if isinstance(event, TruncatedPoissonGaussian) else ""
    return (
        f"{_times(event.count, 'step')}, sigma {event.noise_multiplier:g}, "
        f"q {event.sampling_probability:g}{cap}"
    )


def events_words(events: Iterable[Event]) -> str:
    """Several kinds of events."""
    return "; ".join(map(event_words, events)) or "nothing"


def entry_row(entry: Entry) -> tuple[str, str, str, str, str]:
    """Number, time (UTC), kind, whom it concerns, and what it says."""
    time = datetime.fromtimestamp(entry.time / 1000, UTC).strftime("%Y-%m-%d %H:%M")
    late = " (clock was set back)" if entry.clock_set_back else ""
    whom, what = _words(entry)
    return str(entry.seq), time + late, entry.kind, whom, what


def _words(entry: Entry) -> tuple[str, str]:
    match entry:
        case Create():
            return "", f"public key {entry.public_key[:16]}…"
        case Register() | Amend():
            return entry.population.name, _population(entry)
        case Dataset():
            return entry.population, f"{entry.name}, {entry.fingerprint[:12]}…, overlap {entry.overlap}"
        case Hold():
            train, holdout = events_words(entry.train), events_words(entry.holdout)
            none = ", guarantee none" if entry.guarantee == "none" else ""
            return entry.population, f"{_study(entry)}: train {train}; holdout {holdout}{none}"
        case Reserve():
            return entry.study[:12], f"{entry.purpose}, round {entry.round}: {event_words(entry.event)}"
        case Commit():
            return "", f"reservation {entry.reservation}: {entry.executed} done"
        case SpentByCrash():
            return "", f"reservation {entry.reservation}: charged in full"
        case Void():
            return "", f"reservation {entry.reservation}: charged nothing ({entry.reason})"
        case Release():
            return entry.study[:12], "what was not done goes back"
        case Import():
            return entry.population, f"{events_words(entry.events)} ({entry.note})"
        case Reconcile():
            lost = "; ".join(f"{name}: {events_words(events)}" for name, events in entry.charged.items())
            return "", f"{lost or 'nothing'} ({entry.note})"


def _population(entry: Register | Amend) -> str:
    found = entry.population
    budget = found.budget
    row = ", every row another person" if entry.row_is_person else ""
    none = ", guarantee none" if found.guarantee == "none" else ""
    window = "" if budget.starts is None else f", {budget.starts} to {budget.ends}"
    return (
        f"{found.unit}{row}, {found.adjacency}: epsilon {budget.epsilon:g}, delta {budget.delta:g}, "
        f"order {budget.order:g}{window}{none}"
    )


def _study(entry: Hold) -> str:
    return f"{entry.study.name} {entry.study.study_hash[:12]}"


def _times(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")
