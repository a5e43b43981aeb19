"""A disk that refuses: nothing is granted, the ledger is as it was, and the error says why."""

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.privacy.ledgers import Site, charged
from vestry_privacy.ledger import Ledger
from vestry_privacy.ledger_errors import (
    LedgerError,
    LedgerRollback,
    LedgerTampered,
    LedgerUnavailable,
    LedgerVersion,
)
from vestry_privacy.ledger_file import Head, LedgerFile, default_head, open_read_only, read_head
from vestry_privacy.ledger_verify import verify_ledger

NOBODY = 65534


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def open_site() -> Iterator[Site]:
    """A folder that an unprivileged user can reach."""
    with tempfile.TemporaryDirectory() as folder:
        yield Site(Path(folder))


@contextlib.contextmanager
def as_nobody(*owned: Path) -> Iterator[None]:
    """Root may write what is read-only; so be somebody else."""
    if os.geteuid() != 0:
        yield
        return
    for path in owned:
        os.chown(path, NOBODY, NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_an_entry_is_durable_in_both_places_when_the_block_ends(site: Site) -> None:
    with site.held() as ledger:
        number = site.reserve(ledger, 1)
        newest = site.rows()[-1]
        assert newest[0] == number
        assert read_head(site.head) == Head(number, newest[2]) == ledger.head
        pragmas = ledger._chain.file.query("PRAGMA synchronous") + ledger._chain.file.query(
            "PRAGMA journal_mode"
        )
        assert pragmas == [(2,), ("wal",)]
    assert default_head(site.path) == site.head


def test_files_are_for_the_site_only(site: Site) -> None:
    with site.held() as ledger:
        site.reserve(ledger, 1)
        for path in site.folder.iterdir():
            assert path.stat().st_mode & 0o077 == 0, path.name


def test_a_read_only_file_is_refused(open_site: Site) -> None:
    open_site.held().close()
    open_site.path.chmod(0o400)
    rows, head = open_site.rows(), open_site.head.read_bytes()
    owned = [open_site.folder, *open_site.folder.iterdir()]
    with (
        as_nobody(*owned),
        pytest.raises(LedgerUnavailable, match=r"opened for writing \(Permission denied\)"),
    ):
        open_site.open()
    open_site.unchanged(rows, head)


def test_a_read_only_folder_is_refused(open_site: Site) -> None:
    open_site.held().close()
    rows, head = open_site.rows(), open_site.head.read_bytes()
    owned = [open_site.folder, *open_site.folder.iterdir()]
    open_site.folder.chmod(0o500)
    with as_nobody(*owned), pytest.raises(LedgerUnavailable):
        open_site.open()
    open_site.folder.chmod(0o700)
    open_site.unchanged(rows, head)


def test_a_folder_that_becomes_read_only_grants_nothing_more(open_site: Site) -> None:
    with open_site.held() as ledger:
        rows, head = open_site.rows(), open_site.head.read_bytes()
        os.chown(open_site.folder, NOBODY, NOBODY) if os.geteuid() == 0 else None
        open_site.folder.chmod(0o500)
        with (
            as_nobody(*open_site.folder.iterdir()),
            pytest.raises(LedgerUnavailable, match="cannot be written"),
        ):
            open_site.reserve(ledger, 1)
        open_site.folder.chmod(0o700)
        open_site.unchanged(rows, head)
        assert charged(ledger) == 0
        open_site.reserve(ledger, 1)


def test_a_database_that_another_program_locks_is_waited_for_and_then_refused(site: Site) -> None:
    site.held().close()
    blocker = sqlite3.connect(site.path, isolation_level=None)
    with contextlib.closing(blocker), site.open(patience=0.1) as ledger:
        blocker.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerUnavailable, match=r"locked by another program for longer than 0.1 seconds"):
            site.reserve(ledger, 1)
        blocker.execute("COMMIT")
        site.reserve(ledger, 1)


def test_opening_waits_no_longer_than_its_patience(site: Site) -> None:
    site.held().close()
    blocker = sqlite3.connect(site.path, isolation_level=None)
    with contextlib.closing(blocker):
        blocker.execute("BEGIN EXCLUSIVE")
        with pytest.raises(LedgerUnavailable, match="stop that program"):
            site.open(patience=0.1)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"no database" * 1000, "not an SQLite database"), (b"SQLite format 3\0", "not an SQLite")],
)
def test_a_file_that_is_no_database_is_refused_and_kept(content: bytes, said: str, site: Site) -> None:
    site.path.write_bytes(content)
    with pytest.raises(LedgerError, match=said):
        site.open()
    assert site.path.read_bytes() == content


