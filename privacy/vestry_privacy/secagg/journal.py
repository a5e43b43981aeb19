"""A site's journal of secure sums: what it accepted, sent, signed and revealed, on the disk before that.

Entries in one chain of hashes in one SQLite file. The state is read from the entries when the journal is
opened (the chain is checked), and kept up with what other processes append. Each method is one transaction,
and decides inside it, so two processes cannot both take one step of one plan. Nothing secret is in it.

A secure sum costs five flushes: accept, consume with the head file, sign, reveal. The peers' heads cost none
of their own: a kill does not take them back, and they are on the disk with ``consume``, before anything that
a peer's past protects leaves.

    ProtocolAbort
    ├── JournalError     the file: missing, locked, damaged, newer, older than its head, read-only, full
    ├── Repeated, RosterRefused, WrongStep, RolledBack    see vestry_privacy.secagg.history
    └── BadMessage       a value that no plan has
"""

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vestry_privacy.secagg.encoding import DIGEST_BYTES
from vestry_privacy.secagg.errors import BadMessage, JournalError
from vestry_privacy.secagg.history import NO_HEAD, Accepted, Head, History, Rules, after_input, check_peer
from vestry_privacy.secagg.journal_entries import (
    Accept,
    Consume,
    Entry,
    Loss,
    Reveal,
    Sign,
    decode_entry,
    encode_entry,
    entry_hash,
    note_entry,
    roster_hash,
)
from vestry_privacy.secagg.journal_file import DECLARE, JournalFile, create_file
from vestry_privacy.secagg.journal_head import HeadFile, default_head
from vestry_privacy.secagg.journal_report import JournalReport, Lost, report_of

__all__ = ["Journal"]


