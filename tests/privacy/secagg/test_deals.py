"""Dealing: bad shares are told from good ones by holder, server and third party alike."""

import hashlib
import os
from typing import Any

import pytest

from tests.privacy.secagg.federation import Federation
from vestry_privacy.secagg import client
from vestry_privacy.secagg.deals import Complained, Dealing, judge, read_delivered, write_deal
from vestry_privacy.secagg.encoding import SERVER, Reader, field, field_list, header, u32
from vestry_privacy.secagg.errors import BadDealing, BadMessage, BadSignature, Inconsistent, TooFewSites
from vestry_privacy.secagg.keys import KeyPair, commitment, seal, seal_keys
from vestry_privacy.secagg.messages import Advertisement, Complaint, Deal, Entry, relay
from vestry_privacy.secagg.secret import Secret
from vestry_privacy.secagg.shamir import PRIME

SHARE = (5).to_bytes(33, "big")


def dealt(fed: Federation) -> dict[str, tuple[Deal, list[bytes]]]:
    """Everybody deals; messages are not handed to the server yet."""
    found = {}
    for name in fed.names:
        state, sent = client.deal(fed.states[name], fed.keys, fed.journals[name], os.urandom)
        fed.states[name] = state
        reader = Reader(sent, "shares")
        found[name] = (Deal.read(fed.roster, reader.field()), reader.fields(10))
    return found


def bad_deal(
    fed: Federation, dealer: int, holder: int, kind: str, deals: dict[str, tuple[Deal, list[bytes]]]
) -> bytes:
    """A dealer's message whose part for one holder is bad, under the dealer's good signature."""
    name = fed.names[dealer]
    deal, sealed = deals[name]
    entries = [deal.entry(one) for one in deal.holders]
    sealing = fed.states[name].dealing.sealing
    key, _ = seal_keys(
        fed.plan.digest, sealing, dealer, fed.states[name].advertised[holder].seal_public, holder
    )
    entry, place = entries[holder], holder - (holder > dealer)
    ciphertext, key_commitment = sealed[place], entry.seal_key
    if kind == "share":
        ciphertext = seal(key, fed.plan.digest, dealer, holder, SHARE + SHARE)
    elif kind == "range":
        ciphertext = seal(key, fed.plan.digest, dealer, holder, PRIME.to_bytes(33, "big") + SHARE)
    elif kind == "length":
        ciphertext = seal(key, fed.plan.digest, dealer, holder, SHARE)
    elif kind == "unsealed":
        ciphertext = bytes(82)
    elif kind == "seal-key":
        other = Secret(b"k" * 32)
        ciphertext = seal(other, fed.plan.digest, dealer, holder, SHARE + SHARE)
        key_commitment = commitment(fed.plan.digest, dealer, holder, "seal-key", other.expose())
    digest = hashlib.sha256(ciphertext).digest()
    entries[holder] = Entry(entry.self_mask, entry.pair_mask, key_commitment, digest)
    body = Deal.body(fed.plan.digest, dealer, deal.seed, deal.holders, entries)
    sealed = [*sealed[:place], ciphertext, *sealed[place + 1 :]]
    return field(fed.roster.sign(fed.identities[name], body)) + field_list(sealed)


def hand_over(fed: Federation, deals: dict[str, tuple[Deal, list[bytes]]], changed: dict[int, bytes]) -> None:
    for index, name in enumerate(fed.names):
        deal, sealed = deals[name]
        fed.server.collect_shares(name, changed.get(index, field(deal.signed) + field_list(sealed)))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("share", "share"), ("range", "share"), ("length", "share"), ("unsealed", "unsealed")],
)
def test_bad_dealing_is_complained_of_and_convicts_the_dealer(kind: str, reason: str) -> None:
    fed = Federation(5).until("deal")
    deals = dealt(fed)
    dealer, holder = 3, 1
    hand_over(fed, deals, {dealer: bad_deal(fed, dealer, holder, kind, deals)})
    name = fed.names[holder]
    with pytest.raises(Complained, match=f"site '{fed.names[dealer]}'.*{reason}") as found:
        client.accept(fed.states[name], fed.server.deliver_to(name))
    with pytest.raises(BadDealing) as judged:
        fed.server.collect_ready(name, found.value.complaint)
    assert judged.value.peer == fed.names[dealer]
    assert fed.journals[name].events == []
    for other in fed.names:  # its shares are good for the others
        if other not in {name, fed.names[dealer]}:
            client.accept(fed.states[other], fed.server.deliver_to(other))


def test_a_dispute_over_the_key_convicts_nobody() -> None:
    fed = Federation(5).until("deal")
    deals = dealt(fed)
    hand_over(fed, deals, {3: bad_deal(fed, 3, 1, "seal-key", deals)})
    name = fed.names[1]
    with pytest.raises(Complained, match="seal-key") as found:
        client.accept(fed.states[name], fed.server.deliver_to(name))
    with pytest.raises(BadDealing, match="one of them lies") as judged:
        fed.server.collect_ready(name, found.value.complaint)
    assert judged.value.peer is None


