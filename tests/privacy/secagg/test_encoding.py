"""Length-prefixed bytes: what was written is read, and nothing else is."""

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vestry_privacy.secagg.encoding import (
    SERVER,
    Reader,
    field,
    field_list,
    header,
    index_list,
    read_header,
    text,
    u32,
    u64,
)
from vestry_privacy.secagg.errors import BadMessage

HASH = b"p" * 32


@given(st.binary(max_size=50), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1), st.text(max_size=20))
def test_what_was_written_is_read(content: bytes, small: int, large: int, words: str) -> None:
    reader = Reader(field(content) + u32(small) + u64(large) + text(words), "test")
    assert (reader.field(), reader.u32(), reader.u64(), reader.text()) == (content, small, large, words)
    reader.end()


@given(st.lists(st.binary(max_size=9), max_size=5), st.lists(st.binary(max_size=9), max_size=5))
def test_lists_are_injective(one: list[bytes], other: list[bytes]) -> None:
    assert (field_list(one) == field_list(other)) == (one == other)
    assert Reader(field_list(one), "test").fields(5) == one


@given(st.binary(max_size=60))
def test_random_bytes_are_no_message(content: bytes) -> None:
    with pytest.raises(BadMessage):
        read_header(Reader(content, "test"), "keys", HASH)


def test_header_says_version_type_sum_and_sender() -> None:
    assert read_header(Reader(header("keys", HASH, 7), "keys"), "keys", HASH) == 7
    assert read_header(Reader(header("keys", HASH, SERVER), "keys"), "keys", None) == SERVER


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (header("keys", HASH, 1).replace(b"secagg/1", b"secagg/2"), "version is 'vestry-secagg/2'"),
        (header("shares", HASH, 1), "type is 'shares', keys is expected"),
        (header("keys", b"q" * 32, 1), "belongs to another sum"),
        (header("keys", HASH, 1)[:-1], "cut short"),
        (b"", "cut short"),
    ],
)
def test_header_of_something_else_is_refused(content: bytes, problem: str) -> None:
    with pytest.raises(BadMessage, match=problem):
        read_header(Reader(content, "keys"), "keys", HASH)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_number_must_be_finite(number: float) -> None:
    with pytest.raises(BadMessage, match="not finite"):
        Reader(struct.pack(">d", number), "plan").f64()


@pytest.mark.parametrize("number", [-1, 2**32])
def test_number_must_fit(number: int) -> None:
    with pytest.raises(BadMessage, match="does not fit"):
        u32(number)
    with pytest.raises(BadMessage, match="does not fit"):
        index_list([number])


def test_lengths_are_checked() -> None:
    with pytest.raises(BadMessage, match="5 bytes where 32 are expected"):
        Reader(field(b"short"), "test").field(32)
    with pytest.raises(BadMessage, match="at most 2"):
        Reader(field_list([b"", b"", b""]), "test").fields(2)
    with pytest.raises(BadMessage, match="1 bytes follow"):
        Reader(b"x", "test").end()
    with pytest.raises(BadMessage, match="longer than"):
        Reader(text("x" * 5000), "test").text()
    with pytest.raises(BadMessage, match="not UTF-8"):
        Reader(field(b"\xff"), "test").text()
