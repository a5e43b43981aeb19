"""The consortium's root: one encrypted file, needed only to certify an issuing key, and kept elsewhere.

The file holds the key under a pass phrase: scrypt (RFC 7914) with 128 MiB, then AES-256-GCM over the PKCS#8
bytes with everything in front of them as associated data.

    VestryError
    └── PkiError
        └── RootRefused    no root file, a wrong pass phrase, or a changed file
"""

import os
import unicodedata
from datetime import datetime
from pathlib import Path
from typing import Final, NoReturn

from cryptography import x509
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from vestry_privacy.pki.errors import PkiError, RootRefused
from vestry_privacy.pki.issuer import Issuer, encode_issuer
from vestry_privacy.pki.keys import create_private, decode_key, encode_key, read_private, replace_private
from vestry_privacy.pki.objects import field, labelled, reading, to_second, u32
from vestry_privacy.pki.profile import (
    ISSUER_LIFETIME,
    ROOT_LIFETIME,
    SKEW,
    authority_extensions,
    build,
    check_root,
    common_name,
    decode_certificate,
    encode_certificate,
    fingerprint,
    p256_bytes,
    serial_number,
    spki,
    usable_name,
)
from vestry_privacy.secagg.secret import Entropy

__all__ = ["SCRYPT_COST", "Root", "certify_issuer", "create_root", "open_root"]

SCRYPT_COST: Final = 17
"""Binary logarithm of scrypt's N; with r = 8 it takes 128 MiB and about half a second."""

_LABEL = "vestry-root/1"
_LEAST_COST, _MOST_COST = 14, 20
_BLOCKS, _LANES = 8, 1
_SALT_BYTES, _NONCE_BYTES, _KEY_BYTES = 16, 12, 32
_LEAST_PHRASE = 12
_LONGEST_NAME = 40


class Root:
    """An opened root; drop it as soon as the issuing key is certified.

    Args:
        key: private; kept to itself.
        certificate: self-signed.

    Attributes:
        certificate: as given.
    """

    __slots__ = ("_key", "certificate")

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._key = key
        self.certificate = certificate

    @property
    def fingerprint(self) -> str:
        """64 hexadecimal digits of the certificate, to be compared out of band."""
        return fingerprint(self.certificate)

    def certify(self, key: ec.EllipticCurvePublicKey, now: datetime, entropy: Entropy) -> x509.Certificate:
        """A certificate of 90 days for an issuing key; never longer than the root's own."""
        serial = serial_number(entropy)
        subject = common_name(f"Vestry issuing key {serial:040x}"[:40])
        start, end = to_second(now) - SKEW, to_second(now) + ISSUER_LIFETIME
        mine = self.certificate
        if not mine.not_valid_before_utc <= to_second(now) < mine.not_valid_after_utc:
            raise RootRefused(
                f"root: is valid from {mine.not_valid_before_utc:%F} to {mine.not_valid_after_utc:%F}, "
                f"and this clock says {now:%F}; set the clock, or found the consortium anew"
            )
        times = (max(start, mine.not_valid_before_utc), min(end, mine.not_valid_after_utc))
        return build(subject, key, (mine.subject, self._key), times, authority_extensions(0), serial)

    def __repr__(self) -> str:
        return f"Root({self.fingerprint[:16]}…)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Root cannot be copied or pickled; open its file where it is needed")


