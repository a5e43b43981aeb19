"""Enrolment tokens: one site, one use, a few days; the coordinator keeps a hash and shows a token once.

A token has 160 random bits, so its hash needs no salt and no stretching. Nothing here keeps state or a clock.

    VestryError
    └── PkiError
        ├── UnreadableObject    bytes that are no invitation of this version
        ├── RequestRefused      an invitation for something that is no name, or without end
        ├── TokenRefused        wrong, used or late: the public words are the same, `reason` is for the log
        └── TooManyAttempts     somebody guesses
"""

import base64
import hashlib
import hmac
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from vestry_privacy.pki.errors import RequestRefused, TokenRefused, TooManyAttempts
from vestry_privacy.pki.objects import field, labelled, moment, read_moment, reading, text, to_second, u64
from vestry_privacy.pki.profile import usable_name
from vestry_privacy.secagg.secret import Entropy

__all__ = [
    "TOKEN_LIFETIME",
    "Invitation",
    "admit_attempt",
    "invite",
    "later_failures",
    "redeem",
    "token_hash",
]

TOKEN_LIFETIME = timedelta(days=3)

_LABEL = "vestry-invitation/1"
_TOKEN_BYTES = 20
_LONGEST_LIFE = timedelta(days=30)
_LONGEST_TOKEN = 100
_WINDOW = timedelta(minutes=15)
_FREE_FAILURES = 5
_LONGEST_WAIT = timedelta(minutes=15)
_KEPT_FAILURES = 20


@dataclass(frozen=True)
class Invitation:
    """What the coordinator keeps of a token.

    Attributes:
        name: of the invited site.
        token_hash: SHA-256 over a label, the name and the token, 32 bytes.
        expires: from when on it is refused.
        used: when it was redeemed; None where it was not.
    """

    name: str
    token_hash: bytes
    expires: datetime
    used: datetime | None = None

    def encode(self) -> bytes:
        """Its bytes, version 1."""
        used = u64(0) if self.used is None else moment(self.used)
        return labelled(_LABEL, text(self.name), field(self.token_hash), moment(self.expires), used)

    @staticmethod
    def decode(content: bytes) -> "Invitation":
        """Read :meth:`encode`.

        Raises:
            UnreadableObject: it is no invitation of this version.
        """
        with reading(content, _LABEL) as reader:
            name, digest = reader.text(), reader.field(32)
            expires, used = read_moment(reader), read_moment(reader)
            if not usable_name(name):
                raise reader.wrong("its name is no name")
        return Invitation(name, digest, expires, used if used.timestamp() else None)


def token_hash(name: str, token: str) -> bytes:
    """SHA-256 over a label, the name and the token; blanks, hyphens and capitals make no difference."""
    plain = "".join(token.split()).replace("-", "").upper()
    return hashlib.sha256(labelled("vestry-token/1", text(name), text(plain))).digest()


def invite(
    name: str, now: datetime, *, lifetime: timedelta = TOKEN_LIFETIME, entropy: Entropy = os.urandom
) -> tuple[Invitation, str]:
    """Make a token for a site.

    Args:
        name: of the site.
        now: clock.
        lifetime: at most 30 days.
        entropy: of the token.

    Returns:
        What to store, and the token, to be shown once: eight groups of four letters and digits.

    Raises:
        RequestRefused: the name is no name, or the lifetime is not between a second and 30 days.
    """
    if not usable_name(name):
        raise RequestRefused(
            f"name={name!r}: 1 to 63 of a-z, 0-9, _ and - are needed, a letter or digit first"
        )
    if not timedelta(seconds=1) <= lifetime <= _LONGEST_LIFE:
        raise RequestRefused(
            f"lifetime={lifetime}: must be at least a second and at most {_LONGEST_LIFE.days} days"
        )
    plain = base64.b32encode(entropy(_TOKEN_BYTES)).decode("ascii")
    token = "-".join(plain[start : start + 4] for start in range(0, len(plain), 4))
    return Invitation(name, token_hash(name, token), to_second(now) + lifetime), token


def redeem(invitation: Invitation | None, name: str, token: str, now: datetime) -> Invitation:
    """Use a token up.

    Args:
        invitation: stored for this name; None where there is none.
        name: that the caller says.
        token: that the caller shows.
        now: clock.

    Returns:
        The invitation as used; store it, in the same transaction, before anything is issued.

    Raises:
        TokenRefused: wrong, used, late, or for nobody.

    Guarantees:
        The words are the same in every case, and so is the work: the hash is always computed and compared,
        in constant time, before anything else is looked at.
    """
    shown = token_hash(name, token[:_LONGEST_TOKEN])
    kept = bytes(32) if invitation is None else invitation.token_hash
    same = hmac.compare_digest(shown, kept)
    if invitation is None or invitation.name != name:
        raise TokenRefused(f"site={name[:63]!r}: there is no invitation")
    if not same:
        raise TokenRefused(f"site={name!r}: the token is wrong")
    if invitation.used is not None:
        raise TokenRefused(f"site={name!r}: the token was used on {invitation.used:%F %T} UTC")
    if to_second(now) >= invitation.expires:
        raise TokenRefused(f"site={name!r}: the token was good until {invitation.expires:%F %T} UTC")
    return replace(invitation, used=to_second(now))


def later_failures(failures: Sequence[datetime], now: datetime) -> tuple[datetime, ...]:
    """Failures with one more: what to keep of a caller's address, the newest 20 of the last 15 minutes.

    A failure from the future, after the clock was set back, counts as one of now.
    """
    clock = to_second(now)
    recent = [min(failure, clock) for failure in failures if failure > clock - _WINDOW]
    return (*sorted(recent), clock)[-_KEPT_FAILURES:]


def admit_attempt(failures: Sequence[datetime], now: datetime) -> None:
    """Refuse to look at a token when too many failed before; a pure function of past and clock.

    Args:
        failures: of one address, in any order; see :func:`later_failures`.
        now: clock.

    Raises:
        TooManyAttempts: five failed within 15 minutes; the wait after the last one doubles from two seconds
            up to 15 minutes.

    Guarantees:
        At most 60 tokens of one address are looked at within an hour of guessing, at whatever pace.
    """
    clock = to_second(now)
    recent = [min(failure, clock) for failure in failures if failure > clock - _WINDOW]
    excess = len(recent) - _FREE_FAILURES
    if excess < 0:
        return
    wait = min(timedelta(seconds=2 ** (excess + 1)), _LONGEST_WAIT)
    left = max(recent) + wait - clock
    if left > timedelta(0):
        raise TooManyAttempts(left.total_seconds())
