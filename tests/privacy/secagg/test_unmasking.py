"""Unmasking: dealers that dealt another secret than they committed to are found."""

import os

import pytest

from tests.privacy.secagg.federation import Federation
from vestry_privacy.secagg import client
from vestry_privacy.secagg.deals import Dealing, write_deal
from vestry_privacy.secagg.encoding import Reader, field, field_list
from vestry_privacy.secagg.errors import BadDealing
from vestry_privacy.secagg.keys import KeyPair
from vestry_privacy.secagg.messages import Deal
from vestry_privacy.secagg.secret import Secret


def dealt_with(fed: Federation, seed: bytes | None, masking: KeyPair | None, claim: bytes | None) -> None:
    """Everybody deals; the first site deals these secrets, and claims that its seed is another."""
    for index, name in enumerate(fed.names):
        state = fed.states[name]
        own = KeyPair(Secret(state.masking.private.expose()))
        fed.states[name], sent = client.deal(state, fed.keys, fed.journals[name], os.urandom)
        if index == 0:
            dealing = fed.states[name].dealing
            other = Dealing(Secret(seed or dealing.seed.expose()), state.sealing, dealing.advertised)
            sent = write_deal(fed.roster, fed.identities[name], 0, other, masking or own, os.urandom)
            if claim is not None:
                reader = Reader(sent, "shares")
                deal, sealed = Deal.read(fed.roster, reader.field()), reader.fields(10)
                entries = [deal.entry(one) for one in deal.holders]
                body = Deal.body(fed.plan.digest, 0, claim, deal.holders, entries)
                other.sent = fed.roster.sign(fed.identities[name], body)
                sent = field(other.sent) + field_list(sealed)
            other.inward = dealing.inward
            fed.states[name].dealing = other
        fed.server.collect_shares(name, sent)


def test_seed_that_is_not_the_one_committed_to() -> None:
    fed = Federation(5).until("deal")
    dealt_with(fed, None, None, bytes(32))
    for step in ("accept", "mask", "agree", "reveal"):
        getattr(fed, step)()
    with pytest.raises(BadDealing, match=f"site '{fed.names[0]}'.*another secret"):
        fed.server.result()


def test_mask_key_that_is_not_the_one_advertised() -> None:
    fed = Federation(5).until("deal")
    dealt_with(fed, None, KeyPair.fresh(os.urandom), None)
    fed.accept()
    fed.mask(without=[fed.names[0]])
    fed.agree()
    fed.reveal()
    with pytest.raises(BadDealing, match=f"site '{fed.names[0]}'.*another secret"):
        fed.server.result()


def test_good_secrets_pass() -> None:
    fed = Federation(5).until("deal")
    dealt_with(fed, bytes(range(32)), None, None)
    for step in ("accept", "mask", "agree", "reveal"):
        getattr(fed, step)()
    assert fed.server.result().sites == 5
