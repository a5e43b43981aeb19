"""Checkpoints: whole or not at all, and the one before when the newest is damaged."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.server.scripted import Course
from tests.simulations.laboratory import environment
from tests.simulations.samples import sample_record
from vestry_server.checkpoint import CheckpointError, RunState, load_latest, save_checkpoint


def state(number: int, size: int = 5) -> RunState:
    names = ["a", "b"]
    return RunState(
        study_hash="f" * 64,
        round=number,
        model=np.full(size, number, dtype=np.float32),
        best_model=np.full(size, -number, dtype=np.float32),
        best_round=max(number - 1, 0),
        best_value=0.5 if number else None,
        server={"m": np.arange(3.0), "v": np.zeros((2, 2))},
        preprocessing={"mean": np.array([1.5])},
        sites=("a", "b"),
        stop_best=None,
        stop_wait=number,
        history=tuple(sample_record(n, names) for n in range(1, number + 1)),
        sequence=number * 1000,
        weight_limit=number,
    )


def save_up_to(folder: Path, last: int) -> None:
    for number in range(last + 1):
        save_checkpoint(folder, state(number))


def same(left: RunState | None, right: RunState) -> bool:
    """Equality that knows arrays."""
    assert left is not None
    for name in ("model", "best_model"):
        if not np.array_equal(getattr(left, name), getattr(right, name)):
            return False
    for name in ("server", "preprocessing"):
        one, two = getattr(left, name), getattr(right, name)
        if one.keys() != two.keys() or not all(np.array_equal(one[key], two[key]) for key in one):
            return False
    arrays_in = {"model", "best_model", "server", "preprocessing"}
    names = {item.name for item in fields(RunState)} - arrays_in
    return all(getattr(left, name) == getattr(right, name) for name in names)


def test_the_newest_is_read_back(tmp_path: Path) -> None:
    save_up_to(tmp_path, 4)
    assert same(load_latest(tmp_path), state(4))


def test_there_may_be_none(tmp_path: Path) -> None:
    assert load_latest(tmp_path) is None
    assert load_latest(tmp_path / "nowhere") is None


def test_the_newest_three_are_kept(tmp_path: Path) -> None:
    save_up_to(tmp_path, 6)
    names = sorted(path.name for path in tmp_path.glob("round-*"))
    assert names == [f"round-{number:06d}.safetensors" for number in (4, 5, 6)]


@settings(max_examples=40, deadline=None)
@given(
    model=arrays(np.float32, st.integers(0, 20), elements=st.floats(width=32, allow_nan=False)),
    server=st.dictionaries(
        st.text(alphabet="abcxyz_", min_size=1, max_size=5),
        arrays(
            np.float64, st.tuples(st.integers(0, 3), st.integers(0, 3)), elements=st.floats(-1e300, 1e300)
        ),
        max_size=3,
    ),
    best=st.one_of(st.none(), st.floats(-1e300, 1e300)),
    stopped=st.text(max_size=20),
)
def test_any_state_is_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    model: np.ndarray,
    server: dict[str, np.ndarray],
    best: float | None,
    stopped: str,
) -> None:
    folder = tmp_path_factory.mktemp("checkpoint")
    made = replace(
        state(0), model=model, best_model=model[:3], server=server, best_value=best, stopped=stopped
    )
    save_checkpoint(folder, made)
    assert same(load_latest(folder), made)


def test_a_truncated_one_is_passed_over_wherever_it_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_up_to(tmp_path, 3)
    newest = tmp_path / "round-000003.safetensors"
    whole = newest.read_bytes()
    for length in range(0, len(whole), max(1, len(whole) // 40)):
        save_up_to(tmp_path, 3)
        newest.write_bytes(whole[:length])
        assert same(load_latest(tmp_path), state(2))
    assert "is damaged" in caplog.text


def test_one_changed_byte_is_found(tmp_path: Path) -> None:
    save_up_to(tmp_path, 3)
    newest = tmp_path / "round-000003.safetensors"
    whole = newest.read_bytes()
    for place in range(len(whole) - 60, len(whole), 7):
        save_up_to(tmp_path, 3)
        changed = bytearray(whole)
        changed[place] ^= 1
        newest.write_bytes(changed)
        assert same(load_latest(tmp_path), state(2))


def test_when_none_is_whole_it_is_said(tmp_path: Path) -> None:
    save_up_to(tmp_path, 3)
    for path in tmp_path.glob("round-*"):
        path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="none of its 3 checkpoints"):
        load_latest(tmp_path)


def test_a_damaged_history_is_not_taken_for_whole(tmp_path: Path) -> None:
    save_up_to(tmp_path, 3)
    history = tmp_path / "history.jsonl"
    history.write_bytes(history.read_bytes()[:-30])
    assert same(load_latest(tmp_path), state(2))


def test_lines_of_a_round_that_was_not_finished_are_cut_off(tmp_path: Path) -> None:
    save_up_to(tmp_path, 3)
    (tmp_path / "round-000003.safetensors").unlink()
    assert same(load_latest(tmp_path), state(2))
    save_checkpoint(tmp_path, state(3))
    assert same(load_latest(tmp_path), state(3))
    assert len((tmp_path / "history.jsonl").read_bytes().splitlines()) == 3


def test_a_checkpoint_from_before_secure_sums_is_read(tmp_path: Path) -> None:
    """Version 1: the same but for the two numbers, and its own digest."""
    from safetensors.numpy import load

    path = save_checkpoint(tmp_path, state(0))
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    plain = json.loads(json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["vestry"])["vestry"])
    del plain["sequence"], plain["weight_limit"]
    text = json.dumps({**plain, "version": 1}, sort_keys=True)
    rewrite(path, text, load(content))
    assert same(load_latest(tmp_path), replace(state(0), sequence=0, weight_limit=0))


def rewrite(path: Path, text: str, tensors: dict[str, np.ndarray]) -> None:
    from safetensors.numpy import save

    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(f"|{name}|{tensors[name].dtype.str}|{tensors[name].shape}|".encode())
        digest.update(tensors[name].tobytes())
    header = {"vestry": text, "sha256": digest.hexdigest()}
    path.write_bytes(save(tensors, metadata={"vestry": json.dumps(header)}))


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    from safetensors.numpy import save

    header = {"vestry": json.dumps({"version": 3}), "sha256": ""}
    content = save({"x": np.zeros(1)}, metadata={"vestry": json.dumps(header)})
    (tmp_path / "round-000001.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="version=3 is unknown"):
        load_latest(tmp_path)


def test_a_full_disk_is_said_and_leaves_the_earlier_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_up_to(tmp_path, 2)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("round-*")}

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="the disk is full; earlier checkpoints are intact"):
        save_checkpoint(tmp_path, state(3))
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in tmp_path.glob("round-*")} == before
    assert not list(tmp_path.glob(".*"))
    assert same(load_latest(tmp_path), state(2))
    save_checkpoint(tmp_path, state(3))
    assert same(load_latest(tmp_path), state(3))


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot write the checkpoint of round 0"):
        save_checkpoint(tmp_path / "file", state(0))


def test_a_killed_writer_leaves_a_whole_one(tmp_path: Path) -> None:
    root = Path(__file__).parent.parent.parent
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from tests.server.test_checkpoint import save_checkpoint, state\n"
        "number = -1\n"
        "while True:\n"
        "    number += 1\n"
        "    save_checkpoint(Path(sys.argv[1]), state(number, 50_000))\n"
        "    print(number, flush=True)\n"
    )
    settings = environment()
    settings["PYTHONPATH"] += os.pathsep + str(root)
    for turn, delay in enumerate((0.03, 0.08, 0.15)):
        folder = tmp_path / str(turn)
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE, env=settings, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        told = process.stdout.read().split()
        process.wait()
        process.stdout.close()
        found = load_latest(folder)
        assert found is not None
        assert found.round >= int(told[-1] if told else 0)
        assert same(found, state(found.round, 50_000))


def test_a_real_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    whole = Course(('name = "small"', 'name = "small"'), ("rounds = 4", "rounds = 6"))
    expected = whole.go()
    for kept in whole.kept[:4]:
        save_checkpoint(tmp_path, kept)
    found = load_latest(tmp_path)
    assert same(found, whole.kept[3])
    assert same(Course(("rounds = 4", "rounds = 6")).go(found), expected)
