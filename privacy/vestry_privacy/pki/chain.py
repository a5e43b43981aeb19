"""Whether a peer's certificate counts: chain, usage, time, revocation, owner.

The parts: :mod:`vestry_privacy.pki.root` (the offline root), :mod:`vestry_privacy.pki.issuer` (the
coordinator's issuing key), :mod:`vestry_privacy.pki.tokens`, :mod:`vestry_privacy.pki.requests` and
:mod:`vestry_privacy.pki.pairing` (enrolment), :mod:`vestry_privacy.pki.revocation`. Certificates secure
transport; identities are in the sites' directory (:mod:`vestry_privacy.pki.directory_changes`).

    VestryError
    └── PkiError
        ├── CertificateExpired      its time, or its issuing key's, is over
        ├── CertificateNotYetValid  its time, or its issuing key's, has not come
        ├── CertificateRevoked      it, or its issuing key, was revoked
        ├── ForeignAuthority        another consortium's, or nobody's
        ├── OtherSite               it is somebody else's
        └── WrongUsage              of another shape, or for the other side of the link
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from vestry_privacy.pki.errors import (
    CertificateExpired,
    CertificateNotYetValid,
    ForeignAuthority,
    OtherSite,
    WrongUsage,
)
from vestry_privacy.pki.objects import to_second
from vestry_privacy.pki.profile import (
    SKEW,
    Extension,
    Role,
    check_issued,
    check_issuer,
    check_root,
    decode_certificate,
    extension_of,
    fingerprint,
    key_usage,
    p256_bytes,
    same_fingerprint,
    subject_of,
    uri_of,
    usable_name,
)
from vestry_privacy.pki.revocation import RevocationList, check_revoked

__all__ = ["Peer", "pin_root", "verify_chain"]

_LEAF = frozenset(
    {
        "basicConstraints",
        "keyUsage",
        "extendedKeyUsage",
        "subjectAltName",
        "subjectKeyIdentifier",
        "authorityKeyIdentifier",
    }
)
_USAGE = {"site": ExtendedKeyUsageOID.CLIENT_AUTH, "coordinator": ExtendedKeyUsageOID.SERVER_AUTH}


@dataclass(frozen=True)
class Peer:
    """Who is at the other end of the link.

    Attributes:
        name: of the site or the coordinator.
        role: which of the two.
        serial: of its certificate.
        not_after: when that ends.
    """

    name: str
    role: Role
    serial: int
    not_after: datetime


def pin_root(content: bytes, typed: str) -> x509.Certificate:
    """Accept a root certificate at a site, before anything else of the link can be trusted.

    Args:
        content: DER, from anybody over any connection.
        typed: its fingerprint, as the site's operator got it from the coordinator's.

    Returns:
        The root certificate, to be pinned.

    Raises:
        WrongUsage: it is no root certificate.
        ForeignAuthority: it has another fingerprint, or does not sign itself.
    """
    root = decode_certificate(content, "root certificate")
    if not same_fingerprint(typed, fingerprint(root)):
        raise ForeignAuthority(
            f"root certificate: its fingerprint is {fingerprint(root)}, another one was typed; ask the "
            "coordinator's operator, by telephone, and enrol with nobody until the two are the same"
        )
    check_root(root)
    return root


def verify_chain(
    certificate: x509.Certificate,
    issuer: x509.Certificate,
    root: x509.Certificate,
    revocations: RevocationList | None,
    now: datetime,
    *,
    role: Role,
    name: str | None = None,
    skew: timedelta = SKEW,
) -> Peer:
    """Decide on a peer's certificate; beside TLS, which knows neither the list nor our names.

    Args:
        certificate: that the peer showed.
        issuer: certificate of the issuing key, that the peer showed or that is known.
        root: pinned.
        revocations: the list in force; None for none.
        now: clock.
        role: that the peer must have.
        name: that the peer must have; None for any.
        skew: how far the two clocks may be apart.

    Returns:
        The peer.

    Raises:
        ForeignAuthority, WrongUsage, CertificateExpired, CertificateNotYetValid, CertificateRevoked,
            OtherSite: see the top of this file.

    Guarantees:
        A certificate is accepted only if the pinned root signed the issuing key's certificate and that key
        signed this one, both in their time, and neither is on the list; a site's never counts as the
        coordinator's, nor the other way round.
    """
    check_issuer(issuer, root)
    check_issued(certificate, issuer)
    owner = _owner(certificate, role)
    for what, one in (("issuing key's certificate", issuer), ("certificate", certificate)):
        _check_time(one, what, to_second(now), skew)
    check_revoked(certificate, issuer, revocations)
    if name is not None and owner != name:
        raise OtherSite(f"certificate: is of {owner!r}, {name!r} is expected; each site uses its own")
    return Peer(owner, role, certificate.serial_number, certificate.not_valid_after_utc)


def _owner(certificate: x509.Certificate, role: Role) -> str:
    what = "certificate"
    p256_bytes(certificate, what)
    found = extension_of(certificate, what)
    if found.keys() != _LEAF:
        raise WrongUsage(f"{what}: is no site's and no coordinator's certificate of this version")
    fixed: dict[str, Extension] = {
        "basicConstraints": (x509.BasicConstraints(False, None), True),
        "keyUsage": (key_usage(authority=False), True),
        "extendedKeyUsage": (x509.ExtendedKeyUsage([_USAGE[role]]), False),
    }
    for key, (extension, critical) in fixed.items():
        if found[key].value != extension or found[key].critical != critical:
            raise WrongUsage(f"{what}: may not be used as a {role}'s ({key})")
    names = found["subjectAltName"].value
    if not isinstance(names, x509.SubjectAlternativeName) or (role == "site" and len(list(names)) != 1):
        raise WrongUsage(f"{what}: does not name one {role}")
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    owner = subject_of(certificate, what)
    if not usable_name(owner) or uris != [uri_of(role, owner)]:
        raise WrongUsage(f"{what}: does not name one {role}")
    return owner


def _check_time(certificate: x509.Certificate, what: str, now: datetime, skew: timedelta) -> None:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    clock = f"this clock says {now:%F %T} UTC, and {skew} of difference is allowed"
    if now + skew < start:
        raise CertificateNotYetValid(
            f"{what}: is valid from {start:%F %T} UTC, {start - now} ahead; {clock}: set the clock that "
            "is wrong"
        )
    if now - skew > end:
        raise CertificateExpired(
            f"{what}: was valid until {end:%F %T} UTC, {now - end} ago; {clock}: renew it or enrol again, "
            "or set the clock that is wrong"
        )
