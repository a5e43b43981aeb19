"""Requests for certificates (PKCS#10, RFC 2986): made at the site, whose key stays there.

A renewal is a request for a new key that the key of the present certificate signs as well.

    VestryError
    └── PkiError
        ├── UnreadableObject    bytes that are no renewal of this version
        └── RequestRefused      not what the invited site may ask
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from vestry_privacy.pki.errors import PkiError, RequestRefused
from vestry_privacy.pki.objects import field, labelled, reading, to_second
from vestry_privacy.pki.profile import (
    SKEW,
    common_name,
    encode_certificate,
    p256_bytes,
    spki,
    uri_of,
    usable_name,
    whole_signature,
)

__all__ = [
    "Request",
    "check_renewal",
    "check_request",
    "create_renewal",
    "create_request",
    "renewal_due",
]

_RENEWAL = "vestry-renewal/1"
_LARGEST_REQUEST = 4096
_UNREADABLE = (
    ValueError,
    TypeError,
    KeyError,  # of an unknown kind of string in a name
    UserWarning,  # of a country that cannot be, where warnings are errors
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
_EXTENSION_REQUEST = x509.ObjectIdentifier("1.2.840.113549.1.9.14")


@dataclass(frozen=True)
class Request:
    """A request that was checked.

    Attributes:
        name: of the site.
        public_key: P-256, of which the site proved the private half.
    """

    name: str
    public_key: ec.EllipticCurvePublicKey

    @property
    def key_bytes(self) -> bytes:
        """DER SubjectPublicKeyInfo."""
        return spki(self.public_key)


def create_request(key: ec.EllipticCurvePrivateKey, name: str) -> bytes:
    """Ask for a site's certificate.

    Args:
        key: made at the site; only its public half is in the result.
        name: as invited.

    Returns:
        PKCS#10 in DER.

    Raises:
        RequestRefused: the name is no name.
    """
    if not usable_name(name):
        raise RequestRefused(
            f"name={name!r}: 1 to 63 of a-z, 0-9, _ and - are needed, a letter or digit first"
        )
    builder = x509.CertificateSigningRequestBuilder(common_name(name)).add_extension(_own_names(name), False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def check_request(content: bytes, name: str) -> Request:
    """Check a request against an invitation.

    Args:
        content: PKCS#10 in DER, of anybody.
        name: that the token was made for.

    Raises:
        RequestRefused: it cannot be read, is for another name, of another kind of key, asks for anything
            besides its name, or is not signed by its own key.

    Guarantees:
        Whoever made the request holds the private key. What it asks besides the key never gets into a
        certificate: the issuer writes every field itself.
    """
    try:
        request = _read(content)
        key = p256_bytes(request, "request")
        held = request.is_signature_valid and whole_signature(content, request.signature)
        subject = request.subject
        asked = {extension.oid: extension.value for extension in request.extensions}
        attributes = [attribute.oid for attribute in request.attributes]
    except PkiError as error:
        raise RequestRefused(str(error)) from None
    except _UNREADABLE:
        raise RequestRefused(
            "request: cannot be read; PKCS#10 in DER with a key on P-256 is needed"
        ) from None
    if not held:
        raise RequestRefused("request: is not signed by the key that it is for")
    if subject != common_name(name):
        raise RequestRefused(f"request: is not for the invited name {name!r}")
    if asked != {x509.SubjectAlternativeName.oid: _own_names(name)}:
        raise RequestRefused(f"request: asks for more, or less, than the name {uri_of('site', name)}")
    if attributes != [_EXTENSION_REQUEST]:
        raise RequestRefused("request: has attributes that nobody asked for")
    public = request.public_key()
    if not isinstance(public, ec.EllipticCurvePublicKey) or spki(public) != key:
        raise RequestRefused("request: its key cannot be read")
    return Request(name, public)


def renewal_due(certificate: x509.Certificate) -> datetime:
    """Half of a certificate's life: from then on it may be renewed."""
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return to_second(start + (end - start) / 2)


def create_renewal(
    old: ec.EllipticCurvePrivateKey, certificate: x509.Certificate, new: ec.EllipticCurvePrivateKey, name: str
) -> bytes:
    """Ask for a certificate of a new key, in the name of the present one.

    Args:
        old: key of the present certificate.
        certificate: present.
        new: made at the site.
        name: of the site.

    Raises:
        RequestRefused: the new key is the old one, or the name is no name.
    """
    if spki(old.public_key()) == spki(new.public_key()):
        raise RequestRefused("renewal: a new certificate needs a new key")
    request = create_request(new, name)
    signature = old.sign(_renewed(certificate, request), ec.ECDSA(hashes.SHA256()))
    return labelled(_RENEWAL, field(request), field(signature))


def check_renewal(
    content: bytes, certificate: x509.Certificate, name: str, now: datetime, skew: timedelta = SKEW
) -> Request:
    """Check a renewal against the certificate that it renews.

    Args:
        content: of :func:`create_renewal`.
        certificate: that the site showed on this connection;
            :func:`vestry_privacy.pki.chain.verify_chain` must have accepted it: neither over nor revoked.
        name: that it is for.
        now: clock.
        skew: how far the site's clock may be ahead.

    Raises:
        UnreadableObject: it is no renewal of this version.
        RequestRefused: too early, of the same key, not signed by the present key; or see
            :func:`check_request`.
    """
    with reading(content, _RENEWAL) as reader:
        request, signature = reader.field(), reader.field()
    due = renewal_due(certificate)
    if to_second(now) + skew < due:
        raise RequestRefused(
            f"renewal: may be asked for from {due:%F %T} UTC, half of the certificate's life"
        )
    old = certificate.public_key()
    if not isinstance(old, ec.EllipticCurvePublicKey):
        raise RequestRefused("renewal: the present certificate has another kind of key; enrol again")
    try:
        old.verify(signature, _renewed(certificate, request), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise RequestRefused("renewal: is not signed by the key of the present certificate") from None
    checked = check_request(request, name)
    if checked.key_bytes == spki(old):
        raise RequestRefused("renewal: a new certificate needs a new key")
    return checked


def _own_names(name: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri_of("site", name))])


def _read(content: bytes) -> x509.CertificateSigningRequest:
    if len(content) > _LARGEST_REQUEST:
        raise RequestRefused(f"request: has {len(content)} bytes, at most {_LARGEST_REQUEST} are read")
    return x509.load_der_x509_csr(content)


def _renewed(certificate: x509.Certificate, request: bytes) -> bytes:
    present = hashlib.sha256(encode_certificate(certificate)).digest()
    return labelled("vestry-renewal-signature/1", field(present), field(request))
