"""The real ServerApp and ClientApp come to the model that the laboratory comes to."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.client.bench import OPEN
from tests.server.grid import InProcessGrid
from tests.simulations.laboratory import ROOT, environment
from vestry_client.handlers import Site
from vestry_server.app import make_app, run_on_grid
from vestry_server.checkpoint import RunState
from vestry_server.progress import Event, RoundRecord
from vestry_server.rounds import open_run, run_study
from vestry_simulations.datasets import heart_data, heart_study
from vestry_simulations.engine import LocalExchange
from vestry_simulations.partition import partition_by_column
from vestry_simulations.worker import VirtualSite, make_site
from vestry_strategies.rows import read_table
from vestry_strategies.study import StudySpec, load_study, study_from_json

ROUNDS = 3


def plain_study() -> StudySpec:
    """The demo's study, each hospital's update seen by the coordinator."""
    plain = load_study(heart_study()).with_changes(rounds=ROUNDS).canonical()
    plain["aggregation"]["secure"] = False
    return study_from_json(json.dumps(plain))


def heart_sites() -> list[VirtualSite]:
    """The four hospitals."""
    table = read_table(heart_data(), ",")
    parts = partition_by_column(table.column("site"), "site")
    return [VirtualSite(name, table.take(indexes), OPEN) for name, indexes in parts.items()]


def hospitals() -> list[Site]:
    """The same as the handlers' sites."""
    return [make_site(virtual) for virtual in heart_sites()]


@pytest.fixture(scope="module")
def study() -> StudySpec:
    return plain_study()


@pytest.fixture(scope="module")
def laboratory(study: StudySpec) -> RunState:
    """What LocalExchange comes to, in two worker processes."""
    with LocalExchange(heart_sites(), 2) as exchange:
        run, first = open_run(study, exchange, lambda state: None, lambda event: None)
        return run_study(run, first)


def context(study: StudySpec, folder: Path) -> Any:
    return SimpleNamespace(run_config={"study": study.to_json(), "run-folder": str(folder)})


def test_flowers_apps_come_to_the_laboratorys_model(
    study: StudySpec, laboratory: RunState, tmp_path: Path
) -> None:
    state = run_on_grid(InProcessGrid(hospitals()), context(study, tmp_path))
    np.testing.assert_allclose(state.model, laboratory.model, rtol=1e-5, atol=1e-7)
    assert [record.metrics for record in state.history] == [
        pytest.approx(record.metrics) for record in laboratory.history
    ]


def test_the_server_app_resumes_from_its_folder(
    study: StudySpec, laboratory: RunState, tmp_path: Path
) -> None:
    class Killed(Exception):
        pass

    def tell(event: Event) -> None:
        if isinstance(event, RoundRecord) and event.round == 2:
            raise Killed

    with pytest.raises(Killed):
        run_on_grid(InProcessGrid(hospitals()), context(study, tmp_path), tell)
    told: list[Event] = []
    state = run_on_grid(InProcessGrid(hospitals()), context(study, tmp_path), told.append)
    assert np.array_equal(state.model, laboratory.model)
    assert [event.round for event in told if isinstance(event, RoundRecord)] == [3]


def test_the_apps_are_flowers_own() -> None:
    from flwr.serverapp import ServerApp

    assert isinstance(make_app(), ServerApp)


RAY = """
import sys
from pathlib import Path
from flwr.app import UserConfig
from flwr.serverapp import ServerApp
from flwr.simulation import run_simulation
from tests.server.test_app import hospitals, plain_study
from vestry_client.app import make_app
from vestry_server.app import run_on_grid

server = ServerApp()

@server.main()
def main(grid, context):
    context.run_config["study"] = plain_study().to_json()
    context.run_config["run-folder"] = sys.argv[1]
    run_on_grid(grid, context)

client = make_app(lambda context: hospitals()[int(context.node_config["partition-id"])])
run_simulation(server, client, 4, backend_config={"client_resources": {"num_cpus": 1}})
"""


@pytest.mark.slow
@pytest.mark.ray
def test_flowers_ray_engine_comes_to_the_laboratorys_model(laboratory: RunState, tmp_path: Path) -> None:
    from vestry_server.checkpoint import load_latest

    settings = environment()
    settings["PYTHONPATH"] += os.pathsep + str(ROOT)
    settings.update(FLWR_TELEMETRY_ENABLED="0", FLWR_DISABLE_UPDATE_CHECK="1", RAY_USAGE_STATS_ENABLED="0")
    done = subprocess.run(
        [sys.executable, "-c", RAY, str(tmp_path / "run")],
        env=settings,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    state = load_latest(tmp_path / "run" / "checkpoints")
    assert state is not None, done.stdout[-2000:] + done.stderr[-2000:]
    assert state.round == ROUNDS
    np.testing.assert_allclose(state.model, laboratory.model, rtol=1e-5, atol=1e-7)
    assert [record.metrics for record in state.history] == [
        pytest.approx(record.metrics) for record in laboratory.history
    ]
