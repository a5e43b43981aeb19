"""Masks: AES-CTR key streams added to words.

AES-128 in counter mode (NIST SP 800-38A, section 6.5), one stream for a key, from counter 0; keys by
HKDF-SHA256 (RFC 5869). Masking is that of Bonawitz et al., CCS 2017, section 4, in Z_2^64.

    ProtocolAbort
    ├── WrongStep       the key has made a stream already
    └── ValueRefused    a key or a vector of the wrong length or kind
"""

import hashlib
import sys
from collections.abc import Sequence
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from vestry_privacy.secagg.errors import ValueRefused
from vestry_privacy.secagg.secret import Secret

__all__ = ["MASK_KEY_BYTES", "MaskStream", "add_masks", "digest_words", "hkdf"]

MASK_KEY_BYTES: Final = 16
_CIPHER_BLOCK = 16
_FIRST_COUNTER = bytes(_CIPHER_BLOCK)  # may be fixed, because a key is used for one stream only
_BLOCK_WORDS = 1 << 15
_LONGEST_KEY = 255 * 32
_ZEROS = memoryview(bytes(1 << 17))


def hkdf(secret: bytes, salt: bytes, info: bytes, length: int) -> Secret:
    """HKDF-SHA256.

    Args:
        secret: input keying material.
        salt: the plan's hash, in this protocol.
        info: label and context.
        length: bytes wanted, 1 to 8160.

    Raises:
        ValueRefused: the length is out of range.

    Guarantees:
        Keys of different salts or infos are independent, as far as HMAC-SHA256 is a pseudorandom function.
    """
    if not 1 <= length <= _LONGEST_KEY:
        raise ValueRefused("length of a derived key", f"{length} bytes; 1 to {_LONGEST_KEY} can be derived")
    return Secret(HKDF(SHA256(), length, salt, info).derive(secret))


class MaskStream:
    """One key stream, from counter 0, forwards only.

    Args:
        key: 16 bytes; it is wiped, so that it makes no second stream.

    Raises:
        WrongStep: the key was used up or wiped.
        ValueRefused: it has another length.

    Guarantees:
        No two streams come from one Secret, and no word of a stream is given twice. The stream has no seek,
        no repr of its key, and no copy.
    """

    __slots__ = ("_cipher", "_tail")

    def __init__(self, key: Secret) -> None:
        if len(key) != MASK_KEY_BYTES:
            raise ValueRefused("mask key", f"{len(key)} bytes where {MASK_KEY_BYTES} are a key")
        self._cipher = Cipher(algorithms.AES128(key.expose()), modes.CTR(_FIRST_COUNTER)).encryptor()
        key.wipe()
        self._tail = np.empty(2 * _CIPHER_BLOCK, dtype=np.uint8)

    def fill(self, buffer: NDArray[np.uint32] | NDArray[np.uint64]) -> None:
        """Overwrite a buffer with the next numbers of the stream, little-endian.

        Args:
            buffer: (m,) contiguous.

        Raises:
            ValueRefused: it is not.
        """
        if buffer.ndim != 1 or not buffer.flags.c_contiguous:
            raise ValueRefused("buffer of a mask", "it is no contiguous vector")
        target = buffer.view(np.uint8)
        # update_into asks for room for 15 bytes more than it writes, so the last ones go another way.
        direct = max(0, len(target) - _CIPHER_BLOCK)
        for start in range(0, direct, len(_ZEROS)):
            size = min(len(_ZEROS), direct - start)
            self._cipher.update_into(_ZEROS[:size], target[start:].data)
        rest = len(target) - direct
        self._cipher.update_into(_ZEROS[:rest], self._tail.data)
        target[direct:] = self._tail[:rest]
        if sys.byteorder == "big":
            buffer.byteswap(inplace=True)

    def __repr__(self) -> str:
        return "MaskStream()"

    def __reduce__(self) -> str:
        raise TypeError("a MaskStream cannot be copied or pickled: two copies would give the same mask")


def add_masks(words: NDArray[np.uint64], plus: Sequence[MaskStream], minus: Sequence[MaskStream]) -> None:
    """Add masks to words, and take others away, modulo 2^64.

    Args:
        words: (m,) contiguous, changed in place.
        plus: streams to add.
        minus: streams to subtract.

    Raises:
        ValueRefused: words are no contiguous vector of uint64.

    Guarantees:
        With one stream that is uniform and unknown to a reader, the words are uniform and independent of what
        they were.
    """
    if words.dtype != np.uint64 or words.ndim != 1 or not words.flags.c_contiguous:
        raise ValueRefused("words", "they are no contiguous vector of 64-bit numbers")
    room = np.empty(min(_BLOCK_WORDS, len(words)), dtype=np.uint64)
    for start in range(0, len(words), _BLOCK_WORDS):  # in pieces that stay in the cache
        piece = words[start : start + _BLOCK_WORDS]
        mask = room[: len(piece)]
        for stream in plus:
            stream.fill(mask)
            np.add(piece, mask, out=piece)
        for stream in minus:
            stream.fill(mask)
            np.subtract(piece, mask, out=piece)


def digest_words(words: NDArray[np.uint64]) -> bytes:
    """SHA-256 of the words as little-endian bytes, 32 bytes."""
    little = words.astype("<u8", copy=False)
    return hashlib.sha256(np.ascontiguousarray(little).data).digest()
