"""Vectors in frames: whole or not at all, of the length that the plan says."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vestry_server.spool import LARGEST_FRAME, Spool, SpoolError

WORDS = np.arange(1000, dtype="<u8") * np.uint64(0x0123456789ABCDEF)


def frames(words: np.ndarray, size: int) -> list[bytes]:
    content = words.tobytes()
    return [content[place : place + size] for place in range(0, len(content), size)]


@given(st.integers(0, 400), st.integers(1, 50), st.sampled_from([0, 64, 1 << 20]))
def test_what_goes_in_comes_out_as_often_as_asked(count: int, words_a_frame: int, memory: int) -> None:
    words = WORDS[:count]
    with Spool(count, memory=memory) as spool:
        for frame in frames(words, 8 * words_a_frame):
            assert not spool.whole
            spool.write(frame)
        assert spool.whole
        for _ in range(2):
            assert np.array_equal(np.concatenate([*spool, np.zeros(0, np.uint64)]), words)


def test_pieces_are_small_and_words_of_the_ring() -> None:
    count = (3 << 20) // 8 + 5
    words = np.arange(count, dtype="<u8")
    with Spool(count) as spool:
        for frame in frames(words, LARGEST_FRAME):
            spool.write(frame)
        pieces = list(spool)
    assert all(piece.dtype == np.uint64 and piece.nbytes <= 1 << 20 for piece in pieces)
    assert np.array_equal(np.concatenate(pieces), words)


@pytest.mark.parametrize("frame", [b"", b"1234567", bytes(LARGEST_FRAME + 8)])
def test_a_frame_that_is_none_is_refused(frame: bytes) -> None:
    with Spool(1 << 20) as spool:
        spool.write(bytes(8))
        with pytest.raises(SpoolError, match=f"frame: {len(frame)} bytes"):
            spool.write(frame)
        with pytest.raises(SpoolError, match="8 bytes of 8388608"):
            next(iter(spool))


def test_more_than_planned_is_refused_and_what_is_there_stands() -> None:
    with Spool(10) as spool:
        spool.write(WORDS[:10].tobytes())
        with pytest.raises(SpoolError, match="more than the 80 bytes"):
            spool.write(bytes(8))
        assert np.array_equal(np.concatenate(list(spool)), WORDS[:10])


def test_an_upload_that_broke_off_gives_nothing() -> None:
    with Spool(10) as spool:
        spool.write(WORDS[:9].tobytes())
        assert not spool.whole
        with pytest.raises(SpoolError, match="is not whole"):
            list(spool)


def test_large_vectors_lie_on_the_disk_and_are_gone_afterwards(tmp_path: Path) -> None:
    with Spool(1000, tmp_path, memory=64) as spool:
        spool.write(WORDS.tobytes())
        assert np.array_equal(np.concatenate(list(spool)), WORDS)
    assert list(tmp_path.iterdir()) == []


def test_a_spool_can_be_added_to_a_sum() -> None:
    """What SumServer reads twice: for the digest and for the sum."""
    from vestry_privacy.secagg.masks import digest_words

    with Spool(1000) as spool:
        spool.write(WORDS.tobytes())
        total = np.zeros(1000, dtype=np.uint64)
        place = 0
        for piece in spool:
            total[place : place + len(piece)] += piece
            place += len(piece)
    assert digest_words(total) == digest_words(WORDS.astype(np.uint64))
