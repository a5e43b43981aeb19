"""What certificates of a consortium look like: names, lifetimes, keys and the shape of each kind (RFC 5280).

Keys are on P-256 with ECDSA and SHA-256: BoringSSL, and so gRPC, offers no Ed25519 when it checks a peer.

    VestryError
    └── PkiError
        ├── ForeignAuthority    not signed by the key above it
        └── WrongUsage          a certificate of another shape
"""

import hashlib
import hmac
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from vestry_privacy.pki.errors import ForeignAuthority, WrongUsage
from vestry_privacy.pki.objects import to_second
from vestry_privacy.secagg.secret import Entropy

__all__ = [
    "CERTIFICATE_LIFETIME",
    "ISSUER_LIFETIME",
    "ROOT_LIFETIME",
    "SKEW",
    "Extension",
    "Role",
    "authority_extensions",
    "build",
    "check_authority",
    "check_issued",
    "check_issuer",
    "check_root",
    "common_name",
    "decode_certificate",
    "encode_certificate",
    "extension_of",
    "fingerprint",
    "key_usage",
    "p256_bytes",
    "same_fingerprint",
    "serial_number",
    "short_digest",
    "spki",
    "subject_of",
    "uri_of",
    "usable_name",
    "whole_signature",
]

SKEW = timedelta(minutes=5)
"""How far two clocks may be apart."""
CERTIFICATE_LIFETIME = timedelta(days=30)
ISSUER_LIFETIME = timedelta(days=90)
ROOT_LIFETIME = timedelta(days=3653)

Role = Literal["site", "coordinator"]
Extension = tuple[x509.ExtensionType, bool]
"""An extension, and whether it is critical."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_SERIAL_BYTES = 20
_LARGEST_CERTIFICATE = 8192
_UNREADABLE = (
    ValueError,
    TypeError,
    x509.InvalidVersion,
    UnsupportedAlgorithm,
    KeyError,  # of an unknown kind of string in a name
    UserWarning,  # of a serial number or a country that cannot be, where warnings are errors
)
_AUTHORITY = frozenset({"basicConstraints", "keyUsage", "subjectKeyIdentifier", "authorityKeyIdentifier"})


def usable_name(name: str) -> bool:
    """Whether a name may stand in a certificate: 1 to 63 of a-z, 0-9, _ and -, a letter or digit first."""
    return _NAME.fullmatch(name) is not None


def uri_of(role: Role, name: str) -> str:
    """How a certificate names its owner."""
    return f"vestry://{role}/{name}"


def common_name(name: str) -> x509.Name:
    """A distinguished name of one part."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def serial_number(entropy: Entropy) -> int:
    """Random, 20 bytes, the most that RFC 5280 (4.1.2.2) allows; 159 bits, since it is positive."""
    return (int.from_bytes(entropy(_SERIAL_BYTES), "big") >> 1) or 1


def encode_certificate(certificate: x509.Certificate) -> bytes:
    """Its DER bytes."""
    return certificate.public_bytes(Encoding.DER)


def decode_certificate(content: bytes, what: str) -> x509.Certificate:
    """Read a certificate of a peer.

    Args:
        content: DER.
        what: names it in errors.

    Raises:
        WrongUsage: it is none, or is larger than any of ours.
    """
    if len(content) > _LARGEST_CERTIFICATE:
        raise WrongUsage(f"{what}: {len(content)} bytes; at most {_LARGEST_CERTIFICATE} are expected")
    try:
        certificate = x509.load_der_x509_certificate(content)
        sound = certificate.serial_number > 0 and whole_signature(content, certificate.signature)
    except _UNREADABLE:
        raise WrongUsage(f"{what}: is no certificate in DER") from None
    if not sound:
        raise WrongUsage(f"{what}: its serial number is not positive, or its signature has odd bits")
    return certificate


def subject_of(certificate: x509.Certificate, what: str) -> str:
    """The one common name that is a certificate's whole subject.

    Raises:
        WrongUsage: it has another subject.
    """
    try:
        parts = [(part.oid, part.value) for part in certificate.subject]
    except _UNREADABLE:
        raise WrongUsage(f"{what}: its subject cannot be read") from None
    if len(parts) != 1 or parts[0][0] != NameOID.COMMON_NAME or not isinstance(parts[0][1], str):
        raise WrongUsage(f"{what}: its subject is not one name")
    return parts[0][1]


def whole_signature(content: bytes, signature: bytes) -> bool:
    """Whether a certificate or request ends in a signature of whole bytes.

    The one byte that nobody signs is the count of unused bits in front of the signature (X.690, 8.6); without
    this check an attacker could give a certificate another fingerprint.
    """
    return content.endswith(b"\x00" + signature)


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the DER bytes, 64 hexadecimal digits, to be compared out of band."""
    return hashlib.sha256(encode_certificate(certificate)).hexdigest()


def same_fingerprint(typed: str, digest: str) -> bool:
    """Whether a person typed a fingerprint: all 64 digits; blanks, colons and capitals make no difference."""
    plain = "".join(typed.split()).replace(":", "").lower()
    return hmac.compare_digest(plain.encode(), digest.encode())


def short_digest(digest: str) -> str:
    """A fingerprint to be read aloud: six groups of four decimal digits.

    Guarantees:
        None against somebody who can try 2^79 keys; programs compare all 64 digits, and people too where they
        can copy them.
    """
    number = int(digest, 16) % 10**24
    digits = f"{number:024}"
    return " ".join(digits[start : start + 4] for start in range(0, 24, 4))


def spki(key: ec.EllipticCurvePublicKey) -> bytes:
    """A public key as DER SubjectPublicKeyInfo."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def p256_bytes(certificate: x509.Certificate | x509.CertificateSigningRequest, what: str) -> bytes:
    """The public key (DER SubjectPublicKeyInfo) where key and signature are ECDSA on P-256.

    Raises:
        WrongUsage: another kind of key or signature.
    """
    try:
        key = certificate.public_key()
        algorithm = certificate.signature_hash_algorithm
    except (ValueError, UnsupportedAlgorithm):
        raise WrongUsage(f"{what}: its key or signature is of an unknown kind; P-256 is needed") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise WrongUsage(f"{what}: its key is of another kind; P-256 is needed")
    if not isinstance(algorithm, hashes.SHA256):
        raise WrongUsage(f"{what}: its signature is of another kind; ECDSA with SHA-256 is needed")
    return spki(key)


