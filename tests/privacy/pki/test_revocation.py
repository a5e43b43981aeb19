"""The list only grows, and a stolen issuing key cannot hold it."""

from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.privacy.pki.consortium import DAY, NOW, consortium
from vestry_privacy.pki.errors import (
    CertificateRevoked,
    ForeignAuthority,
    PkiError,
    RevocationRefused,
    UnreadableObject,
    WrongUsage,
)
from vestry_privacy.pki.issuer import Issuer
from vestry_privacy.pki.objects import field
from vestry_privacy.pki.revocation import (
    REASONS,
    RevocationList,
    Revoked,
    accept_revocations,
    check_revoked,
    revoke,
)

HEARTS = consortium()
ISSUER, ROOT = HEARTS.issuer, HEARTS.pinned
MINUTE = timedelta(minutes=1)
ENTRIES = st.builds(
    Revoked,
    st.integers(1, 2**159 - 1),
    st.sampled_from(REASONS),
    st.integers(0, 10**6).map(lambda seconds: NOW + timedelta(seconds=seconds)),
)


def signed(serials: list[int], held: RevocationList | None = None, issuer: Issuer = ISSUER) -> RevocationList:
    return revoke(issuer, held, [Revoked(serial, "key stolen", NOW) for serial in serials], NOW)


FIRST = signed([5, 3])
SECOND = signed([9], FIRST)


def test_a_list_grows() -> None:
    assert [entry.serial for entry in SECOND.entries] == [3, 5, 9]
    assert (FIRST.counter, SECOND.counter) == (1, 2)
    held = accept_revocations(None, FIRST.encode(), ROOT, NOW)
    held = accept_revocations(held, SECOND.encode(), ROOT, NOW)
    assert held == SECOND


def test_an_older_list_is_refused() -> None:
    with pytest.raises(RevocationRefused, match="number 1 is not newer than number 2 in force"):
        accept_revocations(SECOND, FIRST.encode(), ROOT, NOW)


def test_the_same_list_changes_nothing() -> None:
    assert accept_revocations(SECOND, SECOND.encode(), ROOT, NOW) is SECOND
    other = signed([8], FIRST)
    assert other.counter == SECOND.counter
    with pytest.raises(RevocationRefused, match="not newer"):
        accept_revocations(SECOND, other.encode(), ROOT, NOW)


def test_nothing_is_taken_back() -> None:
    shorter = replace(SECOND, counter=3, entries=SECOND.entries[1:])
    shorter = replace(shorter, signature=ISSUER.sign(shorter.signed()))
    with pytest.raises(RevocationRefused, match="takes something back"):
        accept_revocations(SECOND, shorter.encode(), ROOT, NOW)
    again = revoke(ISSUER, SECOND, [Revoked(9, "key lost", NOW + DAY)], NOW)
    assert again.by_serial[9].reason == "key stolen"


def test_only_this_consortium_signs() -> None:
    other = consortium("lungs")
    with pytest.raises(ForeignAuthority):
        accept_revocations(None, signed([1], None, other.issuer).encode(), ROOT, NOW)
    site = HEARTS.site("berlin")
    by_site = Issuer(site.key, site.certificate, ROOT)
    with pytest.raises(ForeignAuthority):
        accept_revocations(None, signed([1], None, by_site).encode(), ROOT, NOW)
    by_root = Issuer(HEARTS.root._key, ROOT, ROOT)
    with pytest.raises(WrongUsage):
        accept_revocations(None, signed([1], None, by_root).encode(), ROOT, NOW)
    forged = replace(FIRST, signature=site.key.sign(FIRST.signed(), ec.ECDSA(hashes.SHA256())))
    with pytest.raises(RevocationRefused, match="does not hold"):
        accept_revocations(None, forged.encode(), ROOT, NOW)


def test_a_list_from_the_future_is_refused_with_the_difference() -> None:
    ahead = revoke(ISSUER, None, [], NOW + 6 * MINUTE)
    with pytest.raises(RevocationRefused, match=r"is 0:06:00 ahead of this clock"):
        accept_revocations(None, ahead.encode(), ROOT, NOW)
    accept_revocations(None, ahead.encode(), ROOT, NOW + MINUTE)


def test_a_signer_whose_time_is_over_signs_nothing_more() -> None:
    late = revoke(ISSUER, FIRST, [], NOW + 91 * DAY)
    with pytest.raises(RevocationRefused, match="outside of its signer's time"):
        accept_revocations(FIRST, late.encode(), ROOT, NOW + 91 * DAY)


