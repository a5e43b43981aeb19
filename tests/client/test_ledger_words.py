"""Every kind of entry has words, and none of them holds an identifier or a reply."""

from datetime import date
from typing import Any, get_args

import pytest

from tests.client.ward import make_rules
from vestry_client.ledger_words import entry_row, event_words, events_words
from vestry_client.privacy_rules import BudgetRules, population_of
from vestry_privacy.events import GaussianRelease, PoissonGaussian, TruncatedPoissonGaussian
from vestry_privacy.ledger_entries import (
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
    SpentByCrash,
    StudyRef,
    Void,
)

STEPS = PoissonGaussian(noise_multiplier=2.0, sampling_probability=0.05, count=40)
RELEASE = GaussianRelease(noise_multiplier=4.0, count=1)
STUDY = StudyRef("ab" * 32, "small", "run-1")
WINDOW = BudgetRules(epsilon=4.0, delta=1e-5, window=(date(2027, 1, 1), date(2027, 12, 31)))
PLAIN = population_of("cardiology", make_rules())
DECLARED = population_of("cardiology", make_rules(unit_column="row", exact_sums=True, budget=WINDOW))

ENTRIES: list[tuple[Any, dict[str, Any], str, tuple[str, ...]]] = [
    (Create, {"public_key": "cd" * 32, "ledger": "0" * 64}, "", ("public key cdcdcdcd",)),
    (
        Register,
        {"population": PLAIN, "row_is_person": False},
        "cardiology",
        ("patient, zero-out: epsilon 4",),
    ),
    (
        Amend,
        {"population": DECLARED, "row_is_person": True},
        "cardiology",
        ("every row another person", "2027-01-01 to 2027-12-31", "guarantee none"),
    ),
    (
        Dataset,
        {
            "population": "cardiology",
            "name": "angio",
            "fingerprint": "ef" * 32,
            "overlap": "unknown",
            "identifiers": None,
            "key_check": None,
        },
        "cardiology",
        ("angio, efefefefefef…, overlap unknown",),
    ),
    (
        Hold,
        {
            "population": "cardiology",
            "study": STUDY,
            "train": (STEPS,),
            "holdout": (),
            "delta": 1e-5,
            "epsilon_cap": None,
            "guarantee": "none",
            "details": {},
        },
        "cardiology",
        ("small abababababab: train 40 steps, sigma 2, q 0.05; holdout nothing, guarantee none",),
    ),
    (
        Reserve,
        {
            "study": "ab" * 32,
            "partition": "holdout",
            "purpose": "evaluation",
            "round": 3,
            "event": RELEASE,
            "order_hash": "order",
            "owner": "me",
        },
        "abababababab",
        ("evaluation, round 3: 1 release, sigma 4",),
    ),
    (Commit, {"reservation": 6, "executed": 1, "reply_hash": "r", "model_hash": "m"}, "", ("6: 1 done",)),
    (SpentByCrash, {"reservation": 6}, "", ("reservation 6: charged in full",)),
    (Void, {"reservation": 6, "reason": "no GPU"}, "", ("charged nothing (no GPU)",)),
    (Release, {"study": "ab" * 32}, "abababababab", ("goes back",)),
    (
        Import,
        {"population": "cardiology", "events": (STEPS, RELEASE), "note": "pilot"},
        "cardiology",
        ("40 steps, sigma 2, q 0.05; 1 release, sigma 4 (pilot)",),
    ),
    (
        Reconcile,
        {"charged": {"cardiology": (RELEASE,)}, "note": "restored", "lost_seq": 9, "lost_hash": "0" * 64},
        "",
        ("cardiology: 1 release, sigma 4 (restored)",),
    ),
]


@pytest.mark.parametrize(
    ("kind", "fields", "whom", "parts"), ENTRIES, ids=lambda value: getattr(value, "__name__", "")
)
def test_an_entry_in_words(kind: Any, fields: dict[str, Any], whom: str, parts: tuple[str, ...]) -> None:
    entry = kind(seq=7, previous="0" * 64, time=1_767_225_600_000, software={}, **fields)
    number, time, name, of, what = entry_row(entry)
    assert (number, time, name, of) == ("7", "2026-01-01 00:00", entry.kind, whom)
    for part in parts:
        assert part in what
    assert "order" not in what or kind in {Register, Amend}  # hashes of orders and replies are for programs


def test_every_kind_is_shown() -> None:
    assert {kind for kind, *_ in ENTRIES} == set(get_args(Entry))


def test_a_clock_that_was_set_back_is_told() -> None:
    late = Release(seq=2, previous="0" * 64, time=0, clock_set_back=True, software={}, study="ab" * 32)
    assert "clock was set back" in entry_row(late)[1]


def test_events_in_words() -> None:
    capped = TruncatedPoissonGaussian(
        noise_multiplier=1.5, sampling_probability=0.1, cap=90, persons=500, count=1
    )
    assert event_words(capped) == "1 step, sigma 1.5, q 0.1, cap 90"
    assert events_words([]) == "nothing"
