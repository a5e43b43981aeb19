"""Noise that protects somebody: Gaussian values from a cryptographic stream.

A :class:`SecureStream` is the keystream of AES-256-CTR (NIST SP 800-38A, section 6.5) under a key from the
operating system, never stored. 53-bit uniforms of it become Gaussian values by the Box-Muller transform in
float64 (Box and Muller, Ann. Math. Statist. 29, 1958), whose tail ends at 8.57 standard deviations
(probability 1e-17), where torch's float32 values end at 5.77.

Float noise on a float sum leaks in the low bits (Mironov, CCS 2012). So :func:`add_gaussian` rounds sum and
noise to a grid g = C 2^-40 before adding, coarser where so many persons are summed that the sum would not
fit: multiples of g below 2^53 g add exactly.
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
        self._stream = _keystream()
        self._process = os.getpid()

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
        if self._process != os.getpid():  # else parent and child would add the same noise
            self._stream, self._process = _keystream(), os.getpid()
        room = np.empty(count + 15, dtype=np.uint8)  # update_into asks for a block beyond the data
        view = room.data
        for start in range(0, count, _BLOCK):
            size = min(_BLOCK, count - start)
            self._stream.update_into(self._zeros[:size], view[start:])
        return view[:count]


def _keystream() -> CipherContext:
    context: CipherContext = Cipher(algorithms.AES256(os.urandom(32)), modes.CTR(bytes(16))).encryptor()
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
    words = np.frombuffer(raw, dtype="<u8") >> np.uint64(11)
    uniforms: NDArray[np.float64] = (words.astype(np.float64) + 1.0) * 2.0**-53
    return uniforms


def gaussian(source: NoiseSource, count: int) -> NDArray[np.float64]:
    """(count,) independent standard normal values in float64.

    Guarantees:
        Values reach beyond 6 standard deviations with their true probability, up to 8.57.
    """
    import torch  # its vectorised float64 sine and cosine take a fifth of numpy's time

    pairs = (count + 1) // 2
    uniforms = torch.from_numpy(source.uniforms(2 * pairs))
    radius = uniforms[:pairs].log_().mul_(-2.0).sqrt_()
    angle = uniforms[pairs:].mul_(2.0 * math.pi)
    values = torch.empty(2 * pairs, dtype=torch.float64)
    torch.mul(radius, torch.cos(angle), out=values[:pairs])
    torch.mul(radius, torch.sin(angle), out=values[pairs:])
    normal: NDArray[np.float64] = values.numpy()[:count]
    return normal


def grid(clip: float, persons: int = _EXACT_PERSONS) -> float:
    """The grid g: C 2^-40, doubled as often as needed for a sum over ``persons`` to stay exact.

    Args:
        clip: C.
        persons: most persons in one sum, a public number.
    """
    doublings = max(0, math.ceil(math.log2(max(persons, 1) / _EXACT_PERSONS)))
    return math.ldexp(clip, doublings - GRID_BITS)


def accounted_sensitivity(clip: float, size: int, persons: int = _EXACT_PERSONS) -> float:
    """What the noise must be scaled by: C + g sqrt(d), since rounding moves each value by up to g/2.

    Args:
        clip: C, the L2 bound of one person's part.
        size: d.
        persons: as for :func:`grid`.
    """
    return clip + grid(clip, persons) * math.sqrt(size)


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
        persons: most persons in the sum, a public number.

    Returns:
        (d,) multiples of g: round(total) + round(noise), noise of deviation sigma (C + g sqrt(d)).

    Raises:
        ValueError: a value is not finite, or clip or sigma are not above 0.

    Guarantees:
        The low bits of the result do not depend on the low bits of ``total``.
    """
    import torch

    if not (clip > 0 and noise_multiplier > 0):
        raise ValueError(f"clip={clip}, noise_multiplier={noise_multiplier} must be above 0")
    step = grid(clip, persons)
    scaled = torch.from_numpy(total) / step
    if not math.isfinite(float(scaled.sum())):
        raise ValueError("total must be finite: clip before adding noise")
    deviation = noise_multiplier * accounted_sensitivity(clip, total.size, persons)
    noise = torch.from_numpy(gaussian(source, total.size)).mul_(deviation / step).round_()
    noisy: NDArray[np.float64] = scaled.round_().add_(noise).mul_(step).numpy()
    return noisy
