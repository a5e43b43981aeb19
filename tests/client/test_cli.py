"""`vestry-site` as an operator types it, in a process of its own."""

import hashlib
import json
import sqlite3
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.client.ward import POLICY, make_home, vestry_site
from tests.simulations.laboratory import environment, refused
from vestry_client.home import SiteHome


def checksum(home: SiteHome) -> str:
    return hashlib.sha256(home.ledger.read_bytes()).hexdigest()


def test_from_nothing_to_a_checked_ledger(tmp_path: Path) -> None:
    def site(*words: object) -> str:
        result = vestry_site(*words, folder=tmp_path)
        assert result.returncode == 0, result.stderr
        return result.stdout

    site("init")
    folder = tmp_path / "vestry-site"
    (folder / "policy.toml").write_text(POLICY, encoding="utf-8")
    (tmp_path / "angio.csv").write_text("patient_id,age\nA,50\nB,60\n", encoding="utf-8")
    assert "epsilon 4 at delta 1e-05" in site("policy", "check", folder / "policy.toml")
    site("population", "register", "cardiology")
    site("dataset", "add", "angio", "angio.csv", "--population", "cardiology")
    assert "population cardiology" in site("ledger", "report")
    told = json.loads(site("ledger", "verify", folder / "ledger.sqlite", "--json"))
    assert (told["ok"], told["entries"]) == (True, 3)


def test_help_and_version() -> None:
    said = vestry_site("--help").stdout
    for name in ("init", "policy", "population", "dataset", "ledger", "journal"):
        assert name in said
    assert vestry_site("--version").stdout.strip() == f"vestry-site {version('vestry')}"


@pytest.mark.parametrize(
    "words",
    [("ledger", "verify"), ("ledger", "show"), ("journal", "status"), ("policy", "check"), ("--help",)],
)
def test_commands_load_neither_torch_nor_flower(tmp_path: Path, words: tuple[str, ...]) -> None:
    home = make_home(tmp_path)
    program = (
        "import sys\nfrom vestry_client.cli import app\n"
        "try:\n    app(sys.argv[1:])\nexcept SystemExit as end:\n    assert not end.code, end\n"
        "print(sorted({'torch', 'flwr', 'opacus', 'dp_accounting'} & set(sys.modules)), file=sys.stderr)"
    )
    place = [] if words == ("--help",) else ["--home", str(home.folder)]
    done = subprocess.run(
        [sys.executable, "-c", program, *words, *place],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.strip() == "[]"


def test_where_there_is_no_site(tmp_path: Path) -> None:
    for words in (("ledger", "show"), ("journal", "status"), ("population", "register", "a")):
        result = vestry_site(*words, folder=tmp_path)
        refused(result, "vestry-site init")
        assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_ledger_of_a_newer_version(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    with sqlite3.connect(home.ledger) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    before = checksum(home)
    for words in (("ledger", "show"), ("ledger", "verify"), ("population", "register", "cardiology")):
        refused(vestry_site(*words, "--home", home.folder), "newer", "use the newer Vestry")
    assert checksum(home) == before


def test_a_ledger_that_cannot_be_written(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    content = bytearray(home.ledger.read_bytes())
    content[18] = 3  # SQLite opens a file of a later write version read-only, for root too
    home.ledger.write_bytes(content)
    before = checksum(home)
    said = refused(vestry_site("population", "register", "cardiology", "--home", home.folder), "ledger")
    assert "read-only" in said
    assert checksum(home) == before


def test_a_full_disk(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    limited = ["bash", "-c", 'ulimit -f 0; exec "$@"', "bash"]
    command = [sys.executable, "-m", "vestry_client.cli", "population", "register", "cardiology"]
    result = subprocess.run(
        [*limited, *command, "--home", str(home.folder)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    refused(result, "ledger")
    with home.open_ledger() as ledger:
        assert [entry.kind for entry in ledger.entries()] == ["create"]
        assert ledger.rollback is None


def test_a_wrong_policy_is_one_message(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(POLICY.replace("metrics", "metrcs"), encoding="utf-8")
    said = refused(vestry_site("policy", "check", path), "populations.cardiology.metrcs", "did you mean")
    assert said.startswith("error: ")


def test_an_unknown_option_is_a_usage_error() -> None:
    result = vestry_site("ledger", "show", "--lst", 3)
    assert result.returncode == 2
    assert "No such option" in result.stderr
