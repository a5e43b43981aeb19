"""A secure study over Flower's own messages: real coordinator and sites, files named by the configuration."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.server.grid import InProcessGrid
from tests.simulations.laboratory import rows, write_csv, write_study
from vestry_client.handlers import Site
from vestry_privacy.errors import VestryError
from vestry_privacy.identity import create_identity
from vestry_privacy.secagg.transcript import verify_transcript
from vestry_server.app import load_secure_run, run_on_grid
from vestry_server.checkpoint import RunState, load_latest
from vestry_server.progress import Event, RoundRecord
from vestry_simulations.manifest import Manifest, file_hash
from vestry_simulations.secure_sites import SeatPlan, make_directory
from vestry_simulations.simulate import Laboratory, simulate, virtual_sites
from vestry_simulations.worker import make_site
from vestry_strategies.messages import decode_order, decode_reply
from vestry_strategies.orders import MaskedReply, SecureOrder, TrainOrder
from vestry_strategies.study import StudyError, load_study, study_from_json


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    write_study(tmp_path / "study.toml", ("secure = false", "secure = true"))
    write_csv(tmp_path / "data.csv", rows(120))
    return Manifest(
        run_id="run",
        study=load_study(tmp_path / "study.toml"),
        data=tmp_path / "data.csv",
        data_hash=file_hash(tmp_path / "data.csv"),
        sites=4,
        workers=0,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "grid").mkdir()
    return tmp_path / "grid"


def seated(manifest: Manifest, folder: Path) -> list[Site]:
    """Real sites with identities, journals and the directory in a folder, as at separate machines."""
    virtual = virtual_sites(manifest, folder)
    directory = make_directory(folder, [one.name for one in virtual])
    return [make_site(replace(one, seat=SeatPlan(directory, manifest.study.seed))) for one in virtual]


def settings(manifest: Manifest, folder: Path, **more: str) -> dict[str, str]:
    plain = {
        "study": manifest.study.to_json(),
        "run-folder": str(folder),
        "directory": str(folder / "directory.bin"),
        "coordinator-key": str(folder / "coordinator.pem"),
        "run": "run",
    }
    return {**plain, **more}


def run(grid: InProcessGrid, config: dict[str, str], tell: Any = lambda event: None) -> RunState:
    return run_on_grid(grid, SimpleNamespace(run_config=config), tell)  # type: ignore[arg-type]


def close(sites: list[Site]) -> None:
    for site in sites:
        assert site.secure is not None
        site.secure.journal.close()


def test_flowers_apps_come_to_the_laboratorys_model(manifest: Manifest, folder: Path, tmp_path: Path) -> None:
    result = simulate(manifest, Laboratory(tmp_path / "runs"))
    sites = seated(manifest, folder)
    grid = InProcessGrid(sites)
    state = run(grid, settings(manifest, folder))
    laboratory = load_latest(tmp_path / "runs" / "run" / "checkpoints")
    assert laboratory is not None
    assert np.array_equal(state.model, laboratory.model)
    assert state.history == result.history
    orders = [decode_order(message.content) for message in grid.pushed]
    assert all(order.secure for order in orders if isinstance(order, TrainOrder))
    steps = [order.step for order in orders if isinstance(order, SecureOrder)]
    assert len(steps) == 5 * 4 * 9  # steps beside the input, sites, sums
    kinds = {message.metadata.message_type for message in grid.pushed}
    assert kinds == {"query", "train", "evaluate"}
    reports = [verify_transcript(path.read_bytes()) for path in (folder / "transcripts").iterdir()]
    assert len(reports) == 9
    close(sites)


def test_a_node_lost_in_a_round_is_recovered_from(manifest: Manifest, folder: Path) -> None:
    sites = seated(manifest, folder)

    def meddle(node: int, reply: Any) -> Any:
        content = decode_reply(reply.content)
        return None if node == 2 and isinstance(content, MaskedReply) and content.round == 2 else reply

    plain = manifest.study.canonical()
    plain["aggregation"]["deadline_seconds"] = 0.5
    study = study_from_json(json.dumps(plain))
    state = run(InProcessGrid(sites, meddle), settings(replace(manifest, study=study), folder))
    assert [len(record.sites) for record in state.history] == [4, 3, 4, 4]
    assert state.history[1].left_out == {"site-2": "no reply before the deadline"}
    close(sites)


def test_a_run_goes_on_after_a_crash_with_the_same_sites(
    manifest: Manifest, folder: Path, tmp_path: Path
) -> None:
    class Killed(Exception):
        pass

    def tell(event: Event) -> None:
        if isinstance(event, RoundRecord) and event.round == 2:
            raise Killed

    result = simulate(manifest, Laboratory(tmp_path / "runs"))
    sites = seated(manifest, folder)
    with pytest.raises(Killed):
        run(InProcessGrid(sites), settings(manifest, folder), tell)
    state = run(InProcessGrid(sites), settings(manifest, folder))
    assert state.history == result.history
    close(sites)


def test_without_a_directory_a_secure_study_is_refused(manifest: Manifest, folder: Path) -> None:
    sites = seated(manifest, folder)
    with pytest.raises(StudyError, match="no directory of the sites' identities"):
        run(InProcessGrid(sites), settings(manifest, folder, directory=""))
    close(sites)


def test_files_that_do_not_belong_together_are_refused(manifest: Manifest, folder: Path) -> None:
    close(seated(manifest, folder))
    config = settings(manifest, folder)
    secure = load_secure_run(config, folder)
    assert secure is not None
    assert (secure.run_id, len(secure.names)) == ("run", 4)
    unnamed = load_secure_run({**config, "run": ""}, folder)
    assert unnamed is not None
    assert unnamed.run_id == "grid"
    assert load_secure_run({**config, "directory": ""}, folder) is None
    with pytest.raises(VestryError, match=r"directory=.*cannot be read"):
        load_secure_run({**config, "directory": str(folder / "gone")}, folder)
    create_identity(folder / "other.pem")
    with pytest.raises(VestryError, match="is not the key that the directory"):
        load_secure_run({**config, "coordinator-key": str(folder / "other.pem")}, folder)
    (folder / "broken.bin").write_bytes(b"directory")
    with pytest.raises(VestryError, match="directory"):
        load_secure_run({**config, "directory": str(folder / "broken.bin")}, folder)
