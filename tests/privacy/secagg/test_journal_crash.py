"""Real processes: killed at any moment, or many at once. What was let go is known; nothing goes twice."""

import multiprocessing
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from tests.privacy.secagg.journals import digest, head_of, make_plan
from tests.privacy.secagg.scribe import STEPS, die_at, race, take, write
from vestry_privacy.secagg.errors import Repeated, RolledBack
from vestry_privacy.secagg.history import NO_HEAD
from vestry_privacy.secagg.journal import Journal

MEMORY = Path("/dev/shm")  # noqa: S108 - a kill leaves the kernel's pages, so memory is as good as a disk
KILLS = 40


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Children that start in milliseconds, from a server that has loaded the journal once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["vestry_privacy.secagg.journal"])
    return context


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
    Journal.create(made / "journal.sqlite").close()
    yield made
    shutil.rmtree(made)


def read(said: Path) -> list[tuple[str, int]]:
    """What a child said, in its order."""
    lines = said.read_text().splitlines() if said.exists() else []
    return [(words[0], int(words[1])) for words in map(str.split, lines)]


def wait_for(said: Path, lines: int, process: BaseProcess) -> None:
    until = time.monotonic() + 60
    while not said.exists() or said.read_bytes().count(b"\n") < lines:
        assert process.is_alive(), f"the child ended with {process.exitcode}"
        assert time.monotonic() < until
        time.sleep(0.0005)


def check(path: Path, said: list[tuple[str, int]]) -> int:
    """Whatever was said is known, and refused a second time. Opening checks the whole chain.

    Returns how many steps are known beyond what was said.
    """
    steps = [(step, number) for step, number in said if step in STEPS]
    with Journal(path) as journal:
        for step, number in steps[-8:]:
            with pytest.raises(Repeated):
                take(journal, step, make_plan(number), digest("another view"))
        for step, number in said[-8:]:
            if step == "peers":
                with pytest.raises(RolledBack):
                    journal.see_peers({digest("south"): (head_of(number - 1), NO_HEAD)})
        return journal.head().count - len(steps)


@pytest.mark.slow
def test_killed_at_random_moments(folder: Path, processes: ForkServerContext) -> None:
    path, dice = folder / "journal.sqlite", random.Random(7)  # noqa: S311 - picks test cases
    told: list[tuple[str, int]] = []
    unsaid, last = 0, Counter[str]()
    for kill in range(KILLS):
        said = folder / f"said-{kill}"
        child = processes.Process(target=write, args=(path, said, 1 + 1000 * kill))
        child.start()
        wait_for(said, dice.randint(2, 12), child)
        time.sleep(dice.uniform(0.0, 0.003))
        child.kill()
        child.join()
        new = read(said)
        told += [one for one in new if one[0] != "ready"]
        last[new[-1][0]] += 1
        now = check(path, told)
        assert 0 <= now - unsaid <= 1, "a kill comes between the record and the word of at most one step"
        unsaid = now
    assert len(told) >= 3 * KILLS
    assert len(last) >= 4, f"the kills did not spread over the steps: {last}"


@pytest.mark.slow
def test_killed_before_every_line(folder: Path, processes: ForkServerContext) -> None:
    path, told, unsaid = folder / "journal.sqlite", list[tuple[str, int]](), 0
    died, ended = Counter[str](), False
    for line in range(1, 2000, 9):
        said = folder / f"said-{line}"
        child = processes.Process(target=die_at, args=(path, said, line, line))
        child.start()
        child.join(60)
        new = read(said)
        told += new
        now = check(path, told)
        assert 0 <= now - unsaid <= 1
        unsaid = now
        ended = child.exitcode == 0
        if ended:
            break
        assert child.exitcode == -9
        died[new[-1][0] if new else "nothing"] += 1
    assert ended
    assert set(died) == {"nothing", "accept", "peers", "consume", "sign"}
    assert unsaid > 0, "no child was killed between the record and the word"


@pytest.mark.slow
def test_of_many_processes_one_takes_each_step(folder: Path, processes: ForkServerContext) -> None:
    path, plans = folder / "journal.sqlite", 300
    names = [folder / f"said-{number}" for number in range(4)]
    gate = processes.Barrier(len(names))
    children = [processes.Process(target=race, args=(path, said, plans, gate)) for said in names]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
        assert child.exitcode == 0
    steps = Counter(one for said in names for one in read(said))
    assert set(steps.values()) == {1}, "two processes took one step of one plan"
    with Journal(path) as journal:
        assert journal.head().count == len(steps)
        assert journal.report().plans["revealed"] == sum(step == "reveal" for step, _ in steps)
    assert len([said for said in names if read(said)]) > 1, "one process did everything: no race"
