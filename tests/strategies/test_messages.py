"""Messages in Flower's records: round trips, and refusals of what is unknown."""

import dataclasses
from typing import Any, get_args

import numpy as np
import pytest
from flwr.app import Array, ConfigRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from vestry_strategies.messages import MessageError, decode_order, decode_reply, encode
from vestry_strategies.orders import (
    DescribeOrder,
    DescribeReply,
    EvaluateOrder,
    EvaluateReply,
    FinishOrder,
    FinishReply,
    MaskedReply,
    Order,
    Refusal,
    RefusalCode,
    Reply,
    SecureOrder,
    SecureReply,
    SecureStep,
    StatisticsOrder,
    StatisticsReply,
    TrainOrder,
    TrainReply,
)

text = st.text(max_size=20)
number = st.integers(0, 10**9)
vector = arrays(np.float32, st.integers(0, 20), elements=st.floats(width=32, allow_nan=False))
named = st.dictionaries(
    st.text(alphabet="abc/_xyz", min_size=1, max_size=6),
    arrays(np.float64, array_shapes(min_dims=0, max_dims=3, max_side=3), elements=st.floats(-1e9, 1e9)),
    max_size=3,
)
floats = st.floats(allow_nan=False, allow_infinity=False)
words = arrays(np.uint64, st.integers(0, 20))
step = st.sampled_from(get_args(SecureStep))
content = st.binary(max_size=40)
weights = st.none() | st.integers(1, 2**40)
events = st.lists(st.text(max_size=60), max_size=3).map(tuple)
ORDERS: dict[type[Order], st.SearchStrategy[Order]] = {
    DescribeOrder: st.builds(DescribeOrder),
    StatisticsOrder: st.builds(StatisticsOrder, text, text),
    TrainOrder: st.builds(TrainOrder, text, number, number, vector, named, named, text),
    EvaluateOrder: st.builds(EvaluateOrder, text, number, vector, named, text),
    FinishOrder: st.builds(FinishOrder, text),
    SecureOrder: st.builds(SecureOrder, text, step, text, content),
}
REPLIES: dict[type[Reply], st.SearchStrategy[Reply]] = {
    DescribeReply: st.builds(DescribeReply, text),
    StatisticsReply: st.builds(StatisticsReply, text, named, st.sampled_from(["", "cryptographic", "none"])),
    TrainReply: st.builds(TrainReply, text, number, vector, floats, st.none() | floats, number, events),
    EvaluateReply: st.builds(EvaluateReply, text, number, named),
    FinishReply: st.builds(FinishReply, text),
    SecureReply: st.builds(SecureReply, text, step, text, content),
    MaskedReply: st.builds(MaskedReply, text, number, text, content, words, number, events, text, weights),
    Refusal: st.builds(Refusal, text, st.sampled_from(get_args(RefusalCode)), text),
}


def same(left: Any, right: Any) -> bool:
    """Equality that knows arrays."""
    if type(left) is not type(right):
        return False
    if dataclasses.is_dataclass(left):
        return all(
            same(getattr(left, item.name), getattr(right, item.name)) for item in dataclasses.fields(left)
        )
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and np.array_equal(left, right)
    return bool(left == right)


def test_every_order_and_every_reply_is_drawn_here() -> None:
    assert set(ORDERS) == set(get_args(Order))
    assert set(REPLIES) == set(get_args(Reply))


@settings(max_examples=150, deadline=None)
@given(st.one_of(*ORDERS.values()))
def test_orders_come_out_as_they_went_in(order: Order) -> None:
    assert same(decode_order(encode(order)), order)


@settings(max_examples=150, deadline=None)
@given(st.one_of(*REPLIES.values()))
def test_replies_come_out_as_they_went_in(reply: Reply) -> None:
    assert same(decode_reply(encode(reply)), reply)


def header(**changes: Any) -> RecordDict:
    plain: dict[str, Any] = {"version": 1, "type": "DescribeReply", "fields": '{"site": "a"}'}
    return RecordDict({"vestry": ConfigRecord({**plain, **changes})})


def test_a_minimal_message_is_read() -> None:
    assert decode_reply(header()) == DescribeReply("a")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (RecordDict(), "record 'vestry' is missing"),
        (header(version=2), "version=2 is not 1"),
        (header(version="1"), "version='1' is not 1"),
        (header(type="Unknown"), "type='Unknown' is unknown"),
        (header(type="TrainOrder"), "type='TrainOrder' is unknown"),
        (header(fields="{"), "type=DescribeReply is broken"),
        (header(fields="[]"), "type=DescribeReply is broken"),
        (header(fields="{}"), "type=DescribeReply is broken"),
        (header(fields='{"site": "a", "x": 1}'), "type=DescribeReply is broken"),
        (header(type="TrainReply"), "type=TrainReply is broken"),
    ],
)
def test_what_is_unknown_or_broken_is_refused(content: RecordDict, said: str) -> None:
    with pytest.raises(MessageError) as error:
        decode_reply(content)
    assert said in str(error.value)


