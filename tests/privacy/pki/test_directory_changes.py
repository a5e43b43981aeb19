"""Changes of the directory: m of k administrators can, and nobody else, whatever keys they have."""

from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.privacy.pki.administrators import (
    COORDINATOR,
    administrator,
    change_of,
    charter,
    person,
    signed,
    site_key,
)
from vestry_privacy.pki.charter import Charter
from vestry_privacy.pki.directory_changes import (
    DirectoryChange,
    Part,
    SignedChange,
    apply_change,
    endorse,
    sign_part,
)
from vestry_privacy.pki.errors import (
    ChangeRefused,
    OtherDirectory,
    PkiError,
    TooFewSignatures,
    UnreadableObject,
)
from vestry_privacy.secagg.directory import Directory, Member

KINDS = ("add", "remove", "rotate", "replace", "administrator", "coordinator")
FIVE = charter(5)
ENOUGH = (1, 3, 4, 5)


@pytest.mark.parametrize("kind", KINDS)
def test_enough_signatures_change_it(kind: str) -> None:
    found = apply_change(FIVE, signed(change_of(FIVE, kind), ENOUGH))
    before, after = FIVE.directory, found.directory
    assert after.version == 2
    names = {member.name for member in before.members}
    if kind == "add":
        assert {member.name for member in after.members} == names | {"site-50"}
        assert after.by_name("site-50") == Member("site-50", "org-50", site_key(50).public_key)
        assert found.by_site["site-50"] == administrator(50).public_key
    elif kind == "remove":
        assert {member.name for member in after.members} == names - {"site-2"}
        assert "site-2" not in found.by_site
    else:
        assert {member.name for member in after.members} == names
        rotated = kind in ("rotate", "replace")
        expected = site_key(50 if rotated else 2).public_key
        assert after.by_name("site-2") == Member("site-2", "org-2", expected)
        changed = kind in ("replace", "administrator")
        assert found.by_site["site-2"] == administrator(50 if changed else 2).public_key
    new = site_key(50) if kind == "coordinator" else COORDINATOR
    assert after.coordinator == new.public_key
    others = [member for member in before.members if member.name != "site-2"]
    assert set(others) <= set(after.members)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sites", [3, 4, 5, 7])
def test_one_signature_less_is_too_few(kind: str, sites: int) -> None:
    base = charter(sites)
    change = change_of(base, kind)
    needed = base.lost_key_quorum if kind == "replace" else base.quorum
    others = [n for n in range(1, sites + 1) if n != 2]
    for signers in combinations(others, needed - 1):
        with pytest.raises(TooFewSignatures, match=f"{needed - 1} signatures .* {needed} are needed"):
            apply_change(base, signed(change, signers))
    apply_change(base, signed(change, others[:needed]))


def test_more_can_be_demanded_at_the_founding() -> None:
    base = charter(5, demanded=5)
    with pytest.raises(TooFewSignatures, match="5 are needed"):
        apply_change(base, signed(change_of(base, "add"), (1, 2, 3, 4)))
    found = apply_change(base, signed(change_of(base, "add"), (1, 2, 3, 4, 5)))
    assert (found.demanded, found.quorum) == (5, 5)
    smaller = apply_change(base, signed(change_of(base, "remove"), (1, 2, 3, 4, 5)))
    assert (smaller.demanded, smaller.quorum) == (4, 4)


def test_a_sites_own_signature_does_not_count_for_its_lost_key() -> None:
    base = charter(4)
    change = change_of(base, "replace")
    with pytest.raises(TooFewSignatures, match="2 signatures"):
        apply_change(base, signed(change, (1, 2, 3)))
    apply_change(base, signed(change, (1, 3, 4)))


def test_a_lost_key_of_one_of_two_sites_needs_a_new_charter() -> None:
    base = charter(2)
    with pytest.raises(TooFewSignatures, match=r"1 signatures .* 2 are needed"):
        apply_change(base, signed(change_of(base, "replace"), (1, 2)))


def test_a_site_that_leaves_may_sign_and_two_must_stay() -> None:
    apply_change(charter(3), signed(change_of(charter(3), "remove"), (1, 2)))
    with pytest.raises(ChangeRefused, match="at least two sites"):
        apply_change(charter(2), signed(change_of(charter(2), "remove"), (1, 2)))


def test_one_organisation_with_many_sites_is_not_a_quorum() -> None:
    members = [Member(f"site-{n}", "big" if n < 4 else "small", site_key(n).public_key) for n in range(1, 5)]
    keys = {f"site-{n}": administrator(n).public_key for n in range(1, 5)}
    base = Charter.of(Directory.of(1, COORDINATOR.public_key, members), keys)
    with pytest.raises(TooFewSignatures, match="one organisation"):
        apply_change(base, signed(change_of(base, "add"), (1, 2, 3)))
    apply_change(base, signed(change_of(base, "add"), (1, 2, 4)))


