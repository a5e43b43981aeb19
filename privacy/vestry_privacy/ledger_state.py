"""What a ledger's entries add up to: a replay, without clock, disk or randomness.

:meth:`LedgerState.apply` takes the entries in their order and refuses what no ledger of ours would write,
so a forged but well-signed sequence does not get past the rules either.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Literal, Self, get_args

from vestry_privacy.accounting import Event
from vestry_privacy.budget import Budget, Counts, StudyClaim, count_events, divergence
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
from vestry_privacy.ledger_errors import LedgerTampered
from vestry_privacy.plan import Partition
from vestry_privacy.population import Population

__all__ = [
    "PARTITIONS",
    "LedgerState",
    "LumpSum",
    "PopulationState",
    "Reservation",
    "ReservationState",
    "StudyState",
    "day_of",
]

ReservationState = Literal["reserve", "commit", "spent-by-crash", "void"]
PARTITIONS: tuple[Partition, ...] = get_args(Partition)


def day_of(milliseconds: int) -> date:
    """The day (UTC) of an entry's time."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).date()


@dataclass(frozen=True)
class Reservation:
    """One round's charge.

    Attributes:
        entry: of the reservation.
        kind: its event, counted once.
        state: where it stands.
        charged: how many of ``kind``.
        reply_hash: of the answer, once committed.
        ended: time of the entry that ended it; None while open.
    """

    entry: Reserve
    kind: Event
    state: ReservationState
    charged: int
    reply_hash: str = ""
    ended: int | None = None

    @classmethod
    def of(cls, entry: Reserve) -> Self:
        """A reservation as it begins: charged in full."""
        return cls(entry, entry.event.model_copy(update={"count": 1}), "reserve", entry.event.count)

    def done_in(self, budget: Budget | None) -> int:
        """How many count for a budget: all, unless it has a window that they are outside of.

        It was done at some time between reservation and end, so either one inside the window is enough.
        """
        if budget is None or budget.starts is None:
            return self.charged
        first = day_of(self.entry.time)
        last = day_of(self.ended) if self.ended is not None else date.max
        return self.charged if budget.counts(first, last) else 0


