"""Children that write into a journal until they are killed, and say what they are about to let leave.

What a child says is in a file that a kill does not take back; it says so after the journal has it, and before
anything would leave.
"""

import os
import signal
from multiprocessing.synchronize import Barrier
from pathlib import Path
from types import FrameType

from tests.privacy.secagg.journals import begin, digest, head_of, make_plan, make_rules
from vestry_privacy.secagg.errors import ProtocolAbort
from vestry_privacy.secagg.history import Accepted
from vestry_privacy.secagg.journal import Journal

__all__ = ["STEPS", "die_at", "race", "take", "write"]

STEPS = ("accept", "consume", "sign", "reveal")
_RULES = make_rules(rounds_allowed=10**6)


class _Say:
    def __init__(self, said: Path) -> None:
        self._descriptor = os.open(said, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def __call__(self, *words: object) -> None:
        os.write(self._descriptor, (" ".join(map(str, words)) + "\n").encode())


def _sum(journal: Journal, say: _Say, number: int) -> None:
    plan = begin(journal, make_plan(number, _RULES))
    say("accept", number)
    journal.see_peers({digest("south"): (head_of(number), head_of(number))})
    say("peers", number)
    journal.consume(plan)
    say("consume", number)
    journal.sign(plan, digest("view"))
    say("sign", number)
    journal.reveal(plan)
    say("reveal", number)


def take(journal: Journal, step: str, plan: Accepted, view: bytes) -> None:
    """Ask a journal for one of the steps."""
    match step:
        case "accept":
            begin(journal, plan)
        case "sign":
            journal.sign(plan.plan, view)
        case _:
            getattr(journal, step)(plan.plan)


def write(path: Path, said: Path, first: int) -> None:
    """Sums without an end, from a number on."""
    say = _Say(said)
    with Journal(path) as journal:
        say("ready", 0)
        for number in range(first, first + 10**6):
            _sum(journal, say, number)


def die_at(path: Path, said: Path, first: int, line: int) -> None:
    """One sum, killed before a line of this package's code: at each place once, counted by the caller."""
    import sys

    left = line

    def watch(frame: FrameType, event: str, _: object) -> object:
        nonlocal left
        if "secagg/journal" not in frame.f_code.co_filename:
            return None
        if event == "line":
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return watch

    say = _Say(said)
    with Journal(path) as journal:
        sys.settrace(watch)  # type: ignore[arg-type]
        _sum(journal, say, first)
        sys.settrace(None)


def race(path: Path, said: Path, plans: int, gate: Barrier) -> None:
    """Try every step of every plan, against others that do the same."""
    say = _Say(said)
    with Journal(path, patience=60.0) as journal:
        gate.wait()
        for number in range(1, plans + 1):
            plan = make_plan(number, _RULES)
            for step in STEPS:
                try:
                    take(journal, step, plan, digest(os.getpid()))
                except ProtocolAbort:
                    continue
                say(step, number)