class Journal:
    """One site's journal, open; a context manager.

    Args:
        path: the database, which is there; None for one in memory, for tests and simulations.
        patience: seconds to wait for another process.
        head: the head file, best on another disk; None for beside the database.
        clock: seconds since 1970.
        durable: wait for the disk. Without, a power cut may take steps back, a kill still does not: for
            simulations only.
        repairing: open one that was set back, or whose head file is lost, so that the loss can be declared.

    Raises:
        JournalError: missing, locked, damaged, newer, read-only, or older than its head; says how to recover.

    Guarantees:
        When a method returns, a kill does not undo it, nor does a power cut (but for :meth:`see_peers`, see
        the module). When it raises, nothing of it is recorded, or it is and nothing may leave.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        patience: float = 5.0,
        head: Path | None = None,
        clock: Callable[[], float] = time.time,
        durable: bool = True,
        repairing: bool = False,
    ) -> None:
        self._clock, self._process, self._mutex = clock, os.getpid(), threading.RLock()
        self._history, self._head, self._witness = History(), NO_HEAD, NO_HEAD
        self._rosters: dict[bytes, tuple[bytes, ...]] = {}
        self._losses: list[Lost] = []
        self._repairing = repairing
        self._file = JournalFile(path, head, patience, durable=durable, repairing=repairing)
        try:
            self.head()
        except BaseException:
            self.close()
            raise

    @staticmethod
    def create(
        path: Path,
        *,
        patience: float = 5.0,
        head: Path | None = None,
        clock: Callable[[], float] = time.time,
        durable: bool = True,
    ) -> "Journal":
        """Make an empty journal, and open it.

        Raises:
            JournalError: there is one; or its head file is there, so that it was lost; or the disk refuses.
        """
        noted = head or default_head(path)
        if not path.exists() and _was_there(path, noted, patience):
            JournalFile(path, head, patience)  # says that it is missing
        try:
            create_file(path)
        except FileExistsError:
            raise JournalError(
                "journal", f"{path}: is there already; open it, it is not begun anew"
            ) from None
        return Journal(path, patience=patience, head=head, clock=clock, durable=durable)

    @staticmethod
    def open_or_create(
        path: Path,
        *,
        patience: float = 5.0,
        head: Path | None = None,
        clock: Callable[[], float] = time.time,
        durable: bool = True,
    ) -> "Journal":
        """Open the journal, or make it where there never was one.

        Raises:
            JournalError: as when opening, and as in :meth:`create`.
        """
        if not path.exists():
            try:
                return Journal.create(path, patience=patience, head=head, clock=clock, durable=durable)
            except JournalError:
                if not path.exists():
                    raise
        return Journal(path, patience=patience, head=head, clock=clock, durable=durable)

    def witness(self) -> Head:
        """The newest masked input, for the other sites to remember.

        Its count is of masked inputs, which a threshold of sites must help with. Of entries a coordinator
        alone could ask a restored site for so many that nobody sees what it has forgotten.
        """
        with self._reading():
            return self._witness

    def head(self) -> Head:
        """The newest entry.

        Raises:
            JournalError: the file cannot be used, or was set back.
        """
        with self._reading():
            return self._head

    def accept(
        self,
        plan_hash: bytes,
        run: str,
        kind: str,
        sequence: int,
        round: int,  # noqa: A002 - the field's name
        roster: tuple[bytes, ...],
        model: bytes,
        rules: Rules,
    ) -> None:
        """Take part in a plan, before anything of it leaves.

        Args:
            plan_hash: its hash, 32 bytes.
            run: name of the run.
            kind: ``statistics``, ``train`` or ``evaluate``.
            sequence: of the run, shared by all kinds.
            round: of the study.
            roster: key hashes, 32 bytes each, ascending.
            model: hash of the model, 32 bytes.
            rules: of the site's policy and of the study.

        Raises:
            Repeated, RosterRefused: see :meth:`~vestry_privacy.secagg.history.History.check_accept`.
            BadMessage: a hash is not 32 bytes, or a number or text does not fit.
            JournalError: the file cannot be used.
        """
        plan = Accepted(plan_hash, run, kind, sequence, round, roster, model, rules)
        joined = _joined(roster)
        with self._writing():
            self._history.check_accept(plan)
            if roster_hash(roster) not in self._rosters:
                self._file.add_roster(joined)
            self._append(Accept(plan))

    def see_peers(self, heads: Mapping[bytes, tuple[Head, Head]]) -> None:
        """Remember the others' highest heads; nothing of a call that is refused.

        Args:
            heads: key hash -> heads of that site's journal and ledger.

        Raises:
            RolledBack: one is older than it was; ``peer`` is the key hash, 64 hexadecimal digits.
            JournalError: the file cannot be used.
        """
        with self._writing(durable=False):
            before = self._file.peers(heads)
            for site, (journal, ledger) in heads.items():
                known = before.get(site, (None, None))
                check_peer(known[0], journal, site.hex())
                check_peer(known[1], ledger, site.hex())
            self._file.put_peers({site: pair for site, pair in heads.items() if before.get(site) != pair})
            self._file.commit()

    def consume(self, plan_hash: bytes) -> None:
        """Masked input is about to leave. Holds the plan against the past once more.

        Raises:
            Repeated, RosterRefused, WrongStep: see
                :meth:`~vestry_privacy.secagg.history.History.check_consume`.
            JournalError: the file cannot be used.
        """
        with self._writing():
            self._history.check_consume(plan_hash)
            self._append(Consume(plan_hash), flush=True)

    def sign(self, plan_hash: bytes, view: bytes, inputs: Mapping[bytes, Head] | None = None) -> None:
        """A signature over survivors is about to leave; the same survivors again are refused as well.

        Args:
            plan_hash: of the plan.
            view: hash of what is signed, 32 bytes.
            inputs: key hash of each other survivor -> what its witness was before its input, which makes it
                one more.

        Raises:
            Repeated: one may have left already.
            WrongStep: no masked input has left.
            BadMessage: the view is not 32 bytes.
            JournalError: the file cannot be used.
        """
        with self._writing():
            self._history.check_sign(plan_hash)
            before = self._file.peers(inputs or {})
            self._file.put_peers(
                {site: after_input(before.get(site), head) for site, head in (inputs or {}).items()}
            )
            self._append(Sign(plan_hash, view))

    def reveal(self, plan_hash: bytes) -> None:
        """Shares are about to leave.

        Raises:
            Repeated: they may have left already.
            WrongStep: no survivors were signed.
            JournalError: the file cannot be used.
        """
        with self._writing():
            self._history.check_reveal(plan_hash)
            self._append(Reveal(plan_hash))

    def declare_loss(self, note: str) -> None:
        """Begin a new epoch, because entries may have been lost; what is here still counts.

        Args:
            note: what happened, for the record.

        Raises:
            BadMessage: the note is too long, or no Unicode.
            JournalError: the file cannot be used.
        """
        with self._writing():
            known = max(self._head, self._file.noted(), key=lambda head: (head.epoch, head.count))
            self._append(Loss(known.epoch + 1, known, note), flush=True)
        self._repairing = False

    def report(self) -> JournalReport:
        """What is in it, counted."""
        with self._reading():
            return report_of(self._history, self._head, tuple(self._losses), self._file.peers())

    def close(self) -> None:
        """Let go of the files."""
        if os.getpid() == self._process:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _writing(self, *, durable: bool = True) -> Iterator[None]:
        with self._mutex:
            self._require_process()
            with self._file.writing(durable=durable):
                noted = self._file.noted()
                self._catch_up()
                self._require_whole(noted)
                yield

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._mutex:
            self._require_process()
            noted = self._file.noted()
            with self._file.reading():
                self._catch_up()
                self._require_whole(noted)
                yield

    def _append(self, entry: Entry, *, flush: bool = False) -> None:
        """The last of a transaction: memory follows the disk, never the other way round."""
        try:
            body = encode_entry(entry, max(0, int(self._clock() * 1000)))
        except UnicodeEncodeError:
            raise BadMessage("journal entry", "a text is no Unicode") from None
        rosters = {roster_hash(entry.plan.roster): entry.plan.roster} if isinstance(entry, Accept) else {}
        try:
            decode_entry(body, rosters)
        except JournalError as error:  # what could not be read back must not get in
            raise BadMessage("journal entry", error.message) from None
        count = self._head.count + 1
        hashed = entry_hash(self._head.hash, count, body)
        self._file.append(count, body, hashed)
        epoch = entry.epoch if isinstance(entry, Loss) else self._head.epoch
        self._file.commit(Head(epoch, count, hashed), flush=flush)
        self._catch_up()

    def _catch_up(self) -> None:
        for members in self._file.rosters(len(self._rosters) + 1):
            places = range(0, len(members), DIGEST_BYTES)
            roster = tuple(members[place : place + DIGEST_BYTES] for place in places)
            self._rosters[roster_hash(roster)] = roster
        newest = self._head.count
        rows = self._file.entries(max(newest, 1))
        if newest and (not rows or (rows[0][0], rows[0][2]) != (newest, self._head.hash)):
            raise self._set_back(self._head)
        for count, body, hashed in rows[1:] if newest else rows:
            self._take(count, body, hashed)

    def _take(self, count: Any, body: Any, hashed: Any) -> None:
        place = self._head.count + 1
        if (
            count != place
            or not isinstance(body, bytes)
            or entry_hash(self._head.hash, place, body) != hashed
        ):
            raise self._file.damaged(f"entry {place} is not the one that was written")
        try:
            entry, when = decode_entry(body, self._rosters)
            note_entry(self._history, entry)
        except (JournalError, KeyError):
            raise self._file.damaged(f"entry {place} cannot be read") from None
        epoch = self._head.epoch
        if isinstance(entry, Loss):
            self._losses.append(Lost(entry.epoch, entry.known.count, entry.note, when))
            epoch = entry.epoch
            self._witness = Head(epoch, self._witness.count, NO_HEAD.hash)
        self._head = Head(epoch, count, hashed)
        if isinstance(entry, Consume):
            self._witness = Head(epoch, self._witness.count + 1, hashed)

    def _require_whole(self, noted: Head) -> None:
        """The entry that was noted is in the chain, or a loss was declared after it."""
        if self._repairing or noted == self._head or noted.epoch < self._head.epoch or noted.count == 0:
            return
        found = self._file.entries(noted.count)[:1] if noted.epoch == self._head.epoch else []
        if not found or (found[0][0], found[0][2]) != (noted.count, noted.hash):
            raise self._set_back(noted)

    def _set_back(self, known: Head) -> JournalError:
        return JournalError(
            "journal older",
            f"{self._file.name}: {known.count} entries were written, and not all are here: an older copy or "
            f"another branch was restored. Put the newest copy back or, where there is none, {DECLARE}",
        )

    def _require_process(self) -> None:
        if os.getpid() != self._process:
            raise JournalError(
                "journal", f"{self._file.name}: was opened in another process; open it in this one"
            )


def _was_there(path: Path, noted: Path, patience: float) -> bool:
    """Is something left of a journal? SQLite would take a log that was left for the new database's."""
    if path.with_name(f"{path.name}-wal").exists():
        return True
    if not noted.exists():
        return False
    with closing(HeadFile(noted, patience)) as file:
        return file.read() != NO_HEAD


def _joined(roster: tuple[bytes, ...]) -> bytes:
    if not roster or any(len(member) != DIGEST_BYTES for member in roster):
        raise BadMessage("journal entry", f"a roster has no members, or one that is not {DIGEST_BYTES} bytes")
    return b"".join(roster)
