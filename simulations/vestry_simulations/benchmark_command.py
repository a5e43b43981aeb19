"""`vestry benchmark`: what private steps cost in time, and what a secure sum costs."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from vestry_simulations.secagg_command import secagg

if TYPE_CHECKING:
    from vestry_simulations.step_costs import NoiseCost, StepCost

__all__ = ["MOST", "MOST_NOISE", "app", "dpsgd"]

MOST = 2.0
"""Target: a private step over an ordinary one."""

MOST_NOISE = 4.0
"""Target: cryptographic noise over torch's."""

app = typer.Typer(help="Figures of this machine, as ratios measured in one run.", no_args_is_help=True)
app.command()(secagg)


@app.command()
def dpsgd(
    repetitions: Annotated[int, typer.Option(min=3, help="Turns of each method, five steps each.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Private steps beside ordinary ones and beside Opacus, and noise beside torch's, on one CPU thread.

    A figure above its target is marked, and does not end with an error: it is a figure, not a test.
    """
    from rich.progress import Progress

    from vestry_simulations.display import console
    from vestry_simulations.step_costs import MODELS, noise_cost, step_cost

    with Progress(console=console(stderr=True), transient=True) as progress:
        task = progress.add_task("measuring", total=len(MODELS) * repetitions)
        costs = [step_cost(name, repetitions, lambda: progress.advance(task)) for name in MODELS]
        noise = noise_cost()
    if as_json:
        print(json.dumps(_plain(costs, noise)))
        return
    _show(costs, noise)


def _plain(costs: "list[StepCost]", noise: "NoiseCost") -> dict[str, object]:
    return {
        "models": {
            cost.model: {name: value for name, value in cost.plain().items() if name != "model"}
            for cost in costs
        },
        "noise": {
            "ours_over_torch": noise.ours_over_torch,
            "ours_milliseconds": noise.ours_milliseconds,
            "torch_milliseconds": noise.torch_milliseconds,
        },
        "targets": {"ours_over_plain": MOST, "ours_over_torch": MOST_NOISE},
    }


def _show(costs: "list[StepCost]", noise: "NoiseCost") -> None:
    from rich import box
    from rich.table import Table

    from vestry_simulations.display import console

    table = Table(
        title="one step over an ordinary one, batch 32, one CPU thread",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("model", no_wrap=True)
    heads = ("size", "plain\nms", "ours", "hooks", "ghost")
    for head in (*heads, "ours\n+noise", "hooks\n+noise", "ghost\n+noise"):  # fits 80 columns
        table.add_column(head, justify="right", no_wrap=True)
    for cost in costs:
        table.add_row(
            cost.model.replace("logistic regression", "logistic"),
            f"{cost.parameters:,}",
            f"{cost.plain_milliseconds:.2f}",
            _ratio(cost.ours_over_plain, MOST),
            f"{cost.hooks_over_plain:.2f}",
            f"{cost.ghost_over_plain:.2f}",
            f"{cost.ours_with_noise_over_plain:.2f}",
            f"{cost.hooks_with_noise_over_plain:.2f}",
            f"{cost.ghost_with_noise_over_plain:.2f}",
        )
    out = console()
    out.print(table)
    out.print(
        f"target for ours: at most {MOST:g} without noise; hooks and ghost are Opacus, with torch's noise\n"
    )
    out.print(
        f"a million values of noise: {noise.ours_milliseconds:.1f} ms, of torch's float32 "
        f"{noise.torch_milliseconds:.1f} ms, {_ratio(noise.ours_over_torch, MOST_NOISE)} times as long "
        f"(target: at most {MOST_NOISE:g})"
    )


def _ratio(value: float, most: float) -> str:
    return f"{value:.2f}" if value <= most else f"[red]{value:.2f}[/]"
