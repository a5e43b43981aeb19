"""The privacy ledger: what was promised, begun and done to a population's persons, and what is refused.

Append-only, hash-chained, signed by the site, one SQLite file. *Hold* the whole study when it is approved;
*reserve* a round, on the disk before the first gradient; *commit* what was executed, or *void* a round that
touched no data; *release* what a study did not do. A process that dies leaves its reservation spent. The
budget is enforced by a Renyi filter (:mod:`vestry_privacy.budget`).

It guards against error, crash and the coordinator, not against a site's own administrator, who can delete
the database and the head together.

    VestryError
    └── LedgerError    drawn in full in ledger_errors.py
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vestry_privacy.accounting import AccountantName, Event
from vestry_privacy.budget import Budget, events_of
from vestry_privacy.identity import SiteIdentity
from vestry_privacy.ledger_chain import LedgerChain
from vestry_privacy.ledger_entries import (
    Amend,
    Commit,
    Dataset,
    Entry,
    Hold,
    Import,
    Purpose,
    Register,
    Release,
    Reserve,
    StudyRef,
    Void,
    plain_details,
)
from vestry_privacy.ledger_errors import LedgerError, ReservationError, RoundOpen
from vestry_privacy.ledger_file import Head, LedgerFile, default_head
from vestry_privacy.ledger_identifiers import checked, refuse_same_file, store_tags
from vestry_privacy.ledger_lock import OwnerMark
from vestry_privacy.ledger_report import Answer, LedgerReport, answer_of, build_report
from vestry_privacy.ledger_rules import (
    allow_hold,
    allow_population,
    allow_reserve,
    fits,
    known_population,
    known_study,
    open_reservation,
)
from vestry_privacy.ledger_state import LedgerState, day_of
from vestry_privacy.plan import Partition
from vestry_privacy.population import Guarantee, Population

__all__ = ["Answer", "Budget", "Ledger", "LedgerError", "Population", "StudyRef"]


class Ledger:
    """One handle on a site's ledger; several processes may each have one.

    Reservations belong to their handle: keep it open until they are committed.

    Args:
        path: the database; made where there is none. Lock, marks, head and key lie beside it.
        identity: the site's; signs every entry.
        head: file for the newest entry's number, best on another disk; by default beside the database.
        clock: seconds since 1970.
        patience: seconds to wait for another process.

    Raises:
        LedgerUnavailable: locked, read-only, on a full disk, or no ledger.
        LedgerVersion: a newer version wrote it.
        LedgerTampered: its entries are not what the site signed.
        LedgerRollback: its entries are gone.
        WrongIdentity: another key signed it.

    Guarantees:
        What :meth:`reserve` returned is on the disk and charged in full until it is committed or voided,
        whatever happens to the process. The claims on a budget never pass it by a hold or a reservation.
        A failed operation leaves the ledger as it was; only where the head was renewed and the disk then
        refuses to flush its folder, a charge stays that nobody may use.
    """

    def __init__(
        self,
        path: Path,
        identity: SiteIdentity,
        *,
        head: Path | None = None,
        clock: Callable[[], float] = time.time,
        patience: float = 5.0,
    ) -> None:
        self._path = path
        self._marks = path.with_name(f"{path.name}.owners")
        self._mark: OwnerMark | None = None
        self._chain = LedgerChain(LedgerFile(path, head or default_head(path), patience), identity, clock)
        try:
            with self._chain.writing(repairing=True):
                if self._chain.lost is None:
                    self._settle()
                    self._chain.heal_head()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go; reservations that are still open count as spent by a crash."""
        if self._mark is not None:
            self._mark.close()
            self._mark = None
        self._chain.close()

    @property
    def rollback(self) -> str | None:
        """Why entries must have been lost, as of the last operation; None where none were."""
        return self._chain.lost

    @property
    def head(self) -> Head:
        """Number and hash of the newest entry: what another site may keep as a witness."""
        with self._chain.reading():
            newest = self._chain.newest
            return Head(newest.seq, newest.hash) if newest else Head(0, "")

    @property
    def witness(self) -> tuple[int, Head]:
        """Reconciliations, and the newest commit: what other sites remember, as nobody can provoke it."""
        with self._chain.reading() as state:
            row = self._chain.newest_commit
            return state.reconciled, Head(row.seq, row.hash) if row else Head(0, "")

    def register(self, population: Population, *, amend: bool = False) -> None:
        """Register a population, or change it.

        The same again writes nothing. A smaller budget needs no ``amend``.

        Raises:
            PopulationError: a change of unit, adjacency, order, persons, guarantee or window, or a larger
                budget, without ``amend``; or one that is never allowed.
        """
        with self._chain.writing() as state:
            if allow_population(state, population, amend):
                kind = Amend if population.name in state.populations else Register
                draft = self._chain.draft(kind, population=population, row_is_person=population.row_is_person)
                self._chain.append(draft)

    def population(self, name: str) -> Population | None:
        """A population as it stands."""
        with self._chain.reading() as state:
            found = state.populations.get(name)
            return found.population if found else None

    def add_dataset(
        self, population: str, name: str, fingerprint: str, identifiers: Sequence[str] | None
    ) -> None:
        """Declare whose persons a data set holds; the same again writes nothing.

        Args:
            population: of its persons.
            name: of the data set.
            fingerprint: of its content.
            identifiers: of its persons; None where none can be had: then the spending of this population
                and of every other adds up, since anybody may be in both.

        Raises:
            OverlapError: persons, or the same file, in another population.
            PopulationError: no such population, or identifiers that name nobody.

        Guarantees:
            No identifier is stored or said; only tags under the site's own key.
        """
        with self._chain.writing() as state:
            known = known_population(state, population).dataset(name, fingerprint)
            refuse_same_file(state, population, fingerprint)
            key = self._path.with_name(f"{self._path.name}.key")
            fields, tags = checked(self._chain.file, state, population, key, identifiers)
            if known is None or (tags and known.identifiers != fields["identifiers"]):
                names = {"population": population, "name": name, "fingerprint": fingerprint}
                seq = self._chain.append(self._chain.draft(Dataset, **names, **fields))
                store_tags(self._chain.file, seq, tags)

    def hold(
        self,
        population: str,
        study: StudyRef,
        events: Mapping[Partition, Sequence[Event]],
        *,
        epsilon_cap: float | None = None,
        delta: float | None = None,
        guarantee: Guarantee = "dp",
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Hold a whole study at its approval; the same again writes nothing.

        Args:
            population: whose persons.
            study: which.
            events: partition -> all that the study may do.
            epsilon_cap: most that the study may cost by PLD, repetitions after crashes included.
            delta: of the cap; the budget's where None.
            guarantee: ``none`` for noise that can be foretold.
            details: plain public values for the record: clip, sampler, noise source.

        Raises:
            BudgetExceeded: the filter, the window or the cap has no room.
            NotHeld: the study was held with another plan.
            LedgerError: a detail is no plain value, or a number is out of range.
        """
        fields = {
            "population": population,
            "study": study,
            "train": tuple(events.get("train", ())),
            "holdout": tuple(events.get("holdout", ())),
            "epsilon_cap": epsilon_cap,
            "guarantee": guarantee,
            "details": plain_details(details or {}),
        }

        def draft(state: LedgerState) -> Hold:
            before = state.studies.get(study.study_hash)
            usual = (
                before.hold.delta if before else known_population(state, population).population.budget.delta
            )
            return self._chain.draft(Hold, delta=usual if delta is None else delta, **fields)

        with self._chain.reading(whole=True) as state:
            allow_hold(state, draft(state))  # fills the caches, so that nobody waits for an accountant
        with self._chain.writing() as state:
            if allow_hold(state, hold := draft(state)):
                self._chain.append(hold)

    def reserve(
        self,
        study_hash: str,
        partition: Partition,
        purpose: Purpose,
        round: int,  # noqa: A002 - the field's word, as in the entry
        event: Event,
        order_hash: str,
        *,
        repeat: int = 0,
    ) -> int:
        """Charge a round in full, on the disk, before anything is computed from data.

        Args:
            study_hash: of a study that is held.
            partition: whose persons are looked at.
            purpose: what for.
            round: of the order.
            event: what it does to a person.
            order_hash: of the order.
            repeat: how often the round was committed before (``Answer.committed``), to charge it once more
                because its secure sum failed; 0 refuses a round that was committed.

        Returns:
            The reservation, for :meth:`commit` or :meth:`void` of this handle.

        Raises:
            NotHeld: no hold, or an event that is no part of it.
            DuplicateRound: the round was committed, and not so often as ``repeat`` says.
            RoundOpen: a running process is on it.
            BudgetExceeded: no room for a repetition.
        """
        fields = {
            "study": study_hash,
            "partition": partition,
            "purpose": purpose,
            "round": round,
            "event": event,
            "order_hash": order_hash,
            "owner": self._owner(),
            "repeat": repeat or None,
        }
        with self._chain.reading(whole=True) as state, suppress(RoundOpen):  # may be a dead process's
            allow_reserve(state, self._chain.draft(Reserve, **fields))
        with self._chain.writing() as state:
            if self._mark is None:
                self._mark = OwnerMark(self._marks)
            self._settle()
            draft = self._chain.draft(Reserve, **{**fields, "owner": self._owner()})
            allow_reserve(state, draft)
            return self._chain.append(draft)

    def commit(self, reservation: int, executed: int, *, reply_hash: str = "", model_hash: str = "") -> None:
        """End a reservation with what was executed, whatever became of the reply.

        Raises:
            ReservationError: not an open reservation of this handle, or more than was reserved.
        """
        with self._chain.writing() as state:
            found = open_reservation(state, reservation, self._owner())
            if not 0 <= executed <= found.charged:
                raise ReservationError(
                    f"reservation {reservation}, executed={executed}: must be 0 to {found.charged}"
                )
            fields = {"executed": executed, "reply_hash": reply_hash, "model_hash": model_hash}
            self._chain.append(self._chain.draft(Commit, reservation=reservation, **fields))

    def void(self, reservation: int, reason: str) -> None:
        """End a reservation of which nothing was computed from data; it charges nothing.

        Raises:
            ReservationError: not an open reservation of this handle.
        """
        with self._chain.writing() as state:
            open_reservation(state, reservation, self._owner())
            self._chain.append(self._chain.draft(Void, reservation=reservation, reason=reason))

    def release(self, study_hash: str) -> None:
        """End a study: what it did not do goes back to the budget; a second time writes nothing.

        Raises:
            NotHeld: the ledger does not know the study.
        """
        with self._chain.writing() as state:
            self._settle()
            if not known_study(state, study_hash).released:
                self._chain.append(self._chain.draft(Release, study=study_hash))

    def import_spending(self, population: str, events: Sequence[Event], note: str) -> None:
        """Charge what was done elsewhere, also beyond the budget: it is a fact.

        Raises:
            PopulationError: no such population.
        """
        with self._chain.writing() as state:
            known_population(state, population)
            self._chain.append(
                self._chain.draft(Import, population=population, events=tuple(events), note=note)
            )

    def reconcile(self, note: str, events: Mapping[str, Sequence[Event]]) -> None:
        """Go on after a restored backup: charge what was lost.

        Args:
            note: what happened, for the record.
            events: population -> what it lost. Every population must be named, if only with nothing.

        Raises:
            LedgerError: nothing was lost, or a population is not named.
        """
        with self._chain.writing(repairing=True) as state:
            if self._chain.lost is None:
                raise LedgerError("reconcile: no entries were lost; use 'import' for past spending")
            for name in {*state.populations, *events}:
                known_population(state, name)
                if name not in events:
                    raise LedgerError(f"reconcile: say what population {name!r} lost, or that it is nothing")
            self._chain.reconcile(note, {name: tuple(lost) for name, lost in events.items()})
            self._settle()

    def answered(self, study_hash: str, purpose: Purpose, round: int) -> Answer | None:  # noqa: A002
        """What became of a round; None where it was never begun, or voided."""
        with self._chain.reading() as state:
            return answer_of(state.studies.get(study_hash), purpose, round)

    def spent(self, study_hash: str, partition: Partition) -> tuple[Event, ...]:
        """What a study is charged for a partition: commits, crashes and open reservations."""
        with self._chain.reading() as state:
            study = state.studies.get(study_hash)
            return events_of(study.done(partition)) if study else ()

    def fits(self, population: str, events: Mapping[Partition, Sequence[Event]]) -> int:
        """How many more times these events fit into the budget: rounds, or whole studies.

        Raises:
            PopulationError: no such population.
            BudgetError: the events cost nothing.
        """
        with self._chain.reading() as state:
            return 0 if self._chain.lost else fits(state, population, events, day_of(self._chain.now()))

    def report(self, accountants: Sequence[AccountantName] = ("pld", "rdp")) -> LedgerReport:
        """What is claimed, spent and left. ``prv`` may be asked for too; it loads torch."""
        with self._chain.reading() as state:
            return build_report(state, self._chain.lost, day_of(self._chain.now()), accountants)

    def entries(self) -> Iterator[Entry]:
        """All entries, oldest first."""
        with self._chain.reading():
            return iter(tuple(self._chain.entries))

    def _owner(self) -> str:
        return self._mark.owner if self._mark is not None else ""

    def _settle(self) -> None:
        self._chain.settle(self._marks, self._owner())
