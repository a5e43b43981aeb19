"""`vestry study check | show | schema`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from vestry_strategies.study import StudySpec

__all__ = ["app", "check", "schema", "show"]

app = typer.Typer(help="Look at study files.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(metavar="FILE", help="A study file (TOML).")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def check(
    file: File,
    as_json: Json = False,
    sites: Annotated[
        int | None, typer.Option(min=1, help="Say what secure aggregation hides among so many sites.")
    ] = None,
) -> None:
    """Check a study file; every problem is named with its key and the way out."""
    from vestry_strategies.study import load_study
    from vestry_strategies.support import check_supported, insecure_choices

    spec = load_study(file)
    check_supported(spec)
    choices, crowd = insecure_choices(spec), _crowd(spec, sites)
    if as_json:
        line = {"ok": True, "name": spec.study.name, "study_hash": spec.digest(), "crowd": crowd}
        typer.echo(json.dumps({**line, "insecure": list(choices)}))
        return
    typer.echo(f"{file}: fine. {spec.study.name}, study hash {spec.digest()}")
    if crowd:
        typer.echo(f"secure aggregation: {crowd}")
    for choice in choices:
        typer.echo(f"insecure: {choice}")


def _crowd(spec: "StudySpec", sites: int | None) -> str:
    """Among how many honest sites an update hides: of so many, of the study's cohort, or of the fewest."""
    from vestry_privacy.secagg.plan import MAX_SITES, MIN_SITES
    from vestry_strategies.secure_plan import crowd_words
    from vestry_strategies.study import StudyError

    rule = spec.aggregation
    if not rule.secure:
        return ""
    count = max(rule.min_sites, MIN_SITES) if sites is None else sites
    if not max(rule.min_sites, MIN_SITES) <= count <= MAX_SITES:
        raise StudyError(
            f"--sites: {count}; this study adds up {max(rule.min_sites, MIN_SITES)} to {MAX_SITES} sites"
        )
    return crowd_words(min(count, rule.cohort or count) if sites is not None else rule.cohort or count)


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
