"""A disk that refuses, files that are not what they were: nothing leaves, and the error says the way out."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.privacy.secagg.journals import begin, digest, head_of, make_plan, ready_to, take_part
from tests.simulations.laboratory import ROOT, environment
from vestry_privacy.secagg.errors import JournalError, Repeated
from vestry_privacy.secagg.journal import Journal
from vestry_privacy.secagg.journal_file import JournalFile, create_file, set_aside
from vestry_privacy.secagg.journal_head import default_head

NOBODY = 65534
DECLARE = "`vestry-site journal declare-lost`"


@pytest.fixture
def path() -> Iterator[Path]:
    """A journal with one sum in it, in a folder that an unprivileged user can reach."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "journal.sqlite"
        with Journal.create(made) as journal:
            take_part(journal, 1)
            journal.see_peers({digest("south"): (head_of(3), head_of(1))})
        yield made


@contextlib.contextmanager
def as_nobody(folder: Path) -> Iterator[None]:
    """Root may write what is read-only; so be somebody else."""
    if os.geteuid() != 0:
        yield
        return
    for owned in (folder, *folder.iterdir()):
        os.chown(owned, NOBODY, NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def refused(path: Path, said: str, rule: str, **named: Any) -> None:
    with pytest.raises(JournalError, match=said) as refusal:
        Journal(path, **named)
    assert refusal.value.rule == f"journal {rule}"
    assert refusal.value.code == "journal"
    assert path.name in str(refusal.value)


def change(path: Path, statement: str, *values: object) -> None:
    with sqlite3.connect(path) as database:
        database.execute(statement, values)
    database.close()


def test_commits_wait_for_the_disk(path: Path) -> None:
    with Journal(path) as journal:
        assert journal._file._run("PRAGMA journal_mode").fetchone() == ("wal",)
        begin(journal, make_plan(2))
        assert journal._file._run("PRAGMA synchronous").fetchone() == (2,)
        journal.see_peers({digest("south"): (head_of(4), head_of(1))})
        assert journal._file._run("PRAGMA synchronous").fetchone() == (1,)
        journal.consume(make_plan(2).plan)
        assert journal._file._run("PRAGMA synchronous").fetchone() == (2,)


def test_simulations_do_not_wait_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal.sqlite"
    Journal.create(path).close()

    def flush(_: int) -> None:
        raise AssertionError("a flush")

    monkeypatch.setattr(os, "fsync", flush)
    with Journal.open_or_create(path, durable=False) as journal:
        take_part(journal, 1)
        assert journal._file._run("PRAGMA synchronous").fetchone() == (1,)
    with Journal(path, durable=False) as journal, pytest.raises(Repeated):
        begin(journal, make_plan(1))


def test_a_missing_journal_is_not_begun_anew(path: Path) -> None:
    path.unlink()
    refused(path, rf"is missing.*{DECLARE}.*never had one gets it with `vestry-site init`", "missing")
    for use in (Journal.create, Journal.open_or_create):
        with pytest.raises(JournalError, match="is missing"):
            use(path)
    assert not path.exists()


def test_a_log_without_its_journal_is_not_taken_for_a_new_ones(path: Path) -> None:
    with Journal(path) as journal:
        take_part(journal, 2)
        shutil.copy(path.with_name(f"{path.name}-wal"), path.with_name("kept"))
    path.unlink()
    default_head(path).unlink()
    path.with_name("kept").rename(path.with_name(f"{path.name}-wal"))
    with pytest.raises(JournalError, match="is missing, and with it what this site has sent"):
        Journal.open_or_create(path)
    assert not path.exists()


@pytest.mark.parametrize("length", [0, 1, 100, 3000, 4096, 5000, 9000])
def test_a_truncated_file_is_refused(path: Path, length: int) -> None:
    content = path.read_bytes()[:length]
    path.write_bytes(content)
    refused(path, rf"damaged.*{DECLARE}", "corrupt")
    assert path.read_bytes() == content


@pytest.mark.parametrize("start", [0, 100, 4096, 8192])
def test_a_damaged_page_is_refused(path: Path, start: int) -> None:
    content = bytearray(path.read_bytes())
    content[start : start + 60] = bytes(60)
    path.write_bytes(bytes(content))
    refused(path, rf"damaged.*{DECLARE}", "corrupt")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET body = zeroblob(length(body)) WHERE count = 2",
        "UPDATE entries SET hash = zeroblob(32) WHERE count = 4",
        "UPDATE entries SET body = 'text' WHERE count = 1",
        "DELETE FROM entries WHERE count = 2",
        "UPDATE entries SET count = 9 WHERE count = 4",
        "UPDATE rosters SET members = zeroblob(length(members))",
        "DELETE FROM rosters",
    ],
)
def test_a_changed_entry_breaks_the_chain(path: Path, statement: str) -> None:
    change(path, statement)
    refused(path, rf"entry \d (is not the one that was written|cannot be read).*{DECLARE}", "corrupt")


