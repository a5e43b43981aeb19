"""Who sits in a sum, whose signature counts, and how many are enough."""

from dataclasses import replace

import pytest

from tests.privacy.secagg.federation import Federation, identity
from vestry_privacy.secagg.directory import Directory, Member
from vestry_privacy.secagg.encoding import header
from vestry_privacy.secagg.errors import BadMessage, BadSignature, RosterRefused, TooFewSites
from vestry_privacy.secagg.roster import Roster

FED = Federation(5)


def test_seats_are_in_the_order_of_the_plan() -> None:
    roster = FED.roster
    assert tuple(FED.directory.member(entry).name for entry in FED.plan.roster) == roster.names
    assert roster.index(roster.names[3]) == 3
    assert roster.name(3) == roster.names[3]
    assert roster.name(99) is None
    with pytest.raises(RosterRefused, match="site 'stranger'"):
        roster.index("stranger")


def test_other_directories_are_refused() -> None:
    members = FED.directory.members
    with pytest.raises(RosterRefused, match="the plan has 1, this side has 2"):
        Roster.of(FED.plan, Directory.of(2, FED.directory.coordinator, members))
    with pytest.raises(RosterRefused, match="unknown in version 1"):
        Roster.of(FED.plan, Directory.of(1, FED.directory.coordinator, members[1:]))
    shared = [*members[1:], Member(members[0].name, members[1].organisation, members[0].public_key)]
    with pytest.raises(RosterRefused, match="one seat per organisation"):
        Roster.of(FED.plan, Directory.of(1, FED.directory.coordinator, shared))


def test_enough_sites() -> None:
    FED.roster.require((0, 1, 2, 3), "sites")
    with pytest.raises(TooFewSites, match="3 sites, 3 organisations; needed are 4 of the 5"):
        FED.roster.require((0, 1, 2), "sites")
    roster = Roster.of(replace(FED.plan, least=5), FED.directory)
    with pytest.raises(TooFewSites):
        roster.require((0, 1, 2, 3), "sites")


def test_signed_messages() -> None:
    roster, plan_hash = FED.roster, FED.plan.digest
    good = roster.sign(FED.identities[roster.names[2]], header("keys", plan_hash, 2) + b"body")
    reader, sender = roster.open(good, "keys")
    assert sender == 2
    assert reader.place == len(header("keys", plan_hash, 2))
    for signer in (identity(1234), FED.identities[roster.names[1]]):
        with pytest.raises(BadSignature, match=roster.names[2]):
            roster.open(roster.sign(signer, header("keys", plan_hash, 2)), "keys")
    with pytest.raises(BadMessage, match="no seat"):
        roster.open(roster.sign(identity(1), header("keys", plan_hash, 5)), "keys")
    with pytest.raises(BadMessage, match="type is 'keys'"):
        roster.open(good, "input")
    for place in range(len(good)):
        changed = bytearray(good)
        changed[place] ^= 1
        with pytest.raises((BadMessage, BadSignature)):
            roster.open(bytes(changed), "keys")
