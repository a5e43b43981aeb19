"""Every message is read as it was written, and no change passes."""

import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.privacy.secagg.federation import Federation, identity
from vestry_privacy.secagg.encoding import SERVER, header
from vestry_privacy.secagg.errors import BadMessage, BadSignature, PlanRefused
from vestry_privacy.secagg.history import Head
from vestry_privacy.secagg.messages import (
    Advertisement,
    Complaint,
    Consistent,
    Deal,
    Entry,
    InputHeader,
    Revealed,
    ascending,
    read_plan,
    read_ready,
    read_relay,
    relay,
    sign_plan,
    sites_hash,
)

FED = Federation(5)
HASH, ROSTER = FED.plan.digest, FED.roster
HEADS = (Head(1, 2, b"h" * 32), Head(0, 7, b"l" * 32))
ENTRIES = [Entry(*(bytes([16 * n + k]) * 32 for k in range(4))) for n in range(5)]
SHARES = [bytes([n]) * 33 for n in range(5)]

BODIES: dict[str, tuple[bytes, Callable[[bytes], Any]]] = {
    "keys": (
        Advertisement.body(HASH, 2, (b"c" * 32, b"s" * 32), HEADS),
        lambda content: Advertisement.read(ROSTER, content),
    ),
    "shares": (
        Deal.body(HASH, 2, b"d" * 32, range(5), ENTRIES),
        lambda content: Deal.read(ROSTER, content),
    ),
    "complaint": (
        Complaint.body(HASH, 2, 1, "share", b"k" * 32, b"x" * 82),
        lambda content: Complaint.read(ROSTER, content),
    ),
    "input": (
        InputHeader.body(HASH, 2, 9, b"u" * 32, b"y" * 32),
        lambda content: InputHeader.read(ROSTER, content),
    ),
    "consistent": (
        Consistent.body(HASH, 2, b"u" * 32, b"v" * 32),
        lambda content: Consistent.read(ROSTER, content),
    ),
    "revealed": (
        Revealed.body(HASH, 2, SHARES),
        lambda content: Revealed.read(ROSTER, content, 5),
    ),
}


def signed(body: bytes) -> bytes:
    return ROSTER.sign(FED.identities[ROSTER.names[2]], body)


def test_fields_are_read_as_written() -> None:
    keys = Advertisement.read(ROSTER, signed(BODIES["keys"][0]))
    assert (keys.seal_public, keys.mask_public, keys.journal, keys.ledger) == (b"c" * 32, b"s" * 32, *HEADS)
    deal = Deal.read(ROSTER, signed(BODIES["shares"][0]))
    assert deal.holders == tuple(range(5))
    assert [deal.entry(holder) for holder in range(5)] == ENTRIES
    complaint = Complaint.read(ROSTER, signed(BODIES["complaint"][0]))
    assert (complaint.dealer, complaint.reason, complaint.key) == (1, "share", b"k" * 32)
    masked = InputHeader.read(ROSTER, signed(BODIES["input"][0]))
    assert (masked.words, masked.dealers, masked.digest) == (9, b"u" * 32, b"y" * 32)
    revealed = Revealed.read(ROSTER, signed(BODIES["revealed"][0]), 5)
    assert list(revealed.shares) == SHARES
    assert Consistent.read(ROSTER, signed(BODIES["consistent"][0])).view == b"v" * 32


@pytest.mark.parametrize("kind", sorted(BODIES))
@settings(max_examples=60)
@given(data=st.data())
def test_no_changed_byte_passes(kind: str, data: st.DataObject) -> None:
    body, read = BODIES[kind]
    content = bytearray(signed(body))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises((BadMessage, BadSignature)):
        read(bytes(content))


@pytest.mark.parametrize("kind", sorted(BODIES))
def test_no_cut_or_longer_message_passes(kind: str) -> None:
    body, read = BODIES[kind]
    for content in (signed(body)[:-1], signed(body)[:-68], signed(body + b"x"), signed(body[:-1]), b""):
        with pytest.raises((BadMessage, BadSignature)):
            read(content)


@pytest.mark.parametrize(
    "body",
    [
        Deal.body(HASH, 2, b"d" * 32, (0, 1, 1, 2, 3), ENTRIES),
        Deal.body(HASH, 2, b"d" * 32, (1, 0, 2, 3, 4), ENTRIES),
        Deal.body(HASH, 2, b"d" * 32, (0, 1, 2, 3, 5), ENTRIES),
        Deal.body(HASH, 2, b"d" * 32, (0, 1, 2, 3, 4), ENTRIES[:4]),
    ],
)
def test_deals_with_odd_holders_are_refused(body: bytes) -> None:
    with pytest.raises(BadMessage):
        Deal.read(ROSTER, signed(body))


@pytest.mark.parametrize("dealer", [2, 5, SERVER])
def test_complaint_needs_another_dealer(dealer: int) -> None:
    with pytest.raises(BadMessage, match="no other site"):
        Complaint.read(ROSTER, signed(Complaint.body(HASH, 2, dealer, "share", b"k" * 32, b"")))


def test_relay_is_the_servers() -> None:
    assert read_relay(ROSTER, relay("survivors", HASH, [b"a", b"b"]), "survivors") == [b"a", b"b"]
    with pytest.raises(BadMessage, match="at most 5"):
        read_relay(ROSTER, relay("survivors", HASH, [b""] * 6), "survivors")
    forged = relay("survivors", HASH, []).replace(SERVER.to_bytes(4, "big"), (1).to_bytes(4, "big"))
    with pytest.raises(BadMessage, match="not the server"):
        read_relay(ROSTER, forged, "survivors")


def test_ready_names_its_sender() -> None:
    assert read_ready(ROSTER, header("ready", HASH, 3)) == 3
    for sender in (5, SERVER):
        with pytest.raises(BadMessage, match="no seat"):
            read_ready(ROSTER, header("ready", HASH, sender))
    with pytest.raises(BadMessage, match="another sum"):
        read_ready(ROSTER, header("ready", os.urandom(32), 3))


def test_plan_must_be_signed_by_the_pinned_coordinator() -> None:
    assert read_plan(sign_plan(FED.plan, FED.coordinator), FED.directory) == FED.plan
    with pytest.raises(BadSignature, match="coordinator's key"):
        read_plan(sign_plan(FED.plan, identity(3)), FED.directory)
    good = sign_plan(FED.plan, FED.coordinator)
    for place in range(0, len(good), 7):
        changed = bytearray(good)
        changed[place] ^= 1
        with pytest.raises((BadMessage, BadSignature, PlanRefused)):
            read_plan(bytes(changed), FED.directory)


@given(st.lists(st.integers(0, 6), max_size=6))
def test_ascending_means_distinct_and_in_order(indexes: list[int]) -> None:
    assert ascending(indexes, 5) == (indexes == sorted(set(indexes)) and all(i < 5 for i in indexes))


def test_hash_of_sites_tells_sets_apart() -> None:
    assert len({sites_hash(one) for one in ((), (0,), (0, 1), (1,), (0, 256), (256, 0))}) == 6
