"""`vestry benchmark dpsgd`: the table, the JSON of the contract, and targets that mark and do not fail."""

import json

import pytest
from typer.testing import CliRunner

from vestry_simulations import benchmark_command, step_costs
from vestry_simulations.benchmark_command import app
from vestry_simulations.step_costs import MODELS, NoiseCost, StepCost


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures at hand in place of a minute's measuring."""

    def cost(name: str, repetitions: int, tell: object) -> StepCost:
        ours = 2.5 if name == "mlp" else 1.25
        return StepCost(name, 7, 1.0, ours, 3.0, 2.0, 4.5, 5.5, 6.5)

    monkeypatch.setattr(step_costs, "step_cost", cost)
    monkeypatch.setattr(step_costs, "noise_cost", lambda: NoiseCost(30.0, 10.0))


@pytest.mark.usefixtures("measured")
def test_json_has_the_ratios_for_each_model() -> None:
    done = CliRunner().invoke(app, ["dpsgd", "--json"])
    assert done.exit_code == 0, done.output
    plain = json.loads(done.stdout)
    assert set(plain["models"]) == set(MODELS)
    for figures in plain["models"].values():
        for method, bare, noised in (("ours", None, 4.5), ("hooks", 3.0, 5.5), ("ghost", 2.0, 6.5)):
            assert figures[f"{method}_over_plain"] == bare or method == "ours"
            assert figures[f"{method}_with_noise_over_plain"] == noised
    assert plain["noise"]["ours_over_torch"] == 3.0
    assert plain["targets"] == {
        "ours_over_plain": benchmark_command.MOST,
        "ours_over_torch": benchmark_command.MOST_NOISE,
    }


@pytest.mark.usefixtures("measured")
def test_the_table_names_every_model_and_its_target() -> None:
    done = CliRunner().invoke(app, ["dpsgd"], env={"COLUMNS": "100"})
    assert done.exit_code == 0, done.output
    for name in MODELS:
        assert name.split()[0] in done.stdout
    assert "at most 2" in done.stdout
    for shown in ("1.25", "2.50", "3.00", "4.50", "6.50"):
        assert shown in done.stdout


def test_too_few_repetitions_are_refused() -> None:
    done = CliRunner().invoke(app, ["dpsgd", "--repetitions", "1"])
    assert done.exit_code == 2