def test_a_complaint_without_a_case_convicts_the_complainer() -> None:
    """Framing: the holder complains of good shares, and opens the key that shows that they are good."""
    fed = Federation(5).until("deal")
    hand_over(fed, dealt(fed), {})
    holder, dealer = 1, 3
    name = fed.names[holder]
    _, ciphertext = read_delivered(fed.roster, fed.server.deliver_to(name))[dealer]
    key = fed.states[name].dealing.inward[dealer].expose()
    for reason, opened in (("share", ciphertext), ("share", bytes(82))):
        body = Complaint.body(fed.plan.digest, holder, dealer, reason, key, opened)
        with pytest.raises(BadDealing) as judged:
            fed.server.collect_ready(name, fed.roster.sign(fed.identities[name], body))
        assert judged.value.peer == name


def test_a_complaint_must_be_signed_by_its_holder() -> None:
    fed = Federation(5).until("deal")
    hand_over(fed, dealt(fed), {})
    fed.server.deliver_to(fed.names[1])
    body = Complaint.body(fed.plan.digest, 1, 3, "share", bytes(32), bytes(82))
    with pytest.raises(BadSignature):
        fed.server.collect_ready(fed.names[1], fed.roster.sign(fed.identities[fed.names[2]], body))


def deliver(fed: Federation, pairs: list[tuple[bytes, bytes]]) -> bytes:
    start = header("deliver", fed.plan.digest, SERVER) + u32(len(pairs))
    return start + b"".join(field(deal) + field(sealed) for deal, sealed in pairs)


@pytest.mark.parametrize(
    ("change", "error", "problem"),
    [
        (lambda p: p[1:], Inconsistent, "own shares"),
        (lambda p: p[:2], TooFewSites, "2 sites"),
        (lambda p: p[::-1], Inconsistent, "out of order"),
        (lambda p: [*p[:3], (p[3][0], bytes(82))], Inconsistent, "changed on their way"),
        (lambda p: [*p[:3], (p[3][0], p[2][1])], Inconsistent, "changed on their way"),
        (
            lambda p: [*p[:3], (p[3][0][:-1] + bytes([p[3][0][-1] ^ 1]), p[3][1])],
            BadSignature,
            "does not hold",
        ),
        (lambda p: [*p[:3], (b"", b"")], BadMessage, "cut short"),
    ],
)
def test_deliveries_that_are_refused(change: Any, error: type[Exception], problem: str) -> None:
    fed = Federation(4).until("deal")
    hand_over(fed, dealt(fed), {})
    name = fed.names[0]
    read = read_delivered(fed.roster, fed.server.deliver_to(name))
    pairs = [(deal.signed, sealed) for deal, sealed in read.values()]
    with pytest.raises(error, match=problem):
        client.accept(fed.states[name], deliver(fed, change(pairs)))
    assert fed.journals[name].events == []


def test_a_dealer_that_saw_other_keys_stops_everybody() -> None:
    """The server showed one site another list of keys; the deals say so."""
    fed = Federation(5).until("deal")
    sent = [fed.states[name].sent for name in fed.names]
    four = relay("roster-keys", fed.plan.digest, sent[:4])
    messages = {}
    for index, name in enumerate(fed.names):
        keys = four if index == 0 else fed.keys
        state, message = client.deal(fed.states[name], keys, fed.journals[name], os.urandom)
        fed.states[name], messages[name] = state, message
    with pytest.raises(Inconsistent, match="dealt to other sites"):
        fed.server.collect_shares(fed.names[0], messages[fed.names[0]])
    pairs = []
    for name in fed.names:
        reader = Reader(messages[name], "shares")
        pairs.append((reader.field(), b""))
    with pytest.raises(Inconsistent, match="told of other keys"):
        client.accept(fed.states[fed.names[1]], deliver(fed, pairs))


def test_server_checks_what_was_sealed() -> None:
    fed = Federation(4).until("deal")
    deals = dealt(fed)
    name = fed.names[0]
    deal, sealed = deals[name]
    with pytest.raises(BadDealing, match="not those signed"):
        fed.server.collect_shares(name, field(deal.signed) + field_list([bytes(82), *sealed[1:]]))
    with pytest.raises(BadMessage, match="another number"):
        fed.server.collect_shares(name, field(deal.signed) + field_list(sealed[1:]))


def test_judge_has_nothing_against_good_shares() -> None:
    fed = Federation(4).until("deal")
    deals = dealt(fed)
    deal, sealed = deals[fed.names[2]]
    key = fed.states[fed.names[0]].dealing.inward[2]
    assert judge(fed.plan.digest, 2, 0, deal.entry(0), key, sealed[0]) == ""
    assert judge(fed.plan.digest, 2, 0, deal.entry(0), Secret(bytes(32)), sealed[0]) == "seal-key"


def test_shares_have_a_fixed_size_and_differ_by_holder() -> None:
    fed = Federation(4).until("deal")
    state = fed.states[fed.names[0]]
    dealing = Dealing(Secret(bytes(32)), state.sealing, {one: _advertised(fed)[one] for one in range(4)})
    sent = write_deal(
        fed.roster, fed.identities[fed.names[0]], 0, dealing, KeyPair.fresh(os.urandom), os.urandom
    )
    reader = Reader(sent, "shares")
    reader.field()
    sealed = reader.fields(4)
    assert {len(one) for one in sealed} == {82}
    assert len(set(sealed)) == 3


def _advertised(fed: Federation) -> dict[int, Any]:
    return {
        index: Advertisement.read(fed.roster, fed.states[name].sent) for index, name in enumerate(fed.names)
    }
