"""Key files of the link: a P-256 key made where it is used, alone or with its certificates.

A pending key waits in a file of its own; key and certificates then go into one file that is replaced in one
step, so that no crash leaves a key beside another key's certificate.

    VestryError
    └── PkiError
        └── KeyFileRefused    a key file is missing, readable by others, or no such file
"""

import os
import stat
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from vestry_privacy.durable import create_durably, write_durably
from vestry_privacy.pki.errors import KeyFileRefused, PkiError
from vestry_privacy.pki.objects import field, labelled, reading
from vestry_privacy.pki.profile import (
    check_issued,
    check_issuer,
    decode_certificate,
    encode_certificate,
    p256_bytes,
    spki,
)

__all__ = [
    "Credentials",
    "create_key",
    "create_private",
    "decode_key",
    "encode_key",
    "load_credentials",
    "load_key",
    "read_private",
    "replace_private",
    "store_credentials",
]

_KEY = "vestry-link-key/1"
_CREDENTIALS = "vestry-link-credentials/1"
_LARGEST_FILE = 65_536


@dataclass(frozen=True)
class Credentials:
    """What a program needs for its end of the link.

    Attributes:
        key: private; not shown by repr.
        certificate: of this key.
        issuer: certificate of the key that issued it.
        root: pinned root certificate.
    """

    key: ec.EllipticCurvePrivateKey = dataclass_field(repr=False)
    certificate: x509.Certificate
    issuer: x509.Certificate
    root: x509.Certificate

    @property
    def key_pem(self) -> bytes:
        """The private key in PKCS#8 PEM, for a TLS library; keep it in memory."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def chain_pem(self) -> bytes:
        """What a TLS peer is shown: the certificate, then the issuing key's."""
        return b"".join(one.public_bytes(Encoding.PEM) for one in (self.certificate, self.issuer))

    @property
    def root_pem(self) -> bytes:
        """The only authority that a TLS library may trust."""
        return self.root.public_bytes(Encoding.PEM)


def create_private(path: Path, content: bytes, what: str) -> None:
    """Store content in a new file that only its owner can read.

    Raises:
        KeyFileRefused: the file exists, or the disk refuses; nothing was changed.

    Guarantees:
        Mode 0600 from the first moment, on the disk when the call returns, and whole or not there.
    """
    try:
        create_durably(path, content, 0o600)
    except FileExistsError:
        raise KeyFileRefused(
            f"{what}={path}: exists already and is kept; choose another file, or move it away"
        ) from None
    except OSError as error:
        raise KeyFileRefused(f"{what}={path}: cannot be written ({error.strerror})") from None


def replace_private(path: Path, content: bytes, what: str) -> None:
    """Store content in a file that only its owner can read, instead of what is there.

    Raises:
        KeyFileRefused: the disk refuses; the file is as it was.

    Guarantees:
        As of :func:`create_private`; a crash leaves the old file or the new one.
    """
    try:
        write_durably(path, content)
    except OSError as error:
        raise KeyFileRefused(f"{what}={path}: cannot be written ({error.strerror})") from None


def read_private(path: Path, what: str) -> bytes:
    """Read a file that only its owner may read.

    Raises:
        KeyFileRefused: no such file, others may read it, or it is larger than any of ours.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode  # of the file that is read, not of what the name becomes
            content = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise KeyFileRefused(f"{what}={path}: cannot be read ({error.strerror})") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise KeyFileRefused(
            f"{what}={path}: others may read or change it (mode {stat.S_IMODE(mode):o}); "
            f"run chmod 600 {path}, and have it revoked and replaced if somebody did"
        )
    if len(content) > _LARGEST_FILE:
        raise KeyFileRefused(f"{what}={path}: is larger than {_LARGEST_FILE} bytes, so it is something else")
    return content


def encode_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    """PKCS#8 in DER, without a password."""
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def decode_key(content: bytes, where: str) -> ec.EllipticCurvePrivateKey:
    """Read :func:`encode_key`.

    Raises:
        KeyFileRefused: it is no P-256 key, or its halves do not fit.
    """
    try:
        key = load_der_private_key(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KeyFileRefused(f"{where}: holds no private key") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise KeyFileRefused(f"{where}: holds another kind of key; P-256 is needed")
    # Some versions of the library believe the public half that is stored beside the private one.
    try:
        whole = ec.derive_private_key(key.private_numbers().private_value, key.curve)
    except ValueError:
        raise KeyFileRefused(f"{where}: holds no private key") from None
    if spki(whole.public_key()) != spki(key.public_key()):
        raise KeyFileRefused(f"{where}: is damaged: the two halves of its key do not fit; make a new one")
    return key


def create_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Make a key for the link where it is used, and store it.

    Args:
        path: a file that does not exist yet.

    Raises:
        KeyFileRefused: see :func:`create_private`.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    create_private(path, labelled(_KEY, field(encode_key(key))), "key")
    return key


def load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Read a key of :func:`create_key`.

    Raises:
        KeyFileRefused: see :func:`read_private`; or it holds no such key.
    """
    content = read_private(path, "key")
    try:
        with reading(content, _KEY) as reader:
            key = reader.field()
    except PkiError as error:
        raise KeyFileRefused(f"key={path}: {error}") from None
    return decode_key(key, f"key={path}")


def store_credentials(path: Path, credentials: Credentials) -> None:
    """Put key and certificates into one file, instead of what is there.

    Raises:
        KeyFileRefused: the disk refuses; the file is as it was.
    """
    certificates = (credentials.certificate, credentials.issuer, credentials.root)
    parts = [field(encode_key(credentials.key)), *(field(encode_certificate(one)) for one in certificates)]
    replace_private(path, labelled(_CREDENTIALS, *parts), "credentials")


def load_credentials(path: Path) -> Credentials:
    """Read :func:`store_credentials`; times and revocation are for the caller.

    Raises:
        KeyFileRefused: see :func:`read_private`; or key and certificates do not belong together.
    """
    content = read_private(path, "credentials")
    try:
        with reading(content, _CREDENTIALS) as reader:
            key, *certificates = (reader.field() for _ in range(4))
        own, issuer, root = (decode_certificate(one, "certificate") for one in certificates)
        check_issuer(issuer, root)
        check_issued(own, issuer)
        matches = p256_bytes(own, "certificate")
    except PkiError as error:
        raise KeyFileRefused(f"credentials={path}: {error}") from None
    private = decode_key(key, f"credentials={path}")
    if spki(private.public_key()) != matches:
        raise KeyFileRefused(f"credentials={path}: the certificate is of another key; enrol again")
    return Credentials(private, own, issuer, root)
