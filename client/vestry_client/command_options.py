"""Options that several commands of `vestry-site` share, and how they print."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["DEFAULT_HOME", "Head", "Home", "Json", "note", "own_head", "print_json", "print_table", "say"]

DEFAULT_HOME = Path("vestry-site")
_HEAD_VARIABLE = "VESTRY_SITE_HEAD"

Home = Annotated[
    Path,
    typer.Option("--home", envvar="VESTRY_SITE_HOME", metavar="FOLDER", help="The site's folder."),
]
Head = Annotated[
    Path | None,
    typer.Option(
        "--head",
        envvar=_HEAD_VARIABLE,
        metavar="FILE",
        help="Where the ledger's newest entry is noted, best on another disk; default: beside the ledger.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def own_head() -> Path | None:
    """Where the environment says that the site's own head is; not that of somebody else's ledger."""
    named = os.environ.get(_HEAD_VARIABLE)
    return Path(named) if named else None


def note(text: str) -> None:
    """Say something that is no result: to standard error."""
    typer.echo(text, err=True)


def say(text: str) -> None:
    """Say a result: to standard output."""
    typer.echo(text)


def print_json(values: Mapping[str, Any]) -> None:
    """Print a result for programs."""
    typer.echo(json.dumps(values, indent=1))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a result for people; where the output is no terminal, without colours.

    Args:
        title: above the table; empty for none.
        columns: their heads; one that ends in ``>`` is aligned right.
        rows: as many texts as columns, taken as they are.
    """
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    made = Table(title=escape(title) or None, title_justify="left", box=box.SIMPLE_HEAD)
    for column in columns:
        made.add_column(column.removesuffix(">"), justify="right" if column.endswith(">") else "left")
    for row in rows:
        made.add_row(*map(escape, row))
    Console(highlight=False).print(made)
