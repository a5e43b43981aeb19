"""One simulation from manifest to result: the coordinator's rounds over the laboratory's exchange."""

import contextlib
import secrets
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from vestry_privacy.canonical import canonical_hash
from vestry_privacy.errors import VestryError
from vestry_server.checkpoint import RunState, load_latest, save_checkpoint
from vestry_server.progress import (
    Event,
    Listener,
    RoundRecord,
    SecureAggregation,
    StatisticsDone,
    Working,
)
from vestry_server.rounds import Run, open_run, run_study
from vestry_server.secure_run import SecureRun
from vestry_server.store import Store, open_store
from vestry_simulations.engine import LocalExchange, default_workers
from vestry_simulations.manifest import (
    Manifest,
    ManifestError,
    file_hash,
    run_lock,
    write_manifest,
)
from vestry_simulations.partition import (
    SimulationError,
    parse_partition,
    partition_by_column,
    partition_rows,
)
from vestry_simulations.results import Outcome, SimulationResult, mean_over_sites, save_result
from vestry_simulations.secure_sites import (
    SeatPlan,
    check_sites,
    make_directory,
    make_secure_run,
    secure_rules,
)
from vestry_simulations.site_ledgers import private_policy, public_persons, read_privacy
from vestry_simulations.worker import VirtualSite
from vestry_strategies.artefact import ModelArtefact, save_artefact
from vestry_strategies.rows import Indexes, Rows
from vestry_strategies.seeds import derive_seed
from vestry_strategies.study import StudySpec
from vestry_strategies.support import check_supported, insecure_choices
from vestry_strategies.task import Task
from vestry_strategies.tasks.registry import find_task
from vestry_strategies.tasks.targets import match_labels

if TYPE_CHECKING:
    from vestry_strategies.parameters import Vector

__all__ = ["Laboratory", "new_run_id", "simulate", "simulated_secret", "virtual_sites"]


@dataclass(frozen=True)
class Laboratory:
    """Where runs are kept.

    Attributes:
        out: folder of all runs, with their store.
        clock: seconds since the epoch; a test gives its own.
    """

    out: Path
    clock: Callable[[], float] = time.time

    def folder(self, run_id: str) -> Path:
        """Folder of a run."""
        return self.out / run_id

    def store(self) -> Store:
        """The database of all runs here."""
        return open_store(self.out / "vestry.sqlite")

    def now(self) -> datetime:
        """The clock's time."""
        return datetime.fromtimestamp(self.clock(), UTC)


def new_run_id(study: StudySpec, laboratory: Laboratory) -> str:
    """A name for a new run: the study's name, the time, and four random digits."""
    return f"{study.study.name}-{laboratory.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def simulate(
    manifest: Manifest, laboratory: Laboratory, tell: Listener = lambda event: None
) -> SimulationResult:
    """Run a simulation, or go on with one that was interrupted.

    Args:
        manifest: what to run; a run whose folder exists is resumed from its last whole checkpoint.
        laboratory: where it is kept.
        tell: called with what happens.

    Returns:
        The result, also saved as ``result.json`` beside the model.

    Raises:
        VestryError: of study, data, rounds or disk; what is finished is kept.
    """
    check_supported(manifest.study)
    folder = laboratory.folder(manifest.run_id)
    sites = virtual_sites(manifest, folder)  # first: a refused data file leaves no empty run
    check_sites(manifest.study, len(sites))
    _make_folder(folder)
    with run_lock(folder):
        sites = _seated(manifest.study, sites, folder)
        if not (folder / "manifest.json").exists():
            write_manifest(folder, manifest)
        store = laboratory.store()
        insecure = insecure_choices(manifest.study)
        store.start_run(
            manifest.run_id,
            manifest.study,
            kind="simulation",
            insecure=insecure,
            started=laboratory.now(),
        )
        try:
            result = _run(manifest, laboratory, store, sites, tell)
        except KeyboardInterrupt:
            store.finish_run(manifest.run_id, "stopped", laboratory.now(), reason="interrupted")
            raise
        except Exception as error:
            with contextlib.suppress(VestryError):  # a full disk refuses this too; tell the first error
                store.finish_run(manifest.run_id, "failed", laboratory.now(), reason=type(error).__name__)
            raise
        store.finish_run(manifest.run_id, "finished", laboratory.now(), reason=result.stopped)
    return result


def _seated(study: StudySpec, sites: list[VirtualSite], folder: Path) -> list[VirtualSite]:
    """The sites with seats in secure sums, if the study has them."""
    if not study.aggregation.secure:
        return sites
    directory = make_directory(folder, [site.name for site in sites])
    return [replace(site, seat=SeatPlan(directory, study.seed)) for site in sites]


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SimulationError(f"--out: cannot make {folder} ({error.strerror})") from None