def test_a_reply_under_privacy_keeps_what_it_spent() -> None:
    spent = ('{"mechanism":"gaussian","noise_multiplier":2.0,"count":1}', "{}")
    reply = TrainReply("a", 3, np.ones(2, dtype=np.float32), 1.0, None, 5, spent)
    again = decode_reply(encode(reply))
    assert isinstance(again, TrainReply)
    assert (again.loss, again.spent) == (None, spent)


def test_a_reply_whose_spending_is_no_list_is_refused() -> None:
    content = encode(TrainReply("a", 3, np.ones(2, dtype=np.float32), 1.0, None, 5))
    fields = str(content.config_records["vestry"]["fields"]).replace('"spent": []', '"spent": 3')
    content.config_records["vestry"]["fields"] = fields
    with pytest.raises(MessageError, match="type=TrainReply is broken"):
        decode_reply(content)


def test_a_reply_is_no_order() -> None:
    with pytest.raises(MessageError, match="unknown here"):
        decode_order(encode(DescribeReply("a")))


def test_an_array_under_an_unknown_name_is_refused() -> None:
    content = encode(StatisticsReply("a", {"x": np.ones(1)}))
    content.config_records["vestry"]["type"] = "DescribeReply"
    with pytest.raises(MessageError, match="is broken"):
        decode_reply(content)


BYTES = np.frombuffer(b"signed", dtype=np.uint8)


@pytest.mark.parametrize("array", [BYTES.astype(np.float32), BYTES.reshape(2, 3), BYTES.astype(np.int8)])
def test_bytes_that_are_no_bytes_are_refused(array: Any) -> None:
    content = encode(SecureReply("a", "keys", "0" * 64, b"signed"))
    content.array_records["arrays"]["message"] = Array(array)
    with pytest.raises(MessageError, match="type=SecureReply is broken"):
        decode_reply(content)


@pytest.mark.parametrize("text", ['"signed"', "[1, 2]", "null"])
def test_bytes_among_the_plain_fields_are_refused(text: str) -> None:
    content = encode(SecureReply("a", "keys", "0" * 64, b"signed"))
    fields = str(content.config_records["vestry"]["fields"])
    content.config_records["vestry"]["fields"] = fields[:-1] + f', "message": {text}}}'
    with pytest.raises(MessageError, match="type=SecureReply is broken"):
        decode_reply(content)


def test_an_order_of_an_earlier_coordinator_asks_for_a_reply_in_the_clear() -> None:
    content = encode(StatisticsOrder("{}"))
    content.config_records["vestry"]["fields"] = '{"study": "{}"}'
    assert decode_order(content) == StatisticsOrder("{}", "")


@pytest.mark.parametrize(
    "fields",
    [
        "[" * 100_000,
        "null",
        "[]",
        '{"site": ["x"]}',
        '{"site": 3}',
        '{"site": null}',
        '{"site": "a", "more": 1}',
    ],
)
def test_plain_fields_of_a_stranger_are_refused(fields: str) -> None:
    content = encode(DescribeReply("a"))
    content.config_records["vestry"]["fields"] = fields
    with pytest.raises(MessageError, match="type=DescribeReply is broken"):
        decode_reply(content)


def npy(shape: str, magic: bytes = b"\x93NUMPY\x01\x00", kind: str = "<f4") -> bytes:
    """An array's bytes: a header, and eight bytes of content."""
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return magic + len(text).to_bytes(2, "little") + text + bytes(8)


@pytest.mark.parametrize(
    "data",
    [
        npy("(10000000000000,)"),  # tens of terabytes, said in a hundred bytes
        npy("(3,)"),
        npy("(" * 3000),
        npy("(2,)", kind="|O"),
        npy("(2,)", magic=b"\x93NUMPY\x09\x00"),
        b"PK\x03\x04" + bytes(40),
        b"",
    ],
)
def test_arrays_of_a_stranger_are_refused_before_memory_is_taken(data: bytes) -> None:
    content = encode(TrainReply("a", 3, np.ones(2, dtype=np.float32), 1.0, None, 5))
    content.array_records["arrays"]["update"] = Array("float32", (2,), "numpy.ndarray", data)
    with pytest.raises(MessageError, match="type=TrainReply is broken"):
        decode_reply(content)


def test_the_header_of_a_whole_array_passes() -> None:
    content = encode(TrainReply("a", 3, np.ones(2, dtype=np.float32), 1.0, None, 5))
    content.array_records["arrays"]["update"] = Array("float32", (2,), "numpy.ndarray", npy("(2,)"))
    reply = decode_reply(content)
    assert isinstance(reply, TrainReply)
    assert reply.update.tolist() == [0.0, 0.0]