def test_changed_heads_of_a_peer_are_noticed(path: Path) -> None:
    change(path, "UPDATE peers SET heads = zeroblob(length(heads))")
    with Journal(path) as journal:
        for use in (journal.report, lambda: journal.see_peers({digest("south"): (head_of(9), head_of(9))})):
            with pytest.raises(JournalError, match="heads of a peer"):
                use()
    change(path, "UPDATE peers SET heads = x'00'")
    with Journal(path) as journal, pytest.raises(JournalError, match="heads of a peer cannot be read"):
        journal.report()


def test_a_newer_journal_is_refused(path: Path) -> None:
    change(path, "PRAGMA user_version = 2")
    refused(path, "version=2 is newer than 1; use the newer Vestry", "version")


def test_another_programs_database_is_refused_and_kept(path: Path) -> None:
    path.unlink()
    change(path, "CREATE TABLE patients (name TEXT)")
    content = path.read_bytes()
    with pytest.raises(JournalError, match="database of another program; move it"):
        Journal(path)
    assert path.read_bytes() == content


def test_a_database_that_another_program_locks_is_waited_for_and_then_refused(path: Path) -> None:
    blocker = sqlite3.connect(path, isolation_level=None)
    with contextlib.closing(blocker), Journal(path, patience=0.05) as journal:
        plan = ready_to(journal, "sign", 2)
        blocker.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalError, match=r"locked by another program for longer than 0\.05") as refusal:
            journal.sign(plan, digest("view"))
        assert refusal.value.rule == "journal locked"
        blocker.execute("COMMIT")
        journal.sign(plan, digest("view"))


def test_opening_waits_no_longer_than_its_patience(path: Path) -> None:
    change(path, "PRAGMA journal_mode = DELETE")
    blocker = sqlite3.connect(path, isolation_level=None)
    with contextlib.closing(blocker):
        blocker.execute("BEGIN EXCLUSIVE")
        refused(path, "stop that program", "locked", patience=0.05)


def test_a_read_only_file_is_refused(path: Path) -> None:
    path.chmod(0o400)
    with as_nobody(path.parent):
        refused(path, r"opened for writing \(Permission denied\); give it back", "read-only")


def test_a_folder_that_becomes_read_only_is_told(path: Path) -> None:
    path.parent.chmod(0o500)
    with (
        as_nobody(path.parent),
        pytest.raises(JournalError, match=r"give file and folder back|cannot be opened"),
    ):
        Journal(path)
    path.parent.chmod(0o700)
    with Journal(path) as journal:
        assert journal.head().count == 4


def test_a_folder_in_its_place_is_refused(path: Path) -> None:
    path.unlink()
    path.mkdir()
    refused(path, "cannot be opened for writing", "read-only")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="its folder must exist and be writable"):
        Journal.create(tmp_path / "no" / "journal.sqlite")


@pytest.mark.parametrize("again", [True, False])
def test_a_file_that_is_replaced_while_open_is_noticed(path: Path, again: bool) -> None:
    copy = path.with_name("copy")
    shutil.copy(path, copy)
    with Journal(path) as journal:
        plan = ready_to(journal, "reveal", 2)
        path.unlink()
        if again:
            copy.rename(path)
        for use in (lambda: journal.reveal(plan), journal.head):
            with pytest.raises(JournalError, match="was replaced or taken away while it was open"):
                use()


def test_an_older_copy_is_told_from_the_journal(path: Path) -> None:
    copy = path.with_name("copy")
    shutil.copy(path, copy)
    with Journal(path) as journal:
        ready_to(journal, "sign", 2)
    shutil.copy(copy, path)
    refused(path, rf"6 entries were written, and not all are here.*{DECLARE}", "older")


