"""What a server sees of a site: bytes that are even, unlike the input, and unlike those of another round.

Seeds are fixed, so a test here passes or fails for good; chance exceeds a bound for one seed in 100,000 at
most. They catch wrong construction (a short seed, floats without a modulus, one mask for two rounds), not a
weak cipher.
"""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from vestry_privacy.secagg.masks import MaskStream, add_masks, hkdf
from vestry_privacy.secagg.ring import Ring
from vestry_privacy.secagg.secret import Secret
from vestry_privacy.secagg.vector import Shape, encode_words

VALUES = 3_000_000
WORDS = 1_000_000
SIGMAS = 5.0
SHAPE = Shape(Ring(21, 10, 8.0), VALUES, 0, 100)


def key(label: str, number: int = 0) -> Secret:
    return hkdf(b"a fixed seed", b"", f"{label} {number}".encode(), 16)


def update() -> NDArray[np.float32]:
    """A model update: small values of which many are alike."""
    values = np.random.default_rng(0).normal(0, 0.01, VALUES).astype(np.float32)
    values[::2] = 0.0
    return values


def words_of_site() -> NDArray[np.uint64]:
    return encode_words(SHAPE, update(), 40, np.zeros(0), Secret(bytes(32)))[:WORDS]


def masked(label: str) -> NDArray[np.uint64]:
    words = words_of_site()
    plus = [MaskStream(key(label, number)) for number in range(5)]
    add_masks(words, plus, [MaskStream(key(label, number)) for number in range(5, 10)])
    return words


@pytest.fixture(scope="module")
def rounds() -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]]:
    """The words, and the same masked in two rounds."""
    return words_of_site(), masked("one"), masked("two")


Rounds = tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]]


def byte_evenness(words: NDArray[np.uint64]) -> float:
    """p-value of the chi-square test that all byte values are as frequent, the least of the eight places."""
    columns = words.view(np.uint8).reshape(-1, 8)
    return min(
        float(stats.chisquare(np.bincount(columns[:, place], minlength=256)).pvalue) for place in range(8)
    )


def correlation(one: NDArray[np.generic], other: NDArray[np.generic]) -> float:
    return float(np.corrcoef(one.astype(np.float64), other.astype(np.float64))[0, 1])


def bits(words: NDArray[np.uint64]) -> NDArray[np.uint8]:
    return np.unpackbits(words.view(np.uint8))


def test_masked_bytes_are_even_in_every_place(rounds: Rounds) -> None:
    plain, one, two = rounds
    assert byte_evenness(one) > 1e-6
    assert byte_evenness(two) > 1e-6
    assert byte_evenness(plain) == 0.0  # the test sees what is not masked


@pytest.mark.parametrize("lane", range(3))
def test_no_lane_is_correlated_with_the_input(rounds: Rounds, lane: int) -> None:
    """Neither with this site's values nor with what they become, in the lane or in its highest bit."""
    plain, one, _ = rounds
    values = update()[lane * WORDS : (lane + 1) * WORDS]
    shift = np.uint64(lane * 21)
    seen, sent = ((words >> shift) & np.uint64(2**21 - 1) for words in (one, plain))
    bound = SIGMAS / math.sqrt(WORDS)
    assert abs(correlation(seen, values)) < bound
    assert abs(correlation(seen, sent)) < bound
    assert abs(correlation(seen >> np.uint64(20), sent)) < bound
    assert correlation(sent, values) > 0.9  # the test sees what is not masked


def test_two_rounds_of_the_same_input_have_nothing_in_common(rounds: Rounds) -> None:
    plain, one, two = rounds
    bound = SIGMAS / math.sqrt(WORDS)
    assert abs(correlation(one, two)) < bound
    difference = one - two
    assert byte_evenness(difference) > 1e-6
    assert abs(correlation(difference, plain)) < bound
    agreeing = float(np.mean(bits(one) == bits(two)))
    assert abs(agreeing - 0.5) < SIGMAS * 0.5 / math.sqrt(64 * WORDS)


def test_neighbouring_words_have_nothing_in_common(rounds: Rounds) -> None:
    """Neither next to each other, nor a block of the loop apart."""
    _, one, _ = rounds
    for apart in (1, 2, 16384, 32768):
        assert abs(correlation(one[apart:], one[:-apart])) < SIGMAS / math.sqrt(WORDS - apart)


def test_averaging_masks_gives_nothing() -> None:
    """FATE's masks are floats around 0, so that the mean over many vectors shows the input.

    Here a mask's mean is that of a uniform word, and the mean over vectors of the same words is the same
    whether the words are 0 or the update.
    """
    sites, count = 400, 2048
    words = words_of_site()[:count]
    sums = np.zeros((2, count))
    for site in range(sites):
        for place, plain in enumerate((words, np.zeros_like(words))):
            vector = plain.copy()
            add_masks(vector, [MaskStream(key(f"average {place}", site))], [])
            sums[place] += vector / 2.0**64
    for means in sums / sites:
        scaled = (means - 0.5) * math.sqrt(12 * sites)  # standard normal, if the words are uniform
        assert abs(float(np.mean(scaled))) < SIGMAS / math.sqrt(count)
        assert abs(float(np.std(scaled)) - 1.0) < SIGMAS / math.sqrt(2 * count)
        assert abs(correlation(means, words)) < SIGMAS / math.sqrt(count)


def test_averaging_would_undo_a_small_mask_around_nothing() -> None:
    """The same attack on the way that FATE masks: floats of a normal distribution, no modulus."""
    generator = np.random.default_rng(1)
    values = update()[1:4096:2]
    means = np.mean([values + generator.normal(0, 0.1, len(values)) for _ in range(2000)], axis=0)
    assert correlation(means, values) > 0.9


@pytest.mark.parametrize("bit", range(128))
def test_every_bit_of_a_key_changes_half_of_the_stream(bit: int) -> None:
    """A generator of which only a part of the seed counts, as in Flower's SecAgg+, fails here."""
    content = key("avalanche").expose()
    flipped = bytearray(content)
    flipped[bit // 8] ^= 1 << (bit % 8)
    one, other = (stream_words(Secret(bytes(raw)), 4096) for raw in (content, flipped))
    changed = float(np.mean(bits(one) != bits(other)))
    assert abs(changed - 0.5) < SIGMAS * 0.5 / math.sqrt(64 * 4096)
    assert not np.any(one == other)


@pytest.mark.parametrize("bit", range(0, 256, 5))
def test_every_bit_of_a_shared_secret_changes_half_of_the_key(bit: int) -> None:
    """All 256 bits that a seed or a key agreement gives count; 16 keys together have 2,048 bits."""
    content = bytearray(hkdf(b"secret", b"", b"", 32).expose())
    flipped = bytearray(content)
    flipped[bit // 8] ^= 1 << (bit % 8)
    one, other = (
        np.frombuffer(b"".join(hkdf(bytes(raw), b"", bytes([i]), 16).expose() for i in range(16)), np.uint64)
        for raw in (content, flipped)
    )
    changed = float(np.mean(bits(one) != bits(other)))
    assert abs(changed - 0.5) < SIGMAS * 0.5 / math.sqrt(2048)


def stream_words(secret: Secret, count: int) -> NDArray[np.uint64]:
    words: NDArray[np.uint64] = np.zeros(count, np.uint64)
    MaskStream(secret).fill(words)
    return words
