"""Known answers: AES-128-CTR and HKDF-SHA256 through this package's functions, not the library's."""

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from tests.privacy.secagg.known_answers import Case, wycheproof
from vestry_privacy.secagg import masks
from vestry_privacy.secagg.errors import ValueRefused
from vestry_privacy.secagg.masks import MaskStream, hkdf
from vestry_privacy.secagg.secret import Secret

# NIST SP 800-38A, F.5.1 CTR-AES128.Encrypt: key, initial counter, and the four output blocks.
NIST_KEY = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
NIST_COUNTER = bytes.fromhex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
NIST_OUTPUT = bytes.fromhex(
    "ec8cdf7398607cb0f2d21675ea9ea1e4"
    "362b7c3c6773516318a077d7fc5073ae"
    "6a2cc3787889374fbeb4c81b17ba6c44"
    "e89c399ff0f198c6d40a31db156cabfe"
)

# McGrew and Viega, "The Galois/Counter Mode of Operation", appendix B, test cases 1 and 2: with an all-zero
# key and nonce, the hash key is the cipher of counter 0, the tag of nothing that of counter 1, and the
# ciphertext of an all-zero block that of counter 2.
GCM_ZERO = bytes.fromhex(
    "66e94bd4ef8a2c3b884cfa59ca342b2e"  # H
    "58e2fccefa7e3061367f1d57a4e7455a"  # T of case 1
    "0388dace60b6a392f328c2b971b2fe78"  # C of case 2
)


def stream_bytes(key: bytes, words: int) -> bytes:
    buffer: NDArray[np.uint64] = np.zeros(words, np.uint64)
    MaskStream(Secret(key)).fill(buffer)
    return buffer.astype("<u8").tobytes()


def test_counter_mode_gives_the_output_blocks_of_sp_800_38a(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "_FIRST_COUNTER", NIST_COUNTER)
    assert stream_bytes(NIST_KEY, 8) == NIST_OUTPUT


def test_the_stream_begins_at_counter_0() -> None:
    assert stream_bytes(bytes(16), 6) == GCM_ZERO


def test_the_stream_is_the_cipher_of_the_counters_one_by_one() -> None:
    """The second method: AES of 0, 1, 2, ... big-endian, across every seam between the pieces of a fill."""
    block = Cipher(algorithms.AES128(NIST_KEY), modes.ECB()).encryptor()  # noqa: S305
    counters = b"".join(number.to_bytes(16, "big") for number in range(20_001))
    assert stream_bytes(NIST_KEY, 40_001) == block.update(counters)[: 8 * 40_001]


# RFC 5869, appendix A.1 to A.3: SHA-256, basic; longer; zero-length salt and info.
RFC_5869 = [
    (
        "0b" * 22,
        "000102030405060708090a0b0c",
        "f0f1f2f3f4f5f6f7f8f9",
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    ),
    (
        bytes(range(0x50)).hex(),
        bytes(range(0x60, 0xB0)).hex(),
        bytes(range(0xB0, 0x100)).hex(),
        (
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c"
            "59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71"
            "cc30c58179ec3e87c14c01d5c1f3434f1d87"
        ),
    ),
    (
        "0b" * 22,
        "",
        "",
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    ),
]


@pytest.mark.parametrize(("secret", "salt", "info", "output"), RFC_5869)
def test_hkdf_of_rfc_5869(secret: str, salt: str, info: str, output: str) -> None:
    expected = bytes.fromhex(output)
    derived = hkdf(bytes.fromhex(secret), bytes.fromhex(salt), bytes.fromhex(info), len(expected))
    assert derived.expose() == expected


@pytest.mark.parametrize("case", wycheproof("hkdf_sha256"))
def test_hkdf_of_wycheproof(case: Case) -> None:
    size = case.fields["size"]
    if case.invalid:
        with pytest.raises(ValueRefused):
            hkdf(case.raw("ikm"), case.raw("salt"), case.raw("info"), size)
        return
    assert hkdf(case.raw("ikm"), case.raw("salt"), case.raw("info"), size).expose() == case.raw("okm")