def test_a_change_is_used_once_and_on_one_charter() -> None:
    step = signed(change_of(FIVE, "add"), ENOUGH)
    found = apply_change(FIVE, step)
    for other in (found, charter(5, version=2), charter(5, demanded=4), charter(6)):
        with pytest.raises(OtherDirectory, match="applied before, or others must come first"):
            apply_change(other, step)


def test_changes_follow_each_other() -> None:
    """A site that was away applies what it missed, in order, from anybody."""
    one = apply_change(FIVE, signed(change_of(FIVE, "rotate"), ENOUGH))
    two = apply_change(one, signed(change_of(one, "add", new=60), ENOUGH, new=60))
    assert two.directory.version == 3
    removed = apply_change(two, signed(change_of(two, "remove"), ENOUGH))
    assert "site-2" not in removed.by_site
    newcomer = signed(change_of(removed, "add", new=70), (1, 3, 4), new=70)
    assert apply_change(removed, newcomer).directory.version == 5
    with pytest.raises(ChangeRefused, match="'site-2' signed and is no site"):
        apply_change(removed, signed(change_of(removed, "add", new=80), (1, 2, 3), new=80))


@pytest.mark.parametrize("kind", ["rotate", "administrator"])
def test_the_old_key_must_sign_as_well(kind: str) -> None:
    good = signed(change_of(FIVE, kind), ENOUGH)
    for bad in (b"", bytes(64), sign_part(good.change, "old key", site_key(50)), good.acceptances[0]):
        with pytest.raises(ChangeRefused, match="the key that is replaced"):
            apply_change(FIVE, replace(good, continuity=bad))


@pytest.mark.parametrize("kind", ["add", "remove", "replace", "coordinator"])
def test_no_signature_more_than_needed(kind: str) -> None:
    good = signed(change_of(FIVE, kind), ENOUGH)
    with pytest.raises(ChangeRefused, match="no old key"):
        apply_change(FIVE, replace(good, continuity=sign_part(good.change, "old key", site_key(2))))
    with pytest.raises(ChangeRefused, match="new keys must sign"):
        apply_change(FIVE, replace(good, acceptances=(*good.acceptances, bytes(64))))


@pytest.mark.parametrize("kind", ["add", "rotate", "replace", "administrator", "coordinator"])
def test_every_new_key_shows_that_somebody_holds_it(kind: str) -> None:
    good = signed(change_of(FIVE, kind), ENOUGH)
    with pytest.raises(ChangeRefused, match="new keys must sign"):
        apply_change(FIVE, replace(good, acceptances=good.acceptances[:-1]))
    with pytest.raises(ChangeRefused, match="of a new key does not hold"):
        apply_change(FIVE, replace(good, acceptances=(bytes(64),) * len(good.acceptances)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            DirectoryChange(FIVE.digest, "add", "site-1", "x", person(1).public_key, person(2).public_key),
            "already",
        ),
        (
            DirectoryChange(FIVE.digest, "add", "Site X", "x", person(1).public_key, person(2).public_key),
            "no name",
        ),
        (
            DirectoryChange(FIVE.digest, "add", "x", "", person(1).public_key, person(2).public_key),
            "lacks some",
        ),
        (DirectoryChange(FIVE.digest, "add", "x", "x", person(1).public_key), "lacks some"),
        (DirectoryChange(FIVE.digest, "add", "x", "x", b"short", person(2).public_key), "not 32 bytes"),
        (
            DirectoryChange(FIVE.digest, "add", "x", "x", person(1).public_key, person(1).public_key),
            "two roles",
        ),
        (
            DirectoryChange(FIVE.digest, "add", "x", "x", site_key(1).public_key, person(1).public_key),
            "same key",
        ),
        (
            DirectoryChange(FIVE.digest, "add", "x", "x", COORDINATOR.public_key, person(1).public_key),
            "two roles",
        ),
        (DirectoryChange(FIVE.digest, "remove", "nowhere"), "no site"),
        (DirectoryChange(FIVE.digest, "remove", "site-1", "org-1"), "does not need"),
        (DirectoryChange(FIVE.digest, "rotate", "nowhere", identity=person(1).public_key), "no site"),
        (DirectoryChange(FIVE.digest, "rotate", "site-1", identity=site_key(1).public_key), "the old ones"),
        (DirectoryChange(FIVE.digest, "rotate", "site-1", identity=site_key(2).public_key), "same key"),
        (DirectoryChange(FIVE.digest, "coordinator", "site-1", identity=person(1).public_key), "no site"),
        (DirectoryChange(FIVE.digest, "coordinator", identity=COORDINATOR.public_key), "the old one"),
        (DirectoryChange(FIVE.digest, "coordinator", identity=site_key(1).public_key), "two roles"),
    ],
)
def test_changes_that_make_no_sense(change: DirectoryChange, said: str) -> None:
    with pytest.raises(ChangeRefused, match=said):
        apply_change(FIVE, SignedChange(change, ()))
    with pytest.raises(ChangeRefused, match=said):
        endorse(FIVE, change, "site-1", administrator(1))


