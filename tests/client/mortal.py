"""Sites that die: a nursery process forks children that answer a study's orders and are killed on the way.

A child writes down what it does where a kill cannot take it back: every training that begins, every reply
that is sent. Run as a program it reads requests, one JSON object a line, and forks without loading anything
again: torch computes nothing in the nursery itself, so that forking is safe.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.client.clinic import Clinic, make_clinic, make_policy, make_rules, private_study
from tests.simulations.laboratory import ROOT, environment
from vestry_client.privacy_rules import BudgetRules
from vestry_strategies.orders import EvaluateReply, Order, Refusal, Reply, StatisticsReply, TrainReply

__all__ = ["POINTS", "POLICY", "STUDY", "Nursery", "digest_of", "journal", "nursery", "orders"]

POINTS = ("reserve", "reserved", "training", "computed", "kept", "committed")
"""Where a child may be told to die: before and after the reservation, in a step, before and after the reply
is kept, after the commit."""

STUDY = private_study(("rounds = 4", "rounds = 2"))
POLICY = make_policy(make_rules(budget=BudgetRules(epsilon=100.0, delta=1e-5)))


def orders(clinic: Clinic) -> list[tuple[str, Order]]:
    """All orders of the study, as a coordinator sends them."""
    return [
        ("statistics", clinic.statistics()),
        ("train 1", clinic.train(1)),
        ("evaluate 1", clinic.evaluate(1)),
        ("train 2", clinic.train(2)),
        ("evaluate 2", clinic.evaluate(2)),
    ]


def digest_of(reply: Reply) -> str:
    """Hash of every byte of a reply; of a refusal its code."""
    if isinstance(reply, Refusal):
        return f"refused:{reply.code}"
    made = hashlib.sha256(type(reply).__name__.encode())
    if isinstance(reply, TrainReply):
        made.update(reply.update.tobytes() + repr((reply.round, reply.weight, reply.spent)).encode())
    elif isinstance(reply, StatisticsReply | EvaluateReply):
        for name, array in reply.sums.items():
            made.update(name.encode() + array.tobytes())
    return made.hexdigest()


def journal(folder: Path) -> list[list[str]]:
    """What children wrote down: kind, name, and for a reply its digest."""
    path = folder / "journal"
    return [line.split("|") for line in path.read_text().splitlines()] if path.exists() else []


def _note(folder: Path, *words: str) -> None:
    descriptor = os.open(folder / "journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, ("|".join(words) + "\n").encode())
    os.close(descriptor)


@dataclass
class _Doom:
    """Dies at the n-th time that a point is passed."""

    point: str
    left: int

    def at(self, point: str) -> None:
        if point and point == self.point:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def _haunt(folder: Path, doom: _Doom, pause: float) -> None:
    """Put spies into this process, which is about to end anyway."""
    import vestry_client.private_orders
    from vestry_client.replies import Replies
    from vestry_privacy.dpsgd import PrivateSteps
    from vestry_privacy.ledger import Ledger

    def around(where: Any, name: str, before: str = "", after: str = "") -> None:
        real: Callable[..., Any] = getattr(where, name)

        def spy(*arguments: Any, **named: Any) -> Any:
            doom.at(before)
            found = real(*arguments, **named)
            doom.at(after)
            return found

        setattr(where, name, spy)

    around(Ledger, "reserve", "reserve", "reserved")
    around(PrivateSteps, "gradient", "", "training")
    around(Replies, "keep", "computed", "kept")
    around(Ledger, "commit", "", "committed")
    private_orders: Any = vestry_client.private_orders
    train = private_orders.train_locally

    def watched(*arguments: Any, **named: Any) -> Any:
        _note(folder, "trains", f"train {arguments[5]}")
        time.sleep(pause)
        return train(*arguments, **named)

    private_orders.train_locally = watched


def _live(folder: Path, doom: _Doom, pause: float, names: list[str] | None) -> None:
    _haunt(folder, doom, pause)
    with make_clinic(folder, study=STUDY, policy=POLICY) as clinic:
        for name, order in orders(clinic):
            if names is None or name in names:
                _note(folder, "sent", name, digest_of(clinic.ask(order)))


def _serve() -> None:
    """Fork children as they are asked for; report their numbers, then that all have ended."""
    import logging
    import tempfile

    logging.disable(logging.CRITICAL)
    with (
        tempfile.TemporaryDirectory() as folder,
        make_clinic(Path(folder), study=STUDY, policy=POLICY) as warm,
    ):
        warm.site.private(warm.bench)  # every child inherits the noise that was found
        orders(warm)
    for line in sys.stdin:
        asked = json.loads(line)
        pids = []
        for _ in range(asked["children"]):
            pid = os.fork()
            if pid == 0:
                doom = _Doom(asked["point"], asked["count"])
                try:
                    _live(Path(asked["folder"]), doom, asked["pause"], asked["names"])
                finally:
                    os._exit(0)
            pids.append(pid)
        print(json.dumps(pids), flush=True)  # noqa: T201
        ended = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        print(json.dumps(ended), flush=True)  # noqa: T201


class Nursery:
    """The parent's side."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def run(
        self,
        folder: Path,
        point: str = "",
        count: int = 1,
        *,
        children: int = 1,
        pause: float = 0.0,
        names: list[str] | None = None,
        kill_after: float | None = None,
    ) -> list[int]:
        """Let children answer orders in a site's folder.

        Args:
            folder: of the site.
            point: where to die; empty for nowhere.
            count: at which passing.
            children: at the same time.
            pause: seconds that a training takes longer.
            names: of the orders; None for all.
            kill_after: kill all after so many seconds, wherever they are.

        Returns:
            Their exit codes; -9 of one that was killed.
        """
        folder.mkdir(parents=True, exist_ok=True)
        asked = {"folder": str(folder), "point": point, "count": count}
        asked |= {"children": children, "pause": pause, "names": names}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        pids = json.loads(self._process.stdout.readline())
        if kill_after is not None:
            time.sleep(kill_after)
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        ended: list[int] = json.loads(self._process.stdout.readline())
        return ended


@contextmanager
def nursery() -> Iterator[Nursery]:
    """A nursery that ends with the block."""
    settings = environment()
    settings["PYTHONPATH"] += f"{os.pathsep}{ROOT}"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.client.mortal"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=settings,
        cwd=ROOT,
        text=True,
    )
    try:
        yield Nursery(process)
    finally:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        process.wait(timeout=30)
        process.stdout.close()


if __name__ == "__main__":
    _serve()
