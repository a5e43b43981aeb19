"""Runs a command as a user would and watches its processes: when it prints what, and their memory.

Memory is the proportional set size (PSS): a page that n processes share counts 1/n in each, so the sum over
the processes is what they take together (proc_pid_smaps(5), ``smaps_rollup``). The processes are those of the
command's session, so that a fork server and its workers count even when their parent has ended.
"""

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Watched", "session_processes", "session_pss", "watch"]

_PROC = Path("/proc")
_PSS = re.compile(rb"^Pss:\s+(\d+) kB", re.MULTILINE)
_SESSION_FIELD = 3  # of /proc/PID/stat, counted after the name's closing parenthesis


@dataclass(frozen=True)
class Watched:
    """What a command did.

    Attributes:
        lines: (seconds since the start, line) of standard output and standard error.
        seconds: from start to end.
        peak_pss: highest sum of PSS in all processes, in bytes; 0 where it was not sampled.
        peak_processes: processes at that moment.
        samples: how often the sum was taken.
        status: the exit status.
    """

    lines: tuple[tuple[float, str], ...]
    seconds: float
    peak_pss: int
    peak_processes: int
    samples: int
    status: int

    def first(self, pattern: str) -> float | None:
        """Seconds to the first line in which a regular expression is found; None if in none."""
        return next((seconds for seconds, line in self.lines if re.search(pattern, line)), None)


def watch(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str] | None = None,
    sample_seconds: float | None = 0.05,
) -> Watched:
    """Run a command to its end.

    Args:
        command: program and arguments.
        folder: in which it runs.
        environment: of the command; None hands on this one.
        sample_seconds: pause between two sums of memory; None takes none.
    """
    began = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    ended = threading.Event()
    memory = _Memory(process.pid)
    sampler = threading.Thread(target=memory.sample, args=(sample_seconds, ended))
    if sample_seconds is not None:
        sampler.start()
    try:
        lines = tuple((time.monotonic() - began, line.rstrip("\n")) for line in process.stdout or ())
        status = process.wait()
        seconds = time.monotonic() - began
    finally:
        ended.set()
        if sampler.is_alive():
            sampler.join()
        _end_session(process)
    return Watched(lines, seconds, memory.peak, memory.processes, memory.samples, status)


def session_processes(session: int) -> Iterator[int]:
    """Numbers of the processes of a session."""
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            text = (entry / "stat").read_bytes()
        except OSError:
            continue  # it has ended
        if int(text[text.rindex(b")") + 1 :].split()[_SESSION_FIELD]) == session:
            yield int(entry.name)


def session_pss(session: int) -> tuple[int, int]:
    """PSS of all processes of a session in bytes, and how many there are."""
    total = processes = 0
    for number in session_processes(session):
        try:
            found = _PSS.search((_PROC / str(number) / "smaps_rollup").read_bytes())
        except OSError:
            continue  # it has ended, or has no memory left
        if found is not None:
            total += int(found[1]) * 1024
            processes += 1
    return total, processes


class _Memory:
    """The highest sum of PSS so far."""

    def __init__(self, session: int) -> None:
        self._session = session
        self.peak = self.processes = self.samples = 0

    def sample(self, pause: float, ended: threading.Event) -> None:
        while not ended.wait(pause):
            total, processes = session_pss(self._session)
            self.samples += 1
            if total > self.peak:
                self.peak, self.processes = total, processes


def _end_session(process: "subprocess.Popen[str]") -> None:
    """Leave no process of the command behind, whatever happened."""
    for number in session_processes(process.pid):
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
