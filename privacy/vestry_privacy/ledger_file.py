"""The ledger on the disk: one SQLite file, and beside it the head, the newest entry's number and hash.

SQLite in WAL mode with ``synchronous=FULL``: a commit is on the disk when it returns. The head is kept apart
so that a restored backup of the database is told from the ledger. An append writes the head's new content
first, commits, and then only renames: whatever a full disk can refuse comes before the commit. A crash
between the two leaves a head that is one append old, which is still on the chain. A head that is not on the
chain means that entries were lost.

All writers take one lock over database and head (:mod:`vestry_privacy.ledger_lock`), so heads are renamed in
the order of the entries.
"""

import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, NoReturn
from urllib.parse import quote

from vestry_privacy.durable import swap_in, sync_folder, write_beside
from vestry_privacy.ledger_entries import Row
from vestry_privacy.ledger_errors import LedgerTampered, LedgerUnavailable, LedgerVersion
from vestry_privacy.ledger_lock import only_writer

__all__ = ["Head", "LedgerFile", "default_head", "open_read_only", "read_head", "read_rows"]

_APPLICATION = 0x56655374  # "VeSt" in the file's header: no other program's database is taken for a ledger
_SCHEMA = 1
_TABLES = """
CREATE TABLE entries (
    seq INTEGER PRIMARY KEY, body TEXT NOT NULL, hash TEXT NOT NULL, signature BLOB NOT NULL
);
CREATE TABLE identifiers (
    dataset INTEGER NOT NULL, tag BLOB NOT NULL, PRIMARY KEY (dataset, tag)
) WITHOUT ROWID;
"""
_LOCKED = "is locked by another program for longer than {patience:g} seconds; stop that program"
_UNAVAILABLE = {
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_READONLY: "is read-only; the site must be able to write it",
    sqlite3.SQLITE_PERM: "may not be written; the site must be able to write it",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened; file and folder must exist and be writable",
    sqlite3.SQLITE_FULL: "does not fit on the disk; make room",
    sqlite3.SQLITE_IOERR: "cannot be written or read: the disk refuses; make room or repair it",
    sqlite3.SQLITE_NOTADB: "is no ledger: not an SQLite database",
}


class Head(NamedTuple):
    """The newest entry known outside the database.

    Attributes:
        seq: its number.
        hash: its hash.
    """

    seq: int
    hash: str


def default_head(path: Path) -> Path:
    """Where the head lies when nobody says otherwise: beside the database."""
    return path.with_name(f"{path.name}.head")


