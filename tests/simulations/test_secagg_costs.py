"""Costs of a secure sum: a real sum is measured, one site of it, and a wrong one is no figure."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from vestry_privacy.secagg.plan import tolerated_dropouts
from vestry_privacy.secagg.server import SumServer
from vestry_privacy.secagg.vector import Sum
from vestry_simulations import secagg_costs
from vestry_simulations.partition import SimulationError
from vestry_simulations.secagg_costs import lost_sites, secagg_cost


@pytest.fixture
def no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory of a new process is measured in a test of its own."""
    monkeypatch.setattr(secagg_costs, "_in_a_new_process", lambda parameters, sites: 12345)


@pytest.mark.usefixtures("no_child")
@pytest.mark.parametrize("lost", [0, 1])
def test_a_sum_is_measured(lost: int) -> None:
    told: list[float] = []
    cost = secagg_cost(30_001, 4, lost, tell=told.append)
    words = 10_001 + 1 + 3 * 2
    assert cost.bytes_per_parameter == 8 * words / 30_001
    assert (cost.parameters, cost.sites, cost.dropouts, cost.peak_memory_bytes) == (30_001, 4, lost, 12345)
    assert 0 < cost.key_stage_cpu_s < cost.client_cpu_s
    assert cost.server_cpu_s > 0
    assert cost.floor_cpu_s > 0
    assert cost.digest_cpu_s > 0
    assert cost.mask_over_floor > 0
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1.0)
    plain = cost.plain()
    assert plain["flower_client_cpu_s"] is plain["flower_server_cpu_s"] is None


@pytest.mark.usefixtures("no_child")
def test_flower_is_measured_at_the_same_sizes() -> None:
    told: list[float] = []
    cost = secagg_cost(2000, 3, flower=True, tell=told.append)
    assert cost.flower_client_cpu_s is not None
    assert cost.flower_client_cpu_s > 0
    assert cost.flower_server_cpu_s is not None
    assert cost.flower_server_cpu_s > 0
    assert cost.flower_bytes_per_parameter == pytest.approx(8, rel=0.2)
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1.0)


@pytest.mark.usefixtures("no_child")
def test_a_wrong_sum_gives_no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    right = SumServer.result

    def shifted(server: SumServer) -> Sum:
        found = right(server)
        return replace(found, values=found.values + 0.1 * found.weight)

    def of_another_weight(server: SumServer) -> Sum:
        found = right(server)
        return replace(found, weight=found.weight + 1)

    for wrong in (shifted, of_another_weight):
        monkeypatch.setattr(SumServer, "result", wrong)
        with pytest.raises(SimulationError, match="not that of what was put in"):
            secagg_cost(2000, 3)


def test_so_many_sites_may_be_lost() -> None:
    assert lost_sites(10, 0.0) == 0
    assert lost_sites(10, 0.05) == 1
    assert lost_sites(50, 0.05) == 3
    assert lost_sites(10, 0.3) == 3
    with pytest.raises(SimulationError, match=r"dropouts=0.31: 4 of 10 sites; .* without 3 at most"):
        lost_sites(10, 0.31)
    with pytest.raises(SimulationError, match="without 0 at most"):
        lost_sites(3, 0.01)


def test_the_measured_site_is_never_lost() -> None:
    """It stands in the middle, and the lost ones at the end."""
    assert all(sites // 2 < sites - tolerated_dropouts(sites) for sites in range(3, 201))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's own count of a process's memory")
def test_memory_is_the_vector_and_little_more() -> None:
    """3,000,000 values are 8,000,000 bytes of words; the design allows a MiB more, pages are not exact."""
    peak = secagg_costs._in_a_new_process(3_000_000, 3)
    assert 7_600_000 < peak < 8_000_000 + 3 * 2**20


def test_the_floor_passes_over_every_word(monkeypatch: pytest.MonkeyPatch) -> None:
    added: list[int] = []
    monkeypatch.setattr(np, "add", lambda one, other, out: added.append(len(out)))
    secagg_costs._floor(70_001, 3)
    assert sum(added) == 3 * 70_001
    assert max(added) == 32768
