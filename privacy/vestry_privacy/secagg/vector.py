"""What one site puts into a sum, and how the sum is read: values in lanes, one weight, wide values.

Values are scaled by weight over weight limit and rounded at random to one of 2^v steps, so that the sum is
right on average (stochastic rounding: Gupta et al., ICML 2015, arXiv:1502.02551). All arithmetic is float64
and integers: float32 rounds with a bias of a hundredth of a step at 19 bits.

Symbols: d values, k wide values, L bits of a lane, P lanes of a word, R range, w weight and w_max its limit,
v bits of a quantised value and top = 2^v - 1, U3 the sites of a sum.

    ProtocolAbort
    └── ValueRefused    a vector of another length than the shape says
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vestry_privacy.secagg.encoding import field, u32
from vestry_privacy.secagg.errors import ValueRefused
from vestry_privacy.secagg.masks import MASK_KEY_BYTES, MaskStream, hkdf
from vestry_privacy.secagg.ring import Ring
from vestry_privacy.secagg.secret import Secret

__all__ = ["Shape", "Sum", "decode_sum", "encode_words"]

_ROUNDING = field(b"vestry-secagg/1/rounding")
_FRACTION = 32
_BLOCK = 1 << 14
_2_52 = 2.0**52
_EXPONENT = np.float64(_2_52).view(np.uint64)
_LIMBS, _LIMB_BITS = 3, 40
_WIDE_POINT, _WIDE_BITS = 60, 119


@dataclass(frozen=True)
class Shape:
    """How the words of a site are laid out: lanes, one weight, three words for each wide value.

    Attributes:
        ring: how values become lanes.
        values: d.
        wide: k.
        weight_limit: w_max.
    """

    ring: Ring
    values: int
    wide: int
    weight_limit: int

    @property
    def words(self) -> int:
        """All words of a site."""
        return self.ring.words(self.values) + 1 + _LIMBS * self.wide


@dataclass(frozen=True)
class Sum:
    """What the server learns.

    Attributes:
        values: (d,) sum of w x.
        weight: sum of w.
        wide: (k,) sums of the wide values.
        sites: |U3|, how many were added.
    """

    values: NDArray[np.float64]
    weight: int
    wide: NDArray[np.float64]
    sites: int


def encode_words(
    shape: Shape,
    values: NDArray[np.float32],
    weight: int,
    wide: NDArray[np.float64],
    rounding_seed: Secret,
) -> NDArray[np.uint64]:
    """Words of one site, not masked yet.

    Args:
        shape: of the plan.
        values: (d,) x. What is not finite counts as 0, what is beyond the range as its end.
        weight: w; from 0 to the weight limit, and clamped to it.
        wide: (k,). Treated alike; the range is 2^59.
        rounding_seed: 32 bytes, fresh, used for nothing else; it is wiped.

    Returns:
        (shape.words,) words.

    Raises:
        ValueRefused: a vector has another length or is no float32, float64 vector.

    Guarantees:
        A refusal depends on lengths and types alone, never on values. The error of a value in the range is
        below one step of the ring, and on average below 2^-32 of one (2^-22 with L = 32, where float64 ends).
        Beyond the result about 1 MiB is used, and some 200 bytes for each wide value.
    """
    _check(values, shape.values, np.dtype(np.float32), "values")
    _check(wide, shape.wide, np.dtype(np.float64), "wide values")
    weight = max(0, min(int(weight), shape.weight_limit))
    words: NDArray[np.uint64] = np.empty(shape.words, dtype=np.uint64)
    lane_words = shape.ring.words(shape.values)
    _encode_lanes(shape, values, weight / shape.weight_limit, rounding_seed, words[:lane_words])
    words[lane_words] = weight
    words[lane_words + 1 :] = _encode_wide(wide)
    return words


def decode_sum(shape: Shape, words: NDArray[np.uint64], sites: int) -> Sum:
    """Read the sum of the words of so many sites.

    Args:
        shape: of the plan.
        words: (shape.words,) sum modulo 2^64 without masks.
        sites: |U3|.

    Raises:
        ValueRefused: words have another length, or sites is not from 1 to the ring's.
    """
    _check(words, shape.words, np.dtype(np.uint64), "words")
    if not 1 <= sites <= shape.ring.sites:
        raise ValueRefused("sites", f"{sites} in the sum of a ring for {shape.ring.sites}")
    lane_words = shape.ring.words(shape.values)
    values = _decode_lanes(shape, words[:lane_words], sites)
    wide = _decode_wide(words[lane_words + 1 :], sites)
    return Sum(values, int(words[lane_words]), wide, sites)


def _check(vector: NDArray[np.generic], length: int, dtype: np.dtype[np.generic], name: str) -> None:
    if vector.shape != (length,) or vector.dtype != dtype:
        raise ValueRefused(
            name, f"shape {vector.shape} of {vector.dtype}; the plan says ({length},) of {dtype}"
        )


def _encode_lanes(
    shape: Shape,
    values: NDArray[np.float32],
    share: float,
    rounding_seed: Secret,
    words: NDArray[np.uint64],
) -> None:
    """Lane after lane of each block of words, so that a block is written once."""
    ring, count = shape.ring, len(words)
    seed = rounding_seed.expose()
    rounding_seed.wipe()
    streams = [
        MaskStream(hkdf(seed, b"", _ROUNDING + u32(lane), MASK_KEY_BYTES)) for lane in range(ring.lanes)
    ]
    quantiser = _Quantiser(ring, share)
    for start in range(0, count, _BLOCK):
        piece = words[start : start + _BLOCK]
        for lane in reversed(range(ring.lanes)):
            place = lane * count + start
            lane_values = values[place : min(place + len(piece), (lane + 1) * count)]
            quantiser.add_lane(lane_values, streams[lane], piece, first=lane == ring.lanes - 1)


class _Quantiser:
    """Values of one block to whole numbers, in buffers that stay in the cache.

    A value becomes a number in [0, top] with 32 bits after the point; a random fraction is added and the bits
    after the point are dropped. The addition is one of integers, so top and a fraction below 1 give top, and
    clamping before it does what clamping afterwards would; floats round that sum up to 2^v.
    """

    def __init__(self, ring: Ring, share: float) -> None:
        one = 2.0**_FRACTION
        self._lane_bits, self._most = ring.lane_bits, ring.top * one
        self._scale, self._middle = share / (2 * ring.value_range) * self._most, self._most / 2
        self._real = np.empty(_BLOCK, dtype=np.float64)
        self._whole = np.empty(_BLOCK, dtype=np.int64)
        self._random = np.empty(_BLOCK, dtype=np.uint32)
        self._finite = np.empty(_BLOCK, dtype=np.bool_)

    def add_lane(
        self, values: NDArray[np.float32], stream: MaskStream, piece: NDArray[np.uint64], *, first: bool
    ) -> None:
        """Push one more lane into the words from below; missing values are 0."""
        size, have = len(piece), len(values)
        real, whole, random = self._real[:size], self._whole[:size], self._random[:size]
        real[:have] = values
        real[have:] = 0.0
        if not np.isfinite(values, out=self._finite[:have]).all():
            np.copyto(real[:have], 0.0, where=~self._finite[:have])
        np.multiply(real, self._scale, out=real)
        np.add(real, self._middle, out=real)
        np.clip(real, 0.0, self._most, out=real)
        np.copyto(whole, real, casting="unsafe")
        stream.fill(random)
        np.add(whole, random, out=whole)
        np.right_shift(whole, _FRACTION, out=whole)
        if first:
            piece[:] = whole.view(np.uint64)
            return
        np.left_shift(piece, self._lane_bits, out=piece)
        np.bitwise_or(piece, whole.view(np.uint64), out=piece)


def _decode_lanes(shape: Shape, words: NDArray[np.uint64], sites: int) -> NDArray[np.float64]:
    ring, count = shape.ring, len(words)
    mask = np.uint64(2**ring.lane_bits - 1)
    values: NDArray[np.float64] = np.empty(shape.values)
    room = np.empty(_BLOCK, dtype=np.uint64)
    scale = shape.weight_limit * ring.step
    offset = shape.weight_limit * sites * ring.value_range
    for lane in range(ring.lanes):
        shift = np.uint64(lane * ring.lane_bits)
        end = min((lane + 1) * count, shape.values)
        for start in range(lane * count, end, _BLOCK):
            out = values[start : min(start + _BLOCK, end)]
            place = start - lane * count
            part = np.right_shift(words[place : place + len(out)], shift, out=room[: len(out)])
            np.bitwise_and(part, mask, out=part)
            # With 2^52's exponent above it a whole number below 2^52 is a float; faster than a conversion.
            np.bitwise_or(part, _EXPONENT, out=part)
            np.subtract(part.view(np.float64), _2_52, out=out)
            np.multiply(out, scale, out=out)
            np.subtract(out, offset, out=out)
    return values


def _encode_wide(wide: NDArray[np.float64]) -> NDArray[np.uint64]:
    """X + 2^119 in three limbs; X is 53 bits at some place, so its limbs are exact in floats."""
    limb = 2.0**_LIMB_BITS
    finite = np.where(np.isfinite(wide), wide, 0.0)
    with np.errstate(over="ignore"):
        size = np.abs(np.rint(finite * 2.0**_WIDE_POINT))
    over = size >= 2.0**_WIDE_BITS
    size = np.where(over, 0.0, size)
    high = np.floor(size / limb**2)
    middle = np.floor((size - high * limb**2) / limb)
    low = size - high * limb**2 - middle * limb
    limbs = np.stack([low, middle, high], axis=1).astype(np.int64)
    limbs[over] = (2**_LIMB_BITS - 1, 2**_LIMB_BITS - 1, 2 ** (_WIDE_BITS - 2 * _LIMB_BITS) - 1)
    limbs *= np.where(np.signbit(wide), -1, 1)[:, None]
    limbs[:, 2] += 2 ** (_WIDE_BITS - 2 * _LIMB_BITS)
    for place in range(_LIMBS - 1):  # borrow from the next limb
        limbs[:, place + 1] += limbs[:, place] >> _LIMB_BITS
        limbs[:, place] &= 2**_LIMB_BITS - 1
    return limbs.astype(np.uint64).ravel()


def _decode_wide(words: NDArray[np.uint64], sites: int) -> NDArray[np.float64]:
    offset, one = sites << _WIDE_BITS, 1 << _WIDE_POINT
    limbs = words.reshape(-1, _LIMBS).tolist()
    sums = [
        (sum(limb << (_LIMB_BITS * place) for place, limb in enumerate(row)) - offset) / one for row in limbs
    ]
    return np.array(sums, dtype=np.float64)
