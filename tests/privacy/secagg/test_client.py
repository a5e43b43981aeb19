"""One site: what it refuses at each step, and that nothing leaves after a refusal."""

import os
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.privacy.secagg.federation import SEED, CountingJournal, Federation, identity
from vestry_privacy.secagg import client
from vestry_privacy.secagg.deals import read_delivered
from vestry_privacy.secagg.directory import Directory, Member
from vestry_privacy.secagg.encoding import SERVER, field, header, u32
from vestry_privacy.secagg.errors import (
    BadKey,
    BadMessage,
    BadSignature,
    Inconsistent,
    ProtocolAbort,
    Repeated,
    TooFewSites,
    ValueRefused,
    WrongStep,
)
from vestry_privacy.secagg.history import NO_HEAD
from vestry_privacy.secagg.keys import KeyPair
from vestry_privacy.secagg.messages import (
    Advertisement,
    Consistent,
    InputHeader,
    relay,
    sites_hash,
    view_hash,
)
from vestry_privacy.secagg.roster import Roster
from vestry_privacy.secagg.secret import Secret


def advertisement(fed: Federation, index: int, keys: tuple[bytes, bytes], by: int | None = None) -> bytes:
    """A site's advertisement with keys of our choice, signed by the identity of ``by``."""
    body = Advertisement.body(fed.plan.digest, index, keys, (NO_HEAD, NO_HEAD))
    signer = fed.identities[fed.names[index if by is None else by]]
    return fed.roster.sign(signer, body)


def keys_of(fed: Federation) -> list[bytes]:
    """All signed advertisements, by index."""
    return [state.sent for state in (fed.states[name] for name in fed.names)]


def fresh() -> tuple[bytes, bytes]:
    return KeyPair.fresh(os.urandom).public, KeyPair.fresh(os.urandom).public


def first_deals(fed: Federation, messages: list[bytes]) -> None:
    """What the first site does with a list of keys."""
    name = fed.names[0]
    client.deal(
        fed.states[name], relay("roster-keys", fed.plan.digest, messages), fed.journals[name], os.urandom
    )


def test_sum_of_everybody() -> None:
    fed = Federation(5).until("none")
    found = fed.server.result()
    assert found.weight == sum(weight for _, weight, _ in fed.inputs.values())
    exact = sum(weight * values.astype(float) for values, weight, _ in fed.inputs.values())
    bound = 5 * fed.plan.ring.step * fed.plan.weight_limit
    np.testing.assert_allclose(found.values, exact, atol=bound)
    np.testing.assert_allclose(found.wide, sum(wide for _, _, wide in fed.inputs.values()), rtol=1e-12)
    assert all(journal.events == ["consume", "sign", "reveal"] for journal in fed.journals.values())


def test_identity_must_be_the_directorys() -> None:
    fed = Federation(4)
    heads = (NO_HEAD, NO_HEAD)
    with pytest.raises(BadKey, match="another key for this site"):
        client.advertise(fed.roster, identity(77), fed.names[0], heads, os.urandom)
    with pytest.raises(ProtocolAbort, match="no seat"):
        client.advertise(fed.roster, identity(1), "stranger", heads, os.urandom)


def test_server_cannot_put_a_key_of_its_own_in() -> None:
    fed = Federation(4).until("deal")
    for by in (1, 3):
        fed = Federation(4).until("deal")
        messages = keys_of(fed)
        messages[2] = advertisement(fed, 2, fresh(), by=by)
        with pytest.raises(BadSignature, match=f"site '{fed.names[2]}'"):
            first_deals(fed, messages)


@pytest.mark.parametrize("place", [0, 1])
def test_equal_keys_are_refused(place: int) -> None:
    fed = Federation(4).until("deal")
    messages, taken = keys_of(fed), Advertisement.read(fed.roster, keys_of(fed)[1])
    keys = [*fresh()]
    keys[place] = taken.mask_public
    messages[2] = advertisement(fed, 2, (keys[0], keys[1]))
    with pytest.raises(BadKey, match="the same"):
        first_deals(fed, messages)


def test_small_order_key_is_refused() -> None:
    fed = Federation(4).until("deal")
    messages = keys_of(fed)
    messages[2] = advertisement(fed, 2, (bytes(32), fresh()[1]))
    with pytest.raises(BadKey, match="all-zero"):
        first_deals(fed, messages)


@pytest.mark.parametrize(
    ("change", "error", "problem"),
    [
        (lambda m: m[1:], Inconsistent, "own keys"),
        (lambda m: m[::-1], Inconsistent, "out of order"),
        (lambda m: [m[0], m[1], m[1], m[2]], Inconsistent, "twice"),
        (lambda m: m[:2], TooFewSites, "2 sites"),
        (lambda m: [*m[:3], m[3][:-1] + bytes([m[3][-1] ^ 1])], BadSignature, "does not hold"),
        (lambda m: [*m[:3], b""], BadMessage, "cut short"),
    ],
)
def test_lists_of_keys_that_are_refused(change: Any, error: type[ProtocolAbort], problem: str) -> None:
    fed = Federation(4).until("deal")
    with pytest.raises(error, match=problem):
        first_deals(fed, change(keys_of(fed)))
    assert fed.journals[fed.names[0]].events == []


