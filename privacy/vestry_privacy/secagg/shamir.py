"""Secret sharing: any t of n holders give the secret back, fewer learn nothing of it.

Shamir, "How to share a secret", Communications of the ACM 22(11), 1979, over GF(p) with p = 2^256 + 297, so
that a secret of 32 bytes is one number of the field. Python's integers are not constant in time; what is
split here lives for one sum.

Symbols: t threshold; f polynomial of degree t - 1, f(0) the secret; holder j has f(j + 1).

    ProtocolAbort
    ├── ValueRefused    a secret, a threshold or a list of holders that makes no sense
    ├── TooFewSites     fewer holders than the threshold
    └── BadShare        bytes that are no share, or shares that give no secret
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final

from vestry_privacy.secagg.errors import BadShare, TooFewSites, ValueRefused
from vestry_privacy.secagg.secret import Entropy, Secret

__all__ = ["PRIME", "SECRET_BYTES", "SHARE_BYTES", "Combiner", "check_share", "split"]

PRIME: Final = 2**256 + 297
SECRET_BYTES: Final = 32
SHARE_BYTES: Final = 33


def split(secret: Secret, threshold: int, holders: Sequence[int], entropy: Entropy) -> dict[int, bytes]:
    """Shares of a secret.

    Args:
        secret: 32 bytes, read as a big-endian number.
        threshold: t, at least 1 and at most the number of holders.
        holders: their indexes, distinct and not below 0.
        entropy: gives 33 bytes for each of the t - 1 coefficients, lowest power first, and again where the
            number is not below p.

    Returns:
        Share of each holder, 33 bytes.

    Raises:
        ValueRefused: the secret has another length, or threshold or holders make no sense.

    Guarantees:
        With uniform entropy any t - 1 shares are uniform and independent of the secret.
    """
    if len(secret) != SECRET_BYTES:
        raise ValueRefused("secret to split", f"{len(secret)} bytes where {SECRET_BYTES} are split")
    _check(holders, threshold)
    coefficients = [_coefficient(entropy) for _ in range(threshold - 1)]
    coefficients.reverse()
    coefficients.append(int.from_bytes(secret.expose(), "big"))
    return {holder: _evaluate(coefficients, holder + 1).to_bytes(SHARE_BYTES, "big") for holder in holders}


def check_share(share: bytes) -> int:
    """The number of a share.

    Raises:
        BadShare: not 33 bytes, or not below p.
    """
    if len(share) != SHARE_BYTES:
        raise BadShare("share", f"it has {len(share)} bytes where {SHARE_BYTES} are expected")
    number = int.from_bytes(share, "big")
    if number >= PRIME:
        raise BadShare("share", "its number is not in the field")
    return number


class Combiner:
    """Gives secrets back from the shares of one set of holders; the work for the set is done once.

    Args:
        holders: who gave shares; the first ``threshold`` of them are used.
        threshold: t.

    Raises:
        TooFewSites: fewer holders than the threshold.
        ValueRefused: threshold or holders make no sense.
    """

    __slots__ = ("_factors", "holders")

    def __init__(self, holders: Sequence[int], threshold: int) -> None:
        if len(holders) < threshold:
            raise TooFewSites("shares", f"{len(holders)} holders gave some, {threshold} are needed")
        _check(holders, threshold)
        self.holders: tuple[int, ...] = tuple(holders[:threshold])
        self._factors = _lagrange_at_zero([holder + 1 for holder in self.holders])

    def combine(self, shares: Mapping[int, bytes]) -> Secret:
        """The secret.

        Args:
            shares: a share of each of :attr:`holders` at least; others are not looked at.

        Returns:
            32 bytes.

        Raises:
            BadShare: a share is missing or is none, or together they give no secret of 32 bytes.

        Guarantees:
            None about what is returned where a share is wrong: compare it with what was committed to.
        """
        missing = [holder for holder in self.holders if holder not in shares]
        if missing:
            raise BadShare("share", f"those of {len(missing)} holders are missing")
        number = 0
        for holder, factor in zip(self.holders, self._factors, strict=True):
            number += check_share(shares[holder]) * factor
        number %= PRIME
        if number >> (8 * SECRET_BYTES):
            raise BadShare("shares", "together they give no secret; one of them is wrong")
        return Secret(number.to_bytes(SECRET_BYTES, "big"))


def _check(holders: Sequence[int], threshold: int) -> None:
    if not 1 <= threshold <= len(holders):
        raise ValueRefused("threshold", f"{threshold}; it lies between 1 and {len(holders)}, the holders")
    if len(set(holders)) != len(holders) or min(holders) < 0 or max(holders) >= PRIME - 1:
        raise ValueRefused("holders", "their indexes are not distinct, or below 0")


def _coefficient(entropy: Entropy) -> int:
    """Uniform below p: half of all 257-bit numbers are, and the others are drawn again."""
    while True:
        drawn = bytearray(entropy(SHARE_BYTES))
        drawn[0] &= 0x01
        number = int.from_bytes(drawn, "big")
        if number < PRIME:
            return number


def _evaluate(coefficients: Sequence[int], place: int) -> int:
    """Horner's rule, highest power first; one reduction at the end costs less than one a step."""
    number = 0
    for coefficient in coefficients:
        number = number * place + coefficient
    return number % PRIME


def _lagrange_at_zero(places: Sequence[int]) -> list[int]:
    """Factor of f(x) in f(0), for each place x: the product of y / (y - x) over the other places y."""
    everything = math.prod(places)
    factors = []
    for place in places:
        below = math.prod(other - place for other in places if other != place)
        factors.append(everything // place * pow(below, -1, PRIME) % PRIME)
    return factors
