"""Cryptographic noise: the cipher's known answer, the shape of the normal values, nothing that repeats."""

import copy
import math
import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from tests.simulations.laboratory import environment
from vestry_privacy import noise
from vestry_privacy.noise import (
    GRID_BITS,
    NoiseSource,
    SecureStream,
    SimulationStream,
    accounted_sensitivity,
    add_gaussian,
    gaussian,
    grid,
)

# NIST SP 800-38A, F.5.5 CTR-AES256.Encrypt: key, initial counter, and the four output blocks.
KEY = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
COUNTER = bytes.fromhex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
OUTPUT = bytes.fromhex(
    "0bdf7df1591716335e9a8b15c860c502"
    "5a6e699d536119065433863c8f657b94"
    "1bc12c9c01610d5d0d8bd6a3378eca62"
    "2956e1c8693536b1bee99c73a31576b6"
)


class Chosen:
    """A source of pairs of uniforms that the test chooses, as many as asked for."""

    guarantee = "none"

    def __init__(
        self, radius: Callable[[int], NDArray[np.float64]], angle: Callable[[int], NDArray[np.float64]]
    ) -> None:
        self._radius, self._angle = radius, angle

    def uniforms(self, count: int) -> NDArray[np.float64]:
        assert count % 2 == 0
        return np.concatenate([self._radius(count // 2), self._angle(count // 2)])


def test_keystream_is_aes_256_ctr() -> None:
    assert noise._keystream(KEY, COUNTER).update(bytes(64)) == OUTPUT


def test_counter_starts_at_zero_and_grows_by_one() -> None:
    """Second method: one block after the other through the bare cipher."""
    block = Cipher(algorithms.AES256(KEY), modes.ECB()).encryptor()  # noqa: S305  the test's own reference
    expected = b"".join(block.update(number.to_bytes(16, "big")) for number in range(40))
    assert noise._keystream(KEY).update(bytes(640)) == expected


def test_a_stream_is_the_keystream_of_its_key_in_any_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "urandom", lambda count: KEY[:count])
    stream = SecureStream()
    sizes = (1, 0, 15, 16, 17, 3, (1 << 16) - 1, (1 << 16) + 5, 200_000)
    got = b"".join(bytes(stream.random_bytes(size)) for size in sizes)
    assert got == noise._keystream(KEY).update(bytes(sum(sizes)))


def test_uniforms_are_the_53_high_bits_plus_one() -> None:
    words = [0, 2**11 - 1, 2**11, 2**64 - 1]
    raw = b"".join(word.to_bytes(8, "little") for word in words)
    assert noise._uniforms(raw).tolist() == [2.0**-53, 2.0**-53, 2.0**-52, 1.0]


def test_two_streams_share_nothing() -> None:
    seen = {bytes(SecureStream().random_bytes(32)) for _ in range(200)}
    assert len(seen) == 200
    stream = SecureStream()
    assert bytes(stream.random_bytes(32)) != bytes(stream.random_bytes(32))


def test_nothing_is_seedable_and_no_seed_helps() -> None:
    with pytest.raises(TypeError):
        SecureStream(5)  # type: ignore[call-arg]
    values = []
    for _ in range(2):
        torch.manual_seed(5)
        np.random.seed(5)  # noqa: NPY002  the very thing that must not help
        values.append(gaussian(SecureStream(), 8))
    assert not np.isin(values[0], values[1]).any()


def test_two_processes_differ() -> None:
    program = (
        "from vestry_privacy.noise import SecureStream; print(bytes(SecureStream().random_bytes(16)).hex())"
    )
    runs = [
        subprocess.run([sys.executable, "-c", program], env=environment(), capture_output=True, check=True)
        for _ in range(2)
    ]
    assert runs[0].stdout != runs[1].stdout
    assert len(runs[0].stdout.strip()) == 32


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_has_a_stream_of_its_own() -> None:
    stream = SecureStream()
    stream.random_bytes(100)
    fork = multiprocessing.get_context("fork")
    queue = fork.SimpleQueue()
    children = [fork.Process(target=lambda: queue.put(bytes(stream.random_bytes(32)))) for _ in range(2)]
    for child in children:
        child.start()
    answers = {queue.get() for _ in children}
    for child in children:
        child.join()
    assert len({*answers, bytes(stream.random_bytes(32))}) == 3


def test_a_fork_is_noticed_though_process_numbers_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = SecureStream()
    before = stream._stream
    monkeypatch.setattr(noise, "_forks", noise._forks + 1)
    stream.random_bytes(1)
    assert stream._stream is not before
    again = stream._stream
    monkeypatch.setattr(os, "getpid", lambda: -1)  # a fork outside Python's sight
    stream.random_bytes(1)
    assert stream._stream is not again


def test_a_stream_shows_and_copies_nothing() -> None:
    stream = SecureStream()
    assert repr(stream) == "SecureStream()"
    assert stream.guarantee == "cryptographic"
    for way in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot be copied"):
            way(stream)
    assert not any(isinstance(value, bytes | bytearray) for value in vars(stream).values())


def test_a_simulation_stream_repeats_and_says_that_it_protects_nobody() -> None:
    left, right = SimulationStream(7), SimulationStream(7)
    assert np.array_equal(left.uniforms(9), right.uniforms(9))
    assert not np.array_equal(left.uniforms(9), SimulationStream(8).uniforms(9))
    assert left.guarantee == "none"


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_gaussian_gives_as_many_as_asked(count: int) -> None:
    values = gaussian(SecureStream(), count)
    assert values.shape == (count,)
    assert values.dtype == np.float64


def test_gaussian_values_are_normal() -> None:
    """Mean, deviation, skewness, kurtosis, and Kolmogorov's distance; each bound fails once in 1e7 runs."""
    count = 1_000_000
    values = gaussian(SecureStream(), count)
    five = 5.4 / math.sqrt(count)
    assert abs(values.mean()) < five
    assert abs(values.std() - 1) < five / math.sqrt(2)
    assert abs(stats.skew(values)) < five * math.sqrt(6)
    assert abs(stats.kurtosis(values)) < five * math.sqrt(24)
    assert stats.kstest(values, "norm").statistic < 2.9 / math.sqrt(count)
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < five
    half = count // 2
    assert abs(np.corrcoef(values[:half], values[half:])[0, 1]) < 5.4 / math.sqrt(half)
    assert abs(np.corrcoef(values[:half] ** 2, values[half:] ** 2)[0, 1]) < 5.4 / math.sqrt(half)


def test_the_tail_beyond_six_deviations_has_its_true_weight() -> None:
    """Through the radius: every pair with a first uniform below 2^-20, one in a million, and no others."""
    count = 1_000_000
    random = np.random.default_rng(20)

    def low(number: int) -> NDArray[np.float64]:
        return random.integers(1, 2**33 + 1, number).astype(np.float64) * 2.0**-53  # uniform up to 2^-20

    values = gaussian(Chosen(low, SecureStream().uniforms), 2 * count)
    for bound in (6.0, 6.5):  # both imply a radius that only these pairs reach
        expected = 2 * count * stats.norm.sf(bound) * 2.0**20
        for tail in (np.sum(values > bound), np.sum(values < -bound)):
            assert abs(int(tail) - expected) < 5.4 * math.sqrt(expected)


def test_the_longest_value_is_8_57_deviations() -> None:
    smallest, whole, quarter = (partial(np.full, fill_value=value) for value in (2.0**-53, 1.0, 0.25))
    ends = gaussian(Chosen(smallest, whole), 2)
    assert ends[0] == pytest.approx(math.sqrt(2 * 53 * math.log(2)), rel=1e-12)
    assert ends[0] > 8.57
    assert abs(ends[1]) < 1e-14
    assert gaussian(Chosen(whole, quarter), 2).tolist() == pytest.approx([0.0, 0.0], abs=1e-15)


@given(st.floats(1e-6, 1e6), st.integers(1, 2**33), st.floats(0, 1e5))
def test_a_noised_sum_fits_the_exact_integers_of_float64(clip: float, persons: int, sigma: float) -> None:
    step = grid(clip, persons, sigma)
    assert (persons + 8.58 * sigma * 1.001) * clip <= 2**53 * step
    doublings = math.log2(step / clip) + GRID_BITS
    assert doublings == round(doublings) >= 0


def test_the_grid_of_the_design() -> None:
    assert grid(1.0) == grid(1.0, 1) == grid(1.0, 2048, 200.0) == 2.0**-40
    assert grid(0.5, 4096) == 0.5 * 2.0**-40
    assert grid(1.0, 8192) == 2.0**-39
    assert accounted_sensitivity(2.0, 10**6) == 2.0 + 2.0**-39 * 1000


@given(
    st.lists(st.floats(-1000, 1000), min_size=1, max_size=8),
    st.sampled_from([0.1, 1.0, 3.0]),
    st.sampled_from([0.5, 30.0, 1e4]),
)
def test_grid_arithmetic_is_exact(values: list[float], clip: float, sigma: float) -> None:
    """Result = (round(total / g) + round(noise / g)) g in integers, with nothing lost."""
    total, persons = np.array(values), 20_000
    step = grid(clip, persons, sigma)
    noisy = add_gaussian(total, clip, sigma, SimulationStream(3), persons)
    deviation = sigma * accounted_sensitivity(clip, len(values), persons, sigma)
    drawn = gaussian(SimulationStream(3), len(values)) * (deviation / step)
    for value, normal, result in zip(total / step, drawn, noisy, strict=True):
        exact = Fraction(round(value)) + Fraction(round(normal))
        assert abs(exact) < 2**53
        assert result == float(exact) * step


def test_low_bits_of_the_sum_do_not_show() -> None:
    """Sums that differ by less than half a step give the same result, bit for bit."""
    total = np.array([0.1, -7.3, 1 / 3, 1e-17, 0.0])
    step = grid(1.0)
    base = np.round(total / step) * step
    for shift in (0.0, 0.3, -0.3):
        moved = add_gaussian(base + shift * step, 1.0, 1.0, SimulationStream(1))
        assert np.array_equal(moved, add_gaussian(base, 1.0, 1.0, SimulationStream(1)))
    counts = add_gaussian(total, 1.0, 1.0, SecureStream()) / step
    assert np.array_equal(counts, np.round(counts))


def test_noise_has_the_accounted_deviation() -> None:
    count, clip, sigma = 200_000, 0.5, 3.0
    noisy = add_gaussian(np.zeros(count), clip, sigma, SecureStream(), 1 << 20)
    expected = sigma * accounted_sensitivity(clip, count, 1 << 20, sigma)
    assert noisy.std() == pytest.approx(expected, rel=5.4 / math.sqrt(2 * count))
    assert abs(noisy.mean()) < 5.4 * expected / math.sqrt(count)


def test_the_sum_itself_is_left_alone() -> None:
    total = np.array([0.25, 0.5])
    add_gaussian(total, 1.0, 1.0, SecureStream())
    assert total.tolist() == [0.25, 0.5]


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf, 5000.0, -1e300])
def test_a_sum_that_was_not_clipped_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="clip before adding noise"):
        add_gaussian(np.array([0.0, wrong]), 1.0, 1.0, SecureStream(), 1000)


@pytest.mark.parametrize(
    ("clip", "sigma"), [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0), (math.inf, 1.0), (1.0, math.nan)]
)
def test_clip_and_noise_must_be_above_zero(clip: float, sigma: float) -> None:
    source: NoiseSource = SecureStream()
    with pytest.raises(ValueError, match="must be above 0"):
        add_gaussian(np.zeros(2), clip, sigma, source)
