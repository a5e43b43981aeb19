"""A private study over Flower's own messages: what the sites spend is said, and the books are closed."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.server.grid import InProcessGrid
from tests.simulations.private_laboratory import METRICS, SIMULATED, lay_out, make_manifest
from vestry_client.handlers import Site
from vestry_privacy.ledger_entries import Entry
from vestry_server.app import run_on_grid
from vestry_simulations.simulate import Laboratory, simulate, virtual_sites
from vestry_simulations.worker import make_site
from vestry_strategies.messages import decode_order
from vestry_strategies.orders import FinishOrder


def entries(site: Site) -> list[Entry]:
    assert site.ledger is not None
    return list(site.ledger.entries())


@pytest.mark.slow
def test_flowers_apps_come_to_the_laboratorys_model_ledgers_and_epsilon(tmp_path: Path) -> None:
    """With simulated noise, so that the two can be compared."""
    manifest = make_manifest(lay_out(tmp_path, METRICS, SIMULATED))
    result = simulate(manifest, Laboratory(tmp_path / "runs"))
    virtual = virtual_sites(manifest, tmp_path / "grid")
    sites = [make_site(replace(one, states=tmp_path / "grid" / "sites")) for one in virtual]
    grid = InProcessGrid(sites)
    settings = {"study": manifest.study.to_json(), "run-folder": str(tmp_path / "grid" / "run")}
    state = run_on_grid(grid, SimpleNamespace(run_config=settings))  # type: ignore[arg-type]
    assert [record.epsilon for record in state.history] == [record.epsilon for record in result.history]
    assert [json.dumps(r.metrics) for r in state.history] == [json.dumps(r.metrics) for r in result.history]
    assert state.history[-1].model_hash == result.history[-1].model_hash
    assert np.isfinite(state.model).all()
    orders = [decode_order(message.content) for message in grid.pushed]
    assert [type(order) for order in orders[-3:]] == [FinishOrder] * 3
    assert sum(isinstance(order, FinishOrder) for order in orders) == 3
    for site in sites:
        assert site.ledger is not None
        kinds = [entry.kind for entry in entries(site)]
        assert kinds[-1] == "release"
        assert kinds.count("commit") == kinds.count("reserve") == 9
        site.ledger.close()
