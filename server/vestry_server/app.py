"""The ServerApp: a study's rounds over whatever grid Flower gives.

Run configuration (strings, as Flower passes them): ``study`` the study as JSON, ``run-folder`` where
checkpoints go and from which an interrupted run resumes, ``allowed-plugins`` names separated by commas; for
secure aggregation ``directory`` the file of the sites' identities, ``coordinator-key`` the file of the key
that signs plans, and ``run`` the run's name (default: the folder's).
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vestry_privacy.errors import VestryError
from vestry_privacy.identity import load_identity
from vestry_privacy.secagg.directory import Directory
from vestry_privacy.secagg.plan import threshold
from vestry_server.checkpoint import RunState, load_latest, save_checkpoint
from vestry_server.exchange import FlowerExchange
from vestry_server.progress import Event, Listener
from vestry_server.rounds import open_run, run_study
from vestry_server.secure_run import SecureRun
from vestry_strategies.study import study_from_json

if TYPE_CHECKING:
    from flwr.app import Context
    from flwr.serverapp import Grid, ServerApp

__all__ = ["load_secure_run", "make_app", "run_on_grid"]


def _silent(event: Event) -> None:
    """Tell nobody."""


def load_secure_run(settings: Mapping[str, object], folder: Path) -> SecureRun | None:
    """What secure sums need, from the files that the run configuration names.

    Args:
        settings: the run configuration.
        folder: of the run.

    Returns:
        None where no directory is named.

    Raises:
        VestryError: the directory cannot be read, or the key is not the one that it names.
    """
    named = str(settings.get("directory", ""))
    if not named:
        return None
    try:
        directory = Directory.decode(Path(named).read_bytes())
    except OSError as error:
        raise VestryError(f"directory={named}: cannot be read ({error.strerror})") from None
    coordinator = load_identity(Path(str(settings.get("coordinator-key", ""))))
    if coordinator.public_key != directory.coordinator:
        raise VestryError(
            f"coordinator-key: is not the key that the directory {named} names; sites would refuse every plan"
        )
    run_id = str(settings.get("run", "")) or folder.name
    return SecureRun(directory, coordinator, run_id, transcripts=folder / "transcripts")


def run_on_grid(grid: "Grid", context: "Context", tell: Listener = _silent) -> RunState:
    """Run or resume the study that the run configuration names.

    Raises:
        VestryError: of study, sites, rounds or disk; what is finished is kept.
    """
    study = study_from_json(str(context.run_config["study"]))
    folder = Path(str(context.run_config["run-folder"]))
    plugins = tuple(filter(None, str(context.run_config.get("allowed-plugins", "")).split(",")))
    secure = load_secure_run(context.run_config, folder) if study.aggregation.secure else None

    def save(state: RunState) -> None:
        save_checkpoint(folder / "checkpoints", state)

    wanted, hoped = study.aggregation.min_sites, 0
    if secure is not None:  # the roster is the directory's, whoever is late
        hoped = len(secure.names)
        wanted = max(wanted, threshold(hoped))
    exchange = FlowerExchange(grid, wanted, sites_hoped=hoped)
    run, first_model = open_run(study, exchange, save, tell, plugins, secure)
    return run_study(run, first_model, load_latest(folder / "checkpoints"))


def make_app(tell: Callable[[Event], None] = _silent) -> "ServerApp":
    """A ServerApp that runs a study and tells of its rounds."""
    from flwr.serverapp import ServerApp

    app = ServerApp()

    @app.main()
    def main(grid: "Grid", context: "Context") -> None:
        run_on_grid(grid, context, tell)

    return app
