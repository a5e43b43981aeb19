"""The journal's bytes: what is written is what is read, and nothing else is."""

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.privacy.secagg.journals import ROSTER, digest, make_plan, make_rules
from vestry_privacy.secagg.encoding import field, text, u32, u64
from vestry_privacy.secagg.errors import JournalError
from vestry_privacy.secagg.history import Accepted, Head, History, Rules
from vestry_privacy.secagg.journal_entries import (
    Accept,
    Consume,
    Entry,
    Loss,
    Reveal,
    Sign,
    decode_entry,
    encode_entry,
    entry_hash,
    note_entry,
    roster_hash,
)

HASHES = st.binary(min_size=32, max_size=32)
NUMBERS = st.integers(0, 2**64 - 1)
WORDS = st.text(st.characters(codec="utf-8"), max_size=40)
RULES = st.builds(Rules, WORDS, HASHES, NUMBERS, st.booleans(), NUMBERS, NUMBERS)
PLANS: Any = st.builds(
    Accepted,
    HASHES,
    WORDS,
    WORDS,
    NUMBERS,
    st.integers(0, 2**32 - 1),
    st.lists(HASHES, min_size=1, max_size=4).map(tuple),
    HASHES,
    RULES,
)
ENTRIES = st.one_of(
    st.builds(Accept, PLANS),
    st.builds(Consume, HASHES),
    st.builds(Sign, HASHES, HASHES),
    st.builds(Reveal, HASHES),
    st.builds(Loss, NUMBERS, st.builds(Head, NUMBERS, NUMBERS, HASHES), WORDS),
)


def rosters_of(entry: Entry) -> dict[bytes, tuple[bytes, ...]]:
    return {roster_hash(entry.plan.roster): entry.plan.roster} if isinstance(entry, Accept) else {}


@given(ENTRIES, NUMBERS)
def test_what_is_written_is_read(entry: Entry, time: int) -> None:
    assert decode_entry(encode_entry(entry, time), rosters_of(entry)) == (entry, time)


@given(ENTRIES, st.data())
def test_a_part_or_more_is_no_entry(entry: Entry, data: st.DataObject) -> None:
    body = encode_entry(entry, 5)
    cut = data.draw(st.integers(0, len(body) - 1))
    for wrong in (body[:cut], body + b"\0"):
        with pytest.raises(JournalError, match="entry"):
            decode_entry(wrong, rosters_of(entry))


@given(ENTRIES, ENTRIES)
def test_different_entries_have_different_bytes(one: Entry, other: Entry) -> None:
    assert (encode_entry(one, 1) == encode_entry(other, 1)) == (one == other)


def test_an_entry_byte_by_byte() -> None:
    plan, rules = make_plan(3), make_rules()
    assert encode_entry(Accept(plan), 9) == b"".join(
        (
            text("accept") + u64(9) + field(plan.plan) + text("run") + text("train") + u64(3) + u32(3),
            field(hashlib.sha256(b"".join(ROSTER)).digest()) + field(plan.model),
            text("angio") + field(rules.study) + u64(1000) + u32(0) + u64(3) + u64(2) + u64(0),
        )
    )
    assert encode_entry(Sign(digest("p"), digest("v")), 9) == text("sign") + u64(9) + field(
        digest("p")
    ) + field(digest("v"))


def test_a_roster_that_is_missing_is_told() -> None:
    body = encode_entry(Accept(make_plan(1)), 1)
    with pytest.raises(JournalError, match="its roster is missing"):
        decode_entry(body, {})


def test_a_kind_of_a_later_version_is_refused() -> None:
    with pytest.raises(JournalError, match="its kind 'forget' is unknown"):
        decode_entry(text("forget") + u64(1) + field(digest("p")), {})


def test_the_chain_byte_by_byte() -> None:
    content = field(b"vestry-secagg/1/journal") + bytes(32) + u64(1) + field(b"body")
    assert entry_hash(bytes(32), 1, b"body") == hashlib.sha256(content).digest()


@given(HASHES, HASHES, st.integers(1, 2**32), st.binary(max_size=20), st.binary(max_size=20))
def test_a_hash_is_over_everything_before(
    one: bytes, other: bytes, count: int, body: bytes, another: bytes
) -> None:
    assert (entry_hash(one, count, body) == entry_hash(other, count, body)) == (one == other)
    assert (entry_hash(one, count, body) == entry_hash(one, count, another)) == (body == another)
    assert entry_hash(one, count, body) != entry_hash(one, count + 1, body)


def test_entries_make_a_history() -> None:
    history, plan = History(), make_plan(1)
    stages = []
    for entry in (Accept(plan), Consume(plan.plan), Sign(plan.plan, digest("v")), Reveal(plan.plan)):
        note_entry(history, entry)
        stages.append(history.stages[plan.plan])
    assert stages == ["accepted", "consumed", "signed", "revealed"]
    assert history.consumed == {plan.key: 1}
    before = repr(history)
    note_entry(history, Loss(1, Head(0, 4, digest("h")), "a test"))
    assert repr(history) == before, "what is known still counts"