def key_usage(*, authority: bool) -> x509.KeyUsage:
    """Certificates and lists may be signed by an authority, handshakes by the others."""
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def authority_extensions(path_length: int) -> list[Extension]:
    """Of a root (path length 1) or an issuing key (0)."""
    return [(x509.BasicConstraints(True, path_length), True), (key_usage(authority=True), True)]


def build(
    subject: x509.Name,
    key: ec.EllipticCurvePublicKey,
    signer: tuple[x509.Name, ec.EllipticCurvePrivateKey],
    times: tuple[datetime, datetime],
    extensions: Sequence[Extension],
    serial: int,
) -> x509.Certificate:
    """A certificate, with the identifiers of both keys (RFC 5280, 4.2.1.1 and 4.2.1.2).

    Args:
        subject: whose it is.
        key: that it certifies.
        signer: name and key of the authority.
        times: not before, not after.
        extensions: in order.
        serial: see :func:`serial_number`.
    """
    name, private = signer
    start, end = map(to_second, times)
    builder = x509.CertificateBuilder(name, subject, key, serial, start, end)
    identifiers: list[Extension] = [
        (x509.SubjectKeyIdentifier.from_public_key(key), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(private.public_key()), False),
    ]
    for extension, critical in [*extensions, *identifiers]:
        builder = builder.add_extension(extension, critical)
    return builder.sign(private, hashes.SHA256())


def extension_of(certificate: x509.Certificate, what: str) -> dict[str, x509.Extension[x509.ExtensionType]]:
    """All extensions by name; an unknown one is found under its dotted number.

    Raises:
        WrongUsage: they cannot be read, or one is there twice.
    """
    try:
        return {_extension_name(extension.oid): extension for extension in certificate.extensions}
    except (*_UNREADABLE, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise WrongUsage(f"{what}: its extensions cannot be read") from None


def check_authority(certificate: x509.Certificate, path_length: int, what: str) -> None:
    """Check that a certificate is an authority's, and nothing else.

    Raises:
        WrongUsage: another key, another extension, or another path length.
    """
    p256_bytes(certificate, what)
    found = extension_of(certificate, what)
    if found.keys() != _AUTHORITY:
        raise WrongUsage(f"{what}: is no authority's certificate of this version")
    for extension, critical in authority_extensions(path_length):
        same = found[_extension_name(extension.oid)]
        if same.value != extension or same.critical != critical:
            raise WrongUsage(f"{what}: may not do what an authority of path length {path_length} does")


def check_root(root: x509.Certificate) -> None:
    """Check a root certificate's shape and signature; whether it is the right one is for its pin.

    Raises:
        WrongUsage: it is no root's.
        ForeignAuthority: another key signed it.
    """
    check_authority(root, 1, "root certificate")
    _check_signed(root, root, "root certificate")


def check_issuer(issuer: x509.Certificate, root: x509.Certificate) -> None:
    """Check that the root certified an issuing key; times and revocation are for the caller.

    Args:
        issuer: of whoever claims to be one.
        root: pinned.

    Raises:
        ForeignAuthority: another root signed it, or none.
        WrongUsage: it is signed by the root, but no issuing key's.
    """
    _check_signed(issuer, root, "issuing key's certificate")
    check_authority(issuer, 0, "issuing key's certificate")


def check_issued(certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    """Check that an issuing key signed a certificate; its shape is for the caller.

    Raises:
        ForeignAuthority: it did not.
    """
    _check_signed(certificate, issuer, "certificate")


def _check_signed(certificate: x509.Certificate, signer: x509.Certificate, what: str) -> None:
    try:
        certificate.verify_directly_issued_by(signer)
    except (ValueError, TypeError, KeyError, InvalidSignature, UnsupportedAlgorithm):
        raise ForeignAuthority(
            f"{what}: is not signed by this consortium's key (certificate {fingerprint(signer)[:16]}…); "
            "compare the root's fingerprint with the coordinator's operator"
        ) from None


def _extension_name(oid: x509.ObjectIdentifier) -> str:
    return _KNOWN.get(oid.dotted_string, oid.dotted_string)


_KNOWN = {
    x509.BasicConstraints.oid.dotted_string: "basicConstraints",
    x509.KeyUsage.oid.dotted_string: "keyUsage",
    x509.ExtendedKeyUsage.oid.dotted_string: "extendedKeyUsage",
    x509.SubjectAlternativeName.oid.dotted_string: "subjectAltName",
    x509.SubjectKeyIdentifier.oid.dotted_string: "subjectKeyIdentifier",
    x509.AuthorityKeyIdentifier.oid.dotted_string: "authorityKeyIdentifier",
}
