"""The ring: how many values go into one word, and how fine they are.

A word is an element of Z_2^64, so that one addition masks all its lanes at once. Lanes are wide enough that
the sum over all sites stays in its lane.

Symbols: n sites, L bits of a lane, P lanes of a word, v bits of a quantised value, R range of a value.

    ProtocolAbort
    └── ValueRefused    L, n or R is none that is allowed
"""

from dataclasses import dataclass
from typing import Final

from vestry_privacy.secagg.errors import ValueRefused

__all__ = ["LANE_BITS", "WORD_BITS", "Ring"]

LANE_BITS: Final = (16, 21, 32)
WORD_BITS: Final = 64
_MOST_SITES = 200
_MOST_VALUE_BITS = 30  # so that a value and 32 bits of fraction are one signed 64-bit number
_SMALLEST, _LARGEST = 2.0**-126, 2.0**127


@dataclass(frozen=True)
class Ring:
    """How values become lanes of words.

    Attributes:
        lane_bits: L: 16, 21 or 32.
        sites: n, whose values are added up; 1 to 200.
        value_range: R; a value lies between -R and R.

    Raises:
        ValueRefused: names the field.

    Guarantees:
        n (2^v - 1) < 2^L: lanes of a sum of at most n sites never run over.
    """

    lane_bits: int
    sites: int
    value_range: float

    def __post_init__(self) -> None:
        if self.lane_bits not in LANE_BITS:
            raise ValueRefused("lane_bits", f"{self.lane_bits}; 16, 21 and 32 are known")
        if not 1 <= self.sites <= _MOST_SITES:
            raise ValueRefused("sites", f"{self.sites}; 1 to {_MOST_SITES} can add up together")
        if not _SMALLEST <= self.value_range <= _LARGEST:
            raise ValueRefused("value_range", f"{self.value_range:g}; it is above 0 and of float32's size")

    @property
    def lanes(self) -> int:
        """P, values of a word."""
        return WORD_BITS // self.lane_bits

    @property
    def value_bits(self) -> int:
        """v, the most bits with n (2^v - 1) < 2^L; at most 30, which matters below three sites only."""
        most = ((1 << self.lane_bits) - 1) // self.sites
        return min((most + 1).bit_length() - 1, _MOST_VALUE_BITS)

    @property
    def top(self) -> int:
        """2^v - 1, the largest quantised value."""
        return (1 << self.value_bits) - 1

    @property
    def step(self) -> float:
        """2R / (2^v - 1), between two quantised values."""
        return 2 * self.value_range / self.top

    def words(self, values: int) -> int:
        """Words for so many values: ceil(d / P)."""
        return -(-values // self.lanes)
