"""Canonical bytes: one value, one encoding, so that a hash is an identity.

Encoding (version 1): a type byte, a length as unsigned 32-bit big-endian integer, then the payload.
Mappings are sorted by the UTF-8 bytes of their keys. Floats are IEEE 754 binary64, big-endian, with
-0.0 written as 0.0; NaN and infinities have no encoding. Integers are decimal ASCII of any size.

    VestryError
    └── CanonicalError    a value has no canonical encoding
"""

import hashlib
import math
import struct
from collections.abc import Mapping, Sequence

from vestry_privacy.errors import VestryError

__all__ = ["CanonicalError", "canonical_bytes", "canonical_hash"]


class CanonicalError(VestryError):
    """A value has no canonical encoding."""


def canonical_bytes(value: object) -> bytes:
    """Encode a plain value.

    Args:
        value: None, bool, int, finite float, str, bytes, a sequence or a mapping with str keys of these.

    Returns:
        The encoding described in the module docstring.

    Raises:
        CanonicalError: a float that is not finite, a key that is no str, or another type.

    Guarantees:
        Injective: two values with the same bytes are equal and of the same types
        (list and tuple count as one type, 0.0 and -0.0 as one value).
    """
    if value is None:
        return _item(b"n", b"")
    if isinstance(value, bool):
        return _item(b"b", b"\x01" if value else b"\x00")
    if isinstance(value, int):
        return _item(b"i", str(value).encode("ascii"))
    if isinstance(value, float):
        if not math.isfinite(value):
            raise CanonicalError(f"value={value} is not finite and has no canonical encoding")
        return _item(b"f", struct.pack(">d", value + 0.0))
    if isinstance(value, str):
        return _item(b"s", value.encode("utf-8"))
    if isinstance(value, bytes):
        return _item(b"x", value)
    if isinstance(value, Mapping):
        return _item(b"m", _mapping(value))
    if isinstance(value, Sequence):
        return _item(b"l", b"".join(canonical_bytes(item) for item in value))
    raise CanonicalError(f"type={type(value).__name__} has no canonical encoding")


def canonical_hash(label: str, value: object) -> str:
    """Hash a plain value under a label that names what it is.

    Args:
        label: kind and version of the object, such as ``"vestry-study/1"``.
        value: see :func:`canonical_bytes`.

    Returns:
        SHA-256 as 64 hexadecimal digits.

    Guarantees:
        Objects of different labels never share a hash input (the label is length-prefixed).
    """
    return hashlib.sha256(canonical_bytes([label, value])).hexdigest()


def _item(tag: bytes, payload: bytes) -> bytes:
    return tag + struct.pack(">I", len(payload)) + payload


def _mapping(value: Mapping[object, object]) -> bytes:
    keys: list[str] = []
    for key in value:
        if not isinstance(key, str):
            raise CanonicalError(f"key type={type(key).__name__} must be str")
        keys.append(key)
    keys.sort(key=lambda key: key.encode("utf-8"))
    return b"".join(canonical_bytes(key) + canonical_bytes(value[key]) for key in keys)
