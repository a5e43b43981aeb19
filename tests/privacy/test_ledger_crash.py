"""Real processes: killed at any moment, or many at once. Never below the truth, never above the budget."""

import multiprocessing
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from tests.privacy.ledgers import ONE, Site, charged, gaussian, plan, population, study
from tests.privacy.spender import die_at, hold_until_refused, spend, spend_until_refused
from vestry_privacy.budget import divergence
from vestry_privacy.ledger_verify import verify_ledger

MEMORY = Path("/dev/shm")  # noqa: S108 - a kill leaves the kernel's pages, so memory is as good as a disk
KILLS = 48
ROOM = 245


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Children that start in milliseconds, from a server that has loaded the ledger once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["vestry_privacy.ledger"])
    return context


@pytest.fixture
def site() -> Iterator[Site]:
    folder = tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None)
    yield Site(Path(folder))
    shutil.rmtree(folder)


@dataclass
class Told:
    """What a child said of one reservation."""

    state: str
    executed: int = 0


def read(said: Path) -> dict[int, Told]:
    """Reservation -> the last that was said of it."""
    told: dict[int, Told] = {}
    for line in said.read_text().splitlines() if said.exists() else ():
        if line != "ready":
            state, _, reservation, *executed = line.split()
            told[int(reservation)] = Told(state, int(executed[0]) if executed else 0)
    return told


def wait_for(said: Path, lines: int, process: BaseProcess) -> None:
    until = time.monotonic() + 60
    while not said.exists() or said.read_bytes().count(b"\n") < lines:
        assert process.is_alive(), f"the child ended with {process.exitcode}"
        assert time.monotonic() < until
        time.sleep(0.001)


def check(site: Site, told: dict[int, Told], reserved: int = 3) -> int:
    """Every reservation that a child had in its hands is charged as the child left it.

    Opening the ledger checks its whole chain. Returns how many were charged that no child spoke of.
    """
    with site.open() as ledger:
        assert ledger.rollback is None
        state = ledger._chain.state
        assert not state.open, "the dead left nothing open"
        for number, said in told.items():
            found = state.reservation(number)
            allowed = {
                "+": {reserved},
                "c": {said.executed, reserved},
                "C": {said.executed},
                "v": {0, reserved},
                "V": {0},
            }[said.state]
            assert found.charged in allowed, f"{number}: {said} is charged {found.charged}"
        truth = sum(
            said.executed if said.state in "cC" else reserved for said in told.values() if said.state in "+cC"
        )
        assert charged(ledger) >= truth
        return len(set(state.study_of) - set(told))


@pytest.mark.slow
def test_killed_at_random_moments(site: Site, processes: ForkServerContext) -> None:
    with site.open() as ledger:
        ledger.register(population(epsilon=500.0))
        ledger.hold("heart", ONE, plan(20_000))
    dice = random.Random(7)  # noqa: S311 - picks test cases
    told: dict[int, Told] = {}
    in_hand = 0
    for seed in range(1, KILLS + 1):
        said = site.folder / f"said-{seed}"
        child = processes.Process(target=spend, args=(site.folder, said, seed))
        child.start()
        wait_for(said, dice.randint(2, 9), child)
        time.sleep(dice.uniform(0.0, 0.004))
        child.kill()
        child.join()
        new = read(said)
        told.update(new)
        in_hand += list(new.values())[-1].state in "+cv"
        unsaid = check(site, told)
        assert unsaid <= seed, "a kill charges at most the one reservation that was being made"
    verify_ledger(site.path, site.identity.public_key)
    assert len(told) >= KILLS
    assert in_hand > 0, "no child was killed between reserve and commit"


@pytest.mark.slow
def test_killed_at_every_step(site: Site, processes: ForkServerContext) -> None:
    with site.open() as ledger:
        ledger.register(population(epsilon=500.0))
        ledger.hold("heart", ONE, plan(20_000))
    told: dict[int, Told] = {}
    for step in range(1, 200):
        said = site.folder / f"said-{step}"
        child = processes.Process(target=die_at, args=(site.folder, said, step))
        child.start()
        child.join()
        told.update(read(said))
        check(site, told)
        if child.exitcode == 0:
            break
        assert child.exitcode == -9
    assert step > 20, "a reservation and a commit touch the disk more often"
    states = {one.state for one in told.values()}
    assert states == {"c", "C"}
    verify_ledger(site.path, site.identity.public_key)


def run_all(children: list[BaseProcess]) -> None:
    for child in children:
        child.start()
    for child in children:
        child.join(120)
        assert child.exitcode == 0


@pytest.mark.slow
def test_processes_that_hold_at_once_do_not_pass_the_budget(site: Site, processes: ForkServerContext) -> None:
    with site.open() as ledger:
        ledger.register(population())
    run_all(
        [
            processes.Process(target=hold_until_refused, args=(site.folder, str(number), 9))
            for number in range(4)
        ]
    )
    with site.open() as ledger:
        (found,) = ledger.report([]).populations
        assert len(found.studies) == ROOM // 9
        assert ledger._chain.state.claimed("heart") <= population().budget.rho
    verify_ledger(site.path)


@pytest.mark.slow
def test_processes_that_spend_at_once_do_not_pass_the_budget(
    site: Site, processes: ForkServerContext
) -> None:
    with site.open() as ledger:
        ledger.register(population())
        ledger.hold("heart", ONE, plan(10))
        ledger.hold("heart", study("two"), plan(100))
    run_all(
        [
            processes.Process(target=spend_until_refused, args=(site.folder, 1000 * number, 7))
            for number in range(4)
        ]
    )
    with site.open() as ledger:
        assert charged(ledger) == (ROOM - 100) // 7 * 7
        spent = divergence({gaussian(1): charged(ledger) + 100}, 4.0)
        assert spent <= population().budget.rho
        assert len(ledger._chain.state.study_of) == len(set(ledger._chain.state.study_of))
    verify_ledger(site.path)
