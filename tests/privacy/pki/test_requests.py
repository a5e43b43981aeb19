"""Requests: made with a key that stays, checked for exactly the invited name, renewed by the present key."""

import hashlib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AttributeOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.privacy.pki.consortium import DAY, NOW, consortium, new_key, signed_anew
from vestry_privacy.pki.chain import verify_chain
from vestry_privacy.pki.errors import PkiError, RequestRefused, UnreadableObject
from vestry_privacy.pki.keys import create_key, encode_key
from vestry_privacy.pki.objects import field, labelled
from vestry_privacy.pki.profile import common_name, spki, uri_of
from vestry_privacy.pki.requests import (
    check_renewal,
    check_request,
    create_renewal,
    create_request,
    renewal_due,
)

HEARTS = consortium()
Builder = x509.CertificateSigningRequestBuilder
KEY = new_key()
GOOD = create_request(KEY, "berlin")


def own(name: str = "berlin") -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri_of("site", name))])


def der(builder: Builder, key: ec.EllipticCurvePrivateKey | None = None) -> bytes:
    return builder.sign(key or new_key(), hashes.SHA256()).public_bytes(Encoding.DER)


def test_a_request_is_accepted_for_its_name_and_holds_no_private_key(tmp_path: Path) -> None:
    key = create_key(tmp_path / "key")
    content = create_request(key, "berlin")
    found = check_request(content, "berlin")
    assert found.name == "berlin"
    assert found.key_bytes == spki(key.public_key())
    private = key.private_numbers().private_value.to_bytes(32, "big")
    assert private not in content
    assert private in encode_key(key)


@settings(deadline=None)
@given(st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True))
def test_every_name_can_be_asked_for_and_verified(name: str) -> None:
    mine = HEARTS.site(name)
    found = verify_chain(mine.certificate, mine.issuer, HEARTS.pinned, None, NOW, role="site", name=name)
    assert found.name == name


@pytest.mark.parametrize("name", ["", "Berlin", "-berlin", "a" * 64, "berlin\n", "münchen", "a/b", "a b"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(RequestRefused, match="name="):
        create_request(KEY, name)


FOREIGN: dict[str, tuple[Callable[[], bytes], str]] = {
    "another name": (lambda: create_request(KEY, "munich"), "not for the invited name"),
    "no name": (lambda: der(Builder(common_name("berlin"))), "asks for more, or less"),
    "another subject": (
        lambda: der(Builder(common_name("munich")).add_extension(own(), False)),
        "not for the invited name",
    ),
    "a longer subject": (
        lambda: der(
            Builder(
                x509.Name(
                    [
                        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Charite"),
                        x509.NameAttribute(NameOID.COMMON_NAME, "berlin"),
                    ]
                )
            ).add_extension(own(), False)
        ),
        "not for the invited name",
    ),
    "another site's uri": (
        lambda: der(Builder(common_name("berlin")).add_extension(own("munich"), False)),
        "asks for more, or less",
    ),
    "a host": (
        lambda: der(
            Builder(common_name("berlin")).add_extension(
                x509.SubjectAlternativeName([*own(), x509.DNSName("coordinator.example.org")]), False
            )
        ),
        "asks for more, or less",
    ),
    "an authority": (
        lambda: der(
            Builder(common_name("berlin"))
            .add_extension(own(), False)
            .add_extension(x509.BasicConstraints(True, None), True)
        ),
        "asks for more, or less",
    ),
    "an unknown extension": (
        lambda: der(
            Builder(common_name("berlin"))
            .add_extension(own(), False)
            .add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), False)
        ),
        "asks for more, or less",
    ),
    "a challenge": (
        lambda: der(
            Builder(common_name("berlin"))
            .add_extension(own(), False)
            .add_attribute(AttributeOID.CHALLENGE_PASSWORD, b"secret")
        ),
        "attributes",
    ),
    "another curve": (
        lambda: der(
            Builder(common_name("berlin")).add_extension(own(), False),
            ec.generate_private_key(ec.SECP384R1()),
        ),
        "P-256",
    ),
    "rsa": (
        lambda: (
            Builder(common_name("berlin"))
            .add_extension(own(), False)
            .sign(rsa.generate_private_key(65537, 2048), hashes.SHA256())
            .public_bytes(Encoding.DER)
        ),
        "P-256",
    ),
    "ed25519": (
        lambda: (
            Builder(common_name("berlin"))
            .add_extension(own(), False)
            .sign(ed25519.Ed25519PrivateKey.generate(), None)
            .public_bytes(Encoding.DER)
        ),
        "P-256",
    ),
    "another hash": (
        lambda: (
            Builder(common_name("berlin"))
            .add_extension(own(), False)
            .sign(KEY, hashes.SHA512())
            .public_bytes(Encoding.DER)
        ),
        "SHA-256",
    ),
    "too long": (lambda: GOOD + bytes(5000), "at most 4096"),
    "something behind it": (lambda: GOOD + b"\x00", "cannot be read"),
    "nothing": (lambda: b"", "cannot be read"),
    "a certificate": (
        lambda: HEARTS.site("berlin").certificate.public_bytes(Encoding.DER),
        "cannot be read",
    ),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_whatever_else_is_asked_is_refused(what: str) -> None:
    make, said = FOREIGN[what]
    with pytest.raises(RequestRefused, match=said):
        check_request(make(), "berlin")


def test_somebody_elses_key_cannot_be_certified() -> None:
    """The public key of a request is exchanged; the signature is the old one's."""
    other = spki(new_key().public_key())
    mine = spki(KEY.public_key())
    assert GOOD.count(mine) == 1
    with pytest.raises(RequestRefused, match="not signed by the key"):
        check_request(GOOD.replace(mine, other), "berlin")


def test_no_changed_bit_is_accepted() -> None:
    for bit in range(8 * len(GOOD)):
        content = bytearray(GOOD)
        content[bit // 8] ^= 1 << bit % 8
        with pytest.raises(RequestRefused):
            check_request(bytes(content), "berlin")


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4))
def test_odd_bytes_under_a_signature_that_holds_end_in_an_error_of_ours(
    changes: list[tuple[int, int]],
) -> None:
    """Who holds the key can sign anything: the same request in other bytes passes, nothing else does."""
    content = bytearray(x509.load_der_x509_csr(GOOD).tbs_certrequest_bytes)
    for place, byte in changes:
        content[place % len(content)] = byte
    try:
        found = check_request(signed_anew(bytes(content), KEY), "berlin")
    except RequestRefused:
        return
    assert (found.name, found.key_bytes) == ("berlin", spki(KEY.public_key()))


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_other_bytes_are_no_request(content: bytes) -> None:
    with pytest.raises(RequestRefused):
        check_request(content, "berlin")


