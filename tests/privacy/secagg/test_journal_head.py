"""The head file: two slots, of which a torn write leaves one; and the lock of the writers."""

import fcntl
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.privacy.secagg.journals import head_of
from vestry_privacy.secagg.errors import JournalError
from vestry_privacy.secagg.history import NO_HEAD, Head
from vestry_privacy.secagg.journal_head import SLOT_BYTES, HeadFile, default_head


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "head"
    HeadFile.create(made)
    return made


@pytest.fixture
def file(path: Path) -> Iterator[HeadFile]:
    with closing(HeadFile(path, 0.05)) as opened:
        yield opened


def test_a_new_file_knows_nothing(file: HeadFile, path: Path) -> None:
    assert file.read() == NO_HEAD
    assert path.stat().st_size == 2 * SLOT_BYTES
    assert path.stat().st_mode & 0o077 == 0
    with pytest.raises(FileExistsError):
        HeadFile.create(path)


@pytest.mark.parametrize("flush", [True, False])
def test_the_newest_is_read(file: HeadFile, path: Path, flush: bool) -> None:
    for count in range(1, 6):
        file.write(head_of(count), flush=flush)
        assert file.read() == head_of(count)
    with closing(HeadFile(path, 1)) as other:
        assert other.read() == head_of(5)


def test_a_new_epoch_is_newer_whatever_its_count(file: HeadFile) -> None:
    for head in (head_of(8), head_of(9), head_of(1, 1), head_of(2, 1)):
        file.write(head, flush=False)
        assert file.read() == head


@given(
    count=st.integers(1, 9),
    torn=st.integers(0, SLOT_BYTES - 1),
    rest=st.sampled_from([b"\0", b" ", b"9", b"\xff"]),
)
def test_a_torn_write_leaves_the_one_before(
    tmp_path_factory: pytest.TempPathFactory, count: int, torn: int, rest: bytes
) -> None:
    path = tmp_path_factory.mktemp("torn") / "head"
    HeadFile.create(path)
    with closing(HeadFile(path, 1)) as file:
        file.write(head_of(count), flush=False)
        file.write(head_of(count + 1), flush=False)
        content = bytearray(path.read_bytes())
        start = (count + 1) % 2 * SLOT_BYTES
        content[start + torn : start + SLOT_BYTES] = rest * (SLOT_BYTES - torn)
        path.write_bytes(bytes(content))
        assert file.read() in {head_of(count), head_of(count + 1)}
        if torn < 100:
            assert file.read() == head_of(count)


@pytest.mark.parametrize("content", [b"", b"\0" * 1024, b"x" * 1024, b"\xff" * 700])
def test_a_damaged_file_is_told(file: HeadFile, path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(JournalError, match=r"is damaged.*declare-lost") as refusal:
        file.read()
    assert refusal.value.rule == "journal corrupt"


def test_one_writer_at_a_time(file: HeadFile, path: Path) -> None:
    with closing(HeadFile(path, 0.05)) as other:
        other.lock()
        with pytest.raises(JournalError, match=r"another process has held it for 0\.05 seconds"):
            file.lock()
        other.unlock()
        file.lock()
        file.unlock()
    with path.open("r+b") as foreign:
        fcntl.flock(foreign, fcntl.LOCK_EX)
        with pytest.raises(JournalError, match="locked"):
            file.lock()
    file.lock()


@pytest.mark.parametrize("again", [True, False])
def test_a_file_that_was_replaced_is_noticed(file: HeadFile, path: Path, again: bool) -> None:
    path.rename(path.with_name("old"))
    if again:
        HeadFile.create(path)
    with pytest.raises(JournalError, match="was replaced while it was open"):
        file.lock()
    with closing(HeadFile(path.with_name("old"), 0.05)) as other:
        other.lock()  # the refused one holds nothing


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="cannot be opened for writing"):
        HeadFile(tmp_path / "none", 1)
    with pytest.raises(FileNotFoundError):
        HeadFile.create(tmp_path / "no" / "head")


def test_a_disk_that_refuses(file: HeadFile) -> None:
    file.close()
    file.close()
    for use in (file.read, lambda: file.write(Head(0, 1, bytes(32)), flush=True)):
        with pytest.raises(JournalError, match="cannot be"):
            use()


def test_it_lies_beside_the_database() -> None:
    assert default_head(Path("a/journal.sqlite")) == Path("a/journal.sqlite.head")
