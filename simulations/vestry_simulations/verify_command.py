"""`vestry verify`: what others have signed, checked from the file alone; it loads vestry_privacy only."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vestry_privacy.errors import VestryError

if TYPE_CHECKING:
    from vestry_privacy.secagg.transcript import TranscriptReport

__all__ = ["app", "transcript"]

_LARGEST_FILE = 256 << 20

app = typer.Typer(help="Check what others have signed, from files alone.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `transcript` a subcommand although it is alone."""


@app.command()
def transcript(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The transcript of a secure sum.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check a secure sum's transcript: who took part, that all signatures and commitments hold.

    It does not prove the sum: the masked vectors are not in it.
    """
    from vestry_privacy.secagg.errors import ProtocolAbort
    from vestry_privacy.secagg.transcript import verify_transcript

    try:
        report = verify_transcript(_read(file))
    except ProtocolAbort as error:
        who = "" if error.peer is None else f", site '{error.peer}'"
        raise VestryError(f"FILE: {file}: does not hold: {error.rule}{who}: {error.message}") from None
    if as_json:
        typer.echo(json.dumps({"ok": True, **report.plain()}))
        return
    for line in _lines(file, report):
        typer.echo(line)


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            content = opened.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise VestryError(f"FILE: {file}: cannot be read ({error.strerror})") from None
    if len(content) > _LARGEST_FILE:
        raise VestryError(f"FILE: {file}: is larger than any transcript")
    return content


def _lines(file: Path, report: "TranscriptReport") -> list[str]:
    from vestry_privacy.secagg.plan import honest_crowd, most_colluders

    plan, count = report.plan, len(report.roster)
    crowd = f"an update hides among at least {honest_crowd(count)} honest ones"
    revealed = "none in this file: a site wrote it" if not report.revealed else _names(report.revealed)
    weight = "not in this file"
    if report.sum_of_weights is not None:
        weight = f"{report.sum_of_weights}, as the coordinator says"
    facts = {
        "sum": f"{plan.kind}, round {plan.round}, run {plan.run}, sequence {plan.sequence}",
        "plan": plan.digest.hex(),
        "study": plan.study.hex(),
        "directory": f"{report.directory}; compare it with the fingerprint that your site has pinned",
        "threshold": f"{plan.threshold} of {count} sites; {crowd}, if at most {most_colluders(count)} helps "
        "the coordinator",
        "signed keys": _names(report.keys),
        "dealt shares": _names(report.dealers),
        "in the sum": _names(report.survivors),
        "lost": _names(report.lost),
        "signed survivors": _names(report.signed),
        "gave shares": revealed,
        "sum of weights": weight,
        "proved": "the sets, every signature, and that shares and secrets are those committed to",
        "not proved": "the sum, and that of the weights; the masked vectors are not in the transcript",
    }
    return [f"{file}: holds", *(f"{name:<17} {fact}" for name, fact in facts.items())]


def _names(names: tuple[str, ...]) -> str:
    return f"{len(names)}: {', '.join(names)}" if names else "none"
