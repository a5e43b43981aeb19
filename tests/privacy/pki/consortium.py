"""A small consortium: root, issuing key, sites' and coordinator's credentials, at any time."""

import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from vestry_privacy.pki.issuer import Issuer
from vestry_privacy.pki.keys import Credentials
from vestry_privacy.pki.requests import check_request, create_request
from vestry_privacy.pki.root import Root, certify_issuer, create_root

__all__ = ["CHEAP", "DAY", "NOW", "PHRASE", "Consortium", "consortium", "new_key", "signed_anew"]

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
DAY = timedelta(days=1)
PHRASE = "five words that nobody guesses"
CHEAP = 14
"""scrypt's cost in tests: 16 MiB."""


def new_key() -> ec.EllipticCurvePrivateKey:
    """A key of the link."""
    return ec.generate_private_key(ec.SECP256R1())


@dataclass(frozen=True)
class Consortium:
    """A root and its issuing key."""

    root: Root
    issuer: Issuer

    @property
    def pinned(self) -> x509.Certificate:
        """The root certificate."""
        return self.root.certificate

    def next_issuer(self, now: datetime) -> Issuer:
        """Another issuing key of the same root."""
        with tempfile.TemporaryDirectory() as folder:
            return certify_issuer(self.root, Path(folder) / "issuer", now)

    def site(self, name: str, now: datetime = NOW, issuer: Issuer | None = None) -> Credentials:
        """A site's key and certificate."""
        key, by = new_key(), issuer or self.issuer
        certificate = by.issue_site(check_request(create_request(key, name), name), now)
        return Credentials(key, certificate, by.certificate, self.pinned)

    def coordinator(self, now: datetime = NOW, *hosts: str) -> Credentials:
        """The coordinator's key and certificate."""
        key = new_key()
        names = hosts or ("localhost", "127.0.0.1")
        certificate = self.issuer.issue_coordinator(key.public_key(), "coordinator", names, now)
        return Credentials(key, certificate, self.issuer.certificate, self.pinned)


def signed_anew(content: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    """The signed part of a certificate or request, whatever is in it, with a signature that holds."""
    signature = b"\x00" + key.sign(content, ec.ECDSA(hashes.SHA256()))
    body = content + _ECDSA_WITH_SHA256 + b"\x03" + _length(signature) + signature
    return b"\x30" + _length(body) + body


def _length(content: bytes) -> bytes:
    size = len(content)
    if size < 128:
        return bytes([size])
    return bytes([0x81, size]) if size < 256 else bytes([0x82, size >> 8, size & 255])


_ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")


@cache
def consortium(name: str = "hearts", now: datetime = NOW) -> Consortium:
    """One for each name and time."""
    with tempfile.TemporaryDirectory() as folder:
        root = create_root(Path(folder) / "root", PHRASE, name, now, cost=CHEAP)
        return Consortium(root, certify_issuer(root, Path(folder) / "issuer", now))
