"""Length-prefixed bytes: the one form in which a message, a plan or a transcript is signed, hashed and sent.

Numbers are unsigned and big-endian; a field is its length as 32 bits, then its bytes
(docs/secagg-protocol.md).

    ProtocolAbort
    └── BadMessage    bytes that are not what was expected
"""

import math
import struct
from collections.abc import Iterable, Sequence
from typing import Final

from vestry_privacy.secagg.errors import BadMessage

__all__ = [
    "DIGEST_BYTES",
    "PROTOCOL",
    "SERVER",
    "Reader",
    "field",
    "field_list",
    "header",
    "index_list",
    "read_header",
    "text",
    "u32",
    "u64",
]

PROTOCOL: Final = b"vestry-secagg/1"
SERVER: Final = 0xFFFFFFFF
"""The sender of the server's messages."""

DIGEST_BYTES: Final = 32
_LARGEST_TEXT = 4096


def u32(number: int) -> bytes:
    """4 bytes; BadMessage where the number does not fit."""
    return _pack(">I", number)


def u64(number: int) -> bytes:
    """8 bytes; BadMessage where the number does not fit."""
    return _pack(">Q", number)


def field(content: bytes) -> bytes:
    """Length, then content."""
    return struct.pack(">I", len(content)) + content


def text(words: str) -> bytes:
    """A field of UTF-8."""
    return field(words.encode("utf-8"))


def field_list(contents: Sequence[bytes]) -> bytes:
    """How many, then each as a field."""
    return u32(len(contents)) + b"".join(map(field, contents))


def index_list(indexes: Iterable[int]) -> bytes:
    """Indexes of sites, 4 bytes each."""
    return b"".join(map(u32, indexes))


def header(kind: str, plan_hash: bytes, sender: int) -> bytes:
    """What every message begins with, so that a signature fits one message of one sum."""
    return field(PROTOCOL) + field(kind.encode("ascii")) + field(plan_hash) + u32(sender)


class Reader:
    """Reads one message from its beginning to its end.

    Args:
        content: the bytes.
        what: names the message in errors.
    """

    def __init__(self, content: bytes, what: str) -> None:
        self._content, self._what, self._place = content, what, 0

    @property
    def place(self) -> int:
        """Bytes read so far."""
        return self._place

    def u32(self) -> int:
        """A number below 2^32."""
        number: int = struct.unpack(">I", self._take(4))[0]
        return number

    def u64(self) -> int:
        """A number below 2^64."""
        number: int = struct.unpack(">Q", self._take(8))[0]
        return number

    def f64(self) -> float:
        """A finite number."""
        number: float = struct.unpack(">d", self._take(8))[0]
        if not math.isfinite(number):
            raise self.wrong("a number is not finite")
        return number

    def field(self, length: int | None = None) -> bytes:
        """A field, of so many bytes where it is said."""
        size = self.u32()
        if length is not None and size != length:
            raise self.wrong(f"a field has {size} bytes where {length} are expected")
        return self._take(size)

    def text(self) -> str:
        """A field of UTF-8."""
        content = self.field()
        if len(content) > _LARGEST_TEXT:
            raise self.wrong(f"a text is longer than {_LARGEST_TEXT} bytes")
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError:
            raise self.wrong("a text is not UTF-8") from None

    def fields(self, most: int) -> list[bytes]:
        """A list of fields, at most so many."""
        count = self.u32()
        if count > most:
            raise self.wrong(f"a list has {count} entries, at most {most} are expected")
        return [self.field() for _ in range(count)]

    def end(self) -> None:
        """Nothing may follow."""
        if self._place != len(self._content):
            raise self.wrong(f"{len(self._content) - self._place} bytes follow its end")

    def wrong(self, problem: str) -> BadMessage:
        """An error that names the message."""
        return BadMessage("message format", f"{self._what}: {problem}")

    def _take(self, size: int) -> bytes:
        part = self._content[self._place : self._place + size]
        if len(part) != size:
            raise self.wrong("it is cut short")
        self._place += size
        return part


def read_header(reader: Reader, kind: str, plan_hash: bytes | None) -> int:
    """Check what a message begins with.

    Args:
        reader: at the message's beginning.
        kind: the type that it must have.
        plan_hash: of the sum that it must belong to; None for any.

    Returns:
        The sender's index.

    Raises:
        BadMessage: another version, another type, or another sum.
    """
    version = reader.field()
    if version != PROTOCOL:
        raise reader.wrong(
            f"its version is {_shown(version)}, this is {_shown(PROTOCOL)}; bring both sides to one version"
        )
    found = reader.field()
    if found != kind.encode("ascii"):
        raise reader.wrong(f"its type is {_shown(found)}, {kind} is expected")
    of_sum = reader.field(DIGEST_BYTES)
    if plan_hash is not None and of_sum != plan_hash:
        raise reader.wrong("it belongs to another sum")
    return reader.u32()


def _shown(content: bytes) -> str:
    return repr(content[:40].decode("ascii", "replace"))


def _pack(form: str, number: int) -> bytes:
    try:
        return struct.pack(form, number)
    except struct.error:
        raise BadMessage("message format", f"number {number} does not fit its field") from None