def test_keys_of_another_sum_are_refused() -> None:
    fed, other = Federation(4).until("deal"), Federation(4, {"sequence": 2}).until("deal")
    with pytest.raises(BadMessage, match="another sum"):
        first_deals(fed, keys_of(other))


def test_own_advertisement_must_be_as_it_was_sent() -> None:
    fed = Federation(4).until("deal")
    messages = keys_of(fed)
    messages[0] = advertisement(fed, 0, fresh())
    with pytest.raises(Inconsistent, match="own keys"):
        first_deals(fed, messages)


def test_a_state_is_used_once() -> None:
    fed = Federation(4).until("deal")
    name = fed.names[0]
    client.deal(fed.states[name], fed.keys, CountingJournal(), os.urandom)
    with pytest.raises(WrongStep, match="this step was taken"):
        client.deal(fed.states[name], fed.keys, CountingJournal(), os.urandom)


def test_a_refusal_ends_the_sum_at_the_site() -> None:
    fed = Federation(4).until("agree")
    name = fed.names[0]
    with pytest.raises(BadMessage):
        client.agree(fed.states[name], b"", fed.journals[name])
    with pytest.raises(WrongStep):
        client.agree(fed.states[name], fed.survivors, fed.journals[name])
    assert fed.journals[name].events == ["consume"]


def test_two_dealer_sets_do_not_make_a_sum() -> None:
    """Sites that were told of different dealers give different masks; the survivors' step shows it."""
    fed = Federation(5).until("accept")
    for number, name in enumerate(fed.names):
        delivery = fed.server.deliver_to(name)
        if number == 0:  # the server keeps the last dealer from the first site
            delivery = without_last_deal(fed, delivery)
        fed.states[name], sent = client.accept(fed.states[name], delivery)
        fed.server.collect_ready(name, sent)
    fed.server.expect_input()
    headers = []
    for name in fed.names:
        values, weight, wide = fed.inputs[name]
        state, header, _ = client.mask(
            fed.states[name], values, weight, wide, Secret(SEED), fed.journals[name]
        )
        fed.states[name] = state
        headers.append(header)
    survivors = relay("survivors", fed.plan.digest, headers)
    for name in fed.names:
        with pytest.raises(Inconsistent, match=r"other dealers|distinct sites"):
            client.agree(fed.states[name], survivors, fed.journals[name])
        assert "sign" not in fed.journals[name].events


def without_last_deal(fed: Federation, delivery: bytes) -> bytes:
    """The delivery for the first site without its last deal."""
    deals = list(read_delivered(fed.roster, delivery).values())[:-1]
    parts = [header("deliver", fed.plan.digest, SERVER), u32(len(deals))]
    return b"".join(parts) + b"".join(field(deal.signed) + field(sealed) for deal, sealed in deals)


@pytest.mark.parametrize("values", [np.zeros(9, dtype=np.float32), np.zeros(11, dtype=np.float32)])
def test_values_must_fit_the_plan(values: Any) -> None:
    fed = Federation(4).until("mask")
    name = fed.names[0]
    with pytest.raises(ValueRefused):
        client.mask(fed.states[name], values, 1, np.zeros(1), Secret(SEED), fed.journals[name])
    assert fed.journals[name].events == []


def take(fed: Federation, step: str, name: str) -> object:
    """One step of one site."""
    state, journal = fed.states[name], fed.journals[name]
    if step == "mask":
        return client.mask(state, *fed.inputs[name], Secret(SEED), journal)
    if step == "agree":
        return client.agree(state, fed.survivors, journal)
    return client.reveal(state, fed.signatures, journal)


@pytest.mark.parametrize(("step", "event"), [("mask", "consume"), ("agree", "sign"), ("reveal", "reveal")])
def test_journal_is_asked_before_anything_leaves(step: str, event: str) -> None:
    fed = Federation(4).until(step)
    name = fed.names[0]
    fed.journals[name].events.append(event)
    with pytest.raises(Repeated):
        take(fed, step, name)


def header_of(fed: Federation, index: int, **changes: Any) -> bytes:
    """A signed input header with changes."""
    one = InputHeader.read(fed.roster, fed.states[fed.names[index]].sent)
    one = replace(one, **changes)
    body = InputHeader.body(fed.plan.digest, one.sender, one.words, one.dealers, one.digest)
    return fed.roster.sign(fed.identities[fed.names[index]], body)


