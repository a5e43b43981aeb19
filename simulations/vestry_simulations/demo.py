"""`vestry demo`: the first minute."""

import time
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["demo"]


def demo(
    out: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("runs"),
    workers: Annotated[int | None, typer.Option(min=0, help="Processes.")] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Under differential privacy: epsilon 3 a patient.")
    ] = False,
) -> None:
    """Four hospitals train a model together on 920 real patients, in about ten seconds."""
    began = time.monotonic()
    from vestry_simulations.engine import warm_up

    if workers != 0:
        warm_up()
    from rich.markup import escape

    from vestry_simulations.datasets import heart_data, heart_private_study, heart_study
    from vestry_simulations.display import RoundLines, console, privacy_table, result_table
    from vestry_strategies.study import load_study

    path = heart_private_study() if private else heart_study()
    study = load_study(path)
    screen = console()
    screen.print("[bold]Vestry demo[/]: four hospitals, 920 patients, one model, no row moved")
    screen.print(f"study   {path}\ndata    {heart_data()}\n", soft_wrap=True)
    from vestry_simulations.manifest import Manifest, file_hash
    from vestry_simulations.report import write_report
    from vestry_simulations.simulate import Laboratory, new_run_id, simulate

    laboratory = Laboratory(out.resolve())
    manifest = Manifest(
        run_id=new_run_id(study, laboratory),
        study=study,
        data=heart_data(),
        data_hash=file_hash(heart_data()),
        by="site",
        baselines=True,
        workers=workers,
    )
    result = simulate(manifest, laboratory, RoundLines(study, screen).tell)
    folder = laboratory.folder(result.run_id)
    write_report(folder / "report.html", [result])
    screen.print()
    screen.print(result_table(result))
    if result.privacy:
        screen.print(privacy_table(result))
    for choice in result.insecure:
        screen.print(f"[yellow]insecure:[/] {escape(choice)}", soft_wrap=True)
    screen.print(
        f"\nmodel   {folder / 'model.safetensors'}\n        SHA-256 {result.model_sha256}\n"
        f"report  {folder / 'report.html'}\n"
        f"done in {time.monotonic() - began:.1f} s",
        soft_wrap=True,
    )
    screen.print(
        f"\nnext: vestry predict {folder / 'model.safetensors'} {heart_data()}\n" + _next(private),
        soft_wrap=True,
    )


def _next(private: bool) -> str:
    from vestry_simulations.datasets import heart_data, heart_private_study, heart_study

    if not private:
        return "      vestry demo --private"
    return (
        f"      vestry simulate {heart_private_study()} --data {heart_data()} --by site "
        f"--epsilons none,8,3,1 --plain {heart_study()}"
    )
