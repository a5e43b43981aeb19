"""What an operator does where a site's journal is lost: keep what is left, begin a new epoch, say so.

The other sites accept a lower count in a new epoch only, and it stays visible to them. What was lost is not
recognised any more: models that were summed, rosters that were seen. So it is an operator's decision, never a
program's.

    ProtocolAbort
    └── JournalError    the journal is locked, read-only, newer, or another program's: nothing is lost yet
"""

import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from vestry_privacy.secagg.errors import JournalError
from vestry_privacy.secagg.history import Head
from vestry_privacy.secagg.journal import Journal
from vestry_privacy.secagg.journal_file import create_file, set_aside
from vestry_privacy.secagg.journal_head import HeadFile, default_head

__all__ = ["Declared", "declare_lost"]

_SOMETHING = Head(0, 1, bytes(32))
"""Noted where nobody knows: the empty journal is refused until its loss is declared, after a crash too."""

_BEGUN_ANEW = frozenset({"journal missing", "journal corrupt"})


@dataclass(frozen=True)
class Declared:
    """A declared loss.

    Attributes:
        head: the journal's newest entry, of the new epoch.
        set_aside: files of the damaged database, under their new names.
        kept: are the entries that were readable still in the journal?
    """

    head: Head
    set_aside: tuple[Path, ...]
    kept: bool


def declare_lost(
    path: Path,
    note: str,
    *,
    patience: float = 5.0,
    head: Path | None = None,
    clock: Callable[[], float] = time.time,
) -> Declared:
    """Begin a new epoch of a site's journal, whatever state it is in.

    One that can be read keeps its entries. One that cannot is set aside, and an empty one takes its place.

    Args:
        path: of the database.
        note: what happened, for the record.
        patience: seconds to wait for another process.
        head: the head file; None for beside the database.
        clock: seconds since 1970.

    Raises:
        JournalError: locked, read-only, newer, or another program's.
        BadMessage: the note is too long, or no Unicode.
    """
    noted = head or default_head(path)
    moved: list[Path] = []
    begun_anew = False
    try:
        journal = Journal(path, patience=patience, head=head, clock=clock, repairing=True)
    except JournalError as error:
        if error.rule not in _BEGUN_ANEW:
            raise
        moved, begun_anew = _begin_anew(path, noted, patience, clock), True
        journal = Journal(path, patience=patience, head=head, clock=clock, repairing=True)
    with journal:
        journal.declare_loss(note)
        return Declared(journal.head(), tuple(moved), kept=not begun_anew)


def _begin_anew(path: Path, noted: Path, patience: float, clock: Callable[[], float]) -> list[Path]:
    """Under the head's lock, so that no site is writing meanwhile."""
    if not noted.exists():
        HeadFile.create(noted, _SOMETHING)
    with closing(HeadFile(noted, patience)) as file:
        file.lock()
        moved = set_aside(path, int(clock() * 1000))
        with suppress(FileExistsError):
            create_file(path)
        return moved
