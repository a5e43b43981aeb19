"""Paid replies on the disk: the identical bytes or an error, nothing in between."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vestry_client.replies as module
from vestry_client.replies import PaidReply, Replies, ReplyError
from vestry_strategies.orders import EvaluateReply, MaskedReply, StatisticsReply, TrainReply

ORDER, OTHER = "a" * 64, "b" * 64


def train(number: int = 1, loss: float | None = None) -> TrainReply:
    update = np.array([1.5, -0.0, np.float32(1e-45), 3.4e38], dtype=np.float32)
    return TrainReply("north", number, update, 50.0, loss, 5, ('{"count":1}', '{"count":2}'))


STATISTICS = StatisticsReply("north", {"z": np.array([0.1, 2.0]), "a": np.array(3.0)}, "none")
EVALUATE = EvaluateReply("north", 3, {"confusion": np.arange(4.0).reshape(2, 2)})


def same(left: Any, right: Any) -> bool:
    if type(left) is not type(right):
        return False
    if isinstance(left, TrainReply):
        plain = ("site", "round", "weight", "loss", "steps", "spent")
        return left.update.tobytes() == right.update.tobytes() and all(
            getattr(left, name) == getattr(right, name) for name in plain
        )
    return list(left.sums) == list(right.sums) and all(
        left.sums[name].tobytes() == right.sums[name].tobytes()
        and left.sums[name].shape == right.sums[name].shape
        for name in left.sums
    )


@pytest.mark.parametrize("place", [lambda path: path / "replies", lambda path: None], ids=["disk", "memory"])
@pytest.mark.parametrize("reply", [train(), train(2, 0.5), STATISTICS, EVALUATE])
def test_a_reply_comes_back_to_the_bit(
    reply: PaidReply, place: Callable[[Path], Path | None], tmp_path: Path
) -> None:
    replies = Replies(place(tmp_path))
    assert replies.find(type(reply), ORDER) is None
    digest = replies.keep(ORDER, reply)
    kept = replies.find(type(reply), ORDER)
    assert kept is not None
    assert (kept.digest, kept.order_hash) == (digest, ORDER)
    assert same(kept.reply, reply)
    assert replies.find(type(reply), OTHER) is None


def test_another_process_finds_it(tmp_path: Path) -> None:
    digest = Replies(tmp_path).keep(ORDER, STATISTICS)
    kept = Replies(tmp_path).find(StatisticsReply, ORDER)
    assert kept is not None
    assert kept.digest == digest
    assert same(kept.reply, STATISTICS)


def test_the_newest_of_each_kind_is_kept(tmp_path: Path) -> None:
    replies = Replies(tmp_path)
    replies.keep(ORDER, train(1))
    replies.keep(ORDER, STATISTICS)
    replies.keep(OTHER, train(2))
    assert replies.find(TrainReply, ORDER) is None
    newest = replies.newest(TrainReply)
    assert newest is not None
    assert newest.order_hash == OTHER
    assert replies.find(StatisticsReply, ORDER) is not None
    assert replies.newest(EvaluateReply) is None
    assert len(list(tmp_path.iterdir())) == 2


def test_equal_replies_have_equal_digests_and_others_not() -> None:
    digests = [Replies().keep(order, reply) for order in (ORDER, OTHER) for reply in (train(1), train(2))]
    assert len(set(digests)) == 4
    assert Replies().keep(ORDER, train(1)) == digests[0]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_changed_byte_anywhere_is_seen(place: float, flip: int, tmp_path: Path) -> None:
    Replies(tmp_path).keep(ORDER, train())
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= flip
    path.write_bytes(content)
    with pytest.raises(ReplyError, match="kept reply is damaged; the round is paid and cannot be repeated"):
        Replies(tmp_path).find(TrainReply, ORDER)


@pytest.mark.parametrize("cut", [0, 1, 63, 64, 72, -1])
def test_a_file_that_was_cut_is_seen(cut: int, tmp_path: Path) -> None:
    Replies(tmp_path).keep(ORDER, train())
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ReplyError, match="damaged"):
        Replies(tmp_path).find(TrainReply, ORDER)


def test_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_VERSION", 2)
    Replies(tmp_path).keep(ORDER, train())
    monkeypatch.undo()
    with pytest.raises(ReplyError, match="of another version"):
        Replies(tmp_path).find(TrainReply, ORDER)


def test_a_disk_that_refuses_leaves_the_older_reply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replies = Replies(tmp_path)
    replies.keep(ORDER, train(1))

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_atomically", full)
    with pytest.raises(ReplyError, match=r"cannot keep its reply \(No space left on device\); make room"):
        replies.keep(OTHER, train(2))
    assert replies.find(TrainReply, ORDER) is not None


def test_a_folder_that_is_in_the_way_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ReplyError, match="cannot keep its reply"):
        Replies(tmp_path / "file").keep(ORDER, train())
    (tmp_path / "TrainReply.reply").mkdir()
    with pytest.raises(ReplyError, match="cannot be read"):
        Replies(tmp_path).find(TrainReply, ORDER)


def masked(number: int = 1) -> MaskedReply:
    vector = np.array([0, 1, 2**64 - 1], dtype=np.uint64)
    return MaskedReply("north", number, "c" * 64, b"\x00signed", vector, 5, ("{}",), "", 50)


@pytest.mark.parametrize("disk", [True, False])
def test_masked_replies_are_kept_for_each_purpose(disk: bool, tmp_path: Path) -> None:
    """Their type does not say what they are of: an evaluation must not take the place of a training."""
    replies = Replies(tmp_path if disk else None)
    digests = [replies.keep(ORDER, masked(n), purpose) for n, purpose in enumerate(("-train", "-evaluation"))]
    again = Replies(tmp_path) if disk else replies
    for number, purpose in enumerate(("-train", "-evaluation")):
        kept = again.find(MaskedReply, ORDER, purpose)
        assert kept is not None
        assert isinstance(kept.reply, MaskedReply)
        assert kept.digest == digests[number]
        assert kept.reply.vector.dtype == np.uint64
        assert np.array_equal(kept.reply.vector, masked().vector)
        same = masked(number)
        assert replace(kept.reply, vector=same.vector) == same
    assert again.find(MaskedReply, ORDER) is None
    assert again.find(MaskedReply, OTHER, "-train") is None
