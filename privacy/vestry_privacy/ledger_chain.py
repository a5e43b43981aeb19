"""A ledger's chain as one process sees it: kept up with what others append, checked as it is read.

Before each operation the new entries are read, inside the same transaction; entries once checked are not
checked again unless the newest of them has changed. One valid signature, the newest entry's, vouches for
every byte before it (:func:`~vestry_privacy.ledger_entries.unseal`).
"""

import os
import platform
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from vestry_privacy.accounting import Event
from vestry_privacy.identity import SiteIdentity, fingerprint_of
from vestry_privacy.ledger_entries import (
    NO_HASH,
    Commit,
    Create,
    Entry,
    Reconcile,
    Row,
    SpentByCrash,
    check_signature,
    link_of,
    seal,
    unseal,
)
from vestry_privacy.ledger_errors import (
    LedgerError,
    LedgerRollback,
    LedgerTampered,
    LedgerUnavailable,
    WrongIdentity,
)
from vestry_privacy.ledger_file import Head, LedgerFile
from vestry_privacy.ledger_lock import is_alive
from vestry_privacy.ledger_state import LedgerState

__all__ = ["LedgerChain", "lost_entries"]

Kind = TypeVar("Kind", bound=Entry)


def lost_entries(head: Head | None, hashes: dict[int, str]) -> str | None:
    """Why entries must have been lost, or None.

    Args:
        head: the newest entry known outside the database.
        hashes: number -> hash of the entries that are there, in their order.

    Returns:
        None where the head is on the chain, or where there is none yet beside a single first entry.
    """
    newest = next(reversed(hashes), 0)
    if head is None:
        return None if newest <= 1 else "its head file is missing, so lost entries could not be told"
    if head.seq > newest:
        return f"{head.seq} entries were written, and the newest here is {newest}: an older copy was restored"
    if hashes.get(head.seq) != head.hash:
        return f"entry {head.seq} is not the one that was written: another branch of the chain was restored"
    return None


