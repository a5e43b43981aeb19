"""A site's folder: made once, never overwritten, and refused where its key or its ledger is gone."""

import fcntl
import shutil
import sqlite3
import stat
from pathlib import Path

import pytest

from tests.client.ward import make_home
from vestry_client.home import STARTING_POLICY, HomeError, SiteHome, read_public_key
from vestry_client.policy import SitePolicy
from vestry_client.policy_file import PolicyFileError, parse_policy
from vestry_privacy.identity import IdentityError
from vestry_privacy.ledger_errors import LedgerError, LedgerUnavailable, WrongIdentity
from vestry_privacy.secagg.errors import JournalError
from vestry_privacy.secagg.history import NO_HEAD


def test_a_new_site_denies_everything(tmp_path: Path) -> None:
    home = SiteHome(tmp_path / "deep" / "site")
    identity, made = home.create()
    assert set(made) == {
        home.identity,
        home.public_key,
        home.split_key,
        home.ledger,
        home.journal,
        home.policy,
    }
    assert stat.S_IMODE(home.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(home.identity.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.split_key.stat().st_mode) == 0o600
    assert len(home.load_split_key()) == 32
    assert home.load_policy() == SitePolicy()
    assert read_public_key(str(home.public_key)) == identity.public_key
    with home.open_ledger() as ledger:
        assert [entry.kind for entry in ledger.entries()] == ["create"]
    with home.open_journal() as journal:
        assert journal.head() == NO_HEAD
    assert home.journal_head.exists()
    for path in (home.transcripts, home.directory):
        assert path.parent == home.folder
        assert not path.exists()


def test_the_starting_policy_is_valid_once_its_example_is_taken() -> None:
    lines = STARTING_POLICY.splitlines()
    start = lines.index("# [populations.cardiology]")
    text = "\n".join([*lines[:start], *(line.removeprefix("# ").removeprefix("#") for line in lines[start:])])
    policy = parse_policy(text)
    assert policy.rules_for("angiography")[0] == "cardiology"
    assert policy.populations["cardiology"].metrics == ()
    assert all(line.startswith("#") or not line or "=" in line for line in lines)


def test_what_is_there_is_never_overwritten(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    before = {
        path: path.read_bytes() for path in (home.identity, home.public_key, home.split_key, home.policy)
    }
    _, made = home.create()
    assert made == []
    assert {path: path.read_bytes() for path in before} == before
    home.policy.unlink()
    assert home.create()[1] == [home.policy]


def test_sites_have_different_split_keys_and_a_lost_one_is_told(tmp_path: Path) -> None:
    home, other = make_home(tmp_path / "a"), make_home(tmp_path / "b")
    assert home.load_split_key() != other.load_split_key()
    for damage in ("", "12", "\u00e9"):
        home.split_key.write_text(damage)
        with pytest.raises(HomeError, match=r"split\.key: is missing or damaged"):
            home.load_split_key()
    home.split_key.unlink()
    with pytest.raises(HomeError, match="restore it from a backup"):
        home.load_split_key()


def test_a_ledger_without_its_key_gets_no_new_one(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    home.identity.unlink()
    with pytest.raises(HomeError, match="restore it from a backup"):
        home.create()
    assert not home.identity.exists()


def test_a_ledger_that_is_gone_is_not_begun_anew(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    home.ledger.unlink()
    with pytest.raises(HomeError, match="and with it what was spent"):
        home.open_ledger()
    with pytest.raises(LedgerError):
        home.create()  # the head knows better
    assert not home.ledger.exists() or home.ledger.stat().st_size == 0 or _entries(home.ledger) == 0


def _entries(path: Path) -> int:
    with sqlite3.connect(path) as database:
        tables = database.execute("SELECT count(*) FROM sqlite_master WHERE name = 'entries'").fetchone()[0]
        count = database.execute("SELECT count(*) FROM entries").fetchone()[0] if tables else 0
    database.close()
    return int(count)


def test_where_there_is_no_site(tmp_path: Path) -> None:
    home = SiteHome(tmp_path / "none")
    with pytest.raises(HomeError, match=r"no site here .* `vestry-site init`.*VESTRY_SITE_HOME"):
        home.open_ledger()
    with pytest.raises(PolicyFileError, match="Without a policy nothing trains"):
        home.load_policy()
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(HomeError, match="cannot be written"):
        SiteHome(tmp_path / "file" / "site").create()


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    home.identity.chmod(0o644)
    with pytest.raises(IdentityError, match="chmod 600"):
        home.open_ledger()
    with pytest.raises(IdentityError):
        home.create()


def test_another_sites_key_does_not_open_the_ledger(tmp_path: Path) -> None:
    home, other = make_home(tmp_path / "a"), make_home(tmp_path / "b")
    shutil.copy(other.identity, home.identity)
    with pytest.raises(WrongIdentity):
        home.open_ledger()


def test_the_head_may_lie_on_another_disk(tmp_path: Path) -> None:
    head = tmp_path / "elsewhere" / "head"
    head.parent.mkdir()
    home = SiteHome(tmp_path / "site", head)
    home.create()
    assert head.exists()
    assert not (home.folder / "ledger.sqlite.head").exists()
    assert home.journal_head == tmp_path / "elsewhere" / "head.journal"
    assert home.journal_head.exists()
    assert not (home.folder / "journal.sqlite.head").exists()
    with home.open_ledger() as ledger, home.open_journal() as journal:
        assert ledger.rollback is None
        assert journal.head() == NO_HEAD


def test_a_locked_ledger_is_told(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    lock = home.folder / "ledger.sqlite.lock"
    with lock.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(LedgerUnavailable):
            SiteHome(home.folder, patience=0.1).open_ledger()
    with home.open_ledger() as ledger:
        assert ledger.rollback is None


def test_a_journal_that_is_gone_is_not_begun_anew(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    with home.open_journal() as journal:
        journal.declare_loss("a test")
    home.journal.unlink()
    for use in (home.open_journal, home.create):
        with pytest.raises(JournalError, match="declare-lost"):
            use()
    assert not home.journal.exists()


def test_a_site_of_before_gets_its_journal(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    home.journal.unlink()
    home.journal_head.unlink()
    with pytest.raises(JournalError, match="gets it with `vestry-site init`"):
        home.open_journal()
    assert home.create()[1] == [home.journal]


def test_public_keys_are_read_from_digits_or_a_file(tmp_path: Path) -> None:
    digits = "0123456789abcdef" * 4
    assert read_public_key(digits).hex() == digits
    path = tmp_path / "site.pub"
    path.write_text(f"{digits}\n", encoding="ascii")
    assert read_public_key(str(path)).hex() == digits
    path.write_text("no key", encoding="ascii")
    with pytest.raises(HomeError, match="does not hold a public key"):
        read_public_key(str(path))
    with pytest.raises(HomeError, match="neither 64 hexadecimal digits nor a file"):
        read_public_key(digits[:-1])