def virtual_sites(manifest: Manifest, folder: Path) -> list[VirtualSite]:
    """Read the data file and deal its rows to sites.

    Raises:
        DataError: the file cannot be read.
        PartitionError: its rows cannot be dealt as asked.
        ManifestError: the file has changed since the run began.
    """
    task = find_task(manifest.study, manifest.allowed_plugins)
    rows = task.features.read(manifest.study, manifest.data)
    if file_hash(manifest.data) != manifest.data_hash:
        raise ManifestError(
            f"{manifest.data}: has changed since run '{manifest.run_id}' began; "
            "bring the old file back or start a new run"
        )
    return [
        _virtual_site(manifest, task, name, rows.take(indexes), folder)
        for name, indexes in _parts(manifest, rows).items()
    ]


def _virtual_site(manifest: Manifest, task: Task, name: str, rows: Rows, folder: Path) -> VirtualSite:
    study = manifest.study
    rules = {
        **secure_rules(study),
        "allow_training_without_privacy": True,
        "allowed_plugins": manifest.allowed_plugins,
        "min_examples": 1,
        "tell_coordinator": "full",
    }
    return VirtualSite(
        name=name,
        rows=rows,
        policy=private_policy(study, public_persons(study, task, rows), rules),
        states=folder / "sites",
        secret=simulated_secret(study.seed, name),
        fingerprint=canonical_hash("vestry-simulated-rows/1", [manifest.data_hash, name, len(rows)]),
    )


def simulated_secret(seed: int, name: str) -> bytes:
    """A virtual site's secret, 32 bytes: repeatable, so it hides nothing; a real site draws its own."""
    return bytes.fromhex(canonical_hash("vestry-simulated-secret/1", [seed, name]))


def _parts(manifest: Manifest, rows: Rows) -> dict[str, Indexes]:
    study = manifest.study
    column = find_task(study, manifest.allowed_plugins).features.column
    if manifest.by is not None:
        return partition_by_column(column(rows, manifest.by), manifest.by)
    target, labels = study.task.target, None
    if target.classes is not None:
        labels = match_labels(column(rows, target.name), target.classes)
    return partition_rows(
        parse_partition(manifest.partition),
        manifest.sites,
        len(rows),
        labels,
        derive_seed(study.seed, "partition"),
    )


def _run(
    manifest: Manifest,
    laboratory: Laboratory,
    store: Store,
    sites: list[VirtualSite],
    tell: Listener,
) -> SimulationResult:
    folder = laboratory.folder(manifest.run_id)
    workers = default_workers(len(sites)) if manifest.workers is None else manifest.workers
    watch = _Watch(manifest.run_id, laboratory, store, tell)
    state = load_latest(folder / "checkpoints")
    began = time.monotonic()
    secure = _secure_run(manifest, laboratory, sites)
    with LocalExchange(sites, workers, manifest.faults) as exchange:
        run, first = open_run(
            manifest.study,
            exchange,
            lambda state: _save(folder / "checkpoints", state),
            watch.tell,
            manifest.allowed_plugins,
            secure,
        )
        if state is not None:
            watch.catch_up(state)
        state = run_study(run, first, state)
    seconds = time.monotonic() - began
    hashes = _write_models(folder, run, state)
    for alias, (number, digest, path) in hashes.items():
        store.add_model(manifest.run_id, number, digest, str(path), alias=alias)
    there = _took_part(run, state)
    taking = [site for site in sites if site.name in there]
    baselines = _baselines(manifest, taking, first, tell) if manifest.baselines else {}
    kept = _kept_round(run, state)
    outcome = _outcome(state, kept)
    if manifest.study.privacy is not None or secure is not None:
        outcome = _measured(manifest, taking, state, kept)
    result = SimulationResult(
        run_id=manifest.run_id,
        study=manifest.study,
        federated=outcome,
        history=state.history,
        sites=there,
        rounds=state.round,
        kept_round=kept,
        model_sha256=hashes["final"][1],
        seconds=seconds,
        baselines=baselines,
        left_out=_left_out(sites, there, watch),
        stopped=state.stopped,
        insecure=insecure_choices(manifest.study),
        privacy=read_privacy(manifest.study, folder / "sites", there),
        crowd=watch.crowd,
    )
    save_result(folder / "result.json", result)
    return result


def _save(folder: Path, state: RunState) -> None:
    save_checkpoint(folder, state)


