"""A run that is killed at any moment ends, resumed, with the same model bit for bit."""

import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simulations.laboratory import command, environment, refused, rows, vestry, write_csv, write_study
from vestry_server.progress import Event, RoundRecord
from vestry_server.store import open_store
from vestry_simulations.manifest import Manifest, file_hash
from vestry_simulations.partition import SimulationError
from vestry_simulations.results import load_result
from vestry_simulations.simulate import Laboratory, new_run_id, simulate
from vestry_strategies.rows import DataFileError
from vestry_strategies.study import StudyError, StudyMismatch, load_study

# Server state, site state and momentum all matter to the result.
STATEFUL = (
    ("learning_rate = 0.1", 'learning_rate = 0.05\nmomentum = 0.9\noptimizer_state = "keep"'),
    ("rounds = 4", "rounds = 25"),
    ("[aggregation]", '[strategy]\nname = "fedadam"\n[aggregation]'),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_study(tmp_path / "study.toml", *STATEFUL)
    write_csv(tmp_path / "data.csv", rows())
    return tmp_path


def manifest(folder: Path, run_id: str = "run", workers: int = 0) -> Manifest:
    return Manifest(
        run_id=run_id,
        study=load_study(folder / "study.toml"),
        data=folder / "data.csv",
        data_hash=file_hash(folder / "data.csv"),
        by="clinic",
        workers=workers,
    )


class Stop(Exception):
    """Raised by a listener in the place of a crash."""


def stop_after(number: int) -> object:
    def tell(event: Event) -> None:
        if isinstance(event, RoundRecord) and event.round == number:
            raise Stop

    return tell


@pytest.fixture
def whole(folder: Path) -> bytes:
    """The model of an uninterrupted run."""
    simulate(manifest(folder), Laboratory(folder / "whole"))
    return (folder / "whole" / "run" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("crashes", [(1,), (13,), (24,), (3, 4, 20), (25,)])
def test_a_run_resumed_from_any_round_ends_the_same(
    folder: Path, whole: bytes, crashes: tuple[int, ...]
) -> None:
    laboratory = Laboratory(folder / "broken")
    for number in crashes:
        with pytest.raises(Stop):
            simulate(manifest(folder), laboratory, stop_after(number))  # type: ignore[arg-type]
    result = simulate(manifest(folder), laboratory)
    assert (folder / "broken" / "run" / "model.safetensors").read_bytes() == whole
    assert result.history == load_result(folder / "whole" / "run" / "result.json").history


def test_site_state_matters_to_this_study(folder: Path, whole: bytes) -> None:
    laboratory = Laboratory(folder / "broken")
    with pytest.raises(Stop):
        simulate(manifest(folder), laboratory, stop_after(10))  # type: ignore[arg-type]
    shutil.rmtree(folder / "broken" / "run" / "sites")
    simulate(manifest(folder), laboratory)
    assert (folder / "broken" / "run" / "model.safetensors").read_bytes() != whole


def test_a_resumed_run_stands_once_in_the_store(folder: Path) -> None:
    laboratory = Laboratory(folder / "runs")
    for number in (5, 9):
        with pytest.raises(Stop):
            simulate(manifest(folder), laboratory, stop_after(number))  # type: ignore[arg-type]
    store = laboratory.store()
    assert store.run("run").status == "failed"
    simulate(manifest(folder), laboratory)
    assert [record.round for record in store.rounds("run")] == list(range(1, 26))
    assert store.run("run").status == "finished"
    assert {model.alias for model in store.models("run")} == {"best", "final"}


@pytest.mark.slow
def test_a_run_killed_at_any_moment_ends_the_same(folder: Path) -> None:
    write_study(folder / "study.toml", *STATEFUL[:1], STATEFUL[2], ("rounds = 4", "rounds = 400"))
    simulate(manifest(folder, "long"), Laboratory(folder / "whole"))
    whole = (folder / "whole" / "long" / "model.safetensors").read_bytes()
    generator = random.Random(20261124)  # noqa: S311  kill points, the same in every run
    arguments = ("simulate", "study.toml", "--data", "data.csv", "--by", "clinic", "--out", "killed")
    process = start(folder, *arguments)
    kills = 0
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=generator.uniform(0.3, 3.2) if kills < 10 else 120)
        if process.poll() == 0:
            break
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
        runs = [path for path in (folder / "killed").glob("small-*") if (path / "manifest.json").exists()]
        again = ("simulate", "--resume", str(runs[0])) if runs else arguments
        process = start(folder, *again)
    assert kills >= 5
    (run,) = (path for path in (folder / "killed").glob("small-*") if (path / "manifest.json").exists())
    assert (run / "model.safetensors").read_bytes() == whole
    rounds = open_store(folder / "killed" / "vestry.sqlite").rounds(run.name)
    assert [record.round for record in rounds] == list(range(1, 401))


def start(folder: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        command(*arguments),
        cwd=folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def test_resuming_a_finished_run_changes_nothing(folder: Path, whole: bytes) -> None:
    result = vestry("simulate", "--resume", folder / "whole" / "run", "--json")
    assert result.returncode == 0, result.stderr
    assert (folder / "whole" / "run" / "model.safetensors").read_bytes() == whole
    assert json.loads(result.stdout)["rounds"] == 25


def test_a_run_cannot_change_its_study(folder: Path, whole: bytes) -> None:
    path = folder / "whole" / "run" / "manifest.json"
    plain = json.loads(path.read_text())
    plain["study"]["training"]["learning_rate"] = 0.5
    path.write_text(json.dumps(plain))
    refused(vestry("simulate", "--resume", path.parent), "cannot change its study", "start a new one")


def test_a_checkpoint_of_another_study_is_refused(folder: Path, whole: bytes) -> None:
    write_study(folder / "study.toml", ("rounds = 4", "rounds = 7"))
    laboratory = Laboratory(folder / "other")
    (folder / "other" / "run").mkdir(parents=True)
    shutil.copytree(folder / "whole" / "run" / "checkpoints", folder / "other" / "run" / "checkpoints")
    with pytest.raises(StudyMismatch, match="resume with the study file of the run"):
        simulate(manifest(folder), laboratory)


def test_a_data_file_that_has_changed_is_refused(folder: Path, whole: bytes) -> None:
    write_csv(folder / "data.csv", rows(seed=1))
    said = refused(vestry("simulate", "--resume", folder / "whole" / "run"), "has changed since run 'run'")
    assert "start a new run" in said


def test_a_truncated_checkpoint_is_passed_over(folder: Path, whole: bytes) -> None:
    laboratory = Laboratory(folder / "broken")
    with pytest.raises(Stop):
        simulate(manifest(folder), laboratory, stop_after(12))  # type: ignore[arg-type]
    newest = sorted((folder / "broken" / "run" / "checkpoints").iterdir())[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    simulate(manifest(folder), laboratory)
    assert (folder / "broken" / "run" / "model.safetensors").read_bytes() == whole


def test_two_processes_do_not_share_a_run(folder: Path) -> None:
    laboratory = Laboratory(folder / "runs")
    second: list[BaseException] = []

    def tell(event: Event) -> None:
        if not second:
            try:
                simulate(manifest(folder), laboratory)
            except SimulationError as error:
                second.append(error)

    simulate(manifest(folder), laboratory, tell)
    assert "another process is working on this run" in str(second[0])


def test_a_refused_data_file_leaves_no_run(folder: Path) -> None:
    (folder / "data.csv").write_text("clinic,age\nnorth,1\nsouth,2\n")
    laboratory = Laboratory(folder / "runs")
    with pytest.raises(Exception, match="gave a usable reply"):
        simulate(manifest(folder), laboratory)
    (folder / "data.csv").write_text("")
    with pytest.raises(DataFileError):
        simulate(manifest(folder, "second"), laboratory)
    assert not laboratory.folder("second").exists()


def test_what_cannot_run_is_refused_before_anything_is_made(folder: Path) -> None:
    write_study(folder / "study.toml", ("secure = false", "secure = true\ncohort = 2"))
    with pytest.raises(StudyError, match=r"aggregation\.cohort: 2"):
        simulate(manifest(folder), Laboratory(folder / "runs"))
    assert not (folder / "runs").exists()


def test_the_clock_is_the_laboratorys(folder: Path) -> None:
    laboratory = Laboratory(folder / "runs", clock=lambda: 86400.0)
    assert new_run_id(load_study(folder / "study.toml"), laboratory).startswith("small-19700102-000000-")
    simulate(manifest(folder), laboratory)
    run = laboratory.store().run("run")
    assert run.started == run.finished == laboratory.now()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MiB, where the system lets us mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("this system lets nobody mount a small disk")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=False)


def test_a_full_disk_is_said_and_the_run_goes_on_when_there_is_room(
    folder: Path, small_disk: Path, whole: bytes
) -> None:
    filler = small_disk / "filler"

    def fill(event: Event) -> None:
        if isinstance(event, RoundRecord) and event.round == 6:
            left = os.statvfs(small_disk)
            filler.write_bytes(bytes(left.f_bavail * left.f_frsize))

    laboratory = Laboratory(small_disk / "runs")
    with pytest.raises(Exception, match=r"disk is full|No space left|database or disk is full"):
        simulate(manifest(folder), laboratory, fill)
    checkpoints = small_disk / "runs" / "run" / "checkpoints"
    assert {path.suffix for path in checkpoints.iterdir()} <= {".safetensors", ".jsonl"}
    filler.unlink()
    simulate(manifest(folder), laboratory)
    assert (small_disk / "runs" / "run" / "model.safetensors").read_bytes() == whole


def test_an_interrupt_is_said_without_a_traceback(folder: Path) -> None:
    write_study(folder / "study.toml", ("rounds = 4", "rounds = 4000"))
    process = subprocess.Popen(
        command("simulate", "study.toml", "--data", "data.csv", "--by", "clinic", "--json"),
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted; finished rounds are kept" in said
    assert "Traceback" not in said
    with sqlite3.connect(folder / "runs" / "vestry.sqlite") as connection:
        assert connection.execute("SELECT status FROM runs").fetchall() == [("stopped",)]
    connection.close()
