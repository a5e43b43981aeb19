"""Labelled bytes: one form, the right version, nothing behind."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.privacy.pki.consortium import NOW
from vestry_privacy.pki.errors import UnreadableObject
from vestry_privacy.pki.objects import (
    field,
    labelled,
    moment,
    read_moment,
    reading,
    text,
    to_second,
    u32,
    u64,
)

LABEL = "vestry-thing/1"
TIMES = st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@settings(deadline=None)
@given(st.binary(max_size=50), st.text(max_size=20), TIMES)
def test_what_was_written_is_read(content: bytes, words: str, clock: datetime) -> None:
    with reading(labelled(LABEL, field(content), text(words), moment(clock)), LABEL) as reader:
        assert (reader.field(), reader.text()) == (content, words)
        assert read_moment(reader) == clock.replace(microsecond=0)


def test_the_bytes_are_fixed() -> None:
    """By hand: lengths of 4 bytes, big-endian, then the content."""
    expected = b"\x00\x00\x00\x0evestry-thing/1" + b"\x00\x00\x00\x02hi" + b"\x00\x00\x00\x07"
    assert labelled(LABEL, text("hi"), u32(7)) == expected
    assert moment(datetime(1970, 1, 1, 0, 1, tzinfo=UTC)) == b"\x00" * 7 + b"\x3c"


def test_other_labels_are_told_apart() -> None:
    with (
        pytest.raises(UnreadableObject, match="version '2', this program reads 1; bring both to one version"),
        reading(labelled("vestry-thing/2"), LABEL),
    ):
        pass
    with pytest.raises(UnreadableObject, match="something else"), reading(labelled("vestry-other/1"), LABEL):
        pass


@pytest.mark.parametrize("content", [b"", b"\x00", labelled(LABEL)[:-1], labelled(LABEL) + b"\x00"])
def test_cut_or_longer_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(UnreadableObject, match=r"cut short|follow its end"), reading(content, LABEL):
        pass


def test_times_are_whole_seconds_in_utc() -> None:
    east = NOW.astimezone(timezone(timedelta(hours=5))) + timedelta(microseconds=999_999)
    assert to_second(east) == NOW
    assert to_second(east).tzinfo is UTC
    with pytest.raises(ValueError, match="zone"):
        to_second(NOW.replace(tzinfo=None))


def test_a_number_that_is_no_time_is_refused() -> None:
    with (
        pytest.raises(UnreadableObject, match="is no time"),
        reading(labelled(LABEL, u64(2**64 - 1)), LABEL) as reader,
    ):
        read_moment(reader)