@pytest.mark.parametrize(
    ("change", "error", "problem"),
    [
        (lambda fed, m: m[1:], Inconsistent, "own|input is not among them"),
        (lambda fed, m: m[:2], TooFewSites, "2 sites"),
        (lambda fed, m: [m[0], m[0], *m[1:3]], Inconsistent, "distinct"),
        (lambda fed, m: [header_of(fed, 0, digest=bytes(32)), *m[1:]], Inconsistent, "as it was sent"),
        (lambda fed, m: [*m[:3], header_of(fed, 3, words=1)], Inconsistent, "another length"),
        (lambda fed, m: [*m[:3], header_of(fed, 3, dealers=bytes(32))], Inconsistent, "other dealers"),
        (lambda fed, m: [*m[:3], m[3][:-1] + bytes([m[3][-1] ^ 1])], BadSignature, "does not hold"),
    ],
)
def test_survivors_that_are_refused(change: Any, error: type[ProtocolAbort], problem: str) -> None:
    fed = Federation(4).until("agree")
    name = fed.names[0]
    messages = change(fed, [fed.states[one].sent for one in fed.names])
    with pytest.raises(error, match=problem):
        client.agree(fed.states[name], relay("survivors", fed.plan.digest, messages), fed.journals[name])
    assert "sign" not in fed.journals[name].events


def consistent_of(fed: Federation, index: int, **changes: Any) -> bytes:
    """A survivor's signature with changes."""
    one = replace(fed.states[fed.names[index]].sent, **changes)
    body = Consistent.body(fed.plan.digest, index, one.dealers, one.view)
    return fed.roster.sign(fed.identities[fed.names[index]], body)


@pytest.mark.parametrize(
    ("change", "error", "problem"),
    [
        (lambda fed, m: m[:2], TooFewSites, "2 sites"),
        (lambda fed, m: [m[0], m[0], m[1]], Inconsistent, "distinct"),
        (lambda fed, m: [*m[:3], consistent_of(fed, 3, view=bytes(32))], Inconsistent, "other survivors"),
        (lambda fed, m: [*m[:3], consistent_of(fed, 3, dealers=bytes(32))], Inconsistent, "other survivors"),
        (lambda fed, m: [*m[:3], m[3][:-1] + bytes([m[3][-1] ^ 1])], BadSignature, "does not hold"),
    ],
)
def test_signatures_that_are_refused(change: Any, error: type[ProtocolAbort], problem: str) -> None:
    fed = Federation(4).until("reveal")
    name = fed.names[0]
    messages = change(fed, [fed.states[one].sent.signed for one in fed.names])
    with pytest.raises(error, match=problem):
        client.reveal(fed.states[name], relay("unmask", fed.plan.digest, messages), fed.journals[name])
    assert "reveal" not in fed.journals[name].events


def test_equivocation_needs_more_double_signers_than_collude() -> None:
    """The server shows two halves of ten sites two sets of survivors; three colluders sign both."""
    fed = Federation(10).until("agree")
    names = list(fed.names)
    sent = {name: fed.states[name].sent for name in names}
    first, second = names[:7], names[3:]  # both have t = 7 sites; four are in both
    views = {}
    for label, group in (("first", first), ("second", second)):
        views[label] = relay("survivors", fed.plan.digest, [sent[name] for name in group])
    signed_first = []
    for name in first:
        state, message = client.agree(fed.states[name], views["first"], fed.journals[name])
        fed.states[name] = state
        signed_first.append(message)
    for name in second[4:]:
        fed.states[name], _ = client.agree(fed.states[name], views["second"], fed.journals[name])
    headers = [InputHeader.read(fed.roster, sent[name]) for name in second]
    dealers, view = sites_hash(range(10)), view_hash(headers)
    signed_second = []
    for index in (3, 4, 5):  # c = 3 colluders sign again
        body = Consistent.body(fed.plan.digest, index, dealers, view)
        signed_second.append(fed.roster.sign(fed.identities[names[index]], body))
    signed_second += [fed.states[name].sent.signed for name in second[4:]]
    name = second[-1]
    with pytest.raises(TooFewSites, match="6 sites"):
        client.reveal(fed.states[name], relay("unmask", fed.plan.digest, signed_second), fed.journals[name])
    honest = first[6]
    with pytest.raises(Repeated):  # an honest one that is asked to sign the second set has signed
        fed.journals[honest].sign(fed.plan.digest, b"", {})


def test_both_shares_of_a_site_never_leave() -> None:
    fed = Federation(5).until("mask")
    fed.mask(without=[fed.names[4]])
    fed.agree()
    fed.reveal()
    for name in fed.names[:4]:
        with pytest.raises(WrongStep):
            client.reveal(fed.states[name], fed.signatures, fed.journals[name])
        assert not hasattr(fed.states[name], "shares")


def test_secrets_are_in_no_repr() -> None:
    fed = Federation(4).until("mask")
    shown = repr(fed.states)
    seed = fed.states[fed.names[0]].seed.expose()
    assert seed.hex() not in shown
    assert repr(seed) not in shown
    assert "shares" not in shown


def test_seat_of_another_organisation_member_is_refused_twice() -> None:
    fed = Federation(4)
    members = [Member(m.name, "one group", m.public_key) for m in fed.directory.members]
    directory = Directory.of(1, fed.coordinator.public_key, members)
    with pytest.raises(ProtocolAbort, match="one seat per organisation"):
        Roster.of(fed.plan, directory)
