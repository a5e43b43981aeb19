"""The command `vestry`. Each subcommand's code is imported when it is called."""

import os
from typing import Annotated

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # one process a core; the same sums on every machine

import typer

from vestry_client.command_line import run
from vestry_simulations.attack_command import app as attack_app
from vestry_simulations.benchmark_command import app as benchmark_app
from vestry_simulations.demo import demo
from vestry_simulations.predict_command import predict_command
from vestry_simulations.privacy_command import epsilon_command, noise_command
from vestry_simulations.simulate_command import simulate_command
from vestry_simulations.study_command import app as study_app
from vestry_simulations.verify_command import app as verify_app

__all__ = ["app", "main"]

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
app.add_typer(attack_app, name="attack")
app.add_typer(verify_app, name="verify")
app.add_typer(benchmark_app, name="benchmark")


def main() -> None:
    """Run the command line; say errors in one place and without a traceback."""
    run(app, interrupted="finished rounds are kept")


if __name__ == "__main__":
    main()