def create_root(
    path: Path,
    pass_phrase: str,
    consortium: str,
    now: datetime,
    *,
    entropy: Entropy = os.urandom,
    cost: int = SCRYPT_COST,
) -> Root:
    """Make a consortium's root key and store it encrypted.

    Args:
        path: a file that does not exist yet; best on a medium that is then taken away.
        pass_phrase: at least 12 characters.
        consortium: its name, at most 40 of a-z, 0-9, _ and -.
        now: clock.
        entropy: of salt, nonce and serial number.
        cost: see :data:`SCRYPT_COST`.

    Raises:
        RootRefused: the name or the pass phrase will not do.
        KeyFileRefused: the file exists, or the disk refuses.
    """
    if not usable_name(consortium) or len(consortium) > _LONGEST_NAME:
        raise RootRefused(f"consortium={consortium!r}: 1 to {_LONGEST_NAME} of a-z, 0-9, _ and - are needed")
    if len(pass_phrase) < _LEAST_PHRASE:
        raise RootRefused(f"pass phrase: at least {_LEAST_PHRASE} characters are needed; take five words")
    if not _LEAST_COST <= cost <= _MOST_COST:
        raise RootRefused(f"cost={cost}: must be {_LEAST_COST} to {_MOST_COST}")
    key = ec.generate_private_key(ec.SECP256R1())
    name = common_name(f"Vestry root of {consortium}")
    times = (to_second(now) - SKEW, to_second(now) + ROOT_LIFETIME)
    serial = serial_number(entropy)
    certificate = build(name, key.public_key(), (name, key), times, authority_extensions(1), serial)
    salt, nonce = entropy(_SALT_BYTES), entropy(_NONCE_BYTES)
    front = _front(cost, salt, nonce, certificate)
    sealed = AESGCM(_stretched(pass_phrase, salt, cost)).encrypt(nonce, encode_key(key), front)
    create_private(path, front + field(sealed), "root")
    return Root(key, certificate)


def open_root(path: Path, pass_phrase: str) -> Root:
    """Decrypt a root file.

    Raises:
        KeyFileRefused: no such file, or others may read it.
        RootRefused: it is no root file of this version, was changed, or the pass phrase is wrong.

    Guarantees:
        Key and certificate are those that were stored together: every byte of the file is authenticated.
    """
    content = read_private(path, "root")
    try:
        with reading(content, _LABEL) as reader:
            cost = reader.u32()
            salt, nonce = reader.field(_SALT_BYTES), reader.field(_NONCE_BYTES)
            certificate = decode_certificate(reader.field(), "root certificate")
            sealed = reader.field()
        check_root(certificate)
    except PkiError as error:
        raise RootRefused(f"root={path}: {error}") from None
    if (
        not _LEAST_COST <= cost <= _MOST_COST
    ):  # before memory is taken for a file that nobody authenticated yet
        raise RootRefused(f"root={path}: asks for scrypt cost {cost}; {_LEAST_COST} to {_MOST_COST} are read")
    front = _front(cost, salt, nonce, certificate)
    try:
        opened = AESGCM(_stretched(pass_phrase, salt, cost)).decrypt(nonce, sealed, front)
    except InvalidTag:
        raise RootRefused(f"root={path}: the pass phrase is wrong, or the file was changed") from None
    key = decode_key(opened, f"root={path}")
    if spki(key.public_key()) != p256_bytes(certificate, "root certificate"):
        raise RootRefused(f"root={path}: the certificate is of another key")
    return Root(key, certificate)


def certify_issuer(
    root: Root, path: Path, now: datetime, *, entropy: Entropy = os.urandom, replace: bool = False
) -> Issuer:
    """Make an issuing key, certify it with the root for 90 days, and store it for the coordinator.

    Args:
        root: opened.
        path: the issuing key's file, readable by its owner only.
        now: clock.
        entropy: of the serial number.
        replace: the next issuing key takes the place of the one in the file.

    Raises:
        RootRefused: the root's time is over, or has not come.
        KeyFileRefused: the file exists and is not to be replaced, or the disk refuses.

    Guarantees:
        The file holds the root's certificate, never its key: the root file can be taken away.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = Issuer(key, root.certify(key.public_key(), now, entropy), root.certificate)
    content = encode_issuer(key, issuer)
    if replace:
        replace_private(path, content, "issuing key")
    else:
        create_private(path, content, "issuing key")
    return issuer


def _front(cost: int, salt: bytes, nonce: bytes, certificate: x509.Certificate) -> bytes:
    return labelled(_LABEL, u32(cost), field(salt), field(nonce), field(encode_certificate(certificate)))


def _stretched(pass_phrase: str, salt: bytes, cost: int) -> bytes:
    # One form of every letter, so that another keyboard or system gives the same bytes (RFC 8265).
    phrase = unicodedata.normalize("NFC", pass_phrase).encode("utf-8")
    return Scrypt(salt=salt, length=_KEY_BYTES, n=1 << cost, r=_BLOCKS, p=_LANES).derive(phrase)