def test_the_next_issuing_key_goes_on() -> None:
    later = HEARTS.next_issuer(NOW + DAY)
    third = revoke(later, SECOND, [], NOW + DAY)
    assert third.counter == 1
    assert third.by_serial.keys() == SECOND.by_serial.keys()
    assert accept_revocations(SECOND, third.encode(), ROOT, NOW + DAY) == third
    with pytest.raises(RevocationRefused, match="a later issuing key"):
        revoke(ISSUER, third, [], NOW + DAY)
    with pytest.raises(RevocationRefused, match="not newer"):
        accept_revocations(third, SECOND.encode(), ROOT, NOW + DAY)


def test_the_way_back_after_an_issuing_key_was_stolen() -> None:
    """The thief uses up the counter, revokes everybody and the successor, and still loses."""
    later = HEARTS.next_issuer(NOW + DAY)
    spoilt = signed([later.certificate.serial_number, 1, 2], SECOND)
    worst = replace(spoilt, counter=2**64 - 1)
    worst = replace(worst, signature=ISSUER.sign(worst.signed()))
    held = accept_revocations(SECOND, worst.encode(), ROOT, NOW)
    assert held == worst
    site = HEARTS.site("berlin", NOW + DAY, later)
    check_revoked(
        site.certificate, later.certificate, held
    )  # the successor cannot be revoked by an older key
    stolen = Revoked(ISSUER.certificate.serial_number, "key stolen", NOW + DAY)
    way_back = revoke(later, SECOND, [stolen], NOW + DAY)
    in_force = accept_revocations(held, way_back.encode(), ROOT, NOW + DAY)
    assert in_force == way_back
    old = HEARTS.site("berlin")
    with pytest.raises(CertificateRevoked, match=r"issuing key of the certificate.*key stolen"):
        check_revoked(old.certificate, old.issuer, in_force)
    check_revoked(site.certificate, later.certificate, in_force)
    with pytest.raises(RevocationRefused, match="not newer"):
        accept_revocations(in_force, worst.encode(), ROOT, NOW + DAY)


def test_an_issuing_key_revokes_neither_itself_nor_a_later_one() -> None:
    """Or its thief could cut off everybody until the root is fetched."""
    later = HEARTS.next_issuer(NOW + DAY)
    old, new = HEARTS.site("berlin"), HEARTS.site("berlin", NOW + DAY, later)
    serials = [ISSUER.certificate.serial_number, later.certificate.serial_number]
    check_revoked(old.certificate, old.issuer, signed(serials))
    check_revoked(new.certificate, new.issuer, signed(serials))
    check_revoked(new.certificate, new.issuer, signed(serials, None, later))
    with pytest.raises(CertificateRevoked):
        check_revoked(old.certificate, old.issuer, signed(serials, None, later))


def test_no_list_revokes_nobody() -> None:
    site = HEARTS.site("berlin")
    check_revoked(site.certificate, site.issuer, None)
    check_revoked(site.certificate, site.issuer, SECOND)


@pytest.mark.parametrize(
    "entry", [Revoked(1, "because", NOW), Revoked(0, "key lost", NOW), Revoked(2**160, "key lost", NOW)]
)
def test_what_is_no_entry(entry: Revoked) -> None:
    with pytest.raises(RevocationRefused, match="reason"):
        revoke(ISSUER, None, [entry], NOW)


@settings(deadline=None)
@given(st.lists(ENTRIES, max_size=8))
def test_a_list_is_read_as_it_was_written(entries: list[Revoked]) -> None:
    made = revoke(ISSUER, None, entries, NOW)
    assert RevocationList.decode(made.encode()) == made
    assert accept_revocations(None, made.encode(), ROOT, NOW) == made


@settings(deadline=None)
@given(st.data())
def test_no_changed_byte_is_accepted(data: st.DataObject) -> None:
    content = bytearray(SECOND.encode())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(PkiError):
        accept_revocations(None, bytes(content), ROOT, NOW)


def test_entries_have_one_order() -> None:
    for entries in (SECOND.entries[::-1], SECOND.entries[:1] * 2):
        odd = replace(SECOND, entries=entries)
        with pytest.raises(UnreadableObject, match="not in order"):
            RevocationList.decode(odd.encode())
    odd = replace(SECOND, entries=(Revoked(1, "because", NOW),))
    with pytest.raises(UnreadableObject, match="a reason is unknown"):
        RevocationList.decode(odd.encode())


def test_sizes_are_bounded_before_anything_is_read() -> None:
    content = SECOND.encode()
    place = len(field(b"vestry-revocations/1")) + 16
    with pytest.raises(UnreadableObject, match="4294967295 entries"):
        RevocationList.decode(content[:place] + b"\xff" * 4 + content[place + 4 :])