# Renewal

MINE = HEARTS.site("berlin")
HALF = NOW - timedelta(minutes=5) + (30 * DAY + timedelta(minutes=5)) / 2
LATER = NOW + 16 * DAY


def test_a_certificate_is_renewed_from_half_its_life_on() -> None:
    assert renewal_due(MINE.certificate) == HALF.replace(microsecond=0)
    new = new_key()
    content = create_renewal(MINE.key, MINE.certificate, new, "berlin")
    found = check_renewal(content, MINE.certificate, "berlin", LATER)
    assert found.key_bytes == spki(new.public_key())
    renewed = HEARTS.issuer.issue_site(found, LATER)
    assert renewed.serial_number != MINE.certificate.serial_number
    verify_chain(renewed, MINE.issuer, HEARTS.pinned, None, NOW + 40 * DAY, role="site", name="berlin")


def test_not_before_but_for_the_clocks() -> None:
    content = create_renewal(MINE.key, MINE.certificate, new_key(), "berlin")
    due = renewal_due(MINE.certificate)
    check_renewal(content, MINE.certificate, "berlin", due - timedelta(minutes=5))
    with pytest.raises(RequestRefused, match=f"from {due:%F %T} UTC"):
        check_renewal(content, MINE.certificate, "berlin", due - timedelta(minutes=5, seconds=1))


def test_only_the_present_key_renews() -> None:
    thief = create_renewal(new_key(), MINE.certificate, new_key(), "berlin")
    with pytest.raises(RequestRefused, match="key of the present certificate"):
        check_renewal(thief, MINE.certificate, "berlin", LATER)
    other = HEARTS.site("munich")
    moved = create_renewal(other.key, other.certificate, new_key(), "berlin")
    with pytest.raises(RequestRefused, match="key of the present certificate"):
        check_renewal(moved, MINE.certificate, "berlin", LATER)


def test_a_renewal_is_for_one_certificate_and_one_name() -> None:
    again = HEARTS.issuer.issue_site(check_request(create_request(MINE.key, "berlin"), "berlin"), NOW)
    content = create_renewal(MINE.key, MINE.certificate, new_key(), "berlin")
    with pytest.raises(RequestRefused, match="key of the present certificate"):
        check_renewal(content, again, "berlin", LATER)
    with pytest.raises(RequestRefused, match="invited name 'munich'"):
        check_renewal(content, MINE.certificate, "munich", LATER)


def test_a_new_certificate_needs_a_new_key() -> None:
    with pytest.raises(RequestRefused, match="new key"):
        create_renewal(MINE.key, MINE.certificate, MINE.key, "berlin")
    request = create_request(MINE.key, "berlin")
    present = hashlib.sha256(MINE.certificate.public_bytes(Encoding.DER)).digest()
    signed = labelled("vestry-renewal-signature/1", field(present), field(request))
    signature = MINE.key.sign(signed, ec.ECDSA(hashes.SHA256()))
    with pytest.raises(RequestRefused, match="a new certificate needs a new key"):
        check_renewal(
            labelled("vestry-renewal/1", field(request), field(signature)), MINE.certificate, "berlin", LATER
        )


def test_another_version_is_refused() -> None:
    with pytest.raises(UnreadableObject, match="version '2'"):
        check_renewal(
            labelled("vestry-renewal/2", field(GOOD), field(b"")), MINE.certificate, "berlin", LATER
        )


@settings(deadline=None)
@given(st.data())
def test_no_changed_byte_of_a_renewal_is_accepted(data: st.DataObject) -> None:
    content = bytearray(RENEWAL)
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(PkiError):
        check_renewal(bytes(content), MINE.certificate, "berlin", LATER)


RENEWAL = create_renewal(MINE.key, MINE.certificate, new_key(), "berlin")