class LedgerChain:
    """State, newest entry and file of one ledger.

    Args:
        file: rows and head.
        identity: signs, and must have signed.
        clock: seconds since 1970.
    """

    def __init__(self, file: LedgerFile, identity: SiteIdentity, clock: Callable[[], float]) -> None:
        self.file, self._identity, self._clock = file, identity, clock
        self._mutex = threading.RLock()
        self._process = os.getpid()
        self.state = LedgerState()
        self.entries: list[Entry] = []
        self.newest: Row | None = None
        self.newest_commit: Row | None = None
        self.head: Head | None = None
        self.lost: str | None = None
        self._hashes: dict[int, str] = {}

    @contextmanager
    def writing(self, *, repairing: bool = False) -> Iterator[LedgerState]:
        """Everything appended in the block, or nothing.

        Args:
            repairing: go on although entries were lost.

        Raises:
            LedgerRollback: entries were lost.
            LedgerTampered: the chain does not hold.
            LedgerUnavailable: see :class:`~vestry_privacy.ledger_file.LedgerFile`.
        """
        with self._mutex:
            self._require_process()
            with (
                self.file.writing()
            ):  # where it fails, the state is ahead of the disk until the next catch-up
                self._catch_up()
                if self.lost is not None and not repairing:
                    raise LedgerRollback(self.lost)
                yield self.state

    @contextmanager
    def reading(self, *, whole: bool = False) -> Iterator[LedgerState]:
        """The state as it is now.

        Args:
            whole: refuse where entries were lost.

        Raises:
            LedgerRollback: entries were lost, and ``whole``.
            LedgerTampered: the chain does not hold.
        """
        with self._mutex:
            self._require_process()
            head = self._read_head()
            with self.file.reading():
                self._take_rows()
            self._judge(head)
            if whole and self.lost is not None:
                raise LedgerRollback(self.lost)
            yield self.state

    def draft(self, kind: type[Kind], **fields: Any) -> Kind:
        """The next entry, not yet appended.

        Args:
            kind: class of the entry.
            fields: of this kind.

        Raises:
            LedgerError: a field is out of range.
        """
        now = max(0, int(self._clock() * 1000))
        place: dict[str, Any] = {
            "seq": self.newest.seq + 1 if self.newest else 1,
            "previous": link_of(self.newest) if self.newest else NO_HASH,
            "time": max(now, self.state.time),
            "clock_set_back": now < self.state.time,
            "software": _software(),
        }
        try:
            return kind(**{**place, **fields})
        except ValidationError as error:
            wrong = ", ".join(".".join(str(part) for part in found["loc"]) for found in error.errors())
            raise LedgerError(f"ledger, {kind.__name__}: out of range or of another type: {wrong}") from None

    def append(self, entry: Entry) -> int:
        """Append a draft, inside :meth:`writing`.

        Returns:
            Its number.

        Raises:
            LedgerError: it could not be read back, such as a text that is no Unicode.
        """
        row = seal(entry, self._identity)
        try:
            unseal(row, self.newest)
        except LedgerTampered:
            raise LedgerError(f"ledger, {entry.kind}: holds a value that cannot be stored") from None
        self.file.append(row)
        self._take(row, entry)
        return row.seq

    def now(self) -> int:
        """The ledger's time in milliseconds: the clock's, but never before the newest entry."""
        return max(int(self._clock() * 1000), self.state.time)

    def heal_head(self) -> None:
        """After a crash between commit and head: renew the head, inside :meth:`writing`."""
        if (
            self.lost is None
            and self.newest is not None
            and self.head != Head(self.newest.seq, self.newest.hash)
        ):
            self.file.write_head(self.newest)

    def settle(self, marks: Path, own: str) -> None:
        """Charge what processes that are gone left open, inside :meth:`writing`.

        Args:
            marks: folder of the owners' marks.
            own: this handle's owner.
        """
        dead: dict[str, bool] = {own: False}
        for seq in sorted(self.state.open):
            owner = self.state.reservation(seq).entry.owner
            if owner not in dead:
                dead[owner] = not is_alive(marks, owner)
            if dead[owner]:
                self.append(self.draft(SpentByCrash, reservation=seq))

    def reconcile(self, note: str, charged: Mapping[str, tuple[Event, ...]]) -> None:
        """Accept that entries were lost, inside :meth:`writing`; their numbers are not used again."""
        known = self.head if self.head is not None and self.head.hash else None
        lost = known.seq if known else 0
        place = self.newest.seq + 1 if self.newest else 1
        fields = {
            "note": note,
            "charged": dict(charged),
            "lost_seq": lost,
            "lost_hash": known.hash if known else "",
        }
        self.append(self.draft(Reconcile, seq=max(place, lost + 1), **fields))
        self.lost = None

    def close(self) -> None:
        """Let go of the file, unless it is another process's."""
        if os.getpid() == self._process:
            self.file.close()

    def _forget(self) -> None:
        self.state, self.entries, self._hashes = LedgerState(), [], {}
        self.newest = self.newest_commit = self.head = self.lost = None

    def _catch_up(self) -> None:
        head = self._read_head()
        self._take_rows()
        if self.newest is None:
            if head is not None:
                raise LedgerRollback(
                    f"it is empty, but {head.seq} entries were written; restore a backup of the database"
                )
            key = self._identity.public_key.hex()
            self.append(self.draft(Create, public_key=key, ledger=os.urandom(32).hex()))
        self._judge(head)

    def _read_head(self) -> Head | None:
        try:
            return self.file.head()
        except LedgerTampered:
            return Head(2**62, "")  # a damaged head knows of entries that nobody has

    def _judge(self, head: Head | None) -> None:
        self.head = head
        self.lost = lost_entries(head, self._hashes)
        if head is not None and head.seq == 2**62:
            self.lost = "its head file is damaged, so lost entries could not be told"

    def _take_rows(self) -> None:
        """Read and check what was appended since."""
        rows = self.file.rows(self.newest.seq if self.newest else 1)
        if self.newest is not None:
            if not rows or rows[0] != self.newest:
                self._forget()
                return self._take_rows()
            rows = rows[1:]
        try:
            for columns in rows:
                row, entry = unseal(columns, self.newest, self.state.public_key or None)
                self._take(row, entry)
            if rows and self.newest is not None:
                self._require_identity()
                check_signature(self.newest, self._identity.public_key)
        except BaseException:
            self._forget()
            raise

    def _require_identity(self) -> None:
        if self.state.public_key != self._identity.public_key:
            raise WrongIdentity(
                f"ledger: belongs to the identity {fingerprint_of(self.state.public_key)[:16]}…, and this "
                f"one is {self._identity.fingerprint[:16]}…; use the site's own key file"
            )

    def _take(self, row: Row, entry: Entry) -> None:
        self.state.apply(entry)
        self.entries.append(entry)
        self._hashes[row.seq] = row.hash
        self.newest = row
        if isinstance(entry, Commit):
            self.newest_commit = row

    def _require_process(self) -> None:
        if os.getpid() != self._process:
            raise LedgerUnavailable("ledger: was opened in another process; open it in this one")


@lru_cache(maxsize=1)
def _software() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("vestry", "dp-accounting"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found
