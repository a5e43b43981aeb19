"""How objects of the PKI become bytes: a label with its version, then length-prefixed fields.

The same fields as in :mod:`vestry_privacy.secagg.encoding`; another version of a label is refused by name.

    VestryError
    └── PkiError
        └── UnreadableObject    bytes that are not what was expected
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from vestry_privacy.pki.errors import UnreadableObject
from vestry_privacy.secagg.encoding import Reader, field, text, u32, u64
from vestry_privacy.secagg.errors import BadMessage

__all__ = [
    "Reader",
    "field",
    "labelled",
    "moment",
    "read_moment",
    "reading",
    "text",
    "to_second",
    "u32",
    "u64",
]

_SHOWN = 60


def labelled(label: str, *parts: bytes) -> bytes:
    """A label such as ``"vestry-invitation/1"`` as the first field, then the parts."""
    return field(label.encode("ascii")) + b"".join(parts)


@contextmanager
def reading(content: bytes, label: str) -> Iterator[Reader]:
    """Read an object of a label from its beginning to its end.

    Args:
        content: the bytes.
        label: kind and version that it must have.

    Yields:
        A reader behind the label.

    Raises:
        UnreadableObject: another kind, another version, cut short, or something follows.
    """
    kind, _, version = label.rpartition("/")
    try:
        reader = Reader(content, kind)
        found = reader.field()
        if found != label.encode("ascii"):
            raise UnreadableObject(_other(found, kind, version))
        yield reader
        reader.end()
    except BadMessage as error:
        raise UnreadableObject(error.message) from None


def to_second(clock: datetime) -> datetime:
    """A time in UTC, cut to whole seconds, as certificates know them.

    Raises:
        ValueError: the time has no zone.
    """
    if clock.tzinfo is None:
        raise ValueError("a time needs its zone; use datetime.now(UTC)")
    return clock.astimezone(UTC).replace(microsecond=0)


def moment(clock: datetime) -> bytes:
    """Whole seconds since 1970, 8 bytes."""
    return u64(int(to_second(clock).timestamp()))


def read_moment(reader: Reader) -> datetime:
    """Read :func:`moment`."""
    seconds = reader.u64()
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError, ValueError):
        raise reader.wrong(f"{seconds} is no time") from None


def _other(found: bytes, kind: str, version: str) -> str:
    shown = found[:_SHOWN].decode("ascii", "replace")
    other, _, number = shown.rpartition("/")
    if other == kind:
        return f"{kind}: is of version {number!r}, this program reads {version}; bring both to one version"
    return f"{kind}: these bytes are something else"
