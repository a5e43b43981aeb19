"""The transcript: a third party checks it from its bytes alone, and sees any change."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.privacy.secagg.federation import Federation
from vestry_privacy.secagg.errors import BadMessage, Inconsistent, ProtocolAbort, TooFewSites
from vestry_privacy.secagg.transcript import Transcript, site_transcript, verify_transcript

LOST = ("deal", "mask")


def finished(sites: int = 5, lost: str = "mask") -> Federation:
    fed = Federation(sites)
    for step in ("advertise", "deal", "accept", "mask", "agree", "reveal"):
        getattr(fed, step)([fed.names[1]] if step == lost else [])
    fed.server.result()
    return fed


FED = finished()
CONTENT = FED.server.transcript()


@pytest.mark.parametrize("lost", ["none", "deal", "mask", "reveal"])
def test_a_good_transcript_says_who_took_part(lost: str) -> None:
    fed = finished(5, lost)
    report = verify_transcript(fed.server.transcript())
    assert report.roster == fed.names
    assert report.survivors == fed.server.u3
    assert report.lost == ((fed.names[1],) if lost in LOST else ())
    assert len(report.revealed) == (4 if lost != "none" else 5)
    assert report.sum_of_weights == sum(fed.inputs[name][1] for name in report.survivors)
    assert report.directory == fed.directory.fingerprint
    plain = report.plain()
    assert plain["proves_the_sum"] is False
    assert plain["honest_crowd"] == 3


def test_it_is_read_back() -> None:
    assert Transcript.decode(CONTENT).encode() == CONTENT


def test_no_vector_is_in_it() -> None:
    fed = Federation(5, {"values": 100_000})
    for step in ("advertise", "deal", "accept", "mask", "agree", "reveal"):
        getattr(fed, step)()
    fed.server.result()
    assert len(fed.server.transcript()) < 20_000


@settings(max_examples=300)
@given(st.integers(0, len(CONTENT) - 1), st.integers(1, 255))
def test_any_changed_byte_is_seen_or_is_the_unproved_result(place: int, flip: int) -> None:
    changed = bytearray(CONTENT)
    changed[place] ^= flip
    try:
        verify_transcript(bytes(changed))
    except ProtocolAbort:
        return
    directory = len(b"vestry-secagg/1") + 4 + len(b"transcript") + 4 + 4 + len(FED.directory.encode())
    in_result = place >= len(CONTENT) - 8  # the sum of weights, which it does not prove
    in_names = place < directory  # names; their fingerprint is what is compared
    assert in_result or in_names


@pytest.mark.parametrize("part", ["keys", "deals", "inputs", "consistent", "revealed"])
def test_a_missing_or_repeated_message_is_seen(part: str) -> None:
    stored = Transcript.decode(CONTENT)
    messages: tuple[bytes, ...] = getattr(stored, part)
    lists: list[tuple[bytes, ...]] = [messages[::-1], (*messages, messages[-1])]
    if part in {"keys", "deals", "inputs"}:
        lists.append(messages[1:])
    for changed in lists:
        mixed: Any = {part: changed}
        content = replace(stored, **mixed).encode()
        with pytest.raises(ProtocolAbort):
            verify_transcript(content)


def test_messages_of_another_sum_are_seen() -> None:
    other = Transcript.decode(finished().server.transcript())
    stored = Transcript.decode(CONTENT)
    for part in ("keys", "deals", "inputs", "consistent", "revealed"):
        mixed: Any = replace(stored, **{part: getattr(other, part)})
        if getattr(other, part) != getattr(stored, part):
            with pytest.raises(ProtocolAbort):
                verify_transcript(mixed.encode())


def test_too_few_signatures_are_seen() -> None:
    stored = Transcript.decode(CONTENT)
    with pytest.raises(TooFewSites, match="signatures"):
        verify_transcript(replace(stored, consistent=stored.consistent[:3]).encode())
    with pytest.raises(TooFewSites, match="unmask"):
        verify_transcript(replace(stored, revealed=stored.revealed[:3]).encode())


def test_what_a_site_saw_verifies_without_shares_and_result() -> None:
    seen = site_transcript(FED.signed_plan, FED.directory, FED.states[FED.names[0]])
    report = verify_transcript(seen)
    assert report.revealed == ()
    assert report.sum_of_weights is None
    assert report.survivors == verify_transcript(CONTENT).survivors
    assert Transcript.decode(seen) == replace(Transcript.decode(CONTENT), revealed=(), result=None)


def test_result_of_another_number_of_sites_is_seen() -> None:
    stored = Transcript.decode(CONTENT)
    with pytest.raises(Inconsistent, match="another number"):
        verify_transcript(replace(stored, result=(5, 1)).encode())


@pytest.mark.parametrize("content", [b"", b"nonsense", CONTENT[:-1], CONTENT + b"x"])
def test_other_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(BadMessage):
        verify_transcript(content)
