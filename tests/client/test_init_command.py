"""`vestry-site init`: makes a site, tells its public key, overwrites nothing."""

import json
from pathlib import Path

from tests.client.ward import asked, said_no
from vestry_client.home import SiteHome


def test_init_makes_a_site(tmp_path: Path) -> None:
    home = SiteHome(tmp_path / "site")
    said, notes = asked("init", home=home)
    identity = home.load_identity()
    assert f"fingerprint {identity.fingerprint}" in said
    assert identity.public_key.hex() in said
    for path in (home.identity, home.public_key, home.ledger, home.journal, home.policy):
        assert f"{path}: made" in notes
        assert path.is_file()
    assert "nothing trains" in notes


def test_init_again_changes_nothing(tmp_path: Path) -> None:
    home = SiteHome(tmp_path / "site")
    first = json.loads(asked("init", "--json", home=home)[0])
    books = ["ledger.sqlite", "journal.sqlite"]
    assert first["made"] == ["policy.toml", "identity.pem", "split.key", *books, "identity.pub"]
    assert first["fingerprint"] == home.load_identity().fingerprint
    again = json.loads(asked("init", "--json", home=home)[0])
    assert again == {**first, "made": []}
    assert "is there already, left as it is" in asked("init", home=home)[1]


def test_init_tells_what_is_in_its_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert "cannot be written" in said_no("init", home=SiteHome(tmp_path / "file"))