class _Watch:
    """Passes events on, after they are in the store."""

    def __init__(self, run_id: str, laboratory: Laboratory, store: Store, tell: Listener) -> None:
        self._run_id, self._laboratory, self._store, self._tell = run_id, laboratory, store, tell
        self._last = time.monotonic()
        self.left_out: dict[str, str] = {}
        self.crowd = ""

    def catch_up(self, state: RunState) -> None:
        """Bring the store to a checkpoint: later rounds go, missing ones come."""
        self._store.rewind(self._run_id, state.round)
        for record in state.history:
            self._store.record_round(self._run_id, record, self._laboratory.now(), 0.0)

    def tell(self, event: Event) -> None:
        if isinstance(event, StatisticsDone):
            self.left_out = dict(event.left_out)
        if isinstance(event, SecureAggregation):
            self.crowd = event.words
        if isinstance(event, RoundRecord):
            now = time.monotonic()
            self._store.record_round(self._run_id, event, self._laboratory.now(), now - self._last)
            self._last = now
        self._tell(event)


def _took_part(run: Run, state: RunState) -> tuple[str, ...]:
    """Sites that took part: those of round 0; where all stay in the roster, those of any round."""
    if run.secure is None:
        return state.sites
    return tuple(sorted({site for record in state.history for site in record.sites}))


def _left_out(sites: list[VirtualSite], there: tuple[str, ...], watch: "_Watch") -> dict[str, str]:
    """Sites that took no part at all, and why, where round 0 was in this process."""
    names = {site.name for site in sites} | set(watch.left_out)
    return {name: watch.left_out.get(name, "") for name in sorted(names) if name not in there}


def _secure_run(manifest: Manifest, laboratory: Laboratory, sites: list[VirtualSite]) -> SecureRun | None:
    seat = sites[0].seat
    if seat is None:
        return None
    folder = laboratory.folder(manifest.run_id)
    return make_secure_run(folder, manifest.run_id, seat.directory, laboratory.clock)


def _kept_round(run: Run, state: RunState) -> int:
    wanted = run.study.evaluation.keep == "best" or state.stopped
    return state.best_round if wanted and state.best_round else state.round


def _outcome(state: RunState, kept: int) -> Outcome:
    """Of the round that is kept; empty if it was not evaluated."""
    for record in reversed(state.history):
        if record.round == kept:
            per_site = dict(record.per_site)
            return Outcome(mean_over_sites(per_site), record.metrics, per_site)
    return Outcome({}, {}, {})


def _measured(manifest: Manifest, sites: list[VirtualSite], state: RunState, kept: int) -> Outcome:
    """How good the model is, measured exactly by the laboratory, which holds the rows.

    Under [privacy] the sites send no exact metrics, and under secure aggregation none of a single site; what
    the coordinator sees is in the history.
    """
    from vestry_simulations.baselines import model_outcome, site_data

    data = site_data(manifest.study, sites, manifest.allowed_plugins)
    model = state.model if kept == state.round else state.best_model
    return model_outcome(manifest.study, data, model, state.preprocessing, manifest.allowed_plugins)


def _write_models(folder: Path, run: Run, state: RunState) -> "dict[str, tuple[int, str, Path]]":
    """Write the resulting model and the best one; return round, SHA-256 and file of each."""
    kept = _kept_round(run, state)
    last: Vector = state.model
    models = {"final": (kept, last if kept == state.round else state.best_model)}
    if state.best_round:
        models["best"] = (state.best_round, state.best_model)
    files = {"final": folder / "model.safetensors", "best": folder / "model-best.safetensors"}
    written: dict[str, tuple[int, str, Path]] = {}
    for alias, (number, vector) in models.items():
        artefact = ModelArtefact(
            study=run.study,
            round=number,
            tensors=run.layout.split(vector),
            preprocessing=state.preprocessing,
            insecure=insecure_choices(run.study),
        )
        try:
            save_artefact(files[alias], artefact, run.layout)
        except OSError as error:
            raise SimulationError(
                f"{files[alias]}: cannot write the model ({error.strerror}); make room and resume"
            ) from None
        written[alias] = (number, file_hash(files[alias]), files[alias])
    return written


def _baselines(
    manifest: Manifest, sites: list[VirtualSite], first: "Vector", tell: Listener
) -> dict[str, Outcome]:
    from vestry_simulations.baselines import run_baselines, site_data

    plugins: Collection[str] = manifest.allowed_plugins
    data = site_data(manifest.study, sites, plugins)
    tell(Working("pooled and local-only training, to compare"))
    workers = default_workers(len(sites)) if manifest.workers is None else manifest.workers
    return run_baselines(manifest.study, data, first, plugins, workers)
