"""The command line as a whole: help, version, and how it ends."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.simulations.laboratory import command, environment, refused, vestry
from vestry_simulations.datasets import heart_study


def test_help_names_the_commands() -> None:
    said = vestry("--help").stdout
    for name in ("demo", "simulate", "predict", "study"):
        assert name in said


def test_version() -> None:
    assert vestry("--version").stdout.strip() == f"vestry {version('vestry')}"


def test_an_unknown_option_is_a_usage_error() -> None:
    result = vestry("simulate", "--sseds", 3)
    assert result.returncode == 2
    assert "No such option" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_unknown_command_is_a_usage_error() -> None:
    result = vestry("simulat")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("arguments", [("--help",), ("study", "schema"), ("simulate", "--help")])
def test_help_loads_neither_torch_nor_flower(arguments: tuple[str, ...]) -> None:
    program = (
        "import sys\nfrom vestry_simulations.cli import app\n"
        "try:\n    app(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'flwr', 'matplotlib', 'sqlalchemy'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.strip() == "[]"


def test_a_reader_that_leaves_early_is_no_error() -> None:
    process = subprocess.Popen(
        command("study", "show", heart_study()),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    said = process.stderr.read()
    process.wait()
    process.stderr.close()
    assert "Traceback" not in said
    assert "defect" not in said


def test_errors_go_to_stderr_and_end_with_two(tmp_path: Path) -> None:
    result = vestry("study", "check", tmp_path / "x.toml")
    refused(result)
    assert result.stdout == ""
