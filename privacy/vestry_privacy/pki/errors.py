"""Why a certificate, a token, a key file or a change of the directory is refused.

VestryError
└── PkiError                    nothing was issued, accepted or changed
    ├── RootRefused             the root file, or its pass phrase
    ├── KeyFileRefused          a key file is missing, readable by others, or no such file
    ├── UnreadableObject        bytes that are not what was expected, or of another version
    ├── TokenRefused            an enrolment token; the public words are always the same
    ├── TooManyAttempts         somebody guesses; the time to wait is said
    ├── RequestRefused          a request for a certificate is not what the invited site may ask
    ├── PairingRefused          an enrolment's nonces are not those that were promised
    ├── RevocationRefused       a revocation list is older, shorter or not of this consortium
    ├── CertificateExpired      its time is over
    ├── CertificateNotYetValid  its time has not come; most often a clock
    ├── CertificateRevoked      it, or the key that issued it, was revoked
    ├── ForeignAuthority        another consortium's, or nobody's
    ├── OtherSite               it is somebody else's
    ├── WrongUsage              it may not be used for this
    ├── ChangeRefused           a change of the directory makes no sense, or a signature does not hold
    ├── OtherDirectory          a change, or a fingerprint, is of another directory than the pinned one
    └── TooFewSignatures        too few sites' administrators signed
"""

from vestry_privacy.errors import VestryError

__all__ = [
    "CertificateExpired",
    "CertificateNotYetValid",
    "CertificateRevoked",
    "ChangeRefused",
    "ForeignAuthority",
    "KeyFileRefused",
    "OtherDirectory",
    "OtherSite",
    "PairingRefused",
    "PkiError",
    "RequestRefused",
    "RevocationRefused",
    "RootRefused",
    "TokenRefused",
    "TooFewSignatures",
    "TooManyAttempts",
    "UnreadableObject",
    "WrongUsage",
]


class PkiError(VestryError):
    """Nothing was issued, accepted or changed."""


class RootRefused(PkiError):
    """The root file, or its pass phrase, is refused."""


class KeyFileRefused(PkiError):
    """A key file is refused."""


class UnreadableObject(PkiError):
    """Bytes that are not what was expected, or of another version."""


class TokenRefused(PkiError):
    """An enrolment token is refused.

    Args:
        reason: for the local log only; the other side must not learn whether a token was wrong, used or late.

    Attributes:
        reason: as given.
    """

    PUBLIC = "token: is not accepted; ask the coordinator's operator for a new invitation"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(self.PUBLIC)


class TooManyAttempts(PkiError):
    """Somebody guesses.

    Args:
        wait: seconds until the next attempt is looked at.

    Attributes:
        wait: as given.
    """

    def __init__(self, wait: float) -> None:
        self.wait = wait
        super().__init__(f"enrolment: too many attempts failed; try again in {wait:.0f} seconds")


class RequestRefused(PkiError):
    """A request for a certificate is refused."""


class PairingRefused(PkiError):
    """An enrolment's nonces are not those that were promised."""


class RevocationRefused(PkiError):
    """A revocation list is refused; the one that was held stays in force."""


class CertificateExpired(PkiError):
    """A certificate's time is over."""


class CertificateNotYetValid(PkiError):
    """A certificate's time has not come."""


class CertificateRevoked(PkiError):
    """A certificate, or the key that issued it, was revoked."""


class ForeignAuthority(PkiError):
    """A certificate is another consortium's, or nobody's."""


class OtherSite(PkiError):
    """A certificate is somebody else's."""


class WrongUsage(PkiError):
    """A certificate may not be used for this."""


class ChangeRefused(PkiError):
    """A change of the directory makes no sense, or a signature does not hold."""


class OtherDirectory(PkiError):
    """A change, or a fingerprint, is of another directory than the pinned one."""


class TooFewSignatures(PkiError):
    """Too few sites' administrators signed."""
