"""The directory: one order, one fingerprint, no two members alike."""

import pytest

from tests.privacy.secagg.federation import Federation, identity
from vestry_privacy.secagg.directory import Directory, Member, key_hash
from vestry_privacy.secagg.encoding import field
from vestry_privacy.secagg.errors import BadMessage, RosterRefused

MEMBERS = [Member(f"site-{n}", f"org-{n}", identity(n).public_key) for n in range(1, 5)]
KEY = identity(99).public_key


def test_order_of_members_does_not_matter() -> None:
    one, other = Directory.of(3, KEY, MEMBERS), Directory.of(3, KEY, MEMBERS[::-1])
    assert one == other
    assert one.fingerprint == other.fingerprint
    assert Directory.decode(one.encode()) == one
    assert list(one.roster()) == sorted(key_hash(member.public_key) for member in MEMBERS)


def test_any_change_changes_the_fingerprint() -> None:
    first = Directory.of(3, KEY, MEMBERS).fingerprint
    others = [
        Directory.of(4, KEY, MEMBERS),
        Directory.of(3, identity(98).public_key, MEMBERS),
        Directory.of(3, KEY, MEMBERS[:3]),
        Directory.of(3, KEY, [*MEMBERS[:3], Member("site-4", "other", MEMBERS[3].public_key)]),
        Directory.of(3, KEY, [*MEMBERS[:3], Member("other", "org-4", MEMBERS[3].public_key)]),
        Directory.of(3, KEY, [*MEMBERS[:3], Member("site-4", "org-4", identity(5).public_key)]),
    ]
    assert len({first, *(one.fingerprint for one in others)}) == 7


@pytest.mark.parametrize(
    ("member", "problem"),
    [
        (Member("site-1", "org-9", identity(9).public_key), "same name"),
        (Member("site-9", "org-9", MEMBERS[0].public_key), "same key"),
        (Member("site-9", "org-9", b"short"), "not 32 bytes"),
        (Member("", "org-9", identity(9).public_key), "no name"),
        (Member("site-9", "", identity(9).public_key), "no organisation"),
    ],
)
def test_members_that_are_refused(member: Member, problem: str) -> None:
    with pytest.raises(RosterRefused, match=problem):
        Directory.of(1, KEY, [*MEMBERS, member])


def test_coordinator_needs_a_key() -> None:
    with pytest.raises(RosterRefused, match="coordinator"):
        Directory.of(1, b"", MEMBERS)


def test_unknown_sites_are_named() -> None:
    directory = Federation(3).directory
    with pytest.raises(RosterRefused, match="site 'nowhere'"):
        directory.by_name("nowhere")
    with pytest.raises(RosterRefused, match="unknown in version 1"):
        directory.member(bytes(32))
    assert directory.member(directory.roster(["site-001"])[0]).name == "site-001"


def test_other_bytes_are_no_directory() -> None:
    content = Directory.of(1, KEY, MEMBERS).encode()
    with pytest.raises(BadMessage, match="no directory of this version"):
        Directory.decode(content.replace(b"directory", b"direction"))
    with pytest.raises(BadMessage, match="cut short"):
        Directory.decode(content[:-1])
    with pytest.raises(BadMessage, match="members"):
        Directory.decode(content[: content.index(field(KEY)) + 36] + b"\xff\xff\xff\xff")


def test_members_out_of_order_are_refused() -> None:
    good = Directory.of(1, KEY, MEMBERS)
    shuffled = Directory(1, KEY, good.members[::-1])
    with pytest.raises(RosterRefused, match="order"):
        Directory.decode(shuffled.encode())
