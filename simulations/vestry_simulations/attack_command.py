"""`vestry attack canary`: what a study's trainer lets through, measured in the trainer itself."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vestry_simulations.partition import SimulationError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from vestry_privacy.auditing import AuditResult
    from vestry_strategies.study import StudySpec
    from vestry_strategies.task import Task

__all__ = ["app", "audit_study", "canary"]

_COMPANY = 200  # made-up records beside the canaries

app = typer.Typer(
    help="Attacks on a study, in simulation: what an attacker gets from its configuration.",
    no_args_is_help=True,
)


@app.callback()
def _group() -> None:
    """Keep `canary` a subcommand although it is alone."""


@app.command()
def canary(
    study: Annotated[Path, typer.Argument(metavar="STUDY.toml", help="A study with a section [privacy].")],
    data: Annotated[
        Path | None, typer.Option(help="Records beside the canaries; default: made-up ones of its shape.")
    ] = None,
    canaries: Annotated[int, typer.Option(min=100, help="Number of canaries.")] = 5000,
    epsilon: Annotated[float | None, typer.Option(help="Instead of the study's.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the coins that put canaries in or out.")] = 0,
    allow_plugin: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Third-party task to import.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Put canaries into the study's trainer and estimate epsilon from how well they are told apart.

    In simulation only: on a site's own records each look would have to be charged to its ledger.
    """
    from vestry_simulations.curve import at_epsilon
    from vestry_simulations.display import console
    from vestry_strategies.study import load_study

    spec = load_study(study)
    if epsilon is not None:
        if not 0 < epsilon < float("inf"):
            raise SimulationError(f"--epsilon: {epsilon:g} is no epsilon; write a number above 0")
        spec = at_epsilon(spec, epsilon)
    with console(stderr=True).status("auditing") as status:
        result = audit_study(
            spec,
            data,
            canaries=canaries,
            seed=seed,
            plugins=tuple(allow_plugin or ()),
            progress=lambda step, steps: status.update(f"auditing: step {step} of {steps}"),
        )
    if as_json:
        print(json.dumps(_plain(result)))
        return
    _show(spec, result)


def audit_study(
    study: "StudySpec",
    data: Path | None = None,
    *,
    canaries: int = 5000,
    seed: int = 0,
    plugins: tuple[str, ...] = (),
    progress: Callable[[int, int], None] = lambda step, steps: None,
) -> "AuditResult":
    """The canary audit of a study's network, loss and privacy plan.

    Args:
        study: with a section [privacy] for persons.
        data: records beside the canaries; None makes some up.
        canaries: m.
        seed: of the coins.
        plugins: third-party tasks that may be imported.
        progress: is told the step and the number of steps.

    Raises:
        SimulationError: the study protects no person, so there is no claim to audit.
        VestryError: of plan, data or network.
    """
    import torch

    from vestry_privacy.auditing import audit_trainer
    from vestry_privacy.gradients import check_layers
    from vestry_strategies.private_plan import study_plan
    from vestry_strategies.seeds import derive_seed
    from vestry_strategies.tasks.registry import find_task

    if study.privacy is None or study.privacy.unit == "site":
        raise SimulationError(
            "STUDY.toml: has no section [privacy] that protects persons, so it claims nothing to audit"
        )
    task = find_task(study, plugins)
    inputs, targets, owners = _records(study, task, data)
    zero_out = study.privacy.adjacency == "zero-out"
    plan = study_plan(study, int(owners.max()) + 1 if zero_out else None)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(study.seed, "model"))
        network = task.build_model(study)
    check_layers(network)
    return audit_trainer(
        plan,
        network,
        lambda outputs, labels: task.losses(study, outputs, labels),
        inputs,
        targets,
        owners,
        canaries=canaries,
        seed=seed,
        learning_rate=study.training.learning_rate,
        progress=lambda step: progress(step, plan.steps),
    )


