"""The charter: one fingerprint for identities, administrators and quorum; majorities that overlap."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.privacy.pki.administrators import COORDINATOR, administrator, charter, person, site_key
from vestry_privacy.pki.charter import Administrator, Charter, confirm_charter
from vestry_privacy.pki.errors import ChangeRefused, OtherDirectory, PkiError, UnreadableObject
from vestry_privacy.pki.objects import field, labelled, u32
from vestry_privacy.secagg.directory import Directory, Member

FIVE = charter(5)


@pytest.mark.parametrize(
    ("sites", "quorum", "lost"),
    [(2, 2, 2), (3, 2, 2), (4, 3, 3), (5, 3, 4), (6, 4, 5), (10, 6, 7), (200, 101, 134)],
)
def test_known_quorums(sites: int, quorum: int, lost: int) -> None:
    found = charter(sites)
    assert (found.quorum, found.lost_key_quorum) == (quorum, lost)


@settings(deadline=None)
@given(st.integers(2, 40), st.data())
def test_two_quorums_always_share_a_signer(sites: int, data: st.DataObject) -> None:
    """So nobody can lead two halves of the sites to two directories without a signer who signs both."""
    found = charter(sites, data.draw(st.integers(0, sites)))
    assert 2 <= found.quorum <= sites
    assert 2 * found.quorum > sites
    assert found.quorum >= found.demanded
    assert found.lost_key_quorum >= min(found.quorum, sites - 1)
    if sites > 2:
        assert 2 * found.lost_key_quorum > sites
        assert found.lost_key_quorum <= sites - 1


def test_everything_is_in_the_fingerprint() -> None:
    directory, keys = FIVE.directory, FIVE.by_site
    others = [
        charter(5, version=2),
        charter(5, demanded=4),
        charter(4),
        Charter.of(directory, keys | {"site-1": person(77).public_key}),
        Charter.of(Directory.of(1, person(77).public_key, directory.members), keys),
    ]
    assert len({FIVE.fingerprint, *(one.fingerprint for one in others)}) == 6
    assert len(FIVE.fingerprint) == 64
    assert [len(group) for group in FIVE.spoken.split()] == [4] * 6


def test_a_charter_is_read_as_it_was_written() -> None:
    for one in (charter(2), charter(3, 3), charter(40)):
        assert Charter.decode(one.encode()) == one


@settings(deadline=None)
@given(st.data())
def test_a_changed_byte_is_refused_or_changes_the_fingerprint(data: st.DataObject) -> None:
    content = bytearray(FIVE.encode())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        found = Charter.decode(bytes(content))
    except PkiError:
        return
    with pytest.raises(OtherDirectory):
        confirm_charter(found, FIVE.fingerprint)


def members(*organisations: str) -> list[Member]:
    return [
        Member(f"site-{n}", organisation, site_key(n).public_key)
        for n, organisation in enumerate(organisations, 1)
    ]


KEYS = {f"site-{n}": administrator(n).public_key for n in (1, 2, 3)}
THREE = Directory.of(1, COORDINATOR.public_key, members("a", "b", "c"))


@pytest.mark.parametrize(
    ("keys", "demanded", "said"),
    [
        ({"site-1": KEYS["site-1"], "site-2": KEYS["site-2"]}, 0, "look at site-3"),
        (KEYS | {"site-4": administrator(4).public_key}, 0, "look at site-4"),
        (KEYS | {"site-3": b"short"}, 0, "not 32 bytes"),
        (KEYS | {"site-3": KEYS["site-1"]}, 0, "two roles"),
        (KEYS | {"site-3": site_key(3).public_key}, 0, "two roles"),
        (KEYS | {"site-3": COORDINATOR.public_key}, 0, "two roles"),
        (KEYS, 4, "4 signatures are demanded of 3 sites"),
        (KEYS, -1, "-1 signatures"),
    ],
)
def test_what_is_no_charter(keys: dict[str, bytes], demanded: int, said: str) -> None:
    with pytest.raises(ChangeRefused, match=said):
        Charter.of(THREE, keys, demanded)


def test_one_site_or_one_organisation_is_no_federation() -> None:
    one = Directory.of(1, COORDINATOR.public_key, members("a"))
    with pytest.raises(ChangeRefused, match="two sites of two organisations"):
        Charter.of(one, {"site-1": KEYS["site-1"]})
    same = Directory.of(1, COORDINATOR.public_key, members("a", "a", "a"))
    with pytest.raises(ChangeRefused, match="two sites of two organisations"):
        Charter.of(same, KEYS)


def test_the_coordinator_is_no_site() -> None:
    odd = Directory.of(1, site_key(1).public_key, THREE.members)
    with pytest.raises(ChangeRefused, match="two roles"):
        Charter.of(odd, KEYS)


def test_administrators_have_one_order() -> None:
    odd = replace(FIVE, administrators=FIVE.administrators[::-1])
    with pytest.raises(ChangeRefused, match="order"):
        Charter.decode(odd.encode())
    twice = replace(FIVE, administrators=(*FIVE.administrators, Administrator("site-5", bytes(32))))
    with pytest.raises(ChangeRefused, match="order"):
        Charter.decode(
            replace(twice, administrators=(*FIVE.administrators, FIVE.administrators[-1])).encode()
        )


def test_other_bytes_are_no_charter() -> None:
    with pytest.raises(UnreadableObject, match="something else"):
        Charter.decode(FIVE.directory.encode())
    with pytest.raises(UnreadableObject, match="its directory cannot be read"):
        Charter.decode(labelled("vestry-charter/1", field(b"\x00\x00\x00\x00"), u32(0), u32(0)))
    with pytest.raises(UnreadableObject, match="administrators"):
        Charter.decode(labelled("vestry-charter/1", field(b""), u32(0), u32(2**32 - 1)))


def test_the_founding_charter_is_confirmed_by_its_whole_fingerprint() -> None:
    typed = FIVE.fingerprint
    colons = ":".join(typed[start : start + 2] for start in range(0, 64, 2))
    for form in (typed, typed.upper(), f" {typed[:32]} {typed[32:]}\n", colons):
        assert confirm_charter(FIVE, form) is FIVE
    for wrong in (
        "",
        typed[:63],
        typed[:-1] + ("0" if typed[-1] != "0" else "1"),
        typed + "00",
        FIVE.spoken,
        "ü",
    ):
        with pytest.raises(OtherDirectory, match="not the coordinator"):
            confirm_charter(FIVE, wrong)
