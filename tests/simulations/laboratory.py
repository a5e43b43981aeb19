"""A small federation for tests: rows, a study, and the command line as a user starts it."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent.parent
ROOTS = [str(ROOT / name) for name in ("privacy", "strategies", "server", "client", "simulations")]

STUDY = """
version = 1
seed = 5
[study]
name = "small"
purpose = "a test"
initiator = "tests"
[task]
kind = "tabular"
[task.target]
name = "sick"
type = "binary"
classes = ["no", "yes"]
[[task.features]]
name = "age"
type = "number"
range = [0, 120]
missing = "mean"
[[task.features]]
name = "dose"
type = "number"
[[task.features]]
name = "colour"
type = "category"
categories = ["red", "green", "blue"]
[model]
kind = "logistic"
[training]
rounds = 4
local_steps = 5
batch_size = 8
learning_rate = 0.1
[aggregation]
secure = false
[evaluation]
metrics = ["accuracy", "auc"]
[evaluation.holdout]
fraction = 0.25
"""


def rows(count: int = 90, seed: int = 0) -> list[dict[str, str]]:
    """Patients of three sites; the sick are older."""
    generator = np.random.default_rng(seed)
    made = []
    for number in range(count):
        age = float(generator.integers(20, 90))
        sick = age + 15 * generator.standard_normal() > 55
        made.append(
            {
                "clinic": ("north", "south", "west")[number % 3],
                "age": "" if number % 17 == 5 else f"{age:.0f}",
                "dose": f"{generator.standard_normal():.4f}",
                "colour": ("red", "green", "blue")[int(generator.integers(3))],
                "sick": "yes" if sick else "no",
            }
        )
    return made


def write_csv(path: Path, records: list[dict[str, str]], delimiter: str = ",") -> Path:
    """Write rows as a data file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(records[0]), delimiter=delimiter, lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
    return path


def write_study(path: Path, *changes: tuple[str, str]) -> Path:
    """Write the study with some of its text replaced; each text must be there."""
    text = STUDY
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")
    return path


def environment() -> dict[str, str]:
    """Of a subprocess that finds the five packages."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(ROOTS), "COLUMNS": "100", "NO_COLOR": "1"}


def command(*arguments: object) -> list[str]:
    """`vestry` with arguments."""
    return [sys.executable, "-m", "vestry_simulations.cli", *map(str, arguments)]


def vestry(
    *arguments: object, folder: Path | None = None, path: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run `vestry` to its end, in a folder, with one more place to import from."""
    settings = environment()
    if path is not None:
        settings["PYTHONPATH"] += f"{os.pathsep}{path}"
    return subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        env=settings,
        cwd=folder,
        timeout=120,
        check=False,
    )


def refused(result: "subprocess.CompletedProcess[str]", *parts: str) -> str:
    """Assert that a command was refused as a user should see it; return what it said."""
    said = result.stderr
    assert result.returncode == 2, (result.returncode, said, result.stdout)
    assert "Traceback" not in said
    for part in parts:
        assert part in said.replace("\n", " "), (part, said)
    return said
