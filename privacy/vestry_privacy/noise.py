"""Noise that protects somebody: Gaussian values from a cryptographic stream.

A :class:`SecureStream` is the keystream of AES-256-CTR (NIST SP 800-38A, section 6.5) under a key from the
operating system, never stored. 53-bit uniforms of it become Gaussian values by the Box-Muller transform in
float64 (Box and Muller, Ann. Math. Statist. 29, 1958), whose tail ends at 8.57 standard deviations
(probability 1e-17), where torch's float32 values end at 5.77.

Float noise on a float sum leaks in the low bits (Mironov, CCS 2012). So :func:`add_gaussian` rounds sum and
noise to a grid g = C 2^-40 before adding, coarser where so many persons are summed, or so much noise is
added, that the result would not fit: multiples of g below 2^53 g add exactly.

Symbols: C bound of one person's part, sigma noise multiplier, d length of a sum.
"""

import math
import os
from typing import Protocol

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from numpy.typing import NDArray

__all__ = [
    "GRID_BITS",
    "NoiseSource",
    "SecureStream",
    "SimulationStream",
    "accounted_sensitivity",
    "add_gaussian",
    "gaussian",
    "grid",
]

GRID_BITS = 40
_BLOCK = 1 << 16
_EXACT_PERSONS = 2048
_VALUES = 1 << 16
_EXACT = 4096
"""Up to so many C the grid C 2^-40 is exact, with a factor of two to spare."""
_LONGEST = 9.0
"""No value of :func:`gaussian` is that long: its radius ends at sqrt(2 * 53 * log 2) = 8.57."""
_forks = 0


def _after_fork() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_after_fork)  # process numbers come back; this counter does not


class NoiseSource(Protocol):
    """Where uniform values come from."""

    def uniforms(self, count: int) -> NDArray[np.float64]:
        """(count,) multiples of 2^-53 in (0, 1], independent and uniform."""
        ...

    @property
    def guarantee(self) -> str:
        """``cryptographic``, or ``none`` for a stream that can be foretold."""
        ...


class SecureStream:
    """A keystream that nobody can foretell or repeat.

    Guarantees:
        The key is 256 bits of ``os.urandom``; it has no accessor, no repr, and no seed. One object is one
        stream from counter 0, never rewound. A forked process draws a key of its own.
    """

    def __init__(self) -> None:
        self._zeros = memoryview(bytes(_BLOCK))
        self._owner = (_forks, os.getpid())
        self._stream = _keystream(os.urandom(32))

    def __repr__(self) -> str:
        return "SecureStream()"

    def __reduce__(self) -> str:
        raise TypeError("a SecureStream cannot be copied: two copies would give the same noise")

    @property
    def guarantee(self) -> str:
        """Fit to protect."""
        return "cryptographic"

    def uniforms(self, count: int) -> NDArray[np.float64]:
        """(count,) multiples of 2^-53 in (0, 1]."""
        return _uniforms(self.random_bytes(8 * count))

    def random_bytes(self, count: int) -> memoryview:
        """The next ``count`` bytes of the keystream."""
        owner = (_forks, os.getpid())
        if self._owner != owner:  # else parent and child would add the same noise
            self._stream, self._owner = _keystream(os.urandom(32)), owner
        room = np.empty(count + 15, dtype=np.uint8)  # update_into asks for a block beyond the data
        view = room.data
        for start in range(0, count, _BLOCK):
            size = min(_BLOCK, count - start)
            self._stream.update_into(self._zeros[:size], view[start:])
        return view[:count]


def _keystream(key: bytes, counter: bytes = bytes(16)) -> CipherContext:
    """The first counter may be fixed, because a key is used for one stream only."""
    context: CipherContext = Cipher(algorithms.AES256(key), modes.CTR(counter)).encryptor()
    return context