def test_only_a_lost_administrators_key_is_replaced_with_the_present_identity() -> None:
    change = replace(change_of(FIVE, "replace"), identity=site_key(2).public_key)
    accepted = tuple(sign_part(change, "new key", key) for key in (site_key(2), administrator(50)))
    votes = tuple((f"site-{n}", sign_part(change, "administrator", administrator(n))) for n in ENOUGH)
    found = apply_change(FIVE, SignedChange(change, votes, b"", accepted))
    assert found.directory.members == FIVE.directory.members
    assert found.by_site["site-2"] == administrator(50).public_key


def test_endorsing_is_for_the_administrator_of_the_site() -> None:
    change = change_of(FIVE, "add")
    assert endorse(FIVE, change, "site-1", administrator(1)) == sign_part(
        change, "administrator", administrator(1)
    )
    for site, key in (("site-2", administrator(1)), ("nowhere", administrator(1)), ("site-1", site_key(1))):
        with pytest.raises(ChangeRefused, match="not the key of"):
            endorse(FIVE, change, site, key)
    with pytest.raises(OtherDirectory):
        endorse(charter(6), change, "site-1", administrator(1))


def test_an_administrator_reads_what_is_signed() -> None:
    said = change_of(FIVE, "add").plain
    assert "add: site 'site-50' of 'org-50'" in said
    assert site_key(50).fingerprint[:16] in said
    assert administrator(50).fingerprint[:16] in said
    assert FIVE.fingerprint[:16] in said
    assert change_of(FIVE, "remove").plain.startswith("remove: site 'site-2'; changes")
    assert change_of(FIVE, "coordinator").plain.startswith("coordinator: the coordinator, new keys")


# Bytes


@pytest.mark.parametrize("kind", KINDS)
def test_a_change_is_read_as_it_was_written(kind: str) -> None:
    good = signed(change_of(FIVE, kind), ENOUGH)
    assert SignedChange.decode(good.encode()) == good
    assert DirectoryChange.decode(good.change.encode()) == good.change


@settings(deadline=None)
@given(st.sampled_from(KINDS), st.data())
def test_no_changed_byte_is_applied(kind: str, data: st.DataObject) -> None:
    content = bytearray(signed(change_of(FIVE, kind), ENOUGH).encode())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(PkiError):
        apply_change(FIVE, SignedChange.decode(bytes(content)))


def test_one_signature_is_not_counted_twice() -> None:
    good = signed(change_of(FIVE, "add"), (1, 3))
    twice = replace(good, endorsements=(good.endorsements[0], good.endorsements[0], good.endorsements[1]))
    with pytest.raises(UnreadableObject, match="or one is twice"):
        SignedChange.decode(twice.encode())
    with pytest.raises(TooFewSignatures, match="2 signatures"):
        apply_change(FIVE, twice)
    moved = replace(good, endorsements=(*good.endorsements, ("site-4", good.endorsements[0][1])))
    with pytest.raises(ChangeRefused, match="administrator of 'site-4' does not hold"):
        apply_change(FIVE, moved)


def test_other_versions_and_kinds_are_refused() -> None:
    good = signed(change_of(FIVE, "add"), ENOUGH).encode()
    with pytest.raises(UnreadableObject, match="version '2'"):
        SignedChange.decode(
            good.replace(b"vestry-signed-directory-change/1", b"vestry-signed-directory-change/2")
        )
    with pytest.raises(UnreadableObject, match="kind is unknown"):
        SignedChange.decode(good.replace(b"\x00\x00\x00\x03add", b"\x00\x00\x00\x03odd"))


def test_a_signature_fits_one_role() -> None:
    """What an administrator signs is no acceptance, and the other way round."""
    change = change_of(FIVE, "add")
    parts: tuple[Part, ...] = ("administrator", "old key", "new key")
    assert len({change.to_sign(part) for part in parts}) == 3
    good = signed(change, ENOUGH)
    for part in ("old key", "new key"):
        wrong = tuple((f"site-{n}", sign_part(change, part, administrator(n))) for n in ENOUGH)
        with pytest.raises(ChangeRefused, match="does not hold"):
            apply_change(FIVE, replace(good, endorsements=wrong))
