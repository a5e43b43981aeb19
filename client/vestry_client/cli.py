"""The command `vestry-site`, for the people who run a site. Each command's code is imported when called."""

from typing import Annotated

import typer

from vestry_client.command_line import run
from vestry_client.dataset_command import app as dataset_app
from vestry_client.init_command import init
from vestry_client.journal_command import app as journal_app
from vestry_client.ledger_command import app as ledger_app
from vestry_client.policy_command import app as policy_app
from vestry_client.population_command import app as population_app

__all__ = ["app", "main"]

app = typer.Typer(
    name="vestry-site",
    help="A site of a federation: its policy, its populations and what they have spent.",
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

        typer.echo(f"vestry-site {installed('vestry')}")
        raise typer.Exit


app.command("init")(init)
app.add_typer(policy_app, name="policy")
app.add_typer(population_app, name="population")
app.add_typer(dataset_app, name="dataset")
app.add_typer(ledger_app, name="ledger")
app.add_typer(journal_app, name="journal")


def main() -> None:
    """Run the command line.

    Ends with 0, 2 for what the user can mend, 130 when interrupted, 70 for a defect of Vestry.
    """
    run(app, interrupted="what the ledger has written is kept")


if __name__ == "__main__":
    main()
