"""The offline check: any byte of any entry, named; and what it says of a ledger that holds."""

import random
import shutil
from pathlib import Path

import pytest

from tests.privacy.ledgers import IDENTITY, ONE, STRANGER, Site, gaussian, population
from vestry_privacy.ledger_errors import (
    LedgerRollback,
    LedgerTampered,
    LedgerUnavailable,
    WrongIdentity,
)
from vestry_privacy.ledger_verify import verify_ledger

COLUMNS = ("body", "hash", "signature")


def lived_in(site: Site) -> None:
    """A ledger with an entry of every kind but a reconciliation."""
    with site.held() as ledger:
        ledger.register(population(epsilon=7.5))
        ledger.commit(site.reserve(ledger, 1), 10, reply_hash="r")
        ledger.void(site.reserve(ledger, 2), "no rows")
        site.reserve(ledger, 3)
        ledger.import_spending("heart", [gaussian(1)], "2024")
    with site.open() as ledger:
        ledger.release(ONE.study_hash)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    site = Site(tmp_path_factory.mktemp("ledger"))
    lived_in(site)
    return site


@pytest.fixture
def copy(site: Site, tmp_path: Path) -> Site:
    shutil.copytree(site.folder, tmp_path / "copy")
    return Site(tmp_path / "copy")


def test_a_ledger_that_holds(site: Site) -> None:
    report = verify_ledger(site.path, IDENTITY.public_key)
    assert (report.entries, report.newest) == (13, 13)
    assert report.hash == site.rows()[-1][2]
    assert (report.public_key, report.fingerprint) == (IDENTITY.public_key, IDENTITY.fingerprint)
    assert report.head_checked
    assert (report.clock_set_back, report.reconciled) == ((), ())
    assert verify_ledger(site.path).public_key == IDENTITY.public_key


def test_checking_changes_nothing(site: Site) -> None:
    before = {path.name: path.read_bytes() for path in site.folder.iterdir() if path.is_file()}
    verify_ledger(site.path)
    assert {path.name: path.read_bytes() for path in site.folder.iterdir() if path.is_file()} == before


def test_a_running_ledger_can_be_checked(copy: Site) -> None:
    with copy.open() as ledger:
        ledger.register(population("lung"))
        assert verify_ledger(copy.path).entries == 14


@pytest.mark.parametrize("column", COLUMNS)
def test_any_byte_of_any_entry_is_found_and_named(column: str, copy: Site) -> None:
    rows = copy.rows()
    dice = random.Random(column)  # noqa: S311 - picks test cases
    kind = "BLOB" if column == "signature" else "TEXT"
    tamper = f"UPDATE entries SET {column} = CAST(? AS {kind}) WHERE seq = ?"  # noqa: S608 - a name of ours
    for row in rows:
        seq, good = row[0], row[1 + COLUMNS.index(column)]
        raw = good if isinstance(good, bytes) else str(good).encode("ascii")
        for _ in range(3):
            place, other = dice.randrange(len(raw)), dice.randrange(1, 256)
            bad = raw[:place] + bytes([raw[place] ^ other]) + raw[place + 1 :]
            copy.change(tamper, (bad, seq))
            found = []
            for public_key in (IDENTITY.public_key, None):
                with pytest.raises(LedgerTampered) as caught:
                    verify_ledger(copy.path, public_key)
                found.append((caught.value.seq, caught.value.broken))
            with pytest.raises(LedgerTampered) as caught:
                copy.open()
            found.append((caught.value.seq, caught.value.broken))
            assert found == [(seq, "signature" if column == "signature" else "hash")] * 3
        copy.change(tamper, (raw, seq))
    assert copy.rows() == rows
    verify_ledger(copy.path)


@pytest.mark.parametrize("seq", range(1, 14))
def test_an_entry_that_is_gone_is_named(seq: int, copy: Site) -> None:
    copy.change("DELETE FROM entries WHERE seq = ?", (seq,))
    if seq < 13:
        with pytest.raises(LedgerTampered) as caught:
            verify_ledger(copy.path)
        assert (caught.value.seq, caught.value.broken) == (seq + 1, "gap")
        with pytest.raises(LedgerTampered, match="gap"):
            copy.open()
    else:
        with pytest.raises(LedgerRollback, match="the newest here is 12"):
            verify_ledger(copy.path)


def test_entries_that_changed_places_are_named(copy: Site) -> None:
    for old, new in ((7, 99), (8, 7), (99, 8)):
        copy.change("UPDATE entries SET seq = ? WHERE seq = ?", (new, old))
    with pytest.raises(LedgerTampered) as caught:
        verify_ledger(copy.path)
    assert (caught.value.seq, caught.value.broken) == (7, "order")


def test_an_entry_that_was_put_in_is_named(copy: Site) -> None:
    copy.change("INSERT INTO entries SELECT 14, body, hash, signature FROM entries WHERE seq = 13")
    with pytest.raises(LedgerTampered, match="entry 14, order: the entry was written as number 13"):
        verify_ledger(copy.path)


def test_an_empty_database_is_no_ledger(copy: Site) -> None:
    copy.change("DELETE FROM entries")
    with pytest.raises(LedgerTampered, match="has no entries"):
        verify_ledger(copy.path)


def test_another_key_is_named(site: Site) -> None:
    with pytest.raises(WrongIdentity, match=STRANGER.fingerprint[:16]):
        verify_ledger(site.path, STRANGER.public_key)


def test_a_bare_copy_is_checked_without_a_head_and_says_so(site: Site, tmp_path: Path) -> None:
    shutil.copy(site.path, tmp_path / "bare.db")
    assert not verify_ledger(tmp_path / "bare.db").head_checked
    assert verify_ledger(tmp_path / "bare.db", head=site.head).head_checked
    with pytest.raises(LedgerUnavailable, match="no such file"):
        verify_ledger(tmp_path / "bare.db", head=tmp_path / "none")


def test_a_head_of_another_ledger_is_named(site: Site, tmp_path: Path) -> None:
    other = Site(tmp_path)
    other.held().close()
    with pytest.raises(LedgerRollback, match="entry 4 is not the one"):
        verify_ledger(site.path, head=other.head)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnavailable, match="no such file"):
        verify_ledger(tmp_path / "none.db")
    assert list(tmp_path.iterdir()) == []
