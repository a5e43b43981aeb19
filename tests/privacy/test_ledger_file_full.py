"""A disk that is full at any moment: nothing is granted, and the ledger is as it was."""

import contextlib
import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.privacy.ledgers import ONE, Site, charged
from vestry_privacy.ledger_errors import LedgerUnavailable
from vestry_privacy.ledger_verify import verify_ledger


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file may grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_is_full_at_any_byte_grants_nothing(site: Site) -> None:
    with site.held() as ledger:
        log = site.path.with_name("ledger.db-wal").stat().st_size
        refused = 0
        for size in (0, 1, 60, 120, *range(log - 4096, log + 40_000, 997)):
            rows, head = site.rows(), site.head.read_bytes()
            with largest_file(size), contextlib.suppress(LedgerUnavailable):
                site.reserve(ledger, 1)
                break
            refused += 1
            site.unchanged(rows, head)
            assert ledger.answered(ONE.study_hash, "train", 1) is None
        else:
            raise AssertionError("it was never granted")
        assert refused > 5
        assert charged(ledger) == 10
    verify_ledger(site.path, site.identity.public_key)


def test_a_full_database_grants_nothing(site: Site) -> None:
    with site.held() as ledger:
        rows, head = site.rows(), site.head.read_bytes()
        pages = ledger._chain.file.query("PRAGMA page_count")[0][0]
        ledger._chain.file.query(f"PRAGMA max_page_count={pages}")
        said = ""
        for number in range(100):
            rows, head = site.rows(), site.head.read_bytes()
            try:
                site.reserve(ledger, number, 1)
            except LedgerUnavailable as error:
                said = str(error)
                break
        assert "does not fit on the disk; make room" in said
        site.unchanged(rows, head)


def fail_nth(monkeypatch: pytest.MonkeyPatch, nth: int) -> list[str]:
    """Make the nth call that touches the disk fail; the names of all calls so far."""
    calls: list[str] = []

    def wrap(target: Any, name: str) -> None:
        real = getattr(target, name)

        def maybe(*values: Any, **named: Any) -> Any:
            calls.append(name)
            if len(calls) == nth:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*values, **named)

        monkeypatch.setattr(target, name, maybe)

    wrap(os, "open")
    wrap(os, "fsync")
    wrap(Path, "replace")
    return calls


def test_each_call_to_the_system_may_fail_and_nothing_is_granted(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    with site.held() as ledger:
        site.reserve(ledger, 0, 1)
        seen: list[str] = []
        for nth in range(1, 30):
            rows, head = site.rows(), site.head.read_bytes()
            with monkeypatch.context() as patch:
                calls = fail_nth(patch, nth)
                with contextlib.suppress(LedgerUnavailable):
                    site.reserve(ledger, nth, 1)
                    assert len(calls) < nth, f"call {nth}, {calls[-1]}, failed unseen"
                    break
            seen.append(calls[nth - 1])
            if "replace" not in calls[: nth - 1]:
                site.unchanged(rows, head)
            else:  # the head was renewed and only its folder not flushed: charged, and not granted
                assert len(site.rows()) == len(rows) + 1
        assert seen == ["open", "open", "fsync", "replace", "open", "fsync"]  # lock, head, folder
        assert charged(ledger) == 4
    verify_ledger(site.path, site.identity.public_key)


def test_a_head_that_cannot_be_renamed_takes_the_entry_back(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_path: Path, _target: Path) -> Path:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with site.held() as ledger, site.open() as other:
        rows, head = site.rows(), site.head.read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", refused)
            with pytest.raises(
                LedgerUnavailable, match=r"cannot be renewed \(Read-only.*nothing was granted"
            ):
                site.reserve(ledger, 1)
            with pytest.raises(LedgerUnavailable, match="nothing was granted"):
                ledger.add_dataset("heart", "more", "f2", ["c"])
        site.unchanged(rows, head)
        assert charged(ledger) == charged(other) == 0
        assert ledger._chain.file.query("SELECT count(*) FROM identifiers") == [(2,)]
        site.reserve(ledger, 1)
        assert charged(other) == 10
