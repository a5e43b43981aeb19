"""`vestry-site ledger show | report | verify | import` over a ledger with a study in it."""

import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.client.ward import asked, make_home, make_plan, private_study, said_no
from vestry_client.home import SiteHome
from vestry_client.privacy_rules import population_of
from vestry_privacy.ledger import StudyRef

PILOT = """
note = "pilot"
[[spent]]
population = "cardiology"
mechanism = "gaussian"
noise_multiplier = 5.0
count = 2
"""
HASH = "ab" * 32


@pytest.fixture
def home(tmp_path: Path) -> SiteHome:
    """Half of a study of 40 steps is done: two rounds of 10, and one evaluation."""
    made = make_home(tmp_path)
    plan = make_plan()
    with made.open_ledger() as ledger:
        ledger.register(population_of("cardiology", made.load_policy().populations["cardiology"]))
        ledger.add_dataset("cardiology", "angio", "ef" * 32, ["A", "B"])
        events = {"train": plan.events("train"), "holdout": plan.events("holdout")}
        ledger.hold("cardiology", StudyRef(HASH, "small", "run"), events, epsilon_cap=1.5)  # type: ignore[arg-type]
        for number in (1, 2):
            reservation = ledger.reserve(HASH, "train", "train", number, plan.event(10), f"order {number}")
            ledger.commit(reservation, 10)
        reservation = ledger.reserve(
            HASH, "holdout", "evaluation", 2, plan.release_event("evaluation"), "order 3"
        )
        ledger.commit(reservation, 1)
    return made


def write(path: Path, text: str = PILOT) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_show_lists_the_entries_newest_last(home: SiteHome) -> None:
    said, notes = asked("ledger", "show", home=home)
    kinds = ["create", "register", "dataset", "hold", "reserve", "commit", "reserve", "commit"]
    places = [said.index(f" {kind} ") for kind in kinds[:5]]
    assert places == sorted(places)
    assert "10 of 10 entries" in said
    assert "train, round 2: 10 steps, sigma 2, q 0.05" in said
    assert notes == ""
    told = json.loads(asked("ledger", "show", "--json", home=home)[0])
    assert [entry["kind"] for entry in told["entries"]][:8] == kinds
    assert told["lost"] is None


def test_show_the_newest_only(home: SiteHome) -> None:
    told = json.loads(asked("ledger", "show", "--last", 2, "--json", home=home)[0])
    assert [entry["kind"] for entry in told["entries"]] == ["reserve", "commit"]
    assert "2 of 10 entries" in asked("ledger", "show", "--last", 2, home=home)[0]


def test_report_tells_the_filter_apart_from_the_accountants(home: SiteHome) -> None:
    said, _ = asked("ledger", "report", home=home)
    for part in (
        "population cardiology",
        "filter (order",
        "PLD, an estimate",
        "small abababababab",
        "3 commit",
    ):
        assert part in said
    told = json.loads(asked("ledger", "report", "--json", home=home)[0])
    (population,) = told["populations"]
    (study,) = population["studies"]
    plan = make_plan()
    assert study["epsilon_planned"]["pld"] == pytest.approx(plan.epsilon("pld"))
    assert study["epsilon_planned"]["rdp"] > study["epsilon_planned"]["pld"]
    assert population["claimed_epsilon"] + population["left_epsilon"] == pytest.approx(4.0)
    assert "fits" not in told


def test_report_tells_how_often_a_study_fits(tmp_path: Path, home: SiteHome) -> None:
    study = write(tmp_path / "study.toml", private_study())
    told = json.loads(asked("ledger", "report", "--plan", study, "--json", home=home)[0])
    fit = told["fits"]["cardiology"]
    assert fit["study"] == "small"
    assert fit["studies"] >= 1
    said, _ = asked("ledger", "report", "--plan", study, home=home)
    assert f"small: more such studies that fit {fit['studies']}" in " ".join(said.split())
    assert "no such file" in said_no("ledger", "report", "--plan", tmp_path / "none.toml", home=home)


