"""Files are whole and on the disk, whatever is refused on the way."""

import errno
import os
from pathlib import Path

import pytest

from vestry_privacy.durable import create_durably, swap_in, sync_folder, write_beside, write_durably


def refuse(code: int) -> OSError:
    return OSError(code, os.strerror(code))


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for content in (b"one", b"", b"three" * 1000):
        write_durably(path, content)
        assert path.read_bytes() == content
    assert [item.name for item in tmp_path.iterdir()] == ["x"]


def test_content_name_and_folder_are_flushed_in_this_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    flush, rename = os.fsync, Path.replace

    def flushed(descriptor: int) -> None:
        calls.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")  # noqa: PTH112
        flush(descriptor)

    def renamed(path: Path, target: Path) -> Path:
        calls.append("rename")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(Path, "replace", renamed)
    write_durably(tmp_path / "x", b"new")
    assert calls == ["file", "rename", "folder"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_refuses_the_content_leaves_the_old_file(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    write_durably(path, b"old")

    def full(_descriptor: int) -> None:
        raise refuse(code)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=os.strerror(code)):
        write_durably(path, b"new")
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["x"]


def test_a_rename_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    write_durably(path, b"old")
    temporary = write_beside(path, b"new")

    def refused(_path: Path, _target: Path) -> Path:
        raise refuse(errno.EROFS)

    monkeypatch.setattr(Path, "replace", refused)
    with pytest.raises(OSError, match="Read-only"):
        swap_in(temporary, path)
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["x"]


def test_creating_refuses_to_replace(tmp_path: Path) -> None:
    path = tmp_path / "x"
    create_durably(path, b"first")
    with pytest.raises(FileExistsError):
        create_durably(path, b"second")
    assert path.read_bytes() == b"first"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [item.name for item in tmp_path.iterdir()] == ["x"]


def test_a_file_that_could_not_be_created_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise refuse(errno.ENOSPC)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        create_durably(tmp_path / "x", b"half")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_the_callers_error(tmp_path: Path) -> None:
    for action in (write_durably, create_durably):
        with pytest.raises(FileNotFoundError):
            action(tmp_path / "no" / "x", b"")
    with pytest.raises(FileNotFoundError):
        sync_folder(tmp_path / "no")
