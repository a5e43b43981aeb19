"""`vestry-site journal status | declare-lost`: what is wrong with a journal, and the way out."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.client.ward import asked, make_home, said_no
from tests.privacy.secagg.journals import digest, head_of, ready_to, take_part
from vestry_client.home import SiteHome


@pytest.fixture
def home(tmp_path: Path) -> SiteHome:
    """A site that has been through one sum, and is in the middle of a second."""
    made = make_home(tmp_path)
    with made.open_journal() as journal:
        take_part(journal, 1)
        ready_to(journal, "sign", 2)
        journal.see_peers({digest("south"): (head_of(7), head_of(3))})
    return made


def test_status_says_what_is_in_it(home: SiteHome) -> None:
    said, notes = asked("journal", "status", home=home)
    assert notes == ""
    for part in ("journal.sqlite: whole", "shares may have left", digest("south").hex()[:16]):
        assert part in said
    told = json.loads(asked("journal", "status", "--json", home=home)[0])
    assert told["ok"] is True
    assert told["head"]["count"] == 6
    assert told["plans"] == {"accepted": 0, "consumed": 1, "signed": 0, "revealed": 1}
    assert told["peers"][digest("south").hex()]["journal"]["count"] == 7


def lose(home: SiteHome) -> None:
    home.journal.unlink()


def garble(home: SiteHome) -> None:
    content = bytearray(home.journal.read_bytes())
    content[4096:] = bytes(len(content) - 4096)
    home.journal.write_bytes(bytes(content))


def truncate(home: SiteHome) -> None:
    home.journal.write_bytes(home.journal.read_bytes()[:5000])


def set_back(home: SiteHome) -> None:
    copy = home.folder / "copy"
    shutil.copy(home.journal, copy)
    with home.open_journal() as journal:
        take_part(journal, 3)
    shutil.copy(copy, home.journal)
    copy.unlink()


def lose_head(home: SiteHome) -> None:
    home.journal_head.unlink()


@pytest.mark.parametrize("harm", [lose, garble, truncate, set_back, lose_head])
def test_the_way_out_that_is_told_is_one(home: SiteHome, harm: Callable[[SiteHome], None]) -> None:
    harm(home)
    said = said_no("journal", "status", home=home)
    assert "`vestry-site journal declare-lost`" in said
    said, notes = asked("journal", "declare-lost", "--note", "a test", home=home)
    assert "epoch 1 begins" in said
    assert "Tell the other sites" in notes
    told = json.loads(asked("journal", "status", "--json", home=home)[0])
    assert told["epoch"] == 1
    assert [loss["note"] for loss in told["losses"]] == ["a test"]
    assert "a declared loss: a test" in asked("journal", "status", home=home)[0]
    with home.open_journal() as journal:
        take_part(journal, 9)


def test_what_is_wrong_is_told_to_programs_too(home: SiteHome) -> None:
    lose(home)
    # the answer is printed before the error ends the command
    from typer.testing import CliRunner

    from vestry_client.cli import app

    result = CliRunner().invoke(app, ["journal", "status", "--json", "--home", str(home.folder)])
    told = json.loads(result.stdout)
    assert told["ok"] is False
    assert told["rule"] == "journal missing"
    assert str(result.exception) == told["error"]


def test_what_is_set_aside_is_named(home: SiteHome) -> None:
    garble(home)
    told = json.loads(asked("journal", "declare-lost", "--note", "a test", "--json", home=home)[0])
    assert told["kept"] is False
    assert told["epoch"] == 1
    (moved,) = told["set_aside"]
    assert Path(moved).is_file()
    assert ".lost-" in moved


@pytest.mark.parametrize("words", [("status",), ("declare-lost", "--note", "no")])
def test_a_newer_journal_is_left_alone(home: SiteHome, words: tuple[str, ...]) -> None:
    with sqlite3.connect(home.journal) as database:
        database.execute("PRAGMA user_version = 2")
    database.close()
    assert "use the newer Vestry" in said_no("journal", *words, home=home)
    assert home.journal.is_file()


@pytest.mark.parametrize("words", [("status",), ("declare-lost", "--note", "no")])
def test_where_there_is_no_site(tmp_path: Path, words: tuple[str, ...]) -> None:
    assert "vestry-site init" in said_no("journal", *words, home=SiteHome(tmp_path / "none"))
    assert not (tmp_path / "none").exists()