def test_another_programs_database_is_refused_and_kept(site: Site) -> None:
    with sqlite3.connect(site.path) as connection:
        connection.execute("CREATE TABLE patients (name TEXT)")
    connection.close()
    content = site.path.read_bytes()
    with pytest.raises(LedgerUnavailable, match="database of another program"):
        site.open()
    assert site.path.read_bytes() == content


def test_a_newer_ledger_is_refused(site: Site) -> None:
    site.held().close()
    site.change("PRAGMA user_version=2")
    newer = "version=2 is newer than 1; use the newer Vestry"
    with pytest.raises(LedgerVersion, match=newer):
        site.open()
    with pytest.raises(LedgerVersion, match=newer):
        verify_ledger(site.path)


def test_a_damaged_page_is_found(site: Site) -> None:
    with site.held() as ledger:
        for number in range(10):
            site.reserve(ledger, number, 1)
    content = bytearray(site.path.read_bytes())
    root = 4096  # the page of the table of entries
    content[root : root + 200] = bytes(200)
    site.path.write_bytes(bytes(content))
    with pytest.raises(LedgerTampered):
        site.open()


def test_a_folder_in_the_databases_place_is_refused(site: Site) -> None:
    site.path.mkdir()
    with pytest.raises(LedgerUnavailable, match="cannot be opened"):
        site.open()


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnavailable, match="must exist"):
        Site(tmp_path / "no").open()


def test_a_file_that_is_replaced_while_open_is_noticed(site: Site) -> None:
    with site.held() as ledger:
        copy = site.back_up()
        site.reserve(ledger, 1)
        site.restore(copy)
        with pytest.raises(LedgerUnavailable, match="was replaced while it was open"):
            site.reserve(ledger, 2)
        with pytest.raises(LedgerUnavailable, match="was replaced while it was open"):
            charged(ledger)
        site.path.unlink()
        with pytest.raises(LedgerUnavailable, match="is gone"):
            site.reserve(ledger, 2)


def test_a_closed_handle_stays_closed(site: Site) -> None:
    ledger = site.held()
    ledger.close()
    ledger.close()
    with pytest.raises(LedgerUnavailable, match="is closed"):
        site.reserve(ledger, 1)
    with pytest.raises(LedgerUnavailable, match="is closed"):
        charged(ledger)


def test_a_handle_does_not_survive_a_fork(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    with site.held() as ledger:
        number = site.reserve(ledger, 1)
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: 1)
            with pytest.raises(LedgerUnavailable, match="opened in another process"):
                site.reserve(ledger, 2)
            ledger._chain.close()
        ledger.commit(number, 10)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b'{"seq": "1", "hash": "", "version": 1}',
        b'{"seq": 1, "hash": "", "version": 2}',
    ],
)
def test_a_damaged_head_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "head"
    path.write_bytes(content)
    with pytest.raises(LedgerTampered, match="is damaged"):
        read_head(path)
    assert read_head(tmp_path / "none") is None
    with pytest.raises(LedgerUnavailable, match="cannot be read"):
        read_head(tmp_path)


def test_a_file_system_without_shared_memory_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    class Connection(sqlite3.Connection):
        def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
            asked = "PRAGMA journal_mode=DELETE" if "WAL" in statement else statement
            return super().execute(asked, *values)

    def connect(*values: Any, **named: Any) -> sqlite3.Connection:
        return Connection(*values, **named)

    monkeypatch.setattr(sqlite3, "connect", connect)
    with pytest.raises(LedgerUnavailable, match="use a local disk"):
        site.open()


def test_a_ledger_on_a_read_only_medium_can_still_be_read(open_site: Site) -> None:
    open_site.held().close()
    open_site.folder.chmod(0o500)
    with as_nobody(open_site.folder, *open_site.folder.iterdir()):
        assert verify_ledger(open_site.path).entries == 4
    open_site.folder.chmod(0o700)
    with open_read_only(open_site.path) as connection, pytest.raises(sqlite3.OperationalError):
        connection.execute("DELETE FROM entries")


def test_a_database_that_is_gone_while_its_head_is_there_cannot_be_opened(site: Site) -> None:
    site.held().close()
    site.path.unlink()
    with pytest.raises(LedgerRollback, match="it is empty, but 4 entries were written; restore a backup"):
        site.open()
    assert isinstance(LedgerFile(site.path, site.head, 1.0).head(), Head)


def test_two_disks(tmp_path: Path) -> None:
    """The head may lie elsewhere, and its folder missing is an error before anything is granted."""
    site = Site(tmp_path)
    elsewhere = tmp_path / "other" / "head"
    with pytest.raises(LedgerUnavailable, match="nothing was granted"):
        Ledger(site.path, site.identity, head=elsewhere)
    elsewhere.parent.mkdir()
    with Ledger(site.path, site.identity, head=elsewhere) as ledger:
        assert read_head(elsewhere) == ledger.head
    assert not site.head.exists()