def test_another_branch_is_told_from_the_journal(path: Path) -> None:
    copy = path.with_name("copy")
    shutil.copy(path, copy)
    with Journal(path) as journal:
        take_part(journal, 2)
    head = default_head(path).read_bytes()
    shutil.copy(copy, path)
    with Journal(path, repairing=True) as journal:
        for number in (7, 8):
            take_part(journal, number)
    default_head(path).write_bytes(head)
    refused(path, "another branch was restored", "older")


def test_a_copy_over_the_open_file_is_noticed(path: Path) -> None:
    """The same inode, so only the chain can tell."""
    with Journal(path) as journal:
        plan = ready_to(journal, "sign", 2)
        with sqlite3.connect(path) as database:
            database.execute("DELETE FROM entries WHERE count > 4")
        database.close()
        with pytest.raises(JournalError, match="6 entries were written"):
            journal.sign(plan, digest("view"))


def test_a_head_that_is_one_write_old_is_no_loss(path: Path) -> None:
    old = default_head(path).read_bytes()
    with Journal(path) as journal:
        plan = ready_to(journal, "end", 2)
    default_head(path).write_bytes(old)
    with Journal(path) as journal:
        assert journal.head().count == 8
        with pytest.raises(Repeated):
            journal.reveal(plan)


def test_a_missing_head_is_a_loss_unless_nothing_was_written(path: Path) -> None:
    default_head(path).unlink()
    refused(path, rf"is missing beside a journal of 4 entries.*{DECLARE}", "head missing")
    path.unlink()
    create_file(path)
    with Journal(path) as journal:
        assert journal.head().count == 0
    assert default_head(path).exists()


def test_a_head_that_cannot_be_written_lets_nothing_leave(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with Journal(path) as journal:
        plan = ready_to(journal, "consume", 2)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(JournalError, match=r"No space left on device\); make room"):
                journal.consume(plan)
        with pytest.raises(Repeated):  # it is written down, so it may have left, and may not again
            journal.consume(plan)


def test_a_file_system_without_shared_memory_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Connection(sqlite3.Connection):
        def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
            asked = "PRAGMA journal_mode=DELETE" if "WAL" in statement else statement
            return super().execute(asked, *values)

    change(path, "PRAGMA journal_mode = DELETE")
    monkeypatch.setattr(sqlite3, "connect", lambda *values, **named: Connection(*values, **named))
    refused(path, "use a local disk", "place")


FULL = """
import resource, sys
from pathlib import Path
from tests.privacy.secagg.journals import begin, digest, make_plan, ready_to, take_part
from vestry_privacy.secagg.errors import JournalError
from vestry_privacy.secagg.journal import Journal

with Journal(Path(sys.argv[1])) as journal:
    plan = ready_to(journal, sys.argv[2], 2)
    before = journal.head()
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    try:
        journal.sign(plan, digest("view")) if sys.argv[2] == "sign" else getattr(journal, sys.argv[2])(plan)
    except JournalError as error:
        print(error.rule, "|", error)
    print(journal.head() == before)
"""


@pytest.mark.parametrize("step", ["consume", "sign", "reveal"])
def test_on_a_full_disk_no_step_is_taken(path: Path, step: str) -> None:
    """No file may grow any more, as on a disk without room."""
    settings = environment()
    settings["PYTHONPATH"] += f"{os.pathsep}{ROOT}"
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path), step],
        env=settings, capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = done.stdout.splitlines()
    assert "make room" in said[0], done.stderr
    assert said[0].split(" |")[0] in {"journal full", "journal disk"}
    assert said[1] == "True"


def test_a_damaged_database_is_set_aside_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.with_name(f"{path.name}-wal").write_bytes(b"log")
    moved = set_aside(path, 7)
    assert [file.name for file in moved] == ["journal.sqlite.lost-7", "journal.sqlite.lost-7-wal"]
    assert not path.exists()
    assert set_aside(path, 8) == []

    def busy(*_: object) -> None:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(Path, "rename", busy)
    with pytest.raises(JournalError, match="cannot be set aside"):
        set_aside(moved[0], 1)


def test_a_new_file_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    create_file(path)
    with pytest.raises(FileExistsError):
        create_file(path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    opened = JournalFile(path, None, 1.0)
    assert opened.entries(1) == []
    assert opened.peers() == {}
    opened.close()
