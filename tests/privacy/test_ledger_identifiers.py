"""Overlap of persons: told from keyed tags, without storing or saying an identifier."""

import hashlib
import hmac
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.privacy.ledgers import Site, population
from vestry_privacy.canonical import canonical_bytes
from vestry_privacy.ledger import Ledger
from vestry_privacy.ledger_errors import (
    LedgerTampered,
    LedgerUnavailable,
    OverlapError,
    PopulationError,
)
from vestry_privacy.ledger_identifiers import IdentifierKey, commitment
from vestry_privacy.ledger_verify import verify_ledger

PATIENTS = [f"patient-{number}" for number in range(40)]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def two_populations(site: Site) -> Ledger:
    ledger = site.open()
    for name in ("heart", "lung"):
        ledger.register(population(name))
    return ledger


def test_a_tag_is_an_hmac_under_the_sites_key(tmp_path: Path) -> None:
    key = IdentifierKey(tmp_path / "key", None)
    secret = (tmp_path / "key").read_bytes()
    assert len(secret) == 32
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    message = canonical_bytes(["vestry-identifier/1", "p7"])
    assert key.tags(["p7"]) == [hmac.new(secret, message, hashlib.sha256).digest()[:16]]
    assert IdentifierKey(tmp_path / "other", None).tags(["p7"]) != key.tags(["p7"])


def test_spaces_around_and_forms_of_a_letter_do_not_make_another_person(tmp_path: Path) -> None:
    key = IdentifierKey(tmp_path / "key", None)
    assert len(key.tags(["Zoé", "Zoe\u0301", " Zoé ", "Zoé\n"])) == 1
    assert len(key.tags(["1", "01", "zoe"])) == 3


@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=8))
def test_tags_do_not_depend_on_order_or_repetition(identifiers: list[str]) -> None:
    key = object.__new__(IdentifierKey)
    key._key = bytes(32)
    assert key.tags(identifiers) == key.tags([*reversed(identifiers), *identifiers])


def test_persons_of_another_population_are_refused_and_not_counted_below_ten(site: Site) -> None:
    with two_populations(site) as ledger:
        ledger.add_dataset("heart", "rows", "f1", PATIENTS)
        rows = site.rows()
        for shared, said in ((1, "fewer than 10 rows"), (9, "fewer than 10 rows"), (40, "40 rows")):
            with pytest.raises(OverlapError, match="belong to population 'heart' already") as caught:
                ledger.add_dataset("lung", "rows", "f2", [*PATIENTS[:shared], "new"])
            assert caught.value.population == "heart"
            assert f"({said})" in str(caught.value)
            assert "patient-" not in str(caught.value)
        assert site.rows() == rows
        ledger.add_dataset("lung", "rows", "f2", ["new"])
        with pytest.raises(OverlapError, match="'lung'"):
            ledger.add_dataset("heart", "more", "f3", ["new"])


def test_a_new_extract_of_the_same_persons_joins_them(site: Site) -> None:
    with two_populations(site) as ledger:
        ledger.add_dataset("heart", "rows", "f1", PATIENTS)
        ledger.add_dataset("heart", "2026", "f2", [*PATIENTS, "new"])
        with pytest.raises(OverlapError):
            ledger.add_dataset("lung", "rows", "f3", ["new"])


def test_a_file_belongs_to_one_population_even_where_its_persons_are_unknown(site: Site) -> None:
    with two_populations(site) as ledger:
        ledger.add_dataset("heart", "rows", "f1", None)
        with pytest.raises(OverlapError, match="the same data set"):
            ledger.add_dataset("lung", "renamed", "f1", None)


def test_declaring_again_writes_nothing_and_unknown_may_become_known(site: Site) -> None:
    with two_populations(site) as ledger:
        ledger.add_dataset("heart", "rows", "f1", None)
        ledger.add_dataset("heart", "rows", "f1", None)
        assert len(site.rows()) == 4
        ledger.add_dataset("heart", "rows", "f1", PATIENTS)
        ledger.add_dataset("heart", "rows", "f1", list(reversed(PATIENTS)))
        ledger.add_dataset("heart", "rows", "f1", None)
        assert len(site.rows()) == 5
        (heart, _) = ledger.report().populations
        assert heart.overlap == "checked"


