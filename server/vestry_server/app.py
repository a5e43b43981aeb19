"""The ServerApp: a study's rounds over whatever grid Flower gives.

Run configuration (strings, as Flower passes them): ``study`` the study as JSON, ``run-folder`` where
checkpoints go and from which an interrupted run resumes, ``allowed-plugins`` names separated by commas.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from vestry_server.checkpoint import RunState, load_latest, save_checkpoint
from vestry_server.exchange import FlowerExchange
from vestry_server.progress import Event, Listener
from vestry_server.rounds import open_run, run_study
from vestry_strategies.study import study_from_json

if TYPE_CHECKING:
    from flwr.app import Context
    from flwr.serverapp import Grid, ServerApp

__all__ = ["make_app", "run_on_grid"]


def _silent(event: Event) -> None:
    """Tell nobody."""


def run_on_grid(grid: "Grid", context: "Context", tell: Listener = _silent) -> RunState:
    """Run or resume the study that the run configuration names.

    Raises:
        VestryError: of study, sites, rounds or disk; what is finished is kept.
    """
    study = study_from_json(str(context.run_config["study"]))
    folder = Path(str(context.run_config["run-folder"])) / "checkpoints"
    plugins = tuple(filter(None, str(context.run_config.get("allowed-plugins", "")).split(",")))
    exchange = FlowerExchange(grid, study.aggregation.min_sites)

    def save(state: RunState) -> None:
        save_checkpoint(folder, state)

    run, first_model = open_run(study, exchange, save, tell, plugins)
    return run_study(run, first_model, load_latest(folder))


def make_app(tell: Callable[[Event], None] = _silent) -> "ServerApp":
    """A ServerApp that runs a study and tells of its rounds."""
    from flwr.serverapp import ServerApp

    app = ServerApp()

    @app.main()
    def main(grid: "Grid", context: "Context") -> None:
        run_on_grid(grid, context, tell)

    return app
