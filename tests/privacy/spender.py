"""What the processes of the crash tests do: spend from one ledger, and say so in a file that survives them.

Each line is written before or after its step, and a line once written outlives the process: ``+ round
reservation`` a reservation was returned; ``c round reservation executed`` a commit is about to begin, ``C``
it has returned; ``v`` and ``V`` the same of a void.
"""

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.privacy.ledgers import ONE, Site, gaussian, plan, study
from vestry_privacy.ledger_errors import BudgetExceeded

__all__ = ["die_at", "hold_until_refused", "spend", "spend_until_refused"]


def spend(folder: Path, said: Path, seed: int, rounds: int = 10_000) -> None:
    """Reserve, then commit, void or forget, round after round."""
    dice = random.Random(seed)  # noqa: S311 - picks test cases
    out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with Site(folder).open() as ledger:
        os.write(out, b"ready\n")
        for number in range(1, rounds + 1):
            place = 1000 * seed + number
            reserved = ledger.reserve(ONE.study_hash, "train", "train", place, gaussian(3), "order")
            os.write(out, f"+ {place} {reserved}\n".encode())
            choice = dice.random()
            if choice < 0.6:
                executed = dice.randint(0, 3)
                os.write(out, f"c {place} {reserved} {executed}\n".encode())
                ledger.commit(reserved, executed)
                os.write(out, f"C {place} {reserved} {executed}\n".encode())
            elif choice < 0.8:
                os.write(out, f"v {place} {reserved}\n".encode())
                ledger.void(reserved, "no rows")
                os.write(out, f"V {place} {reserved}\n".encode())


def die_at(folder: Path, said: Path, step: int) -> None:
    """One round, killed at the step-th call that touches the disk."""
    calls = 0

    def count(target: Any, name: str, real: Callable[..., Any]) -> None:
        def step_then_call(*values: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*values, **named)

        setattr(target, name, step_then_call)

    site = Site(folder)
    with site.open() as ledger:
        out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        count(os, "fsync", os.fsync)
        count(os, "open", os.open)
        count(Path, "replace", Path.replace)
        file = ledger._chain.file
        count(file, "_run", file._run)
        reserved = site.reserve(ledger, step, 3)
        os.write(out, f"+ {step} {reserved}\nc {step} {reserved} 2\n".encode())
        ledger.commit(reserved, 2)
        os.write(out, f"C {step} {reserved} 2\n".encode())


def hold_until_refused(folder: Path, name: str, steps: int) -> None:
    """Hold studies of so many steps until the budget refuses."""
    with Site(folder).open(patience=30.0) as ledger:
        for number in range(1000):
            try:
                ledger.hold("heart", study(f"{name}-{number}"), plan(steps))
            except BudgetExceeded:
                return


def spend_until_refused(folder: Path, first: int, count: int) -> None:
    """Repeat rounds of the one study beyond its hold until the budget refuses; leave all of them open."""
    with Site(folder).open(patience=30.0) as ledger:
        for number in range(first, first + 1000):
            try:
                ledger.reserve(ONE.study_hash, "train", "train", number, gaussian(count), "order")
            except BudgetExceeded:
                return
