"""`vestry benchmark secagg`: the table, the JSON, and a target that marks and does not fail."""

import json

import pytest
from typer.testing import CliRunner

from vestry_simulations import secagg_costs
from vestry_simulations.benchmark_command import app
from vestry_simulations.partition import SimulationError
from vestry_simulations.secagg_command import MOST_MASK
from vestry_simulations.secagg_costs import SecaggCost, Tell

KEYS = {
    "bytes_per_parameter", "client_cpu_s", "digest_cpu_s", "dropouts", "floor_cpu_s",
    "flower_bytes_per_parameter", "flower_client_cpu_s", "flower_server_cpu_s", "key_stage_cpu_s",
    "mask_over_floor", "parameters", "peak_memory_bytes", "server_cpu_s", "sites",
}  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int, bool]]:
    """What was asked for; figures at hand in place of a minute's measuring."""
    calls: list[tuple[int, int, int, bool]] = []

    def cost(parameters: int, sites: int, lost: int, *, flower: bool, tell: Tell) -> SecaggCost:
        calls.append((parameters, sites, lost, flower))
        tell(1.0)
        beside = (30.0, 45.0, 8.0) if flower else (None, None, None)
        return SecaggCost(parameters, sites, lost, 3.0, 0.25, 5.0, 0.5, 2.0, 1.125, 2.75, 2**21, *beside)

    monkeypatch.setattr(secagg_costs, "secagg_cost", cost)
    return calls


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["secagg", *arguments], env={"COLUMNS": "100"})
    assert done.exit_code == 0, done.output
    return done.stdout


def test_json_has_every_figure(asked: list[tuple[int, int, int, bool]]) -> None:
    plain = json.loads(run("--parameters", "1e5", "--sites", "20", "--dropouts", "0.05", "--json"))
    assert set(plain) == KEYS
    assert asked == [(100_000, 20, 1, False)]
    assert plain["client_cpu_s"] == 3.0
    assert plain["dropouts"] == 1
    assert plain["flower_client_cpu_s"] is plain["flower_server_cpu_s"] is None


def test_flower_is_measured_where_it_is_asked_for(asked: list[tuple[int, int, int, bool]]) -> None:
    plain = json.loads(run("--against", "flower", "--json"))
    assert asked == [(10_000_000, 10, 0, True)]
    assert (plain["flower_client_cpu_s"], plain["flower_server_cpu_s"]) == (30.0, 45.0)


@pytest.mark.usefixtures("asked")
def test_the_table_has_the_figures_and_the_target() -> None:
    shown = run("--parameters", "1e6")
    for part in ("1,000,000 values over 10 sites", "2.750", "3.000", "0.250", "5.000", "1.12", "2.0 MiB"):
        assert part in shown
    assert f"at most {MOST_MASK:g}" in shown
    assert "flower" not in shown.lower()


@pytest.mark.usefixtures("asked")
def test_the_table_sets_flower_beside_and_tells_the_ratio() -> None:
    shown = run("--against", "flower")
    for part in ("flower SecAgg+", "8.000", "30.000", "10.0", "45.000", "9.0"):
        assert part in shown


def test_wrong_numbers_are_refused() -> None:
    for wrong in (["--sites", "2"], ["--sites", "201"], ["--parameters", "0"], ["--against", "nobody"]):
        assert CliRunner().invoke(app, ["secagg", *wrong]).exit_code == 2
    lost = CliRunner().invoke(app, ["secagg", "--sites", "10", "--dropouts", "0.5"])
    assert isinstance(lost.exception, SimulationError)
    assert "5 of 10 sites" in str(lost.exception)
