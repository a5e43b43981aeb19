"""`vestry-site dataset add`."""

from pathlib import Path
from typing import Annotated

import typer

from vestry_client.command_options import DEFAULT_HOME, Head, Home, Json, note, print_json, say

__all__ = ["add", "app"]

app = typer.Typer(help="Data sets: which persons a file holds.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `add` a subcommand although it is alone."""


@app.command()
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A data set of the policy.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The data, CSV or .npz.")],
    population: Annotated[
        str | None, typer.Option(metavar="P", help="Whose data they are; must be what the policy says.")
    ] = None,
    unit_column: Annotated[
        str | None,
        typer.Option(metavar="C", help="Column of persons' identifiers; default: what the policy says."),
    ] = None,
    overlap_unknown: Annotated[
        bool,
        typer.Option(
            "--overlap-unknown",
            help="There are no identifiers to compare; this population and all others then add up.",
        ),
    ] = False,
    delimiter: Annotated[str, typer.Option(metavar="D", help="What separates fields of a CSV.")] = ",",
    home: Home = DEFAULT_HOME,
    head: Head = None,
    as_json: Json = False,
) -> None:
    """Enter a data set into the ledger: its fingerprint, and whether its persons are in another population.

    Identifiers are compared as keyed hashes and not stored otherwise.
    """
    from vestry_client.dataset_file import file_fingerprint, identifiers_of
    from vestry_client.home import HomeError, SiteHome

    site = SiteHome(home, head)
    policy = site.load_policy()
    if name not in policy.datasets:
        known = ", ".join(policy.datasets) or "none"
        raise HomeError(
            f"{site.policy}: declares no data set '{name}'; declared: {known}. Write [datasets.{name}] and "
            "its population"
        )
    declared, rules = policy.rules_for(name)
    if population not in {None, declared}:
        raise HomeError(f"{site.policy}: data set '{name}' belongs to '{declared}', not to '{population}'")
    if overlap_unknown and unit_column is not None:
        raise typer.BadParameter("give --unit-column or --overlap-unknown, not both")
    column = unit_column or (rules.unit_column if rules.unit == "patient" else None)
    one_row_each = column == "row" or rules.unit != "patient" or rules.unit_column == "row"
    column = None if column == "row" else column
    if column is None and not overlap_unknown:
        raise HomeError(
            f"data set '{name}': its rows have no identifier to compare with those of other populations; "
            "name a column with --unit-column, or say --overlap-unknown (all such populations then add up)"
        )
    identifiers = None
    if column is not None and not overlap_unknown:
        identifiers = identifiers_of(file, column, delimiter, distinct=one_row_each and rules.unit != "site")
    fingerprint = file_fingerprint(file)
    with site.open_ledger() as ledger:
        before = ledger.head
        ledger.add_dataset(declared, name, fingerprint, identifiers)
        wrote = ledger.head != before
    overlap = "unknown" if identifiers is None else "checked"
    if as_json:
        told = {"dataset": name, "population": declared, "fingerprint": fingerprint}
        print_json({**told, "overlap": overlap, "written": wrote})
        return
    done = f"entered under {declared}, overlap with other populations {overlap}"
    note(f"{name}: {done if wrote else 'is there already, nothing changed'}")
    say(f"fingerprint {fingerprint}")
