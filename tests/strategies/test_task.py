"""The contract of tasks; the worked example of docs/tasks.md, run as it is written."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from tests.simulations.laboratory import ROOT, refused, vestry
from vestry_strategies.secure_plan import sum_layout
from vestry_strategies.study import parse_study
from vestry_strategies.task import Design, Examples

DOCUMENT = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.findall(rf"```{language}\n(.*?)```", DOCUMENT, re.DOTALL)
    assert len(found) == 1
    text: str = found[0]
    return text


def test_designs_are_taken_by_place() -> None:
    design = Design(np.arange(6.0).reshape(3, 2), np.array([7, 8, 9]), np.array([0, 2, 5]))
    taken = design.take(np.array([2, 0], dtype=np.int64))
    assert taken.inputs.tolist() == [[4.0, 5.0], [0.0, 1.0]]
    assert taken.targets.tolist() == [9, 7]
    assert taken.kept.tolist() == [5, 0]
    assert len(design) == 3
    assert len(Examples(np.zeros((4, 2), dtype=np.float32), np.zeros(4))) == 4


def lay_out(folder: Path) -> None:
    """The example's package, study and some data in which admissions follow age."""
    (folder / "count_task.py").write_text(block("python"))
    info = folder / "count_task-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: count-task\nVersion: 1.0\n")
    entry = block("ini").replace('[project.entry-points."vestry.tasks"]', "[vestry.tasks]").replace('"', "")
    (info / "entry_points.txt").write_text(entry)
    (folder / "admissions.toml").write_text(block("toml"))
    generator = np.random.default_rng(0)
    with (folder / "admissions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["site", "age", "visits", "admissions"])
        for number in range(300):
            age, visits = generator.normal(60, 10), generator.integers(0, 9)
            count = generator.poisson(np.exp(0.05 * (age - 60) + 0.2))
            writer.writerow(["abc"[number % 3], f"{age:.2f}", visits, count])


def test_the_worked_example_works(tmp_path: Path) -> None:
    lay_out(tmp_path)
    words = re.findall(r"```sh\n(.*?)```", DOCUMENT, re.DOTALL)[0].split()
    assert words[0] == "vestry"
    refused(vestry(*words[1:-2], folder=tmp_path), "'count' is not on the list", "--allow-plugin count")
    result = vestry(*words[1:], "--json", folder=tmp_path, path=tmp_path)
    assert result.returncode == 0, result.stderr
    *rounds, final = (json.loads(line) for line in result.stdout.splitlines())
    assert rounds[-1]["metrics"]["loss"] < rounds[0]["metrics"]["loss"]
    assert set(final["metrics"]) == {"loss", "mae"}


def test_the_worked_example_can_say_the_shapes_of_its_sums() -> None:
    """So its study aggregates securely too, as the page says."""
    made: dict[str, Any] = {"__name__": "count_task"}
    exec(compile(block("python"), "count_task", "exec"), made)  # noqa: S102  the page's own code
    study = parse_study(block("toml").replace("secure = false", "secure = true"))
    statistics = sum_layout(study, made["COUNT"], "statistics").shapes
    assert {"count", "sum", "sum_of_squares", "examples", "target"} <= set(statistics)
    evaluation = sum_layout(study, made["COUNT"], "evaluate").shapes
    assert evaluation == {"examples": (1,), "loss": (1,), "error": (1,)}