def test_an_empty_ledger_says_what_comes_next(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    assert "population register NAME" in asked("ledger", "report", home=home)[0]


def test_verify_the_sites_own_ledger(home: SiteHome) -> None:
    said, _ = asked("ledger", "verify", home=home)
    assert "10 entries hold" in said
    assert home.load_identity().fingerprint in said
    assert "compare its fingerprint" not in said


def test_verify_a_copy_offline(tmp_path: Path, home: SiteHome) -> None:
    copy = tmp_path / "audit" / "ledger.sqlite"
    copy.parent.mkdir()
    for name in ("ledger.sqlite", "ledger.sqlite.head"):
        shutil.copy(home.folder / name, copy.parent / name)
    nobody = SiteHome(tmp_path / "nobody")
    told = json.loads(
        asked("ledger", "verify", copy, "--public-key", home.public_key, "--json", home=nobody)[0]
    )
    assert (told["ok"], told["entries"], told["key_given"], told["head_checked"]) == (True, 10, True, True)
    assert told["public_key"] == home.load_identity().public_key.hex()
    assert "compare its fingerprint" in asked("ledger", "verify", copy, home=nobody)[0]
    said = said_no("ledger", "verify", copy, "--public-key", "00" * 32, home=nobody)
    assert "is signed with the key" in said
    assert not nobody.folder.exists()
    (copy.parent / "ledger.sqlite.head").unlink()
    assert "entries at its end are missing cannot be told" in asked("ledger", "verify", copy, home=nobody)[0]
    (copy.parent / "elsewhere").write_bytes((home.folder / "ledger.sqlite.head").read_bytes())
    asked("ledger", "verify", copy, "--head", copy.parent / "elsewhere", home=nobody)
    said = said_no("ledger", "verify", tmp_path / "none.sqlite", home=nobody)
    assert "none.sqlite" in said


def test_the_environments_head_is_of_the_sites_own_ledger(
    tmp_path: Path, home: SiteHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, elsewhere = tmp_path / "other.sqlite", tmp_path / "head"
    shutil.copy(home.ledger, copy)
    elsewhere.write_text('{"version": 1, "seq": 99, "hash": "00"}', encoding="utf-8")
    monkeypatch.setenv("VESTRY_SITE_HEAD", str(elsewhere))
    assert "10 entries hold" in asked("ledger", "verify", copy, home=SiteHome(tmp_path / "nobody"))[0]
    assert "99 entries" in said_no("ledger", "verify", home=home)
    monkeypatch.delenv("VESTRY_SITE_HEAD")
    (home.folder / "ledger.sqlite.head").unlink()
    assert "ledger.sqlite.head" in said_no("ledger", "verify", home=home)


def test_verify_names_the_first_broken_entry(home: SiteHome, capsys: pytest.CaptureFixture[str]) -> None:
    with sqlite3.connect(home.ledger) as database:
        database.execute(
            "UPDATE entries SET body = replace(body, '\"count\":10', '\"count\":01') WHERE seq = 7"
        )
    database.close()
    said = said_no("ledger", "verify", home=home)
    assert "ledger, entry 7, " in said
    said = said_no("ledger", "report", home=home)
    assert "entry 7" in said


def test_verify_tells_programs_where_it_broke(home: SiteHome) -> None:
    from typer.testing import CliRunner

    from vestry_client.cli import app

    with sqlite3.connect(home.ledger) as database:
        database.execute("DELETE FROM entries WHERE seq = 4")
    database.close()
    result = CliRunner().invoke(app, ["ledger", "verify", "--json", "--home", str(home.folder)])
    told = json.loads(result.stdout)
    assert told["ok"] is False
    assert told["entry"] in {4, 5}
    assert result.exit_code == 1  # the command line turns the error into 2


def test_import_charges_once(tmp_path: Path, home: SiteHome) -> None:
    before = json.loads(asked("ledger", "report", "--json", home=home)[0])["populations"][0]
    told = json.loads(asked("ledger", "import", write(tmp_path / "p.toml"), "--json", home=home)[0])
    after = told["populations"]["cardiology"]
    assert after["claimed"] > before["claimed_epsilon"]
    assert after["left"] < before["left_epsilon"]
    said = said_no("ledger", "import", tmp_path / "p.toml", home=home)
    assert "imported the same already; if it happened twice, say so in another note" in said
    again = write(tmp_path / "p.toml", PILOT.replace("pilot", "second pilot"))
    assert "left" in asked("ledger", "import", again, home=home)[0]


@pytest.mark.parametrize(
    ("sigma", "sampling"), [(0.01, ""), (0.01, "0.5"), (1000.0, "0.5"), (1000.0, "1e-9")]
)
def test_every_event_that_a_file_may_hold_can_be_counted(tmp_path: Path, sigma: float, sampling: str) -> None:
    """An entry stays for ever: one that no accountant can read would end the ledger."""
    home = make_home(tmp_path)
    asked("population", "register", "cardiology", home=home)
    text = PILOT.replace("5.0", f"{sigma:f}").replace("count = 2", "count = 1000000")
    if sampling:
        text = text.replace('"gaussian"', f'"poisson-gaussian"\nsampling_probability = {sampling}')
    asked("ledger", "import", write(tmp_path / "p.toml", text), home=home)
    (found,) = json.loads(asked("ledger", "report", "--json", home=home)[0])["populations"]
    assert found["left_epsilon"] == 0.0 or sigma > 1
    with home.open_ledger() as ledger:
        assert ledger.rollback is None


def test_import_is_all_or_nothing(tmp_path: Path, home: SiteHome) -> None:
    more = PILOT + PILOT.partition("[[spent]]")[2].join(("[[spent]]", "")).replace("cardiology", "stroke")
    assert "'stroke'" in said_no("ledger", "import", write(tmp_path / "p.toml", more), home=home)
    assert "charges nothing" in said_no(
        "ledger", "import", write(tmp_path / "q.toml", 'note = "x"'), home=home
    )
    with home.open_ledger() as ledger:
        assert all(entry.kind != "import" for entry in ledger.entries())


def test_a_restored_backup_is_found_and_reconciled(tmp_path: Path, home: SiteHome) -> None:
    backup = tmp_path / "backup.sqlite"
    shutil.copy(home.ledger, backup)
    asked("ledger", "import", write(tmp_path / "p.toml"), home=home)
    for name in ("ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"):
        (home.folder / name).unlink(missing_ok=True)
    shutil.copy(backup, home.ledger)
    said, notes = asked("ledger", "report", "--json", home=home)
    assert json.loads(said)["populations"][0]["left_epsilon"] == 0.0
    assert "Every budget counts as exhausted" in notes
    assert "exhausted" in said_no("ledger", "import", write(tmp_path / "q.toml", PILOT + "\n"), home=home)
    silent = write(tmp_path / "r.toml", 'note = "restored"')
    assert "'cardiology'" in said_no("ledger", "import", silent, "--reconcile", home=home)
    said, notes = asked("ledger", "import", tmp_path / "p.toml", "--reconcile", home=home)
    assert "reconciled" in notes
    assert "cardiology: the filter counts epsilon" in said
    said, notes = asked("ledger", "report", "--json", home=home)
    assert json.loads(said)["populations"][0]["left_epsilon"] > 0
    assert json.loads(said)["reconciled"] == 1
    assert notes == ""
    assert "no entries were lost" in said_no(
        "ledger", "import", tmp_path / "p.toml", "--reconcile", home=home
    )


def test_a_backup_that_lost_nothing_of_a_population(tmp_path: Path, home: SiteHome) -> None:
    (home.folder / "ledger.sqlite.head").unlink()
    harmless = write(
        tmp_path / "r.toml", 'note = "the head was on a disk that broke"\nlost_nothing = ["cardiology"]'
    )
    told = json.loads(asked("ledger", "import", harmless, "--reconcile", "--json", home=home)[0])
    assert told["reconciled"] is True
    assert told["populations"]["cardiology"]["left"] > 0


@pytest.mark.slow  # loads torch
def test_the_third_accountant_is_asked_on_request(home: SiteHome) -> None:
    told = json.loads(asked("ledger", "report", "--prv", "--json", home=home)[0])
    figures = told["populations"][0]["studies"][0]["epsilon_planned"]
    assert figures["pld"] == pytest.approx(figures["prv"], rel=0.02)
