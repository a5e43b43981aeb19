"""Entries: one form each, a closed union, and no byte that can change unseen."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.privacy.ledgers import IDENTITY, ONE, STRANGER, gaussian, population
from vestry_privacy.accounting import PoissonGaussian, TruncatedPoissonGaussian
from vestry_privacy.budget import Budget
from vestry_privacy.ledger_entries import (
    NO_HASH,
    Amend,
    Commit,
    Create,
    Dataset,
    Entry,
    Hold,
    Import,
    Reconcile,
    Register,
    Release,
    Reserve,
    Row,
    SpentByCrash,
    Void,
    check_signature,
    entry_hash,
    link_of,
    plain_details,
    seal,
    unseal,
)
from vestry_privacy.ledger_errors import LedgerError, LedgerTampered, LedgerVersion

PLACE: dict[str, Any] = {"seq": 1, "previous": NO_HASH, "time": 5, "software": {"vestry": "0"}}
POISSON = PoissonGaussian(noise_multiplier=1.1, sampling_probability=0.01, count=3)
TRUNCATED = TruncatedPoissonGaussian(
    noise_multiplier=1.1, sampling_probability=0.01, cap=9, persons=303, count=3
)
WINDOW = Budget(8.0, 1e-5, 4.0, date(2025, 1, 1), date(2025, 12, 31))

EXAMPLES: dict[str, Entry] = {
    "create": Create(**PLACE, public_key="a" * 64, ledger="b" * 64),
    "register": Register(**PLACE, population=population(), row_is_person=False),
    "amend": Amend(**PLACE, population=population(epsilon=9.0), row_is_person=True),
    "dataset": Dataset(
        **PLACE,
        population="heart",
        name="rows",
        fingerprint="f",
        overlap="checked",
        identifiers="c" * 64,
        key_check="d" * 64,
    ),
    "hold": Hold(
        **PLACE,
        population="heart",
        study=ONE,
        train=(POISSON, TRUNCATED, gaussian(1)),
        holdout=(),
        delta=1e-5,
        epsilon_cap=3.5,
        guarantee="dp",
        details={"clip": 1.0, "sampler": "poisson", "releases": [{"name": "é"}], "none": None},
    ),
    "reserve": Reserve(
        **PLACE,
        study=ONE.study_hash,
        partition="train",
        purpose="statistics",
        round=0,
        event=POISSON,
        order_hash="o",
        owner="w",
    ),
    "commit": Commit(**PLACE, reservation=3, executed=2, reply_hash="r", model_hash=""),
    "spent-by-crash": SpentByCrash(**PLACE, reservation=3),
    "void": Void(**PLACE, reservation=3, reason="no rows"),
    "release": Release(**PLACE, study=ONE.study_hash),
    "import": Import(**PLACE, population="heart", events=(POISSON,), note="2024"),
    "reconcile": Reconcile(**PLACE, charged={"heart": (gaussian(2),)}, note="disk", lost_seq=0, lost_hash=""),
}


def chain(length: int) -> list[Row]:
    """A signed chain of releases."""
    rows: list[Row] = []
    for seq in range(1, length + 1):
        place = {**PLACE, "seq": seq, "previous": link_of(rows[-1]) if rows else NO_HASH}
        rows.append(seal(Release(**place, study=str(seq)), IDENTITY))
    return rows


@pytest.mark.parametrize("kind", EXAMPLES)
def test_an_entry_is_read_as_it_was_written(kind: str) -> None:
    entry = EXAMPLES[kind]
    row = seal(entry, IDENTITY)
    read, again = unseal(tuple(row), None)
    assert (read, again) == (row, entry)
    assert again.kind == kind
    check_signature(row, IDENTITY.public_key)


def test_a_window_is_read_as_days() -> None:
    windowed = Register(**PLACE, population=replace(population(), budget=WINDOW), row_is_person=False)
    _, again = unseal(seal(windowed, IDENTITY), None)
    assert isinstance(again, Register)
    assert again.population.budget == WINDOW


def test_the_stored_form_is_sorted_ascii_json_without_spaces() -> None:
    body = seal(EXAMPLES["hold"], IDENTITY).body
    assert body.isascii()
    assert body == json.dumps(json.loads(body), sort_keys=True, separators=(",", ":"))


def test_a_known_body_has_a_known_hash() -> None:
    """Stored ledgers must stay readable: this hash never changes for version 1."""
    body = '{"kind":"release"}'
    assert entry_hash(body) == "f38a57bec5a60861060126f4e8ae2a4be33c81f85515dc201e725659513c3908"


@given(st.data())
def test_any_changed_byte_of_a_row_is_found(data: st.DataObject) -> None:
    rows = chain(3)
    victim = data.draw(st.integers(0, 2), label="row")
    column = data.draw(st.sampled_from(["body", "hash", "signature"]), label="column")
    value = getattr(rows[victim], column)
    place = data.draw(st.integers(0, len(value) - 1), label="byte")
    if isinstance(value, bytes):
        changed: object = (
            value[:place] + bytes([value[place] ^ data.draw(st.integers(1, 255))]) + value[place + 1 :]
        )
    else:
        other = data.draw(st.characters(codec="latin-1").filter(lambda character: character != value[place]))
        changed = value[:place] + other + value[place + 1 :]
    tampered = list(rows)
    fields: dict[str, Any] = {column: changed}
    tampered[victim] = rows[victim]._replace(**fields)
    with pytest.raises(LedgerTampered) as caught:
        read_all(tampered)
    assert caught.value.seq == victim + 1
    assert caught.value.broken == ("signature" if column == "signature" else "hash")


def read_all(rows: list[Row]) -> None:
    """As a reader does: every link, then the signature of the newest."""
    after: Row | None = None
    for columns in rows:
        after, _ = unseal(tuple(columns), after, IDENTITY.public_key)
    assert after is not None
    check_signature(after, IDENTITY.public_key)


@pytest.mark.parametrize(
    ("change", "seq", "broken"),
    [
        (lambda rows: [rows[0], rows[2]], 3, "gap"),
        (lambda rows: [rows[1], rows[2]], 2, "gap"),
        (lambda rows: [rows[0], rows[2]._replace(seq=2)], 2, "order"),
        (lambda rows: [rows[0], rows[1], rows[1]._replace(seq=3)], 3, "order"),
        (lambda rows: [rows[0], rows[1], rows[2]._replace(seq=9)], 9, "order"),
        (lambda rows: [rows[0], rows[1]._replace(seq=0), rows[2]], 2, "order"),
        (lambda rows: [rows[0], (2, 7, rows[1].hash, rows[1].signature), rows[2]], 2, "hash"),
        (lambda rows: [rows[0], (2, rows[1].body, rows[1].hash, "text"), rows[2]], 2, "hash"),
        (lambda rows: [rows[0], (None, *rows[1][1:]), rows[2]], 2, "order"),
    ],
    ids=[
        "middle gone",
        "first gone",
        "renumbered",
        "repeated",
        "number",
        "zero",
        "body",
        "signature",
        "null",
    ],
)
def test_rows_out_of_place_are_named(change: Callable[[list[Row]], list[Row]], seq: int, broken: str) -> None:
    with pytest.raises(LedgerTampered) as caught:
        read_all(change(chain(3)))
    assert (caught.value.seq, caught.value.broken) == (seq, broken)


def test_a_chain_that_another_key_rewrote_does_not_hold() -> None:
    forged = [seal(unseal(row, None)[1], STRANGER) for row in chain(1)]
    with pytest.raises(LedgerTampered, match="entry 1, signature"):
        read_all(forged)


def test_an_older_entry_that_was_rewritten_with_all_hashes_is_found_by_the_newest_signature() -> None:
    rows = chain(3)
    forged = [rows[0]._replace(body=rows[0].body.replace('"study":"1"', '"study":"9"'))]
    forged[0] = forged[0]._replace(hash=entry_hash(forged[0].body))
    for row in rows[1:]:
        body = row.body.replace(json.loads(row.body)["previous"], link_of(forged[-1]))
        forged.append(row._replace(body=body, hash=entry_hash(body)))
    with pytest.raises(LedgerTampered, match="entry 3, signature"):
        read_all(forged)


def signed(body: str) -> Row:
    hashed = entry_hash(body)
    return seal(EXAMPLES["void"], IDENTITY)._replace(body=body, hash=hashed)


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.replace('"kind":"void"', '"kind":"pickle"'),
        lambda body: body.replace('"reservation":3', '"reservation":3.0'),
        lambda body: body.replace('"reservation":3', '"reservation":"3"'),
        lambda body: body.replace('"reservation":3', '"extra":1,"reservation":3'),
        lambda body: body.replace('"reservation":3', '"reservation":3, '),
        lambda body: body.replace('"reservation":3', '"reservation":3,"reservation":3'),
        lambda body: body.replace('"version":1', '"version":0'),
        lambda body: body + " ",
        lambda body: body[:-1],
        lambda _body: "[]",
    ],
)
def test_what_has_a_hash_but_is_no_entry_of_ours_is_refused(change: Callable[[str], str]) -> None:
    body = seal(EXAMPLES["void"], IDENTITY).body
    assert change(body) != body
    with pytest.raises(LedgerTampered) as caught:
        unseal(signed(change(body)), None)
    assert caught.value.broken == "meaning"


def test_a_newer_version_is_refused_as_such() -> None:
    body = seal(EXAMPLES["void"], IDENTITY).body.replace('"version":1', '"version":2')
    with pytest.raises(LedgerVersion, match="version=2 is newer than 1"):
        unseal(signed(body), None)


def test_a_stored_budget_that_means_nothing_is_refused() -> None:
    body = seal(EXAMPLES["register"], IDENTITY).body.replace('"epsilon":8.0', '"epsilon":-8.0')
    with pytest.raises(LedgerTampered, match="meaning"):
        unseal(signed(body), None)


def test_numbers_may_be_skipped_only_by_a_reconciliation_that_says_so() -> None:
    (first,) = chain(1)
    place = {**PLACE, "seq": 9, "previous": link_of(first)}
    skipping = Reconcile(**place, charged={}, note="", lost_seq=8, lost_hash="")
    assert unseal(seal(skipping, IDENTITY), first)[1] == skipping
    for wrong in (
        Reconcile(**place, charged={}, note="", lost_seq=7, lost_hash=""),
        Reconcile(**place, charged={}, note="", lost_seq=0, lost_hash=""),
        Release(**place, study="x"),
    ):
        with pytest.raises(LedgerTampered, match="gap"):
            unseal(seal(wrong, IDENTITY), first)


def test_details_are_plain_values() -> None:
    assert plain_details({"a": (1, 2.5, None), "b": {"c": True}}) == {"a": [1, 2.5, None], "b": {"c": True}}
    for wrong in ({"a": float("nan")}, {"a": b"bytes"}, {"a": object()}, {"a": {1: 2}}):
        with pytest.raises(LedgerError, match="details"):
            plain_details(wrong)
