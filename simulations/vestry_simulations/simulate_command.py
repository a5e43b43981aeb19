"""`vestry simulate`."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vestry_simulations.partition import SimulationError, parse_partition

if TYPE_CHECKING:
    from vestry_server.progress import Event
    from vestry_simulations.curve import CurvePoint
    from vestry_simulations.manifest import Manifest
    from vestry_simulations.results import SimulationResult
    from vestry_simulations.simulate import Laboratory
    from vestry_strategies.study import StudySpec

__all__ = ["simulate_command"]


def simulate_command(
    study: Annotated[
        Path | None, typer.Argument(metavar="STUDY.toml", help="Study file; not with --resume.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Data file, CSV or .npz.")] = None,
    by: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Each value of the column is a site.")
    ] = None,
    sites: Annotated[int, typer.Option(help="Or: number of random sites.")] = 0,
    partition: Annotated[
        str, typer.Option(help="With --sites: iid, dirichlet:ALPHA or quantity:ALPHA.")
    ] = "iid",
    rounds: Annotated[int | None, typer.Option(min=1, help="Instead of the study's.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Instead of the study's.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Run so many seeds; mean and sd.")] = 1,
    epsilons: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="Run the study at each, such as none,8,3,1: utility by epsilon."),
    ] = None,
    plain: Annotated[
        Path | None,
        typer.Option(
            metavar="STUDY.toml", help="With --epsilons: the study for 'none', with settings of its own."
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes; default one a core; 0: in this process.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("runs"),
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Train pooled and local-only models too.")
    ] = False,
    drop_out: Annotated[
        float, typer.Option(min=0, max=1, help="Probability that a site does not answer.")
    ] = 0.0,
    latency: Annotated[
        float, typer.Option(min=0, help="Median simulated seconds of an answer (log-normal).")
    ] = 0.0,
    allow_plugin: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Third-party task to import.")
    ] = None,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Go on with a run: its folder.")] = None,
    png: Annotated[bool, typer.Option("--png", help="Write the charts as report.png too.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a round on stdout, a final one last.")
    ] = False,
) -> None:
    """Run a study's federation on this machine, on real data split into sites."""
    from vestry_simulations.engine import warm_up

    if workers != 0:
        warm_up()  # torch loads in the fork server while this process reads the study
    from vestry_simulations.faults import Faults
    from vestry_simulations.manifest import Manifest, read_manifest
    from vestry_simulations.simulate import Laboratory, new_run_id

    if resume is not None:
        _refuse_with_resume(study, data)
        manifest = read_manifest(resume)
        laboratory = Laboratory(resume.resolve().parent)
        manifest = replace(manifest, run_id=resume.resolve().name)
        _finish(laboratory, [_run_one(manifest, laboratory, as_json)], as_json, png)
        return
    spec = _study(study, rounds, seed)
    path, digest = _data(data)
    _check_split(by, sites, partition)
    laboratory = Laboratory(out.resolve())

    def run_seeds(of: "StudySpec", with_baselines: bool) -> "list[SimulationResult]":
        results: list[SimulationResult] = []
        for offset in range(seeds):
            seeded = of.with_changes(seed=of.seed + offset)
            manifest = Manifest(
                run_id=new_run_id(seeded, laboratory),
                study=seeded,
                data=path,
                data_hash=digest,
                by=by,
                sites=sites,
                partition=partition,
                baselines=with_baselines,
                workers=workers,
                allowed_plugins=tuple(allow_plugin or ()),
                faults=Faults(drop_out, latency, seed=seeded.seed),
            )
            results.append(_run_one(manifest, laboratory, as_json))
        return results

    if epsilons is None:
        if plain is not None:
            raise SimulationError("--plain: goes with --epsilons; leave it out")
        _finish(laboratory, run_seeds(spec, baselines), as_json, png)
        return
    if baselines:
        raise SimulationError("--baselines: goes with one epsilon; leave it out of a curve")
    without = None if plain is None else _study(plain, rounds, seed)
    points = _curve(spec, without, epsilons, lambda changed: run_seeds(changed, with_baselines=False))
    _finish_curve(laboratory, points, as_json=as_json, png=png)


def _curve(
    spec: "StudySpec",
    plain: "StudySpec | None",
    epsilons: str,
    run: "Callable[[StudySpec], list[SimulationResult]]",
) -> "list[CurvePoint]":
    from vestry_simulations.curve import CurvePoint, at_epsilon, parse_epsilons

    wanted = [(label, value, at_epsilon(spec, value, plain)) for label, value in parse_epsilons(epsilons)]
    return [CurvePoint(label, value, tuple(run(changed))) for label, value, changed in wanted]


def _refuse_with_resume(study: Path | None, data: Path | None) -> None:
    if study is not None or data is not None:
        raise SimulationError("--resume: takes study and data from the run; leave both out")


def _study(path: Path | None, rounds: int | None, seed: int | None) -> "StudySpec":
    from vestry_strategies.study import load_study
    from vestry_strategies.support import check_supported

    if path is None:
        raise SimulationError("STUDY.toml: is missing; name a study file, or a run with --resume")
    spec = load_study(path).with_changes(rounds=rounds, seed=seed)
    check_supported(spec)
    return spec


