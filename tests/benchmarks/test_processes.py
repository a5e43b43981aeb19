"""Time and memory of a command: when a line came, and the sum of PSS over all its processes."""

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.processes import session_processes, session_pss, watch

MIB = 1024 * 1024
HOLD = "block = bytearray(b'x') * ({mib} * 1024 * 1024); import time; time.sleep({seconds})"


def python(program: str) -> list[str]:
    return [sys.executable, "-S", "-c", program]


def test_lines_have_the_time_they_came(tmp_path: Path) -> None:
    program = "import time; print('a', flush=True); time.sleep(0.3); print('b')"
    watched = watch(python(program), tmp_path, sample_seconds=None)
    assert [line for _, line in watched.lines] == ["a", "b"]
    first, second = watched.first("^a$"), watched.first("^b$")
    assert first is not None
    assert second is not None
    assert second - first >= 0.29
    assert watched.seconds >= second
    assert watched.first("^c$") is None
    assert watched.status == 0


def test_status_and_standard_error_are_kept(tmp_path: Path) -> None:
    watched = watch(python("import sys; sys.exit('broken')"), tmp_path, sample_seconds=None)
    assert watched.status == 1
    assert watched.lines[-1][1] == "broken"
    assert (watched.peak_pss, watched.samples) == (0, 0)


def test_memory_of_children_counts(tmp_path: Path) -> None:
    inner = HOLD.format(mib=40, seconds=0.6)
    program = (
        f"import subprocess, sys; block = bytearray(b'x') * (30 * {MIB})\n"
        f"children = [subprocess.Popen([sys.executable, '-S', '-c', {inner!r}]) for _ in range(2)]\n"
        "print([child.wait() for child in children])"
    )
    watched = watch(python(program), tmp_path)
    assert watched.status == 0, watched.lines
    assert watched.samples >= 5
    assert watched.peak_processes == 3
    assert 110 * MIB <= watched.peak_pss <= 190 * MIB


def test_shared_pages_count_once(tmp_path: Path) -> None:
    """After a fork both processes hold the block; together they take it once."""
    program = (
        f"import os, time; block = bytearray(b'x') * (60 * {MIB}); child = os.fork(); time.sleep(0.4)\n"
        "child and os.wait()"
    )
    watched = watch(python(program), tmp_path)
    assert watched.peak_processes == 2
    assert 60 * MIB <= watched.peak_pss <= 100 * MIB


def test_child_counts_when_its_parent_has_ended(tmp_path: Path) -> None:
    program = HOLD.format(mib=50, seconds=0.5)
    watched = watch(["sh", "-c", f'{sys.executable} -S -c "{program}" & exit 0'], tmp_path)
    assert watched.peak_pss >= 50 * MIB


def test_nothing_of_the_command_is_left_behind(tmp_path: Path) -> None:
    watched = watch(["sh", "-c", "sleep 30 > /dev/null 2>&1 & echo $!"], tmp_path, sample_seconds=None)
    number = int(watched.lines[0][1])
    assert watched.seconds < 10
    end = time.monotonic() + 5
    while _is_running(number):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_pss_of_one_process_agrees_with_its_peak_resident_size() -> None:
    """A second method: what the kernel tells the parent of a child that shares almost nothing."""
    program = HOLD.format(mib=80, seconds=0.5)
    child = subprocess.Popen(python(program), start_new_session=True)
    time.sleep(0.3)
    assert list(session_processes(child.pid)) == [child.pid]
    pss, processes = session_pss(child.pid)
    child.wait()
    assert processes == 1
    resident = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    assert 80 * MIB <= pss <= resident


def test_session_without_processes_has_no_memory() -> None:
    assert session_pss(2**22 + 1) == (0, 0)


def _is_running(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{number}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    return state != "Z"


@pytest.mark.parametrize("name", ["with (brackets)", "plain"])
def test_processes_with_brackets_in_their_name_are_read(name: str, tmp_path: Path) -> None:
    program = tmp_path / name
    program.write_text("#!/bin/sh\nsleep 0.4\n", encoding="utf-8")
    program.chmod(0o755)
    child = subprocess.Popen([str(program)], start_new_session=True)
    time.sleep(0.2)
    assert child.pid in set(session_processes(child.pid))
    child.wait()
