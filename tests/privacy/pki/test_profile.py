"""What is common to all certificates: names, serial numbers, the shape of an authority."""

import pytest
from cryptography import x509

from tests.privacy.pki.consortium import DAY, NOW, consortium, new_key
from vestry_privacy.pki.errors import ForeignAuthority, RequestRefused, WrongUsage
from vestry_privacy.pki.profile import (
    Extension,
    authority_extensions,
    build,
    check_authority,
    check_issuer,
    check_root,
    common_name,
    decode_certificate,
    encode_certificate,
    fingerprint,
    key_usage,
    serial_number,
    short_digest,
    uri_of,
    usable_name,
    whole_signature,
)
from vestry_privacy.pki.requests import check_request, create_request

HEARTS = consortium()


@pytest.mark.parametrize("name", ["a", "0", "site-1", "st_mary", "a" * 63])
def test_names(name: str) -> None:
    assert usable_name(name)
    assert uri_of("site", name) == f"vestry://site/{name}"


@pytest.mark.parametrize("name", ["", "A", "-a", "_a", "a" * 64, "a.b", "a/b", "a b", "a\n", "é", "a\x00"])
def test_names_that_are_none(name: str) -> None:
    assert not usable_name(name)


def test_serial_numbers_use_all_bytes_and_are_never_zero() -> None:
    assert serial_number(lambda size: b"\xff" * size) == 2**159 - 1
    assert serial_number(lambda size: b"\x80" + bytes(size - 1)) == 2**158
    assert serial_number(bytes) == 1


def test_spoken_fingerprints() -> None:
    assert short_digest("00" * 32) == "0000 0000 0000 0000 0000 0000"
    assert short_digest("00" * 31 + "0f") == "0000 0000 0000 0000 0000 0015"
    assert short_digest(f"{10**24 + 123:064x}") == "0000 0000 0000 0000 0000 0123"


def test_the_fingerprint_is_of_the_whole_certificate() -> None:
    twin = consortium("hearts", NOW + DAY)
    assert fingerprint(HEARTS.pinned) != fingerprint(twin.pinned)


def authority(extensions: list[Extension]) -> x509.Certificate:
    name, key = HEARTS.pinned.subject, HEARTS.root._key
    return build(common_name("lower"), new_key().public_key(), (name, key), (NOW, NOW + DAY), extensions, 5)


def test_identifiers_of_both_keys_are_there() -> None:
    """RFC 5280, 4.2.1.1: an issuer's key identifier is the authority key identifier of what it issues."""
    below, above = HEARTS.issuer.certificate, HEARTS.pinned
    authority_key = below.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    subject_key = above.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert authority_key.key_identifier == subject_key.digest


@pytest.mark.parametrize(
    "extensions",
    [
        authority_extensions(1),
        authority_extensions(0)[:1],
        authority_extensions(0)[1:],
        [(x509.BasicConstraints(True, 0), False), (key_usage(authority=True), True)],
        [(x509.BasicConstraints(True, None), True), (key_usage(authority=True), True)],
        [(x509.BasicConstraints(False, None), True), (key_usage(authority=True), True)],
        [(x509.BasicConstraints(True, 0), True), (key_usage(authority=False), True)],
        [*authority_extensions(0), (x509.OCSPNoCheck(), False)],
    ],
)
def test_an_issuing_key_has_one_shape(extensions: list[Extension]) -> None:
    check_issuer(authority(authority_extensions(0)), HEARTS.pinned)
    with pytest.raises(WrongUsage):
        check_issuer(authority(extensions), HEARTS.pinned)


def test_a_root_signs_itself() -> None:
    check_root(HEARTS.pinned)
    check_authority(HEARTS.pinned, 1, "root")
    other = new_key()
    odd = build(
        HEARTS.pinned.subject,
        other.public_key(),
        (HEARTS.pinned.subject, HEARTS.root._key),
        (NOW, NOW + DAY),
        authority_extensions(1),
        5,
    )
    with pytest.raises(ForeignAuthority):
        check_root(odd)


def test_unused_bits_of_a_signature_are_refused() -> None:
    """The only byte of a certificate or request that nobody signs: with an even end it could be 1."""
    key = new_key()
    request = create_request(key, "berlin")
    while request[-1] % 2:
        request = create_request(key, "berlin")
    certificate = encode_certificate(HEARTS.site("berlin").certificate)
    while certificate[-1] % 2:
        certificate = encode_certificate(HEARTS.site("berlin").certificate)
    for content in (request, certificate):
        load = x509.load_der_x509_csr if content is request else x509.load_der_x509_certificate
        signature = load(content).signature
        odd = content[: -len(signature) - 1] + b"\x01" + signature
        assert load(odd).signature == signature
        assert whole_signature(content, signature)
        assert not whole_signature(odd, signature)
        with pytest.raises(WrongUsage if content is certificate else RequestRefused):
            decode_certificate(odd, "x") if content is certificate else check_request(odd, "berlin")