def _records(
    study: "StudySpec", task: "Task", data: Path | None
) -> "tuple[torch.Tensor, torch.Tensor, NDArray[np.int64]]":
    """Inputs, targets and owners: of the file, or made up by the shape of the network's inputs."""
    import numpy as np
    import torch

    from vestry_client.units import read_owners

    if data is None:
        return _made_up(study, task)
    rows = task.features.read(study, data)
    design = task.features.design(study, rows)
    if not len(design):
        raise SimulationError(f"--data: {data}: holds no record that the study can use")
    assert study.privacy is not None  # noqa: S101  asked for by audit_study
    owners, _ = read_owners(study.privacy, task, rows, design)
    fitted = (
        task.features.fit(study, task.features.statistics(study, design))
        if task.features.fit_released is None
        else task.features.fit_released(study, {})
    )
    examples = task.features.encode(study, fitted, design)
    return torch.from_numpy(examples.inputs), torch.from_numpy(np.asarray(examples.targets)), owners


def _made_up(study: "StudySpec", task: "Task") -> "tuple[torch.Tensor, torch.Tensor, NDArray[np.int64]]":
    """Random records: the canaries need the network's shape, and some company."""
    import numpy as np
    import torch

    from vestry_strategies.schema import ImageTask, TabularTask
    from vestry_strategies.tasks.columns import columns

    generator = np.random.default_rng(study.seed)
    if isinstance(study.task, ImageTask):
        shape: tuple[int, ...] = (study.task.channels, study.task.height, study.task.width)
    elif isinstance(study.task, TabularTask):
        shape = (len(columns(study.task)),)
    else:
        raise SimulationError(f"--data: is needed, since the shape of '{task.name}' records is not known")
    inputs = generator.standard_normal((_COMPANY, *shape)).astype(np.float32)
    target = study.task.target
    if target.type == "regression":
        targets = torch.from_numpy(generator.standard_normal(_COMPANY).astype(np.float32))
    else:
        targets = torch.from_numpy(generator.integers(len(target.classes or ()), size=_COMPANY))
    return torch.from_numpy(inputs), targets, np.arange(_COMPANY, dtype=np.int64)


def _plain(result: "AuditResult") -> dict[str, object]:
    seen = result.noise_multiplier_estimate
    return {
        "epsilon_estimate": result.epsilon_estimate,
        "epsilon_claimed": result.epsilon_claimed,
        "interval": list(result.interval),
        "epsilon_lower_bound": result.epsilon_lower_bound,
        "delta": result.delta,
        "confidence": result.confidence,
        "noise_multiplier": result.noise_multiplier,
        "noise_multiplier_estimate": seen if math.isfinite(seen) else None,  # JSON has no infinity
        "canaries": result.canaries,
        "steps": result.steps,
        "holds": result.holds,
    }


def _show(study: "StudySpec", result: "AuditResult") -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from vestry_simulations.display import console

    name = escape(study.study.name)
    table = Table(
        title=f"{name}: canary audit at delta {result.delta:g}, {result.canaries} canaries",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_header=False,
    )
    table.add_column("what", no_wrap=True)
    table.add_column("value", justify="right")
    low, high = result.interval
    table.add_row("epsilon claimed (PLD)", f"{result.epsilon_claimed:.3f}")
    table.add_row("epsilon estimated from the canaries", f"{result.epsilon_estimate:.3f}")
    table.add_row(f"its interval, {result.confidence:.0%}", f"{low:.3f} to {high:.3f}")
    table.add_row("epsilon proved by the guesses alone", f"at least {result.epsilon_lower_bound:.3f}")
    table.add_row("noise multiplier, of the plan", f"{result.noise_multiplier:.3f}")
    table.add_row("noise multiplier, as seen", f"{result.noise_multiplier_estimate:.3f}")
    out = console()
    out.print(table)
    if result.holds:
        out.print("the claim is not refuted")
    else:
        out.print(
            "[bold red]the claim is refuted[/]: the trainer lets more through than it says, or this is the "
            "one audit in twenty that is wrong; run it again"
        )
    out.print("in simulation only: on patients' data this attack would have to be charged to the ledger")