def _data(path: Path | None) -> tuple[Path, str]:
    from vestry_simulations.manifest import file_hash

    if path is None:
        raise SimulationError("--data: is missing; name a data file")
    try:
        return path.resolve(), file_hash(path)
    except FileNotFoundError:
        raise SimulationError(f"--data: {path}: there is no such file") from None
    except OSError as error:
        raise SimulationError(f"--data: {path}: cannot be read ({error.strerror})") from None


def _check_split(by: str | None, sites: int, partition: str) -> None:
    if (by is None) == (sites == 0):
        raise SimulationError("--by, --sites: give exactly one: --by COLUMN or --sites N")
    if by is not None and partition != "iid":
        raise SimulationError("--partition: goes with --sites, not with --by")
    if sites < 0 or sites == 1:
        raise SimulationError(f"--sites: {sites} is too few; a federation needs at least 2 sites")
    parse_partition(partition)


def _run_one(manifest: "Manifest", laboratory: "Laboratory", as_json: bool) -> "SimulationResult":
    from vestry_simulations.display import ProgressBar, console
    from vestry_simulations.simulate import simulate

    seed = manifest.study.seed
    if as_json:
        return simulate(manifest, laboratory, lambda event: _print_event(event, seed))
    label = f"{manifest.study.study.name} (seed {seed})"
    with ProgressBar(manifest.study, label, console(stderr=True)) as bar:
        return simulate(manifest, laboratory, bar.tell)


def _print_event(event: "Event", seed: int) -> None:
    from vestry_server.progress import RoundFailed, RoundRecord, SecureAggregation, StatisticsDone

    if isinstance(event, RoundRecord):
        print(json.dumps({"seed": seed, **event.plain()}), flush=True)
    elif isinstance(event, RoundFailed):
        line = {"round": event.round, "attempt": event.attempt, "left_out": dict(event.left_out)}
        print(json.dumps({"seed": seed, "failed": True, **line, "reason": event.reason}), flush=True)
    elif isinstance(event, SecureAggregation):
        print(f"secure aggregation: {event.words}", file=sys.stderr)
    elif isinstance(event, StatisticsDone):
        for site, reason in event.left_out.items():
            print(f"left out: {site}: {reason}", file=sys.stderr)


def _finish(
    laboratory: "Laboratory", results: "Sequence[SimulationResult]", as_json: bool, png: bool
) -> None:
    """Write the report, print tables or the final line."""
    from vestry_simulations.report import write_png, write_report

    folder = laboratory.folder(results[-1].run_id)
    name = "report" if len(results) == 1 else f"report-{len(results)}-seeds"
    write_report(folder / f"{name}.html", results)
    if png:
        write_png(folder / f"{name}.png", results)
    if as_json:
        print(json.dumps(_final_line(results)), flush=True)
        return
    from rich.markup import escape

    from vestry_simulations.display import console, privacy_table, result_table, seeds_table

    out = console()
    for result in results[-1:] if len(results) > 1 else results:
        out.print(result_table(result))
    if len(results) > 1:
        out.print(seeds_table(results))
    if results[-1].privacy:
        out.print(privacy_table(results[-1]))
    for choice in results[-1].insecure:
        out.print(f"[yellow]insecure:[/] {escape(choice)}")
    model = f"model   {folder / 'model.safetensors'}\n        SHA-256 {results[-1].model_sha256}"
    out.print(f"{model}\nreport  {folder / (name + '.html')}", soft_wrap=True)  # a path is not broken


def _finish_curve(
    laboratory: "Laboratory", points: "Sequence[CurvePoint]", *, as_json: bool, png: bool
) -> None:
    """Write the curve's report, print its table or the final line."""
    from vestry_simulations.report import write_curve

    folder = laboratory.folder(points[-1].results[-1].run_id)
    path = write_curve(folder / "privacy-utility.html", points, png=png)
    if as_json:
        curve = [
            {
                "epsilon": point.epsilon,
                "epsilon_spent": point.spent,
                **{
                    part: {
                        name: dict(zip(("mean", "sd"), point.metric(name, of_sites=of_sites), strict=True))
                        for name in point.results[0].federated.metrics
                    }
                    for part, of_sites in (("metrics", True), ("pooled_test", False))
                },
                "runs": [result.run_id for result in point.results],
            }
            for point in points
        ]
        print(json.dumps({"final": True, "curve": curve}), flush=True)
        return
    from vestry_simulations.display import console, curve_table

    out = console()
    out.print(curve_table(points))
    out.print(f"report  {path}", soft_wrap=True)


def _final_line(results: "Sequence[SimulationResult]") -> dict[str, object]:
    if len(results) == 1:
        return results[0].final_line()
    from vestry_simulations.summary import over_seeds

    summary = over_seeds(results)
    plain = {
        model: {
            part: {name: {"mean": m, "sd": sd} for name, (m, sd) in spread.items()}
            for part, spread in parts.items()
        }
        for model, parts in summary.items()
    }
    return {
        "final": True,
        "seeds": len(results),
        "metrics": {name: v["mean"] for name, v in plain["federated"]["metrics"].items()},
        "pooled_test": {name: v["mean"] for name, v in plain["federated"]["pooled_test"].items()},
        "spread": plain,
        "runs": [result.final_line() for result in results],
    }
