"""The coordinator's issuing key: short-lived certificates for sites and for the coordinator's own end.

It secures transport only. Which identities take part in a sum is a matter of the sites' directory
(:mod:`vestry_privacy.pki.directory_changes`), on which this key has no say.

    VestryError
    └── PkiError
        ├── KeyFileRefused          the file is refused
        ├── RequestRefused          a host name or address is none
        ├── CertificateExpired      the issuing key's time is over
        └── CertificateNotYetValid  its time has not come
"""

import os
from collections.abc import Sequence
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import NoReturn

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from vestry_privacy.pki.errors import (
    CertificateExpired,
    CertificateNotYetValid,
    KeyFileRefused,
    PkiError,
    RequestRefused,
)
from vestry_privacy.pki.keys import decode_key, encode_key, read_private
from vestry_privacy.pki.objects import field, labelled, reading, to_second
from vestry_privacy.pki.profile import (
    CERTIFICATE_LIFETIME,
    SKEW,
    Extension,
    Role,
    build,
    check_issuer,
    check_root,
    common_name,
    decode_certificate,
    encode_certificate,
    key_usage,
    p256_bytes,
    serial_number,
    spki,
    uri_of,
    usable_name,
)
from vestry_privacy.pki.requests import Request
from vestry_privacy.secagg.secret import Entropy

__all__ = ["Issuer", "encode_issuer", "load_issuer"]

_LABEL = "vestry-issuing-key/1"
_USAGE = {
    "site": ExtendedKeyUsageOID.CLIENT_AUTH,  # a site calls; nobody calls a site
    "coordinator": ExtendedKeyUsageOID.SERVER_AUTH,
}


class Issuer:
    """An issuing key with its certificate and the root's.

    Args:
        key: private; kept to itself.
        certificate: signed by the root.
        root: the root's certificate.

    Attributes:
        certificate: as given.
        root: as given.

    Guarantees:
        The private key has no accessor and no repr, and the object can be neither copied nor pickled.
    """

    __slots__ = ("_key", "certificate", "root")

    def __init__(
        self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate, root: x509.Certificate
    ) -> None:
        self._key, self.certificate, self.root = key, certificate, root

    def issue_site(
        self, request: Request, now: datetime, *, entropy: Entropy = os.urandom
    ) -> x509.Certificate:
        """A site's certificate of 30 days, for calling the coordinator only.

        Args:
            request: checked by :func:`vestry_privacy.pki.requests.check_request`.
            now: clock.
            entropy: of the serial number.

        Raises:
            CertificateExpired, CertificateNotYetValid: of the issuing key.

        Guarantees:
            Valid from five minutes ago, for clocks that lag, and never longer than the issuing key.
        """
        return self._issue("site", request.name, request.public_key, [], now, entropy)

    def issue_coordinator(
        self,
        key: ec.EllipticCurvePublicKey,
        name: str,
        hosts: Sequence[str],
        now: datetime,
        *,
        entropy: Entropy = os.urandom,
    ) -> x509.Certificate:
        """The coordinator's certificate of 30 days, for being called only.

        Args:
            key: of the coordinator's end of the link.
            name: of the coordinator.
            hosts: host names and addresses under which sites call it.
            now: clock.
            entropy: of the serial number.

        Raises:
            RequestRefused: no host, or one that is none; or the name is no name.
            CertificateExpired, CertificateNotYetValid: of the issuing key.
        """
        if not hosts or not usable_name(name):
            raise RequestRefused(f"coordinator={name!r}, hosts={list(hosts)}: a name and a host are needed")
        return self._issue("coordinator", name, key, [_host(host) for host in hosts], now, entropy)

    def sign(self, content: bytes) -> bytes:
        """ECDSA with SHA-256 over content that begins with a label; DER."""
        return self._key.sign(content, ec.ECDSA(hashes.SHA256()))

    def _issue(
        self,
        role: Role,
        name: str,
        key: ec.EllipticCurvePublicKey,
        hosts: list[x509.GeneralName],
        now: datetime,
        entropy: Entropy,
    ) -> x509.Certificate:
        mine, clock = self.certificate, to_second(now)
        if clock >= mine.not_valid_after_utc:
            raise CertificateExpired(
                f"issuing key: its time was over on {mine.not_valid_after_utc:%F}; certify a new one with "
                "the root"
            )
        if clock < mine.not_valid_before_utc:
            raise CertificateNotYetValid(
                f"issuing key: is valid from {mine.not_valid_before_utc:%F %T} UTC, and this clock says "
                f"{clock:%F %T}; set the clock"
            )
        times = (
            max(clock - SKEW, mine.not_valid_before_utc),
            min(clock + CERTIFICATE_LIFETIME, mine.not_valid_after_utc),
        )
        names = [x509.UniformResourceIdentifier(uri_of(role, name)), *hosts]
        extensions: list[Extension] = [
            (x509.BasicConstraints(False, None), True),
            (key_usage(authority=False), True),
            (x509.ExtendedKeyUsage([_USAGE[role]]), False),
            (x509.SubjectAlternativeName(names), False),
        ]
        signer, serial = (mine.subject, self._key), serial_number(entropy)
        return build(common_name(name), key, signer, times, extensions, serial)

    def __repr__(self) -> str:
        return f"Issuer({self.certificate.serial_number:x})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an Issuer cannot be copied or pickled; load its file where it is needed")


def encode_issuer(key: ec.EllipticCurvePrivateKey, issuer: Issuer) -> bytes:
    """The content of an issuing key's file."""
    certificates = (issuer.certificate, issuer.root)
    parts = (field(encode_certificate(one)) for one in certificates)
    return labelled(_LABEL, field(encode_key(key)), *parts)


def load_issuer(path: Path) -> Issuer:
    """Read an issuing key; the root file is not needed.

    Raises:
        KeyFileRefused: no such file, others may read it, or key and certificates do not belong together.
    """
    content = read_private(path, "issuing key")
    where = f"issuing key={path}"
    try:
        with reading(content, _LABEL) as reader:
            private = reader.field()
            certificate = decode_certificate(reader.field(), "issuing key's certificate")
            root = decode_certificate(reader.field(), "root certificate")
        check_root(root)
        check_issuer(certificate, root)
    except PkiError as error:
        raise KeyFileRefused(f"{where}: {error}") from None
    key = decode_key(private, where)
    if spki(key.public_key()) != p256_bytes(certificate, "issuing key's certificate"):
        raise KeyFileRefused(f"{where}: the certificate is of another key; certify a new one with the root")
    return Issuer(key, certificate, root)


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        pass
    parts = host.split(".")
    if not host.isascii() or len(host) > 253 or not all(usable_name(part.lower()) for part in parts):
        raise RequestRefused(f"host={host!r}: is no host name and no address")
    return x509.DNSName(host.lower())
