"""Orders and replies in Flower's records. The only file that knows the record keys.

A message is a RecordDict of two records: ``vestry`` (a ConfigRecord with the version, the type and the
plain fields as one JSON text) and ``arrays`` (an ArrayRecord). A field that holds an array is ``field``
in the second; a field that holds bytes is an array of them; a field that holds named arrays is
``field/name``. Unknown versions and types are refused.

    VestryError
    └── MessageError    a message is of another version, of an unknown type, or broken
"""

import dataclasses
import io
import json
import math
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from vestry_privacy.errors import VestryError
from vestry_strategies.orders import Order, Reply

if TYPE_CHECKING:
    from flwr.app import Array, RecordDict

__all__ = ["MESSAGE_VERSION", "MessageError", "decode_order", "decode_reply", "encode"]

MESSAGE_VERSION = 1

_ORDERS = {kind.__name__: kind for kind in get_args(Order)}
_REPLIES = {kind.__name__: kind for kind in get_args(Reply)}
_TUPLES = frozenset({"spent"})
_VECTORS = frozenset({"model", "update", "vector"})
_NAMED_ARRAYS = frozenset({"preprocessing", "shared", "sums"})


class MessageError(VestryError):
    """A message cannot be read."""


def encode(message: Order | Reply) -> "RecordDict":
    """Put an order or a reply into Flower's records."""
    from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

    plain: dict[str, Any] = {}
    arrays: dict[str, Array] = {}
    for item in dataclasses.fields(message):
        value = getattr(message, item.name)
        if item.name in _VECTORS:
            arrays[item.name] = Array(np.asarray(value, order="C"))
        elif item.type is bytes:
            arrays[item.name] = Array(np.frombuffer(value, dtype=np.uint8))
        elif item.name in _NAMED_ARRAYS:
            for name, array in value.items():
                arrays[f"{item.name}/{name}"] = Array(np.asarray(array, order="C"))
        else:
            plain[item.name] = value
    header = ConfigRecord(
        {"version": MESSAGE_VERSION, "type": type(message).__name__, "fields": json.dumps(plain)}
    )
    return RecordDict({"vestry": header, "arrays": ArrayRecord(arrays)})


def decode_order(content: "RecordDict") -> Order:
    """Read an order.

    Raises:
        MessageError: another version, an unknown type, or fields that do not fit it.
    """
    order: Order = _decode(content, _ORDERS)
    return order


def decode_reply(content: "RecordDict") -> Reply:
    """Read a reply.

    Raises:
        MessageError: another version, an unknown type, or fields that do not fit it.
    """
    reply: Reply = _decode(content, _REPLIES)
    return reply


def _decode(content: "RecordDict", kinds: dict[str, Any]) -> Any:
    header = content.config_records.get("vestry")
    if header is None:
        raise MessageError("record 'vestry' is missing")
    if header.get("version") != MESSAGE_VERSION:
        raise MessageError(f"version={header.get('version')!r} is not {MESSAGE_VERSION}")
    kind = kinds.get(str(header.get("type")))
    if kind is None:
        raise MessageError(f"type={header.get('type')!r} is unknown here")
    try:
        fields = json.loads(str(header["fields"]))
        record = content.array_records.get("arrays")
        texts = {item.name for item in dataclasses.fields(kind) if item.type is bytes}
        if texts & set(fields):
            raise ValueError("bytes stand among the plain fields")
        for item in dataclasses.fields(kind):
            if item.name in _NAMED_ARRAYS:
                fields[item.name] = {}
            elif item.name in _TUPLES:
                fields[item.name] = tuple(fields[item.name])
        for key, array in record.items() if record else ():
            field, _, name = key.partition("/")
            if name:
                fields[field][name] = _array(array)
            elif field in texts:
                fields[field] = _bytes(_array(array))
            else:
                fields[field] = _array(array)
        _check_types(kind, fields)
        return kind(**fields)
    except Exception as error:  # noqa: BLE001  a stranger's bytes: readers of JSON and arrays raise anything
        raise MessageError(f"type={kind.__name__} is broken ({type(error).__name__})") from None


def _array(sent: "Array") -> NDArray[Any]:
    """An array whose header was held against its length: a header alone could claim all memory."""
    buffer = io.BytesIO(sent.data)
    reader = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[npy.read_magic(buffer)]
    shape, _, dtype = reader(buffer)
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(sent.data) - buffer.tell():
        raise ValueError("an array's header does not fit its bytes")
    return sent.numpy()


def _check_types(kind: Any, fields: dict[str, Any]) -> None:
    """Plain fields are of the types that they are declared with."""
    for item in dataclasses.fields(kind):
        value = fields.get(item.name)
        if item.type in {str, int, bytes} and item.name in fields and type(value) is not item.type:
            raise TypeError(f"{item.name}: is no {item.type}")
        if item.name in _TUPLES and not all(isinstance(part, str) for part in fields[item.name]):
            raise TypeError(f"{item.name}: are no texts")


def _bytes(array: NDArray[Any]) -> bytes:
    if array.dtype != np.uint8 or array.ndim != 1:
        raise ValueError("an array of other values than bytes")
    return array.tobytes()
