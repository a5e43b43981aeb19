"""Revocation: a signed list that everybody holds, and that only grows.

The order of two lists is that of their signers' certificates, then of their counters. So a stolen issuing key
cannot use up the counter: whatever it signed is behind the first list of the issuing key that the root
certifies next. For the same reason a list can revoke an issuing key only if its own signer came later.

    VestryError
    └── PkiError
        ├── UnreadableObject     bytes that are no list of this version
        ├── ForeignAuthority     signed by another consortium's key
        ├── WrongUsage           signed by a key that may not
        ├── RevocationRefused    older, shorter, from the future, or its signature does not hold
        └── CertificateRevoked   see :func:`check_revoked`
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from vestry_privacy.pki.errors import CertificateRevoked, RevocationRefused
from vestry_privacy.pki.issuer import Issuer
from vestry_privacy.pki.objects import (
    field,
    labelled,
    moment,
    read_moment,
    reading,
    text,
    to_second,
    u32,
    u64,
)
from vestry_privacy.pki.profile import SKEW, check_issuer, decode_certificate, encode_certificate

__all__ = [
    "REASONS",
    "RevocationList",
    "Revoked",
    "accept_revocations",
    "check_revoked",
    "revoke",
]

REASONS: Final = ("key lost", "key stolen", "site left", "certificate replaced", "issued by mistake")

_LABEL = "vestry-revocations/1"
_SERIAL_BYTES = 20
_MOST_ENTRIES = 100_000


@dataclass(frozen=True)
class Revoked:
    """One certificate that counts no more.

    Attributes:
        serial: of a site's, the coordinator's or an issuing key's certificate.
        reason: one of :data:`REASONS`.
        at: when it was revoked.
    """

    serial: int
    reason: str
    at: datetime


@dataclass(frozen=True)
class RevocationList:
    """A signed list.

    Attributes:
        counter: grows with every list of one signer.
        issued: when.
        entries: in ascending order of their serial numbers.
        signer: certificate of the issuing key that signed it.
        signature: ECDSA, DER.
    """

    counter: int
    issued: datetime
    entries: tuple[Revoked, ...]
    signer: x509.Certificate
    signature: bytes

    @property
    def order(self) -> tuple[datetime, int]:
        """Of two lists the greater counts."""
        return self.signer.not_valid_before_utc, self.counter

    @cached_property
    def by_serial(self) -> dict[int, Revoked]:
        """Entries under their serial numbers."""
        return {entry.serial: entry for entry in self.entries}

    def encode(self) -> bytes:
        """Its bytes, version 1."""
        return self.signed() + field(self.signature)

    def signed(self) -> bytes:
        """All of it but the signature."""
        parts = [u64(self.counter), moment(self.issued), u32(len(self.entries))]
        for entry in self.entries:
            parts += [entry.serial.to_bytes(_SERIAL_BYTES, "big"), text(entry.reason), moment(entry.at)]
        return labelled(_LABEL, *parts, field(encode_certificate(self.signer)))

    @staticmethod
    def decode(content: bytes) -> "RevocationList":
        """Read :meth:`encode`; the signature is for :func:`accept_revocations`.

        Raises:
            UnreadableObject: it is no list of this version, or its entries are not in order.
            WrongUsage: its signer is no certificate.
        """
        with reading(content, _LABEL) as reader:
            counter, issued, count = reader.u64(), read_moment(reader), reader.u32()
            if count > _MOST_ENTRIES:
                raise reader.wrong(f"it has {count} entries, at most {_MOST_ENTRIES} are read")
            entries = []
            for _ in range(count):
                serial = reader.u32() << 128 | reader.u64() << 64 | reader.u64()
                entries.append(Revoked(serial, reader.text(), read_moment(reader)))
            signer, signature = reader.field(), reader.field()
            serials = [entry.serial for entry in entries]
            if serials != sorted(set(serials)):
                raise reader.wrong("its entries are not in order, or one is there twice")
            if any(entry.reason not in REASONS for entry in entries):
                raise reader.wrong("a reason is unknown")
        certificate = decode_certificate(signer, "revocation list's signer")
        return RevocationList(counter, issued, tuple(entries), certificate, signature)


def revoke(
    issuer: Issuer, held: RevocationList | None, revoked: Iterable[Revoked], now: datetime
) -> RevocationList:
    """The next list.

    Args:
        issuer: that signs it.
        held: the list in force; None for the first. Its entries stay.
        revoked: what is added; none re-signs the list, for a new issuing key.
        now: clock.

    Raises:
        RevocationRefused: an unknown reason, no serial number, or a list in force of a later issuing key.
    """
    entries = {} if held is None else dict(held.by_serial)
    for entry in revoked:
        if entry.reason not in REASONS or not 0 < entry.serial < 1 << 8 * _SERIAL_BYTES:
            raise RevocationRefused(
                f"revocation: serial {entry.serial:x}, reason {entry.reason!r}; use {', '.join(REASONS)}"
            )
        entries.setdefault(entry.serial, entry)
    same = held is not None and held.signer == issuer.certificate
    if held is not None and not same and held.order >= (issuer.certificate.not_valid_before_utc, 0):
        raise RevocationRefused(
            "revocation: the list in force was signed by a later issuing key; sign with that one"
        )
    counter = held.counter + 1 if held is not None and same else 1
    ordered = tuple(sorted(entries.values(), key=lambda entry: entry.serial))
    blank = RevocationList(counter, to_second(now), ordered, issuer.certificate, b"")
    return RevocationList(counter, blank.issued, ordered, issuer.certificate, issuer.sign(blank.signed()))


def accept_revocations(
    held: RevocationList | None,
    content: bytes,
    root: x509.Certificate,
    now: datetime,
    skew: timedelta = SKEW,
) -> RevocationList:
    """Decide on a list that came.

    Args:
        held: the list in force; None for none.
        content: of anybody.
        root: pinned.
        now: clock.
        skew: how far the signer's clock may be ahead.

    Returns:
        The list that is in force from now on; store it before anything else is done. The one that was held,
        where the same came again.

    Raises:
        UnreadableObject, ForeignAuthority, WrongUsage, RevocationRefused: see the top of this file. The list
            that was held stays in force.

    Guarantees:
        No list takes the place of a newer one, and no signer takes back what it revoked. A list that was
        signed outside of its signer's time does not count.
    """
    found = RevocationList.decode(content)
    check_issuer(found.signer, root)
    key = found.signer.public_key()
    try:
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise InvalidSignature
        key.verify(found.signature, found.signed(), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise RevocationRefused("revocation list: its signature does not hold") from None
    if not found.signer.not_valid_before_utc <= found.issued <= found.signer.not_valid_after_utc:
        raise RevocationRefused(
            "revocation list: was signed outside of its signer's time; certify a new issuing key"
        )
    if found.issued > to_second(now) + skew:
        ahead = found.issued - to_second(now)
        raise RevocationRefused(
            f"revocation list: is {ahead} ahead of this clock, which says {now:%F %T}; set it"
        )
    if held is None:
        return found
    if found.order <= held.order:
        if found.signed() == held.signed():
            return held
        raise RevocationRefused(
            f"revocation list: number {found.counter} is not newer than number {held.counter} in force"
        )
    if found.signer == held.signer and not held.by_serial.keys() <= found.by_serial.keys():
        raise RevocationRefused(
            "revocation list: takes something back; a revoked certificate is replaced instead"
        )
    return found


def check_revoked(
    certificate: x509.Certificate, issuer: x509.Certificate, revocations: RevocationList | None
) -> None:
    """Refuse a certificate that is on the list, or whose issuing key is.

    Args:
        certificate: of a peer.
        issuer: that signed it.
        revocations: the list in force; None for none.

    Raises:
        CertificateRevoked: with the reason, and when it was.
    """
    if revocations is None:
        return
    found = revocations.by_serial.get(certificate.serial_number)
    what = "certificate"
    later = revocations.signer.not_valid_before_utc > issuer.not_valid_before_utc
    if found is None and later:
        found = revocations.by_serial.get(issuer.serial_number)
        what = "issuing key of the certificate"
    if found is not None:
        raise CertificateRevoked(
            f"{what}: serial {found.serial:x} was revoked on {found.at:%F %T} UTC ({found.reason}); "
            "enrol again with a new invitation"
        )
