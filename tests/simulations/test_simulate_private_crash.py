"""A private run killed at any moment: nothing but what a crash spent is charged twice, nothing forgotten."""

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.simulations.laboratory import command, environment
from tests.simulations.private_laboratory import CLINICS, METRICS, counted, entries_of, lay_out, spent
from vestry_privacy.accounting import Event
from vestry_privacy.ledger_entries import Reserve
from vestry_simulations.manifest import read_manifest
from vestry_simulations.results import load_result
from vestry_simulations.simulate import virtual_sites
from vestry_strategies.private_plan import study_plan

ROUNDS = 6
CHANGES = (METRICS, ("rounds = 4", f"rounds = {ROUNDS}"), ("local_steps = 5", "local_steps = 60"))
ARGUMENTS = ("simulate", "study.toml", "--data", "data.csv", "--by", "clinic", "--json")


def start(folder: Path, *arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command(*arguments),
        cwd=folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # so that its workers can be killed with it
    )


def newest_round(folder: Path) -> int:
    """Of the checkpoints; -1 before the first."""
    found = folder.glob("runs/small-*/checkpoints/round-*.safetensors")
    return max((int(path.stem.removeprefix("round-")) for path in found), default=-1)


def computing(folder: Path) -> bool:
    """Has a site reserved a round and not committed it?"""
    for path in folder.glob("runs/small-*/sites/*/ledger.sqlite"):
        with contextlib.suppress(sqlite3.Error), contextlib.closing(_reading(path)) as connection:
            newest = connection.execute("SELECT body FROM entries ORDER BY seq DESC LIMIT 1").fetchone()
            if newest and '"kind":"reserve"' in newest[0]:
                return True
    return False


def _reading(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True)


def kill(process: "subprocess.Popen[str]", *, workers: bool) -> bool:
    """Kill a run, with its workers or without; False where it had ended well before."""
    killed = process.poll() is None
    if killed and workers:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    _, said = process.communicate()
    assert killed or process.returncode == 0, said
    return killed


def wait(process: "subprocess.Popen[str]", ready: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < end and not ready():
        time.sleep(0.002)


def finish(folder: Path) -> Path:
    """Resume the run to its end, right after the kill, when a worker may still be at it."""
    (run,) = (path.parent for path in folder.glob("runs/small-*/manifest.json"))
    process = start(folder, "simulate", "--resume", run, "--json")
    _, said = process.communicate(timeout=200)
    assert process.returncode == 0, said
    return run


def check(run: Path, kills: int) -> int:
    """Hold each ledger against the plan; return how many repetitions a crash cost in all."""
    manifest, repeated = read_manifest(run), 0
    result = load_result(run / "result.json")
    assert [record.round for record in result.history] == list(range(1, ROUNDS + 1))
    for site in virtual_sites(manifest, run):
        assert site.name in CLINICS
        entries = entries_of(run, site.name)
        reserved = {entry.seq: entry for entry in entries if isinstance(entry, Reserve)}
        done = Counter(_what(reserved[e.reservation]) for e in entries if e.kind == "commit")
        lost = Counter(_what(reserved[e.reservation]) for e in entries if e.kind == "spent-by-crash")
        assert set(done.values()) == {1}, "a round was answered twice"
        assert len(done) == 1 + 2 * ROUNDS, "a round was forgotten"
        assert max(lost.values(), default=0) <= kills
        assert len(done) + sum(lost.values()) == len(reserved)
        assert sum(lost.values()) <= kills, "one kill loses one order of a site at most"
        repeated += sum(lost.values())
        plan = study_plan(manifest.study, site.policy.populations["persons"].persons)
        for partition in ("train", "holdout"):
            crashed: list[Event] = [
                entry.event
                for entry in reserved.values()
                if entry.partition == partition and _what(entry) in lost
                for _ in range(lost.pop(_what(entry), 0))
            ]
            expected = counted([*plan.events(partition), *crashed])
            assert spent(run, site.name, manifest.study, partition) == expected
        assert entries[-1].kind == "release"
    return repeated


def _what(entry: Reserve) -> tuple[str, int]:
    return entry.purpose, entry.round


@pytest.mark.slow
@pytest.mark.parametrize("round_number", [0, 2])
def test_a_round_that_was_being_computed_is_spent_and_done_again(tmp_path: Path, round_number: int) -> None:
    """As when the power fails: all processes are gone between a reservation and its commit."""
    lay_out(tmp_path, *CHANGES)
    process = start(tmp_path, *ARGUMENTS)
    wait(process, lambda: newest_round(tmp_path) >= round_number and computing(tmp_path))
    assert kill(process, workers=True)
    assert check(finish(tmp_path), 1) >= 1


@pytest.mark.slow
def test_many_kills_never_charge_a_round_twice_or_forget_one(tmp_path: Path) -> None:
    """Only the coordinator is killed: a worker may still be at its round when the next one starts."""
    lay_out(tmp_path, *CHANGES)
    generator = random.Random(3)  # noqa: S311  kill points, the same in every run
    process, kills = start(tmp_path, *ARGUMENTS), 0
    for number in (0, 1, 3):
        wait(process, lambda number=number: newest_round(tmp_path) >= number)  # type: ignore[misc]
        time.sleep(generator.uniform(0.0, 0.2))
        kills += kill(process, workers=False)
        (run,) = (path.parent for path in tmp_path.glob("runs/small-*/manifest.json"))
        process = start(tmp_path, "simulate", "--resume", run, "--json")
    _, said = process.communicate(timeout=200)
    assert process.returncode == 0, said
    assert kills >= 2
    (run,) = (path.parent for path in tmp_path.glob("runs/small-*/manifest.json"))
    check(run, kills)
