"""Chains: ours pass here and in OpenSSL; everything else is refused by name."""

import shutil
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.privacy.pki.consortium import DAY, NOW, consortium, new_key, signed_anew
from vestry_privacy.pki.chain import Peer, pin_root, verify_chain
from vestry_privacy.pki.errors import (
    CertificateExpired,
    CertificateNotYetValid,
    CertificateRevoked,
    ForeignAuthority,
    OtherSite,
    PkiError,
    WrongUsage,
)
from vestry_privacy.pki.profile import (
    Extension,
    authority_extensions,
    build,
    common_name,
    decode_certificate,
    encode_certificate,
    fingerprint,
    key_usage,
    short_digest,
    uri_of,
)
from vestry_privacy.pki.revocation import Revoked, revoke

HEARTS = consortium()
BERLIN = HEARTS.site("berlin")
SECOND = timedelta(seconds=1)


def test_a_site_and_the_coordinator_are_known() -> None:
    found = verify_chain(
        BERLIN.certificate, BERLIN.issuer, HEARTS.pinned, None, NOW, role="site", name="berlin"
    )
    assert found == Peer("berlin", "site", BERLIN.certificate.serial_number, NOW + 30 * DAY)
    own = HEARTS.coordinator()
    found = verify_chain(own.certificate, own.issuer, HEARTS.pinned, None, NOW, role="coordinator")
    assert (found.name, found.role) == ("coordinator", "coordinator")


def test_a_root_is_pinned_by_its_whole_fingerprint() -> None:
    content, typed = encode_certificate(HEARTS.pinned), HEARTS.root.fingerprint
    colons = ":".join(typed[start : start + 2] for start in range(0, 64, 2)).upper()
    for form in (typed, colons, f"{typed[:8]} {typed[8:]}\n"):
        assert pin_root(content, form) == HEARTS.pinned
    for wrong in (
        "",
        typed[:-1],
        typed + "0",
        consortium("lungs").root.fingerprint,
        short_digest(typed),
        "ß",
    ):
        with pytest.raises(ForeignAuthority, match="another one was typed"):
            pin_root(content, wrong)
    issuer = BERLIN.issuer
    with pytest.raises(WrongUsage, match="path length 1"):
        pin_root(encode_certificate(issuer), fingerprint(issuer))
    with pytest.raises(WrongUsage, match="no certificate"):
        pin_root(b"", typed)


def test_openssl_accepts_the_same_chains(tmp_path: Path) -> None:
    """An implementation by another hand, with its strict checks of RFC 5280."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("no openssl on this machine")
    own = HEARTS.coordinator()
    for file, certificate in (
        ("root", HEARTS.pinned),
        ("issuer", BERLIN.issuer),
        ("site", BERLIN.certificate),
    ):
        (tmp_path / file).write_bytes(certificate.public_bytes(Encoding.PEM))
    (tmp_path / "coordinator").write_bytes(own.certificate.public_bytes(Encoding.PEM))
    at = f"-x509_strict -attime {int(NOW.timestamp())} -no-CAfile -no-CApath -no-CAstore".split()

    def verify(
        leaf: str, purpose: str, issuer: str = "issuer", *more: str
    ) -> subprocess.CompletedProcess[str]:
        chain = ["-trusted", str(tmp_path / "root"), "-untrusted", str(tmp_path / issuer)]
        command = [program, "verify", *at, *chain, "-purpose", purpose, *more, str(tmp_path / leaf)]
        return subprocess.run(command, check=False, capture_output=True, text=True)

    assert verify("site", "sslclient").returncode == 0, verify("site", "sslclient").stderr
    assert verify("coordinator", "sslserver", "issuer", "-verify_hostname", "localhost").returncode == 0
    assert verify("coordinator", "sslserver", "issuer", "-verify_ip", "127.0.0.1").returncode == 0
    assert "purpose" in verify("site", "sslserver").stderr
    assert "purpose" in verify("coordinator", "sslclient").stderr
    assert "mismatch" in verify("coordinator", "sslserver", "issuer", "-verify_hostname", "other").stderr
    # A site's key that signs another certificate: no authority, whoever looks.
    forged = leaf("munich", (BERLIN.certificate.subject, BERLIN.key))
    (tmp_path / "forged").write_bytes(forged.public_bytes(Encoding.PEM))
    (tmp_path / "both").write_bytes((tmp_path / "issuer").read_bytes() + (tmp_path / "site").read_bytes())
    assert "CA" in verify("forged", "sslclient", "both").stderr


def leaf(
    name: str,
    signer: tuple[x509.Name, ec.EllipticCurvePrivateKey],
    change: Callable[[list[Extension]], list[Extension]] = list,
    key: ec.EllipticCurvePrivateKey | None = None,
) -> x509.Certificate:
    """A site's certificate with one thing changed."""
    extensions: list[Extension] = [
        (x509.BasicConstraints(False, None), True),
        (key_usage(authority=False), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False),
        (x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri_of("site", name))]), False),
    ]
    public = (key or new_key()).public_key()
    return build(common_name(name), public, signer, (NOW - DAY, NOW + DAY), change(extensions), 7)


