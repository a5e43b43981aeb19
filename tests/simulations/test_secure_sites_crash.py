"""A secure run that is killed at any moment goes on from journals and checkpoints to the same model."""

import contextlib
import random
import signal
import subprocess
from pathlib import Path

import pytest

from tests.simulations.laboratory import command, environment, rows, write_csv, write_study
from tests.simulations.test_secure_sites import SECURE, STATEFUL, manifest, model_of
from vestry_simulations.simulate import Laboratory, simulate

ROUNDS = 60


def start(folder: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        command(*arguments),
        cwd=folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@pytest.mark.slow
def test_a_secure_run_killed_at_any_moment_ends_the_same(tmp_path: Path) -> None:
    write_study(tmp_path / "study.toml", *STATEFUL[::2], ("rounds = 4", f"rounds = {ROUNDS}"), SECURE)
    write_csv(tmp_path / "data.csv", rows())
    simulate(manifest(tmp_path), Laboratory(tmp_path / "whole"))
    generator = random.Random(20261125)  # noqa: S311  kill points, the same in every run
    arguments = ("simulate", "study.toml", "--data", "data.csv", "--by", "clinic", "--out", "killed")
    process = start(tmp_path, *arguments)
    kills = 0
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=generator.uniform(1.5, 5.0) if kills < 6 else 120)
        if process.poll() == 0:
            break
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
        runs = [path for path in (tmp_path / "killed").glob("small-*") if (path / "manifest.json").exists()]
        process = start(tmp_path, *(("simulate", "--resume", str(runs[0])) if runs else arguments))
    assert kills >= 3
    (run,) = (path for path in (tmp_path / "killed").glob("small-*") if (path / "manifest.json").exists())
    assert (run / "model.safetensors").read_bytes() == model_of(tmp_path / "whole")
