"""How a command ends: a sentence and a code, never a traceback, never a value."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
import typer

from tests.simulations.laboratory import environment
from vestry_client.command_line import _defect, run
from vestry_privacy.errors import VestryError


def ending(action: Callable[[], None]) -> int:
    app = typer.Typer()
    app.command()(action)
    before, sys.argv = sys.argv, ["program"]
    try:
        with pytest.raises(SystemExit) as end:
            run(app, "all is kept")
    finally:
        sys.argv = before
    return end.value.code if isinstance(end.value.code, int) else 0


def raising(error: BaseException) -> Callable[[], None]:
    def action() -> None:
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (VestryError("name the column"), 2, "error: name the column"),
        (KeyboardInterrupt(), 130, "interrupted; all is kept"),
        (click.UsageError("no such option"), 2, "no such option"),
        (typer.Exit(3), 3, ""),
    ],
)
def test_an_error_is_a_sentence(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ending(raising(error)) == code
    output = capsys.readouterr()
    assert said in output.err
    assert output.out == ""


def test_a_command_that_is_done_ends_with_zero(capsys: pytest.CaptureFixture[str]) -> None:
    assert ending(lambda: click.echo("done")) == 0
    assert capsys.readouterr().out == "done\n"


def test_a_defect_is_told_without_its_values(capsys: pytest.CaptureFixture[str]) -> None:
    assert ending(raising(KeyError("Mrs Miller, 63"))) == 70
    said = capsys.readouterr().err
    assert "KeyError: this is a defect of Vestry" in said
    path = Path(said.split("report it with ")[1].split()[0])
    text = path.read_text(encoding="utf-8")
    path.unlink()
    assert "in action" in text
    assert "Miller" not in said + text
    assert "Traceback" not in said


def test_the_file_of_a_defect_names_its_kind() -> None:
    path = Path(_defect(ValueError("63")).split("report it with ")[1].split()[0])
    assert path.read_text(encoding="utf-8") == "ValueError"
    path.unlink()


def test_a_reader_that_leaves_early_is_no_error() -> None:
    program = (
        "import typer\nfrom vestry_client.command_line import run\napp = typer.Typer()\n"
        "@app.command()\ndef f() -> None:\n    print('x\\n' * 100000)\n"
        "run(app, '')\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait() != 0
    assert said == b""  # click or we, whoever writes last, ends quietly
