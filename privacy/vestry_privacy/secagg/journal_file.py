"""A site's journal on the disk: one SQLite file and the head file beside it; not what the entries mean.

SQLite in WAL mode with ``synchronous=FULL``: a commit is on the disk when it returns. The head is written
after the commit, so it is ahead of the database only where the database was set back. It is flushed where
masked input is about to leave; the other notes reach the disk when the system likes, since a note that a
power cut took back is merely old.

    ProtocolAbort
    └── JournalError    missing, locked, read-only, full, damaged, newer, replaced, or another program's
"""

import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NoReturn

from vestry_privacy.durable import create_durably
from vestry_privacy.secagg.encoding import DIGEST_BYTES, Reader, field, u64
from vestry_privacy.secagg.errors import BadMessage, JournalError
from vestry_privacy.secagg.history import NO_HEAD, Head
from vestry_privacy.secagg.journal_head import HeadFile, default_head

__all__ = ["DECLARE", "JournalFile", "create_file", "set_aside"]

DECLARE: Final = "declare the loss with `vestry-site journal declare-lost`"

_APPLICATION = 0x56655361  # "VeSa" in the file's header: no other program's database is taken for a journal
_SCHEMA = 1
_HEADER_BYTES = 100
_TABLES = f"""
PRAGMA application_id={_APPLICATION};
PRAGMA user_version={_SCHEMA};
CREATE TABLE entries (count INTEGER PRIMARY KEY, body BLOB NOT NULL, hash BLOB NOT NULL);
CREATE TABLE rosters (place INTEGER PRIMARY KEY, members BLOB NOT NULL);
CREATE TABLE peers (site BLOB PRIMARY KEY, heads BLOB NOT NULL, sum BLOB NOT NULL) WITHOUT ROWID;
"""
_LOCKED = ("locked", "is locked by another program for longer than {patience:g} seconds; stop that program")
_READ_ONLY = ("read-only", "cannot be written; give file and folder back to the site's user")
_DAMAGED = ("corrupt", f"is damaged; restore the newest copy or, where there is none, {DECLARE}")
_PROBLEMS = {
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_PERM: _READ_ONLY,
    sqlite3.SQLITE_CANTOPEN: ("unusable", "cannot be opened; its folder must exist and be writable"),
    sqlite3.SQLITE_FULL: ("full", "does not fit on the disk; make room"),
    sqlite3.SQLITE_IOERR: ("disk", "cannot be written or read: the disk refuses; make room or repair it"),
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
}
_SET_ASIDE = ("", "-wal", "-shm")


