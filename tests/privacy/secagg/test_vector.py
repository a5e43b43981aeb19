"""Words of a site and the sum of many: layout, error bound, range, and what is refused.

Rounding and wide values have files of their own (``test_vector_rounding.py``, ``test_vector_wide.py``).
"""

import hashlib
import hmac
from collections.abc import Sequence

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vestry_privacy.secagg.errors import ValueRefused, WrongStep
from vestry_privacy.secagg.ring import LANE_BITS, Ring
from vestry_privacy.secagg.secret import Secret
from vestry_privacy.secagg.vector import Shape, Sum, decode_sum, encode_words

NO_WIDE: NDArray[np.float64] = np.zeros(0)


def seed(number: int) -> Secret:
    return Secret(number.to_bytes(32, "big"))


def encode(
    shape: Shape, values: Sequence[float] | NDArray[np.float32], weight: int = 1
) -> NDArray[np.uint64]:
    return encode_words(shape, np.asarray(values, np.float32), weight, NO_WIDE, seed(1))


def lanes_of(shape: Shape, words: NDArray[np.uint64]) -> list[int]:
    """The quantised values, read by Python's integers."""
    ring, count = shape.ring, shape.ring.words(shape.values)
    return [
        (int(words[place % count]) >> (place // count * ring.lane_bits)) % 2**ring.lane_bits
        for place in range(shape.values)
    ]


def added(shape: Shape, vectors: Sequence[NDArray[np.uint64]]) -> Sum:
    return decode_sum(shape, np.sum(vectors, axis=0, dtype=np.uint64), len(vectors))


# The second method: the protocol's page, with Python's numbers, HMAC and AES block by block.


def reference_words(shape: Shape, values: Sequence[float], weight: int, rounding: bytes) -> list[int]:
    ring, count = shape.ring, shape.ring.words(shape.values)
    top, words = 2**ring.value_bits - 1, [0] * count
    scale = weight / shape.weight_limit / (2 * ring.value_range) * (top * 2.0**32)
    padded = [*values, *[0.0] * (count * ring.lanes - len(values))]
    for lane in range(ring.lanes):
        label = b"vestry-secagg/1/rounding"
        info = len(label).to_bytes(4, "big") + label + lane.to_bytes(4, "big")
        extracted = hmac.digest(bytes(32), rounding, "sha256")
        key = hmac.digest(extracted, info + b"\x01", "sha256")[:16]
        block = Cipher(algorithms.AES128(key), modes.ECB()).encryptor()  # noqa: S305
        stream = b"".join(block.update(place.to_bytes(16, "big")) for place in range(count // 4 + 1))
        for place in range(count):
            fixed = int(min(max(padded[lane * count + place] * scale + top * 2.0**31, 0.0), top * 2.0**32))
            drawn = int.from_bytes(stream[4 * place : 4 * place + 4], "little")
            words[place] += ((fixed + drawn) >> 32) << (lane * ring.lane_bits)
    return [*words, weight]


@pytest.mark.parametrize("lane_bits", LANE_BITS)
@pytest.mark.parametrize("values", [1, 2, 3, 7, 12, 100])
def test_words_are_those_of_the_protocol_page(lane_bits: int, values: int) -> None:
    shape = Shape(Ring(lane_bits, 7, 2.0), values, 0, 9)
    chosen = np.random.default_rng(values).uniform(-2.2, 2.2, values).astype(np.float32)
    content = hashlib.sha256(bytes([values])).digest()
    words = encode_words(shape, chosen, 5, NO_WIDE, Secret(content))
    assert words.tolist() == reference_words(shape, chosen.tolist(), 5, content)


@pytest.mark.parametrize("values", [16383 * 3, 16384 * 3 - 1, 16384 * 3, 16384 * 3 + 1, 16385 * 3 + 2])
def test_blocks_join_without_a_seam(values: int) -> None:
    shape = Shape(Ring(21, 3, 1.0), values, 0, 1)
    chosen = np.random.default_rng(0).uniform(-1, 1, values).astype(np.float32)
    words = encode_words(shape, chosen, 1, NO_WIDE, seed(1))
    assert words.tolist() == reference_words(shape, chosen.tolist(), 1, (1).to_bytes(32, "big"))
    summed = decode_sum(shape, words, 1).values
    assert np.max(np.abs(summed - chosen)) < shape.ring.step


def test_neighbours_stand_in_neighbouring_words() -> None:
    """Value m j + i is in lane j of word i."""
    shape = Shape(Ring(16, 5, 1.0), 8, 0, 1)
    ends = [-1.0, -1.0, 1.0, -1.0, -1.0, 1.0, 1.0, 1.0]
    low, high = 0, shape.ring.top
    expected = [low | high << 16 | low << 32 | high << 48, low | low << 16 | high << 32 | high << 48]
    assert encode(shape, ends).tolist() == [*expected, 1]


@st.composite
def sums(draw: st.DrawFn) -> tuple[Shape, list[NDArray[np.float32]], list[int]]:
    """A shape and what some of its sites put in, every value times its share of the weight in the range."""
    sites = draw(st.integers(1, 200))
    value_range = draw(st.sampled_from([0.01, 1.0, 8.0, 1e4]))
    limit = draw(st.sampled_from([1, 7, 1000, 2**40]))
    shape = Shape(
        Ring(draw(st.sampled_from(LANE_BITS)), sites, value_range), draw(st.integers(0, 40)), 0, limit
    )
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    count = draw(st.integers(1, min(sites, 8)))
    values = [
        generator.uniform(-value_range, value_range, shape.values).astype(np.float32) for _ in range(count)
    ]
    weights = [draw(st.integers(0, limit)) for _ in range(count)]
    return shape, [np.clip(one, -value_range, value_range).astype(np.float32) for one in values], weights


@given(sums())
@settings(deadline=None, max_examples=150)
def test_error_of_a_sum_is_below_one_step_a_site(
    case: tuple[Shape, list[NDArray[np.float32]], list[int]],
) -> None:
    """|sum(w x) - exact| < |U3| step w_max, which over sum(w) is the bound that the protocol states."""
    shape, values, weights = case
    vectors = [
        encode_words(shape, one, weight, NO_WIDE, seed(place))
        for place, (one, weight) in enumerate(zip(values, weights, strict=True))
    ]
    total = added(shape, vectors)
    exact = sum(
        (weight * one.astype(np.float64) for one, weight in zip(values, weights, strict=True)),
        np.zeros(shape.values),
    )
    assert total.weight == sum(weights)
    assert total.sites == len(vectors)
    # A float32 end of the range may lie a little beyond it, by less than a float32's last place.
    slack = 1e-6 * shape.ring.value_range * shape.weight_limit * len(vectors)
    assert np.all(np.abs(total.values - exact) < len(vectors) * shape.ring.step * shape.weight_limit + slack)


@pytest.mark.parametrize("lane_bits", LANE_BITS)
@pytest.mark.parametrize("sites", [1, 3, 10, 200])
def test_all_sites_at_an_end_of_the_range(lane_bits: int, sites: int) -> None:
    """No lane runs over into the next: q never reaches 2^v, whatever is drawn."""
    shape = Shape(Ring(lane_bits, sites, 8.0), 1001, 0, 3)
    for end in (8.0, -8.0):
        vectors = [
            encode_words(shape, np.full(1001, end, np.float32), 3, NO_WIDE, seed(place))
            for place in range(sites)
        ]
        assert set(lanes_of(shape, vectors[0])) == {shape.ring.top if end > 0 else 0}
        assert np.allclose(added(shape, vectors).values, 3 * sites * end, rtol=1e-12)


@pytest.mark.parametrize("beyond", [8.001, 9.0, 1e30, 3.4028235e38])
@pytest.mark.parametrize("lane_bits", LANE_BITS)
def test_what_is_beyond_the_range_counts_as_its_end(beyond: float, lane_bits: int) -> None:
    shape = Shape(Ring(lane_bits, 3, 8.0), 200, 0, 1)
    assert set(lanes_of(shape, encode(shape, [beyond] * 200))) == {shape.ring.top}
    assert set(lanes_of(shape, encode(shape, [-beyond] * 200))) == {0}


@pytest.mark.parametrize("lane_bits", LANE_BITS)
def test_what_is_not_finite_counts_as_nothing(lane_bits: int) -> None:
    shape = Shape(Ring(lane_bits, 3, 8.0), 11, 0, 1)
    holes = [1.0, np.nan, 2.0, np.inf, -np.inf, 3.0, 0.5, -7.0, np.nan, 8.0, -np.nan]
    filled = [value if np.isfinite(value) else 0.0 for value in holes]
    assert np.array_equal(encode(shape, holes), encode(shape, filled))
    assert not np.array_equal(encode(shape, holes), encode(shape, [*filled[:-1], 1.0]))


def test_a_weight_scales_and_is_clamped() -> None:
    shape = Shape(Ring(32, 3, 8.0), 2, 0, 10)
    total = decode_sum(shape, encode(shape, [4.0, -2.0], weight=5), 1)
    assert total.weight == 5
    assert total.values == pytest.approx([20.0, -10.0], abs=10 * shape.ring.step)
    assert np.array_equal(encode(shape, [4.0, -2.0], weight=11), encode(shape, [4.0, -2.0], weight=10))
    assert np.array_equal(encode(shape, [4.0, -2.0], weight=-3), encode(shape, [0.0, 0.0], weight=0))


def test_a_sum_of_weights_uses_all_bits_of_its_word() -> None:
    limit = (2**64 - 1) // 3
    shape = Shape(Ring(21, 3, 1.0), 0, 0, limit)
    total = added(shape, [encode(shape, [], weight=limit)] * 3)
    assert total.weight == 3 * limit
    assert total.values.shape == total.wide.shape == (0,)


@pytest.mark.parametrize(("lane_bits", "words"), [(16, 25), (21, 34), (32, 50)])
def test_how_many_words(lane_bits: int, words: int) -> None:
    assert Shape(Ring(lane_bits, 3, 1.0), 100, 0, 1).words == words + 1
    assert Shape(Ring(lane_bits, 3, 1.0), 100, 7, 1).words == words + 1 + 21
    assert Shape(Ring(lane_bits, 3, 1.0), 0, 0, 1).words == 1


def test_values_that_the_plan_does_not_say_are_refused() -> None:
    shape = Shape(Ring(21, 3, 1.0), 4, 2, 1)
    good, wide = np.zeros(4, np.float32), np.zeros(2)
    bad_values: list[NDArray[np.generic]] = [
        np.zeros(3, np.float32), np.zeros(5, np.float32), np.zeros((2, 2), np.float32),
        np.zeros(4, np.float64), np.zeros(4, np.int32),
    ]  # fmt: skip
    for bad in bad_values:
        with pytest.raises(ValueRefused, match=r"values: shape .* the plan says \(4,\) of float32"):
            encode_words(shape, bad, 1, wide, seed(1))  # type: ignore[arg-type]
    bad_wide: list[NDArray[np.generic]] = [
        np.zeros(1),
        np.zeros(3),
        np.zeros((2, 1)),
        np.zeros(2, np.float32),
    ]
    for other in bad_wide:
        with pytest.raises(ValueRefused, match="wide values"):
            encode_words(shape, good, 1, other, seed(1))  # type: ignore[arg-type]


def test_words_that_the_plan_does_not_say_are_refused() -> None:
    shape = Shape(Ring(21, 3, 1.0), 4, 2, 1)
    for length in (shape.words - 1, shape.words + 1):
        with pytest.raises(ValueRefused, match="words"):
            decode_sum(shape, np.zeros(length, np.uint64), 1)
    with pytest.raises(ValueRefused, match="words"):
        decode_sum(shape, np.zeros(shape.words, np.int64), 1)
    for sites in (0, 4, -1):
        with pytest.raises(ValueRefused, match=f"{sites} in the sum of a ring for 3"):
            decode_sum(shape, np.zeros(shape.words, np.uint64), sites)


def test_a_rounding_seed_serves_once() -> None:
    shape, once = Shape(Ring(21, 3, 1.0), 4, 0, 1), seed(1)
    encode_words(shape, np.zeros(4, np.float32), 1, NO_WIDE, once)
    with pytest.raises(WrongStep):
        encode_words(shape, np.zeros(4, np.float32), 1, NO_WIDE, once)


def test_values_are_left_as_they_were_and_may_be_every_second_of_an_array() -> None:
    shape = Shape(Ring(21, 3, 1.0), 50, 0, 1)
    wider = np.random.default_rng(1).uniform(-1, 1, 100).astype(np.float32)
    wider[4] = np.nan
    before = wider.copy()
    assert np.array_equal(encode(shape, wider[::2]), encode(shape, wider[::2].copy()))
    assert np.array_equal(wider, before, equal_nan=True)
