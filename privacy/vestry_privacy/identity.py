"""A site's identity: an Ed25519 key pair made at the site, whose private half stays there.

Ed25519 (Bernstein et al., J. Cryptographic Engineering 2, 2012; RFC 8032) in pyca/cryptography; the file is
PKCS#8 in PEM (RFC 5958, RFC 8410) without a password, so its permissions are what protects it.

    VestryError
    └── IdentityError    a key file is missing, readable by others, or no key; or a signature does not hold
"""

import os
import stat
from pathlib import Path
from typing import NoReturn

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from vestry_privacy.canonical import canonical_hash
from vestry_privacy.durable import create_durably
from vestry_privacy.errors import VestryError

__all__ = [
    "IdentityError",
    "SiteIdentity",
    "create_identity",
    "fingerprint_of",
    "load_identity",
    "load_or_create_identity",
    "verify_signature",
]

_LARGEST_FILE = 10_000


class IdentityError(VestryError):
    """A key file is refused, or a signature does not hold."""


class SiteIdentity:
    """A site's key pair.

    Args:
        private: the private key; the object keeps it to itself.

    Guarantees:
        The private key has no accessor and no repr, and the object can be neither copied nor pickled, so it
        never travels to a worker by accident: load the file there.
    """

    __slots__ = ("_private", "_public")

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self._public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    @property
    def public_key(self) -> bytes:
        """32 raw bytes."""
        return self._public

    @property
    def fingerprint(self) -> str:
        """64 hexadecimal digits that name the public key."""
        return fingerprint_of(self._public)

    def sign(self, message: bytes) -> bytes:
        """Sign a message that says what it is (a label in front), so that no signature fits two purposes.

        Returns:
            64 bytes, the same for the same message.
        """
        return self._private.sign(message)

    def __repr__(self) -> str:
        return f"SiteIdentity({self.fingerprint[:16]}…)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a SiteIdentity cannot be copied or pickled; load its file where it is needed")


def fingerprint_of(public_key: bytes) -> str:
    """SHA-256 over a label and the raw public key, as 64 hexadecimal digits."""
    return canonical_hash("vestry-site-key/1", public_key)


def create_identity(path: Path) -> SiteIdentity:
    """Make a new key pair and store it.

    Args:
        path: a file that does not exist yet, in a folder that does.

    Returns:
        The identity, durable on the disk.

    Raises:
        IdentityError: the file exists, or the disk refuses.

    Guarantees:
        The file is readable by its owner only from its first moment, and never replaced.
    """
    private = Ed25519PrivateKey.generate()
    content = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        create_durably(path, content, 0o600)
    except FileExistsError:
        raise IdentityError(
            f"identity={path}: exists already; a site keeps its key, since its ledger is signed with it"
        ) from None
    except OSError as error:
        raise IdentityError(f"identity={path}: cannot be written ({error.strerror})") from None
    return SiteIdentity(private)


def load_identity(path: Path) -> SiteIdentity:
    """Read a stored key pair.

    Raises:
        IdentityError: no such file, others may read it, or it holds no Ed25519 key in PKCS#8 PEM.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode  # of the file that is read, not of what the name becomes
            content = file.read(_LARGEST_FILE)
    except OSError as error:
        raise IdentityError(f"identity={path}: cannot be read ({error.strerror})") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise IdentityError(
            f"identity={path}: others may read or change it (mode {stat.S_IMODE(mode):o}); "
            f"run chmod 600 {path}, and make a new key if somebody did"
        )
    try:
        private = load_pem_private_key(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise IdentityError(f"identity={path}: is no private key in PKCS#8 PEM without a password") from None
    if not isinstance(private, Ed25519PrivateKey):
        raise IdentityError(f"identity={path}: holds another kind of key; Ed25519 is needed")
    return SiteIdentity(private)


def load_or_create_identity(path: Path) -> SiteIdentity:
    """The stored key pair, made first where there is none.

    Raises:
        IdentityError: see :func:`load_identity` and :func:`create_identity`.
    """
    if path.exists():
        return load_identity(path)
    try:
        return create_identity(path)
    except IdentityError:
        if path.exists():  # another process was first
            return load_identity(path)
        raise


def verify_signature(public_key: bytes, message: bytes, signature: bytes) -> None:
    """Check a signature.

    Args:
        public_key: 32 raw bytes.
        message: what was signed.
        signature: 64 bytes.

    Raises:
        IdentityError: the key is no public key, or the signature does not hold.
    """
    try:
        key = Ed25519PublicKey.from_public_bytes(public_key)
    except ValueError:
        raise IdentityError("public key: is not an Ed25519 key of 32 bytes") from None
    try:
        key.verify(signature, message)
    except InvalidSignature:
        raise IdentityError(
            f"signature: does not hold for the key {fingerprint_of(public_key)[:16]}…"
        ) from None
