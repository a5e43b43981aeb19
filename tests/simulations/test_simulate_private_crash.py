"""A private run that is killed at any moment: nothing is charged twice but what a crash spent, nothing forgotten."""

import random
import signal
import subprocess
import time
from collections import Counter
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

ROUNDS = 10
ARGUMENTS = ("simulate", "study.toml", "--data", "data.csv", "--by", "clinic", "--json")


def start(folder: Path, *arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command(*arguments),
        cwd=folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def newest_round(folder: Path) -> int:
    """Of the checkpoints; -1 before the first."""
    found = folder.glob("runs/small-*/checkpoints/round-*.safetensors")
    return max((int(path.stem.removeprefix("round-")) for path in found), default=-1)


def kill_at(process: "subprocess.Popen[str]", folder: Path, number: int, delay: float) -> bool:
    """Kill a run a moment after it has kept a round; False where it ended before."""
    end = time.monotonic() + 120
    while newest_round(folder) < number and process.poll() is None and time.monotonic() < end:
        time.sleep(0.005)
    time.sleep(delay)
    killed = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return killed


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
@pytest.mark.parametrize(("number", "delay"), [(-1, 1.0), (0, 0.0), (3, 0.05), (6, 0.2), (ROUNDS, 0.0)])
def test_one_kill_costs_one_repetition_at_most(tmp_path: Path, number: int, delay: float) -> None:
    lay_out(tmp_path, METRICS, ("rounds = 4", f"rounds = {ROUNDS}"))
    process = start(tmp_path, *ARGUMENTS)
    killed = kill_at(process, tmp_path, max(number, 0), delay)
    run = finish(tmp_path)
    check(run, 1 if killed else 0)


@pytest.mark.slow
def test_many_kills_never_charge_a_round_twice_or_forget_one(tmp_path: Path) -> None:
    lay_out(tmp_path, METRICS, ("rounds = 4", f"rounds = {ROUNDS}"))
    generator = random.Random(3)  # noqa: S311  kill points, the same in every run
    process = start(tmp_path, *ARGUMENTS)
    kills = 0
    for number in (0, 2, 4, 5, 7):
        kills += kill_at(process, tmp_path, number, generator.uniform(0.0, 0.3))
        (run,) = (path.parent for path in tmp_path.glob("runs/small-*/manifest.json"))
        process = start(tmp_path, "simulate", "--resume", run, "--json")
    _, said = process.communicate(timeout=200)
    assert process.returncode == 0, said
    assert kills >= 3
    check(run, kills)
