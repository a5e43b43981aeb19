"""A lost journal: every state that a loss can leave has a way on, and no other state is touched."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.privacy.secagg.journals import begin, digest, make_plan, ready_to, take_part
from vestry_privacy.secagg import journal_loss
from vestry_privacy.secagg.errors import BadMessage, JournalError, Repeated
from vestry_privacy.secagg.history import NO_HEAD, Head, check_peer
from vestry_privacy.secagg.journal import Journal
from vestry_privacy.secagg.journal_head import HeadFile, default_head
from vestry_privacy.secagg.journal_loss import declare_lost


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Three sums; the journal of after the first is kept as ``copy``."""
    made = tmp_path / "journal.sqlite"
    with Journal.create(made) as journal:
        take_part(journal, 1)
    shutil.copy(made, tmp_path / "copy")
    with Journal(made) as journal:
        take_part(journal, 2)
        take_part(journal, 3)
    return made


def last(path: Path) -> Head:
    with closing(HeadFile(default_head(path), 1)) as file:
        return file.read()


def unlink(path: Path) -> None:
    path.unlink()


def unlink_all(path: Path) -> None:
    path.unlink()
    default_head(path).unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garble(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:4096] + bytes(len(content) - 4096))


def tamper(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("UPDATE entries SET body = x'00' WHERE count = 3")
    database.close()


def set_back(path: Path) -> None:
    shutil.copy(path.with_name("copy"), path)


def unlink_head(path: Path) -> None:
    default_head(path).unlink()


def garble_head(path: Path) -> None:
    default_head(path).write_bytes(b"x" * 1024)


def nothing(path: Path) -> None:
    pass


NEW = [unlink, unlink_all, empty, garble, tamper]
KEPT = [set_back, unlink_head, garble_head, nothing]


@pytest.mark.parametrize("harm", [*NEW, *KEPT])
def test_every_loss_has_a_way_on(path: Path, harm: Callable[[Path], None]) -> None:
    before = last(path)
    harm(path)
    if harm is not nothing:
        with pytest.raises(JournalError, match="declare-lost"):
            Journal(path)
    done = declare_lost(path, "a test", clock=lambda: 1.0)
    assert done.kept is (harm in KEPT)
    check_peer(before, done.head, "this site")  # the others take it
    assert done.head.epoch == 1
    with Journal(path) as journal:
        assert journal.head() == done.head
        (loss,) = journal.report().losses
        assert (loss.epoch, loss.note, loss.time) == (1, "a test", 1000)
        take_part(journal, 9)
    with Journal(path) as journal:
        assert journal.head().count == done.head.count + 4


@pytest.mark.parametrize("harm", KEPT)
def test_what_can_be_read_still_counts(path: Path, harm: Callable[[Path], None]) -> None:
    harm(path)
    declare_lost(path, "a test")
    with Journal(path) as journal, pytest.raises(Repeated):
        begin(journal, make_plan(1))


@pytest.mark.parametrize("harm", [empty, garble, tamper])
def test_what_cannot_be_read_is_set_aside(path: Path, harm: Callable[[Path], None]) -> None:
    harm(path)
    content = path.read_bytes()
    done = declare_lost(path, "a test", clock=lambda: 1.0)
    assert done.set_aside[0] == path.with_name("journal.sqlite.lost-1000")
    assert done.set_aside[0].read_bytes() == content


def test_epochs_only_grow(path: Path) -> None:
    for number, harm in enumerate((*NEW[:1], *NEW[2:], set_back, nothing), 1):
        harm(path)
        done = declare_lost(path, "again")
        assert done.head.epoch == number
    with Journal(path) as journal:
        assert journal.head().epoch == 6


def test_a_copy_of_before_the_loss_is_older(path: Path) -> None:
    declare_lost(path, "a test")
    set_back(path)
    with pytest.raises(JournalError, match="older copy"):
        Journal(path)
    assert declare_lost(path, "again").head.epoch == 2


@pytest.mark.parametrize("harm", [unlink, unlink_all, garble])
def test_a_crash_before_the_loss_is_recorded_hides_nothing(
    path: Path, harm: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    harm(path)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "declare_loss", die)
        with pytest.raises(KeyboardInterrupt):
            declare_lost(path, "a test")
    with pytest.raises(JournalError, match="declare-lost"):
        Journal(path)
    with pytest.raises(JournalError):
        Journal.open_or_create(path)
    assert declare_lost(path, "a test").head.epoch == 1


def test_a_crash_between_entry_and_head_hides_nothing(path: Path) -> None:
    noted = default_head(path).read_bytes()
    unlink(path)
    done = declare_lost(path, "a test")
    default_head(path).write_bytes(noted)  # as it was before the loss was noted
    with Journal(path) as journal:
        assert journal.head() == done.head
        take_part(journal, 1)
    assert last(path).epoch == 1


def test_what_is_not_lost_is_left_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = path.read_bytes()

    def refuses(said: str, **named: Any) -> None:
        with pytest.raises(JournalError, match=said):
            declare_lost(path, "a test", patience=0.05, **named)
        assert path.exists()

    with closing(HeadFile(default_head(path), 1)) as file:
        file.lock()
        refuses("another process has held it")
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 2")
    database.close()
    refuses("use the newer Vestry")
    path.unlink()
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE patients (name TEXT)")
    database.close()
    refuses("another program")
    path.write_bytes(content)
    with pytest.raises(BadMessage):
        declare_lost(path, "n" * 5000)
    with Journal(path) as journal:
        assert journal.head().epoch == 0
    assert [name for name in journal_loss.__all__ if not hasattr(journal_loss, name)] == []


def test_a_site_that_writes_meanwhile_is_waited_for(path: Path) -> None:
    garble(path)
    with closing(HeadFile(default_head(path), 1)) as file:
        file.lock()
        with pytest.raises(JournalError, match="locked"):
            declare_lost(path, "a test", patience=0.05)
    assert not list(path.parent.glob("*.lost-*"))


def test_an_open_journal_notices(path: Path) -> None:
    with Journal(path) as journal:
        plan = ready_to(journal, "sign", 4)
        declare_lost(path, "a test")
        journal.sign(plan, digest("view"))  # the same file: it goes on in the new epoch
        assert journal.head().epoch == 1
        unlink(path)
        declare_lost(path, "another")
        with pytest.raises(JournalError, match="was replaced"):
            journal.reveal(plan)


def test_nothing_is_known_of_a_journal_without_entries(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    Journal.create(path).close()
    assert last(path) == NO_HEAD
    path.unlink()
    with Journal.open_or_create(path) as journal:
        assert journal.head() == NO_HEAD