class SimulationStream:
    """A seeded stream for simulations only: it protects nobody, and the ledger says so."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)

    @property
    def guarantee(self) -> str:
        """Protects nobody."""
        return "none"

    def uniforms(self, count: int) -> NDArray[np.float64]:
        """(count,) multiples of 2^-53 in (0, 1]."""
        return _uniforms(self._generator.bytes(8 * count))


def _uniforms(raw: bytes | memoryview) -> NDArray[np.float64]:
    """53 high bits of each 64-bit word, plus one so that the logarithm of 0 is never taken."""
    uniforms: NDArray[np.float64] = (np.frombuffer(raw, dtype="<u8") >> np.uint64(11)).astype(np.float64)
    uniforms += 1.0
    uniforms *= 2.0**-53
    return uniforms


def gaussian(source: NoiseSource, count: int) -> NDArray[np.float64]:
    """(count,) independent standard normal values in float64.

    Guarantees:
        Values reach beyond 6 standard deviations with their true probability, up to 8.57.
    """
    values: NDArray[np.float64] = np.empty(count)
    for start in range(0, count, _VALUES):  # in pieces that stay in the cache
        end = min(start + _VALUES, count)
        values[start:end] = _box_muller(source, end - start)
    return values


def _box_muller(source: NoiseSource, count: int) -> NDArray[np.float64]:
    import torch  # its vectorised float64 sine and cosine take a fifth of numpy's time

    pairs = (count + 1) // 2
    uniforms = torch.from_numpy(source.uniforms(2 * pairs))
    radius = uniforms[:pairs].log_().mul_(-2.0).sqrt_()
    angle = uniforms[pairs:].mul_(2.0 * math.pi)
    values = torch.cat([torch.cos(angle).mul_(radius), torch.sin(angle).mul_(radius)])
    normal: NDArray[np.float64] = values.numpy()[:count]
    return normal


def grid(clip: float, persons: int = _EXACT_PERSONS, noise_multiplier: float = 0.0) -> float:
    """The grid g: C 2^-40, doubled as often as needed for a noised sum over ``persons`` to be exact.

    Args:
        clip: C.
        persons: most persons in one sum, a public number.
        noise_multiplier: sigma.
    """
    largest = (max(persons, 1) + _LONGEST * noise_multiplier) / _EXACT
    return math.ldexp(clip, max(0, math.ceil(math.log2(largest))) - GRID_BITS)


def accounted_sensitivity(
    clip: float, size: int, persons: int = _EXACT_PERSONS, noise_multiplier: float = 0.0
) -> float:
    """What the noise must be scaled by: C + g sqrt(d), since rounding moves each value by up to g/2.

    Args:
        clip: C, the L2 bound of one person's part.
        size: d.
        persons: as for :func:`grid`.
        noise_multiplier: as for :func:`grid`.
    """
    return clip + grid(clip, persons, noise_multiplier) * math.sqrt(size)


def add_gaussian(
    total: NDArray[np.float64],
    clip: float,
    noise_multiplier: float,
    source: NoiseSource,
    persons: int = _EXACT_PERSONS,
) -> NDArray[np.float64]:
    """Add Gaussian noise to a clipped sum, both on the grid g.

    Args:
        total: (d,) sum over persons, each of L2 norm at most ``clip``.
        clip: C.
        noise_multiplier: sigma.
        source: of the noise.
        persons: most persons in the sum, a public number: the grid shows in the result.

    Returns:
        (d,) multiples of g: round(total) + round(noise), noise of deviation sigma (C + g sqrt(d)).

    Raises:
        ValueError: clip or sigma are not above 0, or a value is not finite or larger than so many clipped
            parts can make it.

    Guarantees:
        The low bits of the result do not depend on the low bits of ``total``.
    """
    import torch

    if not (0 < clip < math.inf and 0 < noise_multiplier < math.inf):
        raise ValueError(f"clip={clip}, noise_multiplier={noise_multiplier} must be above 0 and finite")
    step = grid(clip, persons, noise_multiplier)
    deviation = noise_multiplier * accounted_sensitivity(clip, total.size, persons, noise_multiplier)
    values = torch.from_numpy(total.astype(np.float64, copy=False))
    largest = 1.001 * clip * max(persons, 1)
    if total.size and not all(abs(float(end)) <= largest for end in torch.aminmax(values)):
        raise ValueError("total must be a finite sum of clipped parts: clip before adding noise")
    noisy = torch.empty_like(values)
    for start in range(0, total.size, _VALUES):  # in pieces that stay in the cache
        piece = torch.div(values[start : start + _VALUES], step, out=noisy[start : start + _VALUES]).round_()
        noise = torch.from_numpy(_box_muller(source, len(piece)))
        piece.add_(noise.mul_(deviation / step).round_()).mul_(step)
    result: NDArray[np.float64] = noisy.numpy()
    return result
