"""The README's first minute, run as it is written, in a fresh copy of this checkout."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.layout.settings import repository_files

ROOT = Path(__file__).parents[1]
HEADING = "## The first minute"
# In the copy, `make test` sets everything up and runs these tests: all of them would run this one
# again, without end.
SELECTION = "--cov-fail-under=0 -m 'not slow' tests/privacy/test_canonical.py tests/test_layout.py"


def first_minute(readme: str) -> list[str]:
    """The commands of the section's shell blocks, comments left out."""
    section = readme.partition(f"{HEADING}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    lines = [line.partition("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


def clean_environment() -> dict[str, str]:
    """The environment of somebody who has just opened a terminal, with this Python."""
    ours = ("PYTEST_", "COV_", "COVERAGE_", "MAKE", "MFLAGS", "VIRTUAL_ENV", "PYTHONPATH", "OMP_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    interpreter = getattr(sys, "_base_executable", sys.executable)
    return {**kept, "PYTHON": interpreter, "PYTEST_ADDOPTS": SELECTION, "COLUMNS": "100"}


def copy_checkout(target: Path) -> None:
    """What a clone would hold, and what is not committed yet."""
    for path in repository_files(ROOT):
        copy = target / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)


def test_commands_are_taken_from_the_section() -> None:
    readme = f"# A\n```sh\nrm x\n```\n{HEADING}\nText\n```sh\nmake a  # why\n\nmake b\n```\n## C\n"
    assert first_minute(readme) == ["make a", "make b"]


def test_first_minute_has_the_commands_everybody_needs() -> None:
    commands = first_minute((ROOT / "README.md").read_text(encoding="utf-8"))
    assert commands[0] == "make demo"
    assert {"make demo", "make test", "make check"} <= set(commands)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_first_minute_works_in_a_fresh_copy(tmp_path: Path) -> None:
    checkout = tmp_path / "vestry"
    copy_checkout(checkout)
    environment = clean_environment()
    closing: dict[str, str] = {}
    for command in first_minute((checkout / "README.md").read_text(encoding="utf-8")):
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=checkout,
            env=environment,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        closing[command] = done.stdout.rstrip().rpartition("\n")[2]
    assert list(checkout.glob("runs/*/model.safetensors"))
    assert " passed" in closing["make test"]
    assert " failed" not in closing["make test"]