@dataclass(frozen=True)
class StudyState:
    """One study.

    Attributes:
        hold: the newest.
        held: partition -> what was approved; empty after the release.
        approved: the same, kept after the release.
        released: at its end.
        reservations: number of the entry -> reservation.
        totals: partition -> what they charge together.
        rounds: purpose and round -> numbers of its reservations.
    """

    hold: Hold
    held: Mapping[Partition, Counts]
    approved: Mapping[Partition, Counts]
    released: bool = False
    reservations: dict[int, Reservation] = field(default_factory=dict)
    totals: dict[Partition, dict[Event, int]] = field(default_factory=dict)
    rounds: dict[tuple[str, int], list[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, hold: Hold, before: Self | None) -> Self:
        """A study once the hold stands, with what it did under an earlier one."""
        held: dict[Partition, Counts] = {
            "train": count_events(hold.train),
            "holdout": count_events(hold.holdout),
        }
        if before is None:
            return cls(hold, held, held)
        return replace(before, hold=hold, held=held, approved=held, released=False)

    def with_reservation(self, entry: Reserve) -> Self:
        """The study as it would be, the reservation made; this one stays as it is."""
        totals = {partition: dict(counts) for partition, counts in self.totals.items()}
        other = replace(self, reservations=dict(self.reservations), totals=totals, rounds=dict(self.rounds))
        other.put(entry.seq, Reservation.of(entry))
        return other

    def put(self, seq: int, new: Reservation) -> None:
        """Take a reservation, or what became of it."""
        old = self.reservations.get(seq)
        place = (new.entry.purpose, new.entry.round)
        if old is None:
            self.rounds[place] = [*self.rounds.get(place, ()), seq]
        self.reservations[seq] = new
        counts = self.totals.setdefault(new.entry.partition, {})
        counts[new.kind] = counts.get(new.kind, 0) + new.charged - (old.charged if old else 0)

    def attempts(self, purpose: str, number: int) -> list[Reservation]:
        """All reservations for one round, oldest first."""
        return [self.reservations[seq] for seq in self.rounds.get((purpose, number), ())]

    def done(self, partition: Partition, budget: Budget | None = None) -> dict[Event, int]:
        """What was done or may be being done to a partition; in a budget's window, where one is given."""
        if budget is None or budget.starts is None:
            return {kind: count for kind, count in self.totals.get(partition, {}).items() if count}
        counts: dict[Event, int] = {}
        for reservation in self.reservations.values():
            if reservation.entry.partition == partition and (count := reservation.done_in(budget)):
                counts[reservation.kind] = counts.get(reservation.kind, 0) + count
        return counts

    def claim(self, budget: Budget | None = None) -> StudyClaim:
        """What the study claims of a budget."""
        return StudyClaim(self.held, {partition: self.done(partition, budget) for partition in PARTITIONS})


@dataclass(frozen=True)
class LumpSum:
    """Spending from an import or a reconciliation, to all persons.

    Attributes:
        time: of the entry.
        counts: what was done.
        note: why.
    """

    time: int
    counts: Counts
    note: str


@dataclass(frozen=True)
class PopulationState:
    """One population.

    Attributes:
        population: as last registered or amended.
        datasets: in the order of their entries.
        lump_sums: imports and reconciliations.
        amended: how often.
        blind: a study was held before any data set was declared, so nobody checked whose data it used.
    """

    population: Population
    datasets: list[Dataset] = field(default_factory=list)
    lump_sums: list[LumpSum] = field(default_factory=list)
    amended: int = 0
    blind: bool = False

    @property
    def overlap_known(self) -> bool:
        """Were all its data checked against all other persons known here?"""
        newest = {(data.name, data.fingerprint): data.overlap for data in self.datasets}
        return bool(newest) and not self.blind and all(overlap == "checked" for overlap in newest.values())

    def dataset(self, name: str, fingerprint: str) -> Dataset | None:
        """What was said last about a data set."""
        for data in reversed(self.datasets):
            if (data.name, data.fingerprint) == (name, fingerprint):
                return data
        return None


class LedgerState:
    """All populations and studies.

    Attributes:
        populations: by name.
        studies: by hash.
        study_of: number of a reservation -> hash of its study.
        open: numbers of reservations that nobody has ended.
        time: of the newest entry.
        reconciled: how often.
        public_key: whose ledger it is.
    """

    def __init__(self) -> None:
        self.populations: dict[str, PopulationState] = {}
        self.studies: dict[str, StudyState] = {}
        self.study_of: dict[int, str] = {}
        self.open: set[int] = set()
        self.time = 0
        self.reconciled = 0
        self.public_key = b""

    def apply(self, entry: Entry) -> None:
        """Take the next entry.

        Raises:
            LedgerTampered: it makes no sense after the ones before.
        """
        if (entry.seq == 1) != isinstance(entry, Create):
            raise LedgerTampered(entry.seq, "meaning", "only the first entry may and must create the ledger")
        if entry.time < self.time:
            raise LedgerTampered(entry.seq, "meaning", "its time is before the time of the entry before")
        try:
            self._apply(entry)
        except KeyError:
            raise LedgerTampered(entry.seq, "meaning", "speaks of what no earlier entry made") from None
        self.time = entry.time

    @property
    def key_check(self) -> str | None:
        """Names the key of the identifiers; None before the first were tagged."""
        found = [
            data.key_check
            for population in self.populations.values()
            for data in population.datasets
            if data.key_check is not None
        ]
        return found[0] if found else None

    def reservation(self, seq: int) -> Reservation:
        """One reservation.

        Raises:
            KeyError: no such.
        """
        return self.studies[self.study_of[seq]].reservations[seq]

    def with_overlap(self, name: str) -> tuple[str, ...]:
        """A population and all others that its persons may be in: those not checked against it."""
        known = self.populations[name].overlap_known
        others = (
            other
            for other, state in self.populations.items()
            if other != name and not (known and state.overlap_known)
        )
        return (name, *others)

    def claimed(self, name: str, studies: Mapping[str, StudyState] | None = None) -> float:
        """D that is claimed of a person of a population, at its budget's order and in its window.

        Args:
            name: of the population.
            studies: in place of this state's, to ask what would be.
        """
        studies = self.studies if studies is None else studies
        budget, persons = self.populations[name].population.budget, self.with_overlap(name)
        of_studies = [
            study.claim(budget).divergence(budget.order)
            for study in studies.values()
            if study.hold.population in persons
        ]
        of_lump_sums = [
            divergence(lump.counts, budget.order)
            for other in persons
            for lump in self.populations[other].lump_sums
            if budget.counts(day_of(lump.time), day_of(lump.time))
        ]
        return math.fsum(of_studies + of_lump_sums)

    def _apply(self, entry: Entry) -> None:
        match entry:
            case Create():
                self.public_key = bytes.fromhex(entry.public_key)
            case Register() | Amend():
                self._population(entry)
            case Dataset():
                self.populations[entry.population].datasets.append(entry)
            case Hold():
                self._hold(entry)
            case Reserve():
                self._reserve(entry)
            case Commit() | SpentByCrash() | Void():
                self._end(entry)
            case Release():
                study = self.studies[entry.study]
                self.studies[entry.study] = replace(study, held={}, released=True)
            case Import():
                lump = LumpSum(entry.time, count_events(entry.events), entry.note)
                self.populations[entry.population].lump_sums.append(lump)
            case Reconcile():
                self.reconciled += 1
                for name, events in entry.charged.items():
                    lump = LumpSum(entry.time, count_events(events), entry.note)
                    self.populations[name].lump_sums.append(lump)

    def _population(self, entry: Register | Amend) -> None:
        name = entry.population.name
        known = self.populations.get(name)
        if (known is None) != isinstance(entry, Register):
            raise LedgerTampered(entry.seq, "meaning", "registers a population twice or amends none")
        if known is None:
            self.populations[name] = PopulationState(entry.population)
        else:
            self.populations[name] = replace(known, population=entry.population, amended=known.amended + 1)

    def _hold(self, entry: Hold) -> None:
        population = self.populations[entry.population]
        if not population.datasets:
            self.populations[entry.population] = replace(population, blind=True)
        before = self.studies.get(entry.study.study_hash)
        if before is not None and before.hold.population != entry.population:
            raise LedgerTampered(entry.seq, "meaning", "moves a study to another population")
        self.studies[entry.study.study_hash] = StudyState.of(entry, before)

    def _reserve(self, entry: Reserve) -> None:
        study = self.studies[entry.study]
        if study.released:
            raise LedgerTampered(entry.seq, "meaning", "reserves for a study that has ended")
        study.put(entry.seq, Reservation.of(entry))
        self.study_of[entry.seq] = entry.study
        self.open.add(entry.seq)

    def _end(self, entry: Commit | SpentByCrash | Void) -> None:
        study = self.studies[self.study_of[entry.reservation]]
        open_one = study.reservations[entry.reservation]
        if open_one.state != "reserve":
            raise LedgerTampered(entry.seq, "meaning", f"ends reservation {entry.reservation} a second time")
        charged, reply = open_one.charged, ""
        if isinstance(entry, Commit):
            if entry.executed > charged:
                raise LedgerTampered(entry.seq, "meaning", "commits more than was reserved")
            charged, reply = entry.executed, entry.reply_hash
        elif isinstance(entry, Void):
            charged = 0
        ended = replace(open_one, state=entry.kind, charged=charged, reply_hash=reply, ended=entry.time)
        study.put(entry.reservation, ended)
        self.open.discard(entry.reservation)