def test_a_shrunken_list_does_not_let_persons_go(site: Site) -> None:
    with two_populations(site) as ledger:
        ledger.add_dataset("heart", "rows", "f1", PATIENTS)
        ledger.add_dataset("heart", "rows", "f1", PATIENTS[:1])
        with pytest.raises(OverlapError):
            ledger.add_dataset("lung", "rows", "f2", PATIENTS[1:])


@pytest.mark.parametrize("identifiers", [[], [""], ["a", "  "]])
def test_identifiers_must_name_somebody(identifiers: list[str], site: Site) -> None:
    with two_populations(site) as ledger, pytest.raises(PopulationError, match="identifiers"):
        ledger.add_dataset("heart", "rows", "f1", identifiers)


def test_no_identifier_is_stored(site: Site) -> None:
    with two_populations(site) as ledger:
        ledger.add_dataset("heart", "rows", "f1", PATIENTS)
    for path in site.folder.iterdir():
        if path.is_file():
            assert b"patient-" not in path.read_bytes(), path.name
    declared = json.loads(site.rows()[-1][1])
    assert declared["kind"] == "dataset"
    assert 40 not in declared.values(), "nor how many they are"


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM identifiers WHERE tag = (SELECT max(tag) FROM identifiers)",
        "UPDATE identifiers SET tag = x'0011' WHERE tag = (SELECT max(tag) FROM identifiers)",
        "INSERT INTO identifiers VALUES (4, x'0011')",
    ],
)
def test_tags_that_were_changed_are_found(change: str, site: Site) -> None:
    with two_populations(site) as ledger:
        ledger.add_dataset("heart", "rows", "f1", PATIENTS)
    site.change(change)
    with site.open() as ledger, pytest.raises(LedgerTampered, match="entry 4, identifiers"):
        ledger.add_dataset("lung", "rows", "f2", ["new"])
    with pytest.raises(LedgerTampered, match="entry 4, identifiers"):
        verify_ledger(site.path)


def test_tags_of_no_entry_are_found(site: Site) -> None:
    with two_populations(site) as ledger:
        ledger.add_dataset("heart", "rows", "f1", None)
    site.change("INSERT INTO identifiers VALUES (4, x'00')")
    with pytest.raises(LedgerTampered, match="for an entry that has none"):
        verify_ledger(site.path)


def test_a_lost_key_is_not_made_anew(site: Site) -> None:
    with two_populations(site) as ledger:
        ledger.add_dataset("heart", "rows", "f1", PATIENTS)
        key = site.folder / "ledger.db.key"
        secret = key.read_bytes()
        key.unlink()
        with pytest.raises(LedgerUnavailable, match="restore it from a backup"):
            ledger.add_dataset("lung", "rows", "f2", PATIENTS)
        for other in (bytes(32), b"short"):
            key.write_bytes(other)
            with pytest.raises(LedgerUnavailable, match="is not the one"):
                ledger.add_dataset("lung", "rows", "f2", PATIENTS)
        key.write_bytes(secret)
        with pytest.raises(OverlapError):
            ledger.add_dataset("lung", "rows", "f2", PATIENTS)


def test_commitments_differ_where_tags_do() -> None:
    tags = [bytes(16), b"\1" * 16]
    assert len({commitment(tags), commitment(tags[:1]), commitment([]), commitment(tags[::-1])}) == 4


def test_a_hundred_thousand_persons(site: Site) -> None:
    many = [f"{number:07d}" for number in range(100_000)]
    with two_populations(site) as ledger:
        ledger.add_dataset("heart", "rows", "f1", many)
        with pytest.raises(OverlapError, match="fewer than 10 rows"):
            ledger.add_dataset("lung", "rows", "f2", [many[-1]])
