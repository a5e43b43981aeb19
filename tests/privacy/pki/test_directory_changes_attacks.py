"""A coordinator with every key that it owns, and a few helpers, cannot change who takes part in a sum."""

from dataclasses import replace
from itertools import product

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from tests.privacy.pki.administrators import (
    COORDINATOR,
    administrator,
    change_of,
    charter,
    person,
    signed,
    site_key,
)
from tests.privacy.pki.consortium import NOW, consortium
from vestry_privacy.pki.chain import verify_chain
from vestry_privacy.pki.charter import Charter, confirm_charter
from vestry_privacy.pki.directory_changes import SignedChange, apply_change, sign_part
from vestry_privacy.pki.errors import ChangeRefused, OtherDirectory, PkiError, TooFewSignatures
from vestry_privacy.secagg.directory import Directory, Member
from vestry_privacy.secagg.errors import RosterRefused

KINDS = ("add", "remove", "rotate", "replace", "administrator", "coordinator")
FIVE = charter(5)
HEARTS = consortium()
MALLORY = 50
"""The site whose identity and administrator the coordinator made up."""


def own_signatures(content: bytes) -> list[bytes]:
    """Every signature that a coordinator can make: plans' key, issuing key, link key, made-up persons."""
    by_issuer = HEARTS.issuer.sign(content)
    by_link = HEARTS.coordinator().key.sign(content, ec.ECDSA(hashes.SHA256()))
    made_up = [site_key(MALLORY), administrator(MALLORY), person(7)]
    ed25519 = [COORDINATOR.sign(content), *(key.sign(content) for key in made_up)]
    return [*ed25519, by_issuer, by_link, by_issuer[:64], by_link[:64], b"", bytes(64)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_coordinator_alone_changes_nothing(kind: str) -> None:
    """Every kind, each of its keys in every administrator's place and in the old key's."""
    change = change_of(FIVE, kind)
    good = signed(change, ())
    tried = own_signatures(change.to_sign("administrator"))
    for signature, names in product(tried, (range(1, 6), range(1, 4), [1], [])):
        forged = tuple((f"site-{n}", signature) for n in names)
        for continuity in {good.continuity, *own_signatures(change.to_sign("old key"))}:
            with pytest.raises((ChangeRefused, TooFewSignatures)):
                apply_change(FIVE, replace(good, endorsements=forged, continuity=continuity))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sites", [3, 5, 8])
def test_neither_do_all_sites_daemons_and_one_administrator_less_than_the_quorum(
    kind: str, sites: int
) -> None:
    """Identity keys of all sites, all of the coordinator's keys, and m - 1 administrators."""
    base = charter(sites)
    change = change_of(base, kind)
    helpers = (base.lost_key_quorum if kind == "replace" else base.quorum) - 1
    others = [n for n in range(1, sites + 1) if n != 2]
    good = signed(change, others[:helpers])
    with pytest.raises(TooFewSignatures):
        apply_change(base, good)
    for n in others[helpers:]:
        for key in (site_key(n), site_key(1), COORDINATOR):
            stolen = (f"site-{n}", sign_part(change, "administrator", key))
            with pytest.raises(ChangeRefused, match="does not hold"):
                apply_change(base, replace(good, endorsements=tuple(sorted([*good.endorsements, stolen]))))
    twice = replace(good, endorsements=(*good.endorsements, *good.endorsements))
    with pytest.raises(TooFewSignatures):
        apply_change(base, twice)


def test_a_made_up_administrator_has_no_vote() -> None:
    """Neither before it is in the charter, nor in the change that brings it in."""
    change = change_of(FIVE, "add")
    own = (f"site-{MALLORY}", sign_part(change, "administrator", administrator(MALLORY)))
    good = signed(change, (1, 2))
    with pytest.raises(ChangeRefused, match="no site of the charter"):
        apply_change(FIVE, replace(good, endorsements=tuple(sorted([*good.endorsements, own]))))


def test_a_certificate_is_no_membership() -> None:
    """The issuing key can certify any name, also an existing one's; the directory does not hear of it."""
    invented = HEARTS.site("site-50")
    twin = HEARTS.site("site-2")
    for mine, name in ((invented, "site-50"), (twin, "site-2")):
        found = verify_chain(mine.certificate, mine.issuer, HEARTS.pinned, None, NOW, role="site", name=name)
        assert found.name == name
    with pytest.raises(RosterRefused, match="unknown"):
        FIVE.directory.by_name("site-50")
    assert FIVE.directory.by_name("site-2").public_key == site_key(2).public_key


def test_another_directory_handed_out_at_the_founding_is_found_by_its_fingerprint() -> None:
    """One more site, one site's key exchanged, a lower quorum, an administrator of the coordinator's."""
    members, keys = FIVE.directory.members, FIVE.by_site
    more = [*members, Member("site-50", "org-50", site_key(50).public_key)]
    exchanged = [*members[1:], replace(members[0], public_key=site_key(50).public_key)]
    own = administrator(50).public_key
    others = [
        Charter.of(Directory.of(1, COORDINATOR.public_key, more), keys | {"site-50": own}),
        Charter.of(Directory.of(1, COORDINATOR.public_key, exchanged), keys),
        Charter.of(FIVE.directory, keys | {"site-1": own}),
        Charter.of(FIVE.directory, keys, 1),
    ]
    for other in others:
        with pytest.raises(OtherDirectory):
            confirm_charter(other, FIVE.fingerprint)


def test_signatures_for_one_change_carry_no_other() -> None:
    """Signed: add site-50. Sent: the same signatures over another key, site, kind or base."""
    good = signed(change_of(FIVE, "add"), (1, 3, 4))
    apply_change(FIVE, good)
    swapped = replace(good.change, identity=person(7).public_key)
    renamed = replace(good.change, site="site-51")
    other = replace(good.change, organisation="org-51")
    for change in (swapped, renamed, other, change_of(FIVE, "remove"), change_of(FIVE, "replace")):
        with pytest.raises(PkiError):
            apply_change(FIVE, replace(good, change=change))


def test_an_old_change_is_not_played_again_after_a_removal() -> None:
    """A site that was put out cannot be brought back with the signatures that once brought it in."""
    step = signed(change_of(FIVE, "add"), (1, 3, 4))
    six = apply_change(FIVE, step)
    out = replace(change_of(six, "remove"), site="site-50")
    back = apply_change(six, signed(out, (1, 3, 4, 5)))
    assert back.directory.members == FIVE.directory.members
    assert back.digest != FIVE.digest
    with pytest.raises(OtherDirectory):
        apply_change(back, step)


def test_a_thief_of_a_sites_key_cannot_lock_it_out() -> None:
    change = change_of(FIVE, "rotate")
    alone = signed(change, ())
    assert alone.continuity
    with pytest.raises(TooFewSignatures, match="0 signatures"):
        apply_change(FIVE, alone)


def test_nothing_at_all_is_too_few() -> None:
    for kind in KINDS:
        with pytest.raises(PkiError):
            apply_change(FIVE, SignedChange(change_of(FIVE, kind), ()))
