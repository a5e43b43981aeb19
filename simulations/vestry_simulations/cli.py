"""The command `vestry`. Each subcommand's code is imported when it is called."""

import os
import sys
import tempfile
import traceback
from typing import Annotated

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # one process a core; the same sums on every machine

import click
import typer

from vestry_privacy.errors import VestryError
from vestry_simulations.demo import demo
from vestry_simulations.predict_command import predict_command
from vestry_simulations.privacy_command import epsilon_command, noise_command
from vestry_simulations.simulate_command import simulate_command
from vestry_simulations.study_command import app as study_app

__all__ = ["app", "main"]

_INTERRUPTED = 130

app = typer.Typer(
    name="vestry",
    help="Federated learning for hospitals and banks: the laboratory.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"vestry {installed('vestry')}")
        raise typer.Exit


app.command("demo")(demo)
app.command("simulate")(simulate_command)
app.command("predict")(predict_command)
app.command("epsilon")(epsilon_command)
app.command("noise")(noise_command)
app.add_typer(study_app, name="study")


def main() -> None:
    """Run the command line; say errors in one place and without a traceback.

    Ends with 0, 2 for what the user can mend, 130 when interrupted, 70 for a defect of Vestry.
    """
    try:
        code = app(standalone_mode=False)
        if code == _INTERRUPTED:  # typer turns a KeyboardInterrupt into this
            raise KeyboardInterrupt
        sys.exit(code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except VestryError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        print("interrupted; finished rounds are kept", file=sys.stderr)
        sys.exit(_INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:  # noqa: BLE001  no traceback reaches a user
        print(_defect(error), file=sys.stderr)
        sys.exit(70)


def _defect(error: Exception) -> str:
    """Write where it happened, not with which values: those may be patients'."""
    lines = [type(error).__name__, *traceback.format_tb(error.__traceback__)]
    with tempfile.NamedTemporaryFile("w", prefix="vestry-defect-", suffix=".txt", delete=False) as file:
        file.write("\n".join(lines))
    return (
        f"error: {type(error).__name__}: this is a defect of Vestry. Please report it with {file.name} "
        "(it holds places in the code, no values)"
    )


if __name__ == "__main__":
    main()
