"""How a command of Vestry ends: one sentence for what the user can mend, and no traceback for anybody.

0 done, 2 what the user can mend, 70 a defect of Vestry, 130 interrupted, 141 nobody reads the output.
"""

import os
import sys
import tempfile
import traceback
from typing import TYPE_CHECKING

import click

from vestry_privacy.errors import VestryError

if TYPE_CHECKING:
    import typer

__all__ = ["run"]

_INTERRUPTED = 130


def run(app: "typer.Typer", interrupted: str) -> None:
    """Run a command line to its end.

    Args:
        app: its commands.
        interrupted: what to say when it is interrupted.

    Raises:
        SystemExit: always, with the code.
    """
    try:
        code = app(standalone_mode=False)
        if code == _INTERRUPTED:  # typer turns a KeyboardInterrupt into this
            raise KeyboardInterrupt
        sys.stdout.flush()  # a reader that has left is found here and not at the interpreter's end
        sys.exit(code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except VestryError as error:
        _say(f"error: {error}")
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        _say(f"interrupted; {interrupted}")
        sys.exit(_INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:  # noqa: BLE001  no traceback reaches a user
        _say(_defect(error))
        sys.exit(70)


def _say(text: str) -> None:
    click.echo(text, err=True)


def _defect(error: Exception) -> str:
    """Write where it happened, not with which values: those may be patients'."""
    lines = [type(error).__name__, *traceback.format_tb(error.__traceback__)]
    with tempfile.NamedTemporaryFile("w", prefix="vestry-defect-", suffix=".txt", delete=False) as file:
        file.write("\n".join(lines))
    return (
        f"error: {type(error).__name__}: this is a defect of Vestry. Please report it with {file.name} "
        "(it holds places in the code, no values)"
    )