def read_head(path: Path) -> Head | None:
    """The head as it was last written; None where there is no such file.

    Raises:
        LedgerTampered: it is no head.
        LedgerUnavailable: it cannot be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LedgerUnavailable(f"ledger head {path}: cannot be read ({error.strerror})") from None
    try:
        fields = json.loads(content)
        head = Head(fields["seq"], fields["hash"])
        if fields["version"] == 1 and {type(head.seq), type(head.hash)} == {int, str}:
            return head
    except (ValueError, KeyError, TypeError):
        pass
    raise LedgerTampered(0, "head", f"{path} is damaged")


class LedgerFile:
    """Rows and head of one ledger; knows nothing of their meaning.

    Args:
        path: the database; made where there is none.
        head: see the module.
        patience: seconds to wait for another process.
    """

    def __init__(self, path: Path, head: Path, patience: float) -> None:
        self._path, self._head, self._patience = path, head, patience
        self._lock = path.with_name(f"{path.name}.lock")
        self._connection: sqlite3.Connection | None = None
        self._closed = False
        self._node = (0, 0)
        self._newest: Row | None = None
        self._appended: list[int] = []

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One append or several, all or none, on the disk with their head when the block ends.

        Raises:
            LedgerUnavailable: locked, read-only, or on a full disk; nothing was written.
        """
        with only_writer(self._lock, self._patience):
            if self._connection is None and not self._closed:
                self._open()
            self._database()
            self._require_same_file()
            self._newest, self._appended = None, []
            self._run("BEGIN IMMEDIATE")
            try:
                yield
                self._finish()
            finally:
                connection = self._connection
                if connection is not None and connection.in_transaction:
                    with suppress(sqlite3.Error):
                        connection.rollback()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """A view of the database that does not change within the block."""
        self._require_same_file()
        self._run("BEGIN")
        try:
            yield
        finally:
            with suppress(sqlite3.Error):
                self._database().rollback()

    def head(self) -> Head | None:
        """The head on the disk; read it before the rows, which only grow."""
        return read_head(self._head)

    def rows(self, first: int) -> list[tuple[Any, ...]]:
        """Entries from a number on, as they are stored."""
        try:
            return read_rows(self._database(), first)
        except sqlite3.Error as error:
            self._explain(error)

    def append(self, row: Row) -> None:
        """Add an entry, inside :meth:`writing`."""
        self._run("INSERT INTO entries VALUES (?, ?, ?, ?)", row)
        self._newest = row
        self._appended.append(row.seq)

    def query(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Ask the other tables."""
        return self._run(statement, values).fetchall()

    def add(self, statement: str, values: Sequence[tuple[Any, ...]]) -> None:
        """Add to the other tables, inside :meth:`writing`."""
        try:
            self._database().executemany(statement, values)
        except sqlite3.Error as error:
            self._explain(error)

    def write_head(self, row: Row) -> None:
        """Renew the head after a crash, inside :meth:`writing`: the row is in the database."""
        self._newest = row

    def close(self) -> None:
        """Let go of the database for good."""
        self._closed = True
        self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
        self._connection = None

    def _finish(self) -> None:
        if self._newest is None:
            return
        row = self._newest
        content = json.dumps({"hash": row.hash, "seq": row.seq, "version": 1}).encode()
        try:
            temporary = write_beside(self._head, content)
        except OSError as error:
            raise LedgerUnavailable(
                f"ledger head {self._head}: cannot be written ({error.strerror}); nothing was granted"
            ) from None
        try:
            self._run("COMMIT")
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        try:
            swap_in(temporary, self._head)
        except OSError as error:
            self._take_back()
            raise LedgerUnavailable(
                f"ledger head {self._head}: cannot be renewed ({error.strerror}); nothing was granted"
            ) from None

    def _take_back(self) -> None:
        """Undo a commit whose head was not renewed: the lock is still held, so nobody built on it.

        Where the head was renewed after all (only its folder was not flushed) the entries stay, as they must;
        what they reserved is charged and not granted.
        """
        with suppress(LedgerTampered, LedgerUnavailable):
            head = self.head()
            if self._appended and (head is None or head.seq < self._appended[0]):
                first = (self._appended[0],)
                self._run("BEGIN IMMEDIATE")
                self._run("DELETE FROM entries WHERE seq >= ?", first)
                self._run("DELETE FROM identifiers WHERE dataset >= ?", first)
                self._run("COMMIT")

    def _open(self) -> None:
        new = not self._path.exists() or self._path.stat().st_size == 0
        try:
            # SQLite would open a file that it may not write, and refuse at the first insert only.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._connection = connection = sqlite3.connect(
                self._path, timeout=self._patience, isolation_level=None, check_same_thread=False
            )
            connection.text_factory = _text
            _check_kind(connection, self._path)
            mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
            connection.execute("PRAGMA synchronous=FULL")
            if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
                self._create(connection)
            if new:
                sync_folder(self._path.parent)
            found = self._path.stat()
        except sqlite3.Error as error:
            self._drop()
            self._explain(error)
        except OSError as error:
            self._drop()
            raise LedgerUnavailable(
                f"ledger {self._path}: cannot be opened for writing ({error.strerror})"
            ) from None
        except BaseException:
            self._drop()
            raise
        if mode != "wal":
            self._drop()
            raise LedgerUnavailable(f"ledger {self._path}: this file system cannot hold it; use a local disk")
        self._node = (found.st_dev, found.st_ino)

    def _create(self, connection: sqlite3.Connection) -> None:
        connection.executescript(
            f"BEGIN; {_TABLES} PRAGMA application_id={_APPLICATION}; PRAGMA user_version={_SCHEMA}; COMMIT;"
        )

    def _require_same_file(self) -> None:
        """A restored file has another inode: writing on would go to the one that was replaced."""
        try:
            found = self._path.stat()
        except OSError as error:
            raise LedgerUnavailable(f"ledger {self._path}: is gone ({error.strerror})") from None
        if (found.st_dev, found.st_ino) != self._node:
            raise LedgerUnavailable(f"ledger {self._path}: was replaced while it was open; open it anew")

    def _database(self) -> sqlite3.Connection:
        if self._connection is None:
            raise LedgerUnavailable(f"ledger {self._path}: is closed")
        return self._connection

    def _run(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        try:
            return self._database().execute(statement, values)
        except sqlite3.Error as error:
            self._explain(error)

    def _explain(self, error: sqlite3.Error) -> NoReturn:
        _explain(error, self._path, self._patience)


def _text(stored: bytes) -> str:
    """Tampered bytes must reach the check of the hash, not fail before it."""
    return stored.decode("utf-8", "surrogateescape")


def _explain(error: sqlite3.Error, path: Path, patience: float) -> NoReturn:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_CORRUPT:
        raise LedgerTampered(0, "file", f"{path} is a damaged database") from None
    problem = _UNAVAILABLE.get(code, f"cannot be used ({error})").format(patience=patience)
    raise LedgerUnavailable(f"ledger {path}: {problem}") from None


def _check_kind(connection: sqlite3.Connection, path: Path) -> None:
    kind = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if kind != _APPLICATION and (kind or version or tables):
        raise LedgerUnavailable(f"ledger {path}: is the database of another program")
    if version > _SCHEMA:
        raise LedgerVersion(f"ledger {path}: version={version} is newer than {_SCHEMA}; use the newer Vestry")


def read_rows(connection: sqlite3.Connection, first: int) -> list[tuple[Any, ...]]:
    """Entries from a number on, in their order."""
    statement = "SELECT seq, body, hash, signature FROM entries WHERE seq >= ? ORDER BY seq"
    return connection.execute(statement, (first,)).fetchall()


@contextmanager
def open_read_only(path: Path) -> Iterator[sqlite3.Connection]:
    """A ledger's database for a reader who changes nothing, also on a medium that cannot be written.

    Raises:
        LedgerUnavailable: no such file, or no ledger.
        LedgerTampered: a damaged database.
        LedgerVersion: a newer version wrote it.
    """
    if not path.is_file():
        raise LedgerUnavailable(f"ledger {path}: there is no such file")
    name = f"file:{quote(str(path.absolute()))}"
    # Without a log beside it nothing is pending, and 'immutable' spares the files that WAL would need.
    pending = path.with_name(f"{path.name}-wal").exists()
    try:
        with closing(
            sqlite3.connect(f"{name}?{'mode=ro' if pending else 'mode=ro&immutable=1'}", uri=True)
        ) as connection:
            connection.text_factory = _text
            _check_kind(connection, path)
            yield connection
    except sqlite3.Error as error:
        _explain(error, path, 0)