def ours() -> tuple[x509.Name, ec.EllipticCurvePrivateKey]:
    """Name and key of the issuing key, as only its holder has them."""
    return HEARTS.issuer.certificate.subject, HEARTS.issuer._key


def san(*names: x509.GeneralName) -> Callable[[list[Extension]], list[Extension]]:
    return lambda extensions: [*extensions[:3], (x509.SubjectAlternativeName(names), False)]


URI = x509.UniformResourceIdentifier
SHAPES: dict[str, Callable[[list[Extension]], list[Extension]]] = {
    "authority": lambda one: [(x509.BasicConstraints(True, 0), True), *one[1:]],
    "constraint not critical": lambda one: [(x509.BasicConstraints(False, None), False), *one[1:]],
    "no constraint": lambda one: one[1:],
    "signs certificates": lambda one: [one[0], (key_usage(authority=True), True), *one[2:]],
    "no usage": lambda one: [*one[:2], one[3]],
    "server as well": lambda one: [
        *one[:2],
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]), False),
        one[3],
    ],
    "no name": lambda one: one[:3],
    "two names": san(URI(uri_of("site", "berlin")), URI(uri_of("site", "munich"))),
    "a host as well": san(URI(uri_of("site", "berlin")), x509.DNSName("localhost")),
    "another name than its subject": san(URI(uri_of("site", "munich"))),
    "the coordinator's name": san(URI(uri_of("coordinator", "berlin"))),
    "an unknown extension": lambda one: [
        *one,
        (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00"), False),
    ],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_another_shape_is_refused(shape: str) -> None:
    good = leaf("berlin", ours())
    verify_chain(good, BERLIN.issuer, HEARTS.pinned, None, NOW, role="site")
    odd = leaf("berlin", ours(), SHAPES[shape])
    with pytest.raises(WrongUsage):
        verify_chain(odd, BERLIN.issuer, HEARTS.pinned, None, NOW, role="site")


def test_another_kind_of_key_is_refused() -> None:
    odd = leaf("berlin", ours(), key=ec.generate_private_key(ec.SECP384R1()))
    with pytest.raises(WrongUsage, match="P-256"):
        verify_chain(odd, BERLIN.issuer, HEARTS.pinned, None, NOW, role="site")


def test_a_signature_with_another_hash_is_refused() -> None:
    name, key = ours()
    builder = x509.CertificateBuilder(
        name, common_name("berlin"), new_key().public_key(), 7, NOW - DAY, NOW + DAY
    )
    odd = builder.sign(key, hashes.SHA384())
    with pytest.raises(WrongUsage, match="SHA-256"):
        verify_chain(odd, BERLIN.issuer, HEARTS.pinned, None, NOW, role="site")


def test_roles_are_not_exchanged() -> None:
    own = HEARTS.coordinator()
    with pytest.raises(WrongUsage, match="extendedKeyUsage"):
        verify_chain(BERLIN.certificate, BERLIN.issuer, HEARTS.pinned, None, NOW, role="coordinator")
    with pytest.raises(WrongUsage, match="extendedKeyUsage"):
        verify_chain(own.certificate, own.issuer, HEARTS.pinned, None, NOW, role="site")


def test_another_sites_certificate_is_refused() -> None:
    with pytest.raises(OtherSite, match="of 'berlin', 'munich' is expected"):
        verify_chain(BERLIN.certificate, BERLIN.issuer, HEARTS.pinned, None, NOW, role="site", name="munich")


def test_a_foreign_consortium_is_refused() -> None:
    other = consortium("lungs")
    foreign = other.site("berlin")
    for issuer, root in ((foreign.issuer, HEARTS.pinned), (BERLIN.issuer, HEARTS.pinned)):
        with pytest.raises(ForeignAuthority):
            verify_chain(foreign.certificate, issuer, root, None, NOW, role="site")
    with pytest.raises(ForeignAuthority, match="fingerprint"):
        verify_chain(BERLIN.certificate, BERLIN.issuer, other.pinned, None, NOW, role="site")


def test_a_root_of_the_same_name_is_not_the_root() -> None:
    twin = consortium("hearts", NOW + SECOND)
    assert twin.pinned.subject == HEARTS.pinned.subject
    with pytest.raises(ForeignAuthority):
        verify_chain(BERLIN.certificate, BERLIN.issuer, twin.pinned, None, NOW, role="site")


def test_a_site_is_no_issuer_and_an_issuer_is_no_root() -> None:
    forged = leaf("munich", (BERLIN.certificate.subject, BERLIN.key))
    with pytest.raises(ForeignAuthority):
        verify_chain(forged, BERLIN.certificate, HEARTS.pinned, None, NOW, role="site")
    with pytest.raises(ForeignAuthority):
        verify_chain(BERLIN.certificate, BERLIN.issuer, BERLIN.issuer, None, NOW, role="site")


def test_the_root_issues_no_leaf() -> None:
    direct = leaf("berlin", (HEARTS.pinned.subject, HEARTS.root._key))
    with pytest.raises(WrongUsage, match="path length 0"):
        verify_chain(direct, HEARTS.pinned, HEARTS.pinned, None, NOW, role="site")


def test_an_issuer_certified_by_an_issuer_is_refused() -> None:
    name, key = ours()
    below = new_key()
    lower = build(
        common_name("lower"), below.public_key(), (name, key), (NOW, NOW + DAY), authority_extensions(0), 9
    )
    odd = leaf("berlin", (lower.subject, below))
    with pytest.raises(ForeignAuthority):
        verify_chain(odd, lower, HEARTS.pinned, None, NOW, role="site")


def test_times_are_kept_with_five_minutes_for_clocks() -> None:
    certificate, end = BERLIN.certificate, NOW + 30 * DAY
    start = NOW - timedelta(minutes=5)
    for clock in (start - timedelta(minutes=5), NOW, end, end + timedelta(minutes=5)):
        verify_chain(
            certificate, BERLIN.issuer, HEARTS.pinned, None, clock, role="site", skew=timedelta(minutes=5)
        )
    with pytest.raises(
        CertificateNotYetValid, match=r"0:05:01 ahead; this clock says 2026-03-01 11:49:59 UTC"
    ):
        verify_chain(
            certificate,
            BERLIN.issuer,
            HEARTS.pinned,
            None,
            start - timedelta(minutes=5, seconds=1),
            role="site",
        )
    with pytest.raises(CertificateExpired, match=r"^certificate: was valid until 2026-03-31 .* 0:05:01 ago"):
        verify_chain(
            certificate,
            BERLIN.issuer,
            HEARTS.pinned,
            None,
            end + timedelta(minutes=5, seconds=1),
            role="site",
        )


def test_an_issuing_key_that_is_over_takes_its_certificates_along() -> None:
    late = HEARTS.site("late", NOW + 89 * DAY)
    assert late.certificate.not_valid_after_utc == NOW + 90 * DAY
    with pytest.raises(CertificateExpired, match="issuing key"):
        verify_chain(late.certificate, late.issuer, HEARTS.pinned, None, NOW + 91 * DAY, role="site")


def test_a_revoked_certificate_is_refused_at_once() -> None:
    entry = Revoked(BERLIN.certificate.serial_number, "key stolen", NOW)
    revocations = revoke(HEARTS.issuer, None, [entry], NOW)
    with pytest.raises(CertificateRevoked, match="key stolen"):
        verify_chain(BERLIN.certificate, BERLIN.issuer, HEARTS.pinned, revocations, NOW, role="site")
    other = HEARTS.site("munich")
    verify_chain(other.certificate, other.issuer, HEARTS.pinned, revocations, NOW, role="site")


def accept(content: bytes, whose: str) -> None:
    odd = decode_certificate(content, "certificate")
    chain = (odd, BERLIN.issuer) if whose == "site" else (BERLIN.certificate, odd)
    verify_chain(*chain, HEARTS.pinned, None, NOW, role="site")


@pytest.mark.parametrize("whose", ["site", "issuer"])
def test_no_changed_bit_is_accepted(whose: str) -> None:
    """All of them: an error of ours each time, never a peer and never another exception."""
    good = encode_certificate(BERLIN.certificate if whose == "site" else BERLIN.issuer)
    for bit in range(8 * len(good)):
        content = bytearray(good)
        content[bit // 8] ^= 1 << bit % 8
        with pytest.raises(PkiError):
            accept(bytes(content), whose)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4))
def test_odd_bytes_under_a_signature_that_holds_end_in_an_error_of_ours(
    changes: list[tuple[int, int]],
) -> None:
    """What a stolen issuing key could put before a site: accepted as a site's, or refused by name."""
    content = bytearray(BERLIN.certificate.tbs_certificate_bytes)
    for place, byte in changes:
        content[place % len(content)] = byte
    odd = signed_anew(bytes(content), HEARTS.issuer._key)
    try:
        certificate = decode_certificate(odd, "certificate")
        found = verify_chain(certificate, BERLIN.issuer, HEARTS.pinned, None, NOW, role="site")
    except PkiError:
        return
    assert uri_of("site", found.name).encode() in content


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_other_bytes_are_no_certificate(content: bytes) -> None:
    with pytest.raises(WrongUsage, match="no certificate"):
        decode_certificate(content, "certificate")
    with pytest.raises(WrongUsage, match="at most"):
        decode_certificate(bytes(8193), "certificate")