class JournalFile:
    """Entries, rosters, peers' heads, and the head file of one journal.

    Args:
        path: the database, which is there; None for one in memory, without a head file.
        head: the head file; None for beside the database.
        patience: seconds to wait for another process.
        durable: wait for the disk at all.
        repairing: take a head file that is missing or damaged as one that knows nothing.

    Raises:
        JournalError: see the module.
    """

    def __init__(
        self,
        path: Path | None,
        head: Path | None,
        patience: float,
        *,
        durable: bool = True,
        repairing: bool = False,
    ) -> None:
        self._path, self._patience = path, patience
        self._durable, self._repairing = durable, repairing
        self._connection: sqlite3.Connection | None = None
        self._head: HeadFile | None = None
        self._node = (0, 0)
        try:
            self._open()
            if path is not None:
                self._head = self._open_head(head or default_head(path))
        except sqlite3.Error as error:
            self.close()
            self._explain(error)
        except BaseException:
            self.close()
            raise

    @property
    def name(self) -> str:
        """How messages name it."""
        return "in memory" if self._path is None else str(self._path)

    @contextmanager
    def writing(self, *, durable: bool = True) -> Iterator[None]:
        """One transaction: :meth:`commit` ends it, and whatever leaves the block before takes it back.

        Args:
            durable: wait for the disk at the commit. Without, a kill takes nothing back, but a power cut may,
                until the next commit that waits.

        Raises:
            JournalError: locked, replaced, read-only, full or damaged; nothing was written.
        """
        self._require_same_file()
        if self._head is not None:
            self._head.lock()
        try:
            self._run(f"PRAGMA synchronous={'FULL' if durable and self._durable else 'NORMAL'}")
            self._run("BEGIN IMMEDIATE")
            yield
        finally:
            connection = self._connection
            if connection is not None and connection.in_transaction:
                with suppress(sqlite3.Error):
                    connection.rollback()
            if self._head is not None:
                self._head.unlock()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """A view that does not change within the block."""
        self._require_same_file()
        self._run("BEGIN")
        try:
            yield
        finally:
            with suppress(sqlite3.Error):
                self._database().rollback()

    def commit(self, head: Head | None = None, *, flush: bool = False) -> None:
        """End :meth:`writing`, and note the newest entry in the head file.

        Args:
            head: the newest entry, where there is a new one.
            flush: wait for the disk with the head file too.
        """
        self._run("COMMIT")
        if head is not None and self._head is not None:
            self._head.write(head, flush=flush and self._durable)

    def noted(self) -> Head:
        """What the head file says; read it before the entries, which only grow."""
        if self._head is None:
            return NO_HEAD
        if not self._repairing:
            return self._head.read()
        try:
            return self._head.read()
        except JournalError:
            return NO_HEAD

    def entries(self, first: int) -> list[tuple[Any, Any, Any]]:
        """Count, body and hash of the entries from a number on."""
        return self._run(
            "SELECT count, body, hash FROM entries WHERE count >= ? ORDER BY count", (first,)
        ).fetchall()

    def append(self, count: int, body: bytes, hashed: bytes) -> None:
        """Add an entry, inside :meth:`writing`."""
        self._run("INSERT INTO entries VALUES (?, ?, ?)", (count, body, hashed))

    def rosters(self, first: int) -> list[bytes]:
        """Members, 32 bytes each, of the rosters from a place on; places begin at 1."""
        rows = self._run("SELECT members FROM rosters WHERE place >= ? ORDER BY place", (first,))
        return [bytes(members) for (members,) in rows]

    def add_roster(self, members: bytes) -> None:
        """Add a roster, inside :meth:`writing`."""
        self._run("INSERT INTO rosters (members) VALUES (?)", (members,))

    def peers(self, sites: Iterable[bytes] | None = None) -> dict[bytes, tuple[Head, Head]]:
        """Highest heads, of journal and ledger, of these sites or of all that were seen.

        Raises:
            JournalError: a stored head is damaged.
        """
        if sites is None:
            rows = self._run("SELECT site, heads, sum FROM peers").fetchall()
        else:
            rows = []
            for site in sites:
                rows += self._run("SELECT site, heads, sum FROM peers WHERE site = ?", (site,)).fetchall()
        return {site: self._heads(site, heads, summed) for site, heads, summed in rows}

    def put_peers(self, heads: Mapping[bytes, tuple[Head, Head]]) -> None:
        """Replace highest heads, inside :meth:`writing`."""
        for site, pair in heads.items():
            if any(len(head.hash) != DIGEST_BYTES for head in pair):
                raise BadMessage("heads of a peer", "a hash is not 32 bytes", peer=site.hex())
            content = b"".join(u64(head.epoch) + u64(head.count) + field(head.hash) for head in pair)
            row = (site, content, hashlib.sha256(site + content).digest())
            self._run("INSERT OR REPLACE INTO peers VALUES (?, ?, ?)", row)

    def damaged(self, problem: str) -> JournalError:
        """An error for what the entries themselves show."""
        return JournalError("journal corrupt", f"{self.name}: {problem}; {_DAMAGED[1]}")

    def close(self) -> None:
        """Let go of the database and the head file."""
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
        self._connection = None
        if self._head is not None:
            self._head.close()
        self._head = None

    def _open(self) -> None:
        if self._path is None:
            self._connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            self._connection.executescript(_TABLES)
            return
        self._require_writable(self._path)
        self._connection = connection = sqlite3.connect(
            self._path, timeout=self._patience, isolation_level=None, check_same_thread=False
        )
        _check_kind(connection, self._path)
        mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        if mode != "wal":
            raise JournalError(
                "journal place", f"{self._path}: this file system cannot hold it; use a local disk"
            )
        if connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise self.damaged("its pages do not fit together")
        found = self._path.stat()
        self._node = (found.st_dev, found.st_ino)

    def _require_writable(self, path: Path) -> None:
        try:
            # SQLite would open a file that it may not write, and refuse at the first insert only.
            os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
            cut = path.stat().st_size < _HEADER_BYTES
        except FileNotFoundError:
            raise JournalError(
                "journal missing",
                f"{path}: is missing, and with it what this site has sent and signed; restore the newest "
                f"copy or, where there is none, {DECLARE}. A site that never had one gets it with "
                "`vestry-site init`",
            ) from None
        except OSError as error:
            raise JournalError(
                "journal read-only",
                f"{path}: cannot be opened for writing ({error.strerror}); give it back to the site's user",
            ) from None
        if cut:  # SQLite takes some of them for a new database
            raise self.damaged("is empty, or cut off")

    def _open_head(self, path: Path) -> HeadFile:
        # Counted first: who has made an entry had a head file before, so a new one elsewhere is no loss here.
        newest = self._database().execute("SELECT count(*) FROM entries").fetchone()[0]
        if not path.exists():
            if newest and not self._repairing:
                raise JournalError(
                    "journal head missing",
                    f"{path}: is missing beside a journal of {newest} entries, so a loss cannot be told; "
                    f"restore it or {DECLARE}",
                )
            try:
                HeadFile.create(path)
            except FileExistsError:
                pass  # another process was first
            except OSError as error:
                raise JournalError(
                    "journal head",
                    f"{path}: cannot be written ({error.strerror}); make room or mend the folder",
                ) from None
        return HeadFile(path, self._patience)

    def _require_same_file(self) -> None:
        """A restored file has another inode: writing on would go to the one that was replaced."""
        if self._path is None:
            return
        self._database()
        try:
            found = self._path.stat()
            same = (found.st_dev, found.st_ino) == self._node
        except OSError:
            same = False
        if not same:
            raise JournalError(
                "journal replaced",
                f"{self.name}: was replaced or taken away while it was open; start the site anew",
            )

    def _heads(self, site: bytes, content: bytes, summed: bytes) -> tuple[Head, Head]:
        reader = Reader(content, "heads of a peer")
        try:
            pair = tuple(Head(reader.u64(), reader.u64(), reader.field(DIGEST_BYTES)) for _ in range(2))
            reader.end()
        except BadMessage:
            raise self.damaged("the heads of a peer cannot be read") from None
        if hashlib.sha256(site + content).digest() != summed:  # a checksum, no secret
            raise self.damaged("the heads of a peer were changed")
        return pair[0], pair[1]

    def _database(self) -> sqlite3.Connection:
        if self._connection is None:
            raise JournalError("journal closed", f"{self.name}: is closed; open it anew")
        return self._connection

    def _run(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        try:
            return self._database().execute(statement, values)
        except sqlite3.Error as error:
            self._explain(error)

    def _explain(self, error: sqlite3.Error) -> NoReturn:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        rule, problem = _PROBLEMS.get(code, ("unusable", f"cannot be used ({error})"))
        said = problem.format(patience=self._patience)
        raise JournalError(f"journal {rule}", f"{self.name}: {said}. Nothing has left this site") from None


def create_file(path: Path) -> None:
    """Make the database of an empty journal; whoever sees the file sees all of it.

    Raises:
        FileExistsError: it is there.
        JournalError: the disk refuses.
    """
    made = sqlite3.connect(":memory:")
    try:
        made.executescript(_TABLES)
        create_durably(path, made.serialize())
    except FileExistsError:
        raise
    except OSError as error:
        raise JournalError(
            "journal", f"{path}: cannot be made ({error.strerror}); its folder must exist and be writable"
        ) from None
    finally:
        made.close()


def set_aside(path: Path, time: int) -> list[Path]:
    """Keep what is left of a damaged database for whoever wants to look at it.

    Args:
        path: of the database.
        time: for the new names.

    Raises:
        JournalError: it cannot be renamed.
    """
    moved = []
    for suffix in _SET_ASIDE:
        old = path.with_name(f"{path.name}{suffix}")
        new = path.with_name(f"{path.name}.lost-{time}{suffix}")
        try:
            old.rename(new)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise JournalError("journal", f"{old}: cannot be set aside ({error.strerror})") from None
        moved.append(new)
    return moved


def _check_kind(connection: sqlite3.Connection, path: Path) -> None:
    kind = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if kind != _APPLICATION:
        raise JournalError(
            "journal", f"{path}: is the database of another program; move it out of the journal's place"
        )
    if version > _SCHEMA:
        raise JournalError(
            "journal version", f"{path}: version={version} is newer than {_SCHEMA}; use the newer Vestry"
        )
