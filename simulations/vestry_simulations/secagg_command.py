"""`vestry benchmark secagg`: what a secure sum costs in time, bytes and memory."""

import enum
import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from vestry_simulations.secagg_costs import SecaggCost

__all__ = ["MOST_MASK", "Rival", "secagg"]

MOST_MASK = 1.3
"""Target: a site's mask stage over the floor of its cipher."""


class Rival(enum.StrEnum):
    """What to compare with."""

    FLOWER = "flower"


def secagg(
    parameters: Annotated[
        float, typer.Option(min=1, max=1e9, help="Values of an update, such as 1e7.")
    ] = 1e7,
    sites: Annotated[int, typer.Option(min=3, max=200, help="Sites of the roster.")] = 10,
    dropouts: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of the sites lost before their input comes.")
    ] = 0.0,
    against: Annotated[
        Rival | None, typer.Option(help="Measure this too, in the same run: Flower's SecAgg+.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """One secure sum, all sites and the server in one process: CPU seconds, bytes and memory.

    A figure above its target is marked, and does not end with an error: it is a figure, not a test.
    """
    from rich.progress import Progress

    from vestry_simulations.display import console
    from vestry_simulations.secagg_costs import lost_sites, secagg_cost

    lost = lost_sites(sites, dropouts)
    with Progress(console=console(stderr=True), transient=True) as progress:
        task = progress.add_task("measuring", total=1.0)
        cost = secagg_cost(
            int(parameters),
            sites,
            lost,
            flower=against is Rival.FLOWER,
            tell=lambda done: progress.update(task, completed=done),
        )
    if as_json:
        print(json.dumps(cost.plain()))
        return
    _show(cost)


def _show(cost: "SecaggCost") -> None:
    from rich import box
    from rich.table import Table

    from vestry_simulations.display import console

    flower = cost.flower_client_cpu_s is not None
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("figure", no_wrap=True)
    table.add_column("vestry", justify="right", no_wrap=True)
    if flower:
        table.add_column("flower SecAgg+", justify="right", no_wrap=True)
        table.add_column("ratio", justify="right", no_wrap=True)
    rows: list[tuple[str, float, float | None]] = [
        ("bytes a parameter up", cost.bytes_per_parameter, cost.flower_bytes_per_parameter),
        ("one site, CPU seconds", cost.client_cpu_s, cost.flower_client_cpu_s),
        ("  of them its keys", cost.key_stage_cpu_s, None),
        ("server, CPU seconds", cost.server_cpu_s, cost.flower_server_cpu_s),
    ]
    for name, own, other in rows:
        beside = ["", ""] if other is None else [f"{other:.3f}", f"{other / own:.1f}"]
        table.add_row(name, f"{own:.3f}", *(beside if flower else []))
    out = console()
    out.print(f"secure sum of {cost.parameters:,} values over {cost.sites} sites, {cost.dropouts} lost")
    out.print(table)
    mark = f"{cost.mask_over_floor:.2f}"
    if cost.mask_over_floor > MOST_MASK:
        mark = f"[red]{mark}[/]"
    digests = cost.digest_cpu_s * (cost.sites - cost.dropouts)
    out.print(f"of the server's time {digests:.3f} s are digests of the survivors' vectors")
    out.print(
        f"masks: {mark} times the floor of {cost.floor_cpu_s:.3f} s "
        f"(AES-128-CTR and addition; at most {MOST_MASK:g})"
    )
    vector = cost.bytes_per_parameter * cost.parameters / 2**20
    out.print(
        f"beyond its update a site needs {cost.peak_memory_bytes / 2**20:.1f} MiB; "
        f"the vector it sends is {vector:.1f} MiB"
    )
