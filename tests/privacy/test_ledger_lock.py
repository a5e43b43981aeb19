"""Locks that end with their process."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.simulations.laboratory import environment
from vestry_privacy.ledger_errors import LedgerUnavailable
from vestry_privacy.ledger_lock import OwnerMark, is_alive, only_writer

HOLD = """
import sys, time
from pathlib import Path
from vestry_privacy.ledger_lock import OwnerMark, only_writer
folder = Path(sys.argv[1])
mark = OwnerMark(folder / "owners")
with only_writer(folder / "lock", 1.0):
    print(mark.owner, flush=True)
    time.sleep(60)
"""


def test_one_writer_at_a_time_and_the_other_hears_who(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    own = f"process {os.getpid()} has held it"
    with only_writer(lock, 0.1), pytest.raises(LedgerUnavailable, match=own), only_writer(lock, 0.05):
        pass
    with only_writer(lock, 0.1):
        pass


def test_a_writer_waits_for_its_turn(tmp_path: Path) -> None:
    lock, order = tmp_path / "lock", []

    def second() -> None:
        with only_writer(lock, 5.0):
            order.append("second")

    with only_writer(lock, 0.1):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.05)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_the_lock_is_let_go_when_the_block_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), only_writer(tmp_path / "lock", 0.1):
        raise ZeroDivisionError
    with only_writer(tmp_path / "lock", 0.1):
        pass


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(LedgerUnavailable, match="must exist and be writable"),
        only_writer(tmp_path / "no" / "lock", 0.1),
    ):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(LedgerUnavailable, match="cannot be written"):
        OwnerMark(tmp_path / "file" / "owners")


def test_an_owner_is_alive_until_it_closes(tmp_path: Path) -> None:
    mark, other = OwnerMark(tmp_path / "owners"), OwnerMark(tmp_path / "owners")
    assert mark.owner != other.owner
    assert is_alive(tmp_path / "owners", mark.owner)
    assert is_alive(tmp_path / "owners", mark.owner), "looking does not end it"
    mark.close()
    assert not is_alive(tmp_path / "owners", mark.owner)
    assert is_alive(tmp_path / "owners", other.owner)
    other.close()
    assert list((tmp_path / "owners").iterdir()) == []


def test_a_forked_copy_does_not_take_its_parents_sign_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = OwnerMark(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: 1)
        copy = os.dup(mark._descriptor)  # a fork has the same open file, and so the same lock
        mark.close()
    assert is_alive(tmp_path, mark.owner)
    os.close(copy)
    assert not is_alive(tmp_path, mark.owner)


def test_an_owner_that_nobody_knows_is_dead(tmp_path: Path) -> None:
    assert not is_alive(tmp_path / "owners", "f" * 32)


def test_a_mark_that_is_dropped_is_let_go(tmp_path: Path) -> None:
    owner = OwnerMark(tmp_path).owner
    assert not is_alive(tmp_path, owner)
    assert not (tmp_path / owner).exists(), "a dead owner's file is cleared away"


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        owner = process.stdout.readline().strip()
        assert is_alive(tmp_path / "owners", owner)
        with (
            pytest.raises(LedgerUnavailable, match=f"process {process.pid} "),
            only_writer(tmp_path / "lock", 0.05),
        ):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not is_alive(tmp_path / "owners", owner)
        with only_writer(tmp_path / "lock", 0.05):
            pass
