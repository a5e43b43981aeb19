"""`vestry study check | show | schema`."""

import json
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["app", "check", "schema", "show"]

app = typer.Typer(help="Look at study files.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(metavar="FILE", help="A study file (TOML).")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def check(file: File, as_json: Json = False) -> None:
    """Check a study file; every problem is named with its key and the way out."""
    from vestry_strategies.study import load_study
    from vestry_strategies.support import insecure_choices

    spec = load_study(file)
    choices = insecure_choices(spec)
    if as_json:
        line = {"ok": True, "name": spec.study.name, "study_hash": spec.digest()}
        typer.echo(json.dumps({**line, "insecure": list(choices)}))
        return
    typer.echo(f"{file}: fine. {spec.study.name}, study hash {spec.digest()}")
    for choice in choices:
        typer.echo(f"insecure: {choice}")


@app.command()
def show(file: File, as_json: Json = False) -> None:
    """Show a study with all defaults filled in."""
    from vestry_strategies.study import load_study

    spec = load_study(file)
    if as_json:
        typer.echo(json.dumps({"study_hash": spec.digest(), **spec.canonical()}, indent=1))
        return
    from vestry_simulations.display import console, study_table

    console().print(study_table(spec))


@app.command()
def schema() -> None:
    """Print the JSON Schema of study files, for editors."""
    from vestry_strategies.study import study_schema

    typer.echo(json.dumps(study_schema(), indent=1))
