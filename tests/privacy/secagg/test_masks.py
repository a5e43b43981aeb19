"""Masks: one stream for a key, masks that cancel, and words that look like nothing.

Known answers stand in ``test_masks_vectors.py``, statistics in ``test_masks_statistics.py``.
"""

import copy
import hashlib
import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vestry_privacy.secagg.errors import ValueRefused, WrongStep
from vestry_privacy.secagg.masks import MaskStream, add_masks, digest_words, hkdf
from vestry_privacy.secagg.secret import Secret

LENGTHS = st.sampled_from([0, 1, 2, 3, 4, 5, 31, 1000, 32767, 32768, 32769, 70001])


def key(number: int) -> Secret:
    return Secret(number.to_bytes(16, "big"))


def stream_words(number: int, count: int) -> NDArray[np.uint64]:
    words: NDArray[np.uint64] = np.zeros(count, np.uint64)
    MaskStream(key(number)).fill(words)
    return words


def test_a_secret_makes_one_stream() -> None:
    once = key(1)
    MaskStream(once)
    with pytest.raises(WrongStep, match="used up"):
        MaskStream(once)
    with pytest.raises(WrongStep, match="used up"):
        once.expose()


@pytest.mark.parametrize("length", [0, 15, 17, 24, 32])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    """A key of 24 or 32 bytes would be AES too, and the two sides would differ."""
    with pytest.raises(ValueRefused, match=f"{length} bytes"):
        MaskStream(Secret(bytes(length)))


def test_a_stream_cannot_be_copied_and_says_nothing_of_its_key() -> None:
    stream = MaskStream(key(0x5EC2E7))
    with pytest.raises(TypeError, match="copied"):
        pickle.dumps(stream)
    with pytest.raises(TypeError, match="copied"):
        copy.copy(stream)
    with pytest.raises(TypeError, match="copied"):
        copy.deepcopy(stream)
    assert repr(stream) == "MaskStream()"
    public = {name for name in dir(stream) if not name.startswith("_")}
    assert public == {"fill"}  # no seek, no restart


@given(st.lists(st.integers(0, 40_000), max_size=6))
@settings(deadline=None, max_examples=30)
def test_a_stream_goes_on_where_it_stopped(pieces: list[int]) -> None:
    whole = stream_words(2, sum(pieces))
    stream, place = MaskStream(key(2)), 0
    for size in pieces:
        piece: NDArray[np.uint64] = np.zeros(size, np.uint64)
        stream.fill(piece)
        assert np.array_equal(piece, whole[place : place + size])
        place += size


def test_numbers_of_32_bits_are_halves_of_those_of_64() -> None:
    narrow: NDArray[np.uint32] = np.zeros(2001, np.uint32)
    MaskStream(key(3)).fill(narrow)
    assert np.array_equal(narrow[:2000].astype("<u4").view("<u8"), stream_words(3, 1000))


def test_no_word_comes_twice() -> None:
    assert len(np.unique(stream_words(4, 200_000))) == 200_000


@given(LENGTHS, st.integers(0, 4), st.integers(0, 4))
@settings(deadline=None, max_examples=40)
def test_masks_are_the_streams_added_and_subtracted(length: int, plus: int, minus: int) -> None:
    words = np.arange(length, dtype=np.uint64)
    expected = words.copy()
    for number in range(plus):
        expected += stream_words(number, length)
    for number in range(plus, plus + minus):
        expected -= stream_words(number, length)
    add_masks(
        words,
        [MaskStream(key(number)) for number in range(plus)],
        [MaskStream(key(number)) for number in range(plus, plus + minus)],
    )
    assert np.array_equal(words, expected)


@given(st.integers(2, 9), LENGTHS, st.integers(0, 2**32))
@settings(deadline=None, max_examples=30)
def test_pair_masks_of_all_sites_cancel(sites: int, length: int, number: int) -> None:
    """The lower index adds, the higher subtracts; what is left is the sum of inputs and self masks."""
    inputs = np.random.default_rng(number).integers(0, 2**64, (sites, length), np.uint64)
    keys = {pair: 1000 + place for place, pair in enumerate(itertools.combinations(range(sites), 2))}
    total: NDArray[np.uint64] = np.zeros(length, np.uint64)
    for site in range(sites):
        words = inputs[site].copy()
        plus = [MaskStream(key(site)), *(MaskStream(key(keys[site, j])) for j in range(site + 1, sites))]
        add_masks(words, plus, [MaskStream(key(keys[j, site])) for j in range(site)])
        total += words
    add_masks(total, [], [MaskStream(key(site)) for site in range(sites)])
    assert np.array_equal(total, inputs.sum(axis=0, dtype=np.uint64))


def test_one_pair_mask_left_over_hides_the_sum() -> None:
    """What a server with two views of the survivors would get: noise, not a sum."""
    words = np.zeros(4096, np.uint64)
    add_masks(words, [MaskStream(key(1)), MaskStream(key(2))], [MaskStream(key(1))])
    assert np.array_equal(words, stream_words(2, 4096))
    assert abs(float(np.mean(words / 2.0**64)) - 0.5) < 5 / np.sqrt(12 * 4096)


def test_words_of_another_kind_are_refused() -> None:
    for words in (np.zeros(8, np.int64), np.zeros(8, np.float64), np.zeros((2, 4), np.uint64)):
        with pytest.raises(ValueRefused, match="contiguous"):
            add_masks(words, [], [])  # type: ignore[arg-type]
    with pytest.raises(ValueRefused, match="contiguous"):
        add_masks(np.zeros(8, np.uint64)[::2], [], [])


def test_a_buffer_that_would_be_filled_in_part_is_refused() -> None:
    stream = MaskStream(key(1))
    for buffer in (np.zeros(8, np.uint64)[::2], np.zeros((2, 4), np.uint64)):
        with pytest.raises(ValueRefused, match="no contiguous vector"):
            stream.fill(buffer)


@pytest.mark.parametrize("count", [0, 1, 5, 70001])
def test_a_digest_is_of_the_little_endian_bytes(count: int) -> None:
    words = stream_words(5, count)
    content = b"".join(int(word).to_bytes(8, "little") for word in words)
    assert digest_words(words) == hashlib.sha256(content).digest()
    assert digest_words(words.astype(">u8")) == digest_words(words)
    changed = words.copy()
    if count:
        changed[-1] ^= np.uint64(1)
        assert digest_words(changed) != digest_words(words)


@pytest.mark.parametrize("length", [-1, 0, 255 * 32 + 1, 2**70])
def test_a_derived_key_of_no_length_or_too_long(length: int) -> None:
    with pytest.raises(ValueRefused, match="8160"):
        hkdf(b"s" * 32, b"", b"", length)


def test_derived_keys_depend_on_everything_that_goes_in() -> None:
    keys = {
        hkdf(secret, salt, info, 16).expose()
        for secret in (b"a" * 32, b"b" * 32)
        for salt in (b"c" * 32, b"d" * 32)
        for info in (b"e", b"f")
    }
    assert len(keys) == 8
