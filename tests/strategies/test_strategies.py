"""The list of strategies: each can be built, and each trains the heart study."""

import math

import numpy as np
import pytest

from tests.client.bench import OPEN
from vestry_server.rounds import open_run, run_study
from vestry_simulations.datasets import heart_data, heart_study
from vestry_simulations.engine import LocalExchange
from vestry_simulations.partition import partition_by_column
from vestry_simulations.worker import VirtualSite
from vestry_strategies.recipe import StrategySpec
from vestry_strategies.rows import read_table
from vestry_strategies.strategies import STRATEGIES, Bounds, build_strategy
from vestry_strategies.study import parse_study

SETTINGS: dict[str, dict[str, float]] = {
    "fedavg": {},
    "fedprox": {"mu": 0.1},
    "fedavgm": {"server_momentum": 0.5},
    "fedadagrad": {"server_learning_rate": 0.3},
    "fedadam": {"server_learning_rate": 0.1},
    "fedyogi": {"server_learning_rate": 0.1},
    "fedmedian": {},
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_each_is_built_by_its_name_and_says_the_same_of_itself(name: str) -> None:
    strategy = build_strategy(StrategySpec(name=name))
    assert strategy.name == name
    assert strategy.needs_individual_updates == STRATEGIES[name].needs_individual_updates


@pytest.mark.parametrize("name", STRATEGIES)
def test_each_takes_every_parameter_that_is_listed(name: str) -> None:
    for parameter in STRATEGIES[name].parameters:
        build_strategy(StrategySpec(name=name, parameters={parameter: 0.5}))


@pytest.mark.parametrize("name", SETTINGS)
def test_each_trains_the_heart_study(name: str) -> None:
    plain = heart_study().read_text().replace('name = "fedavg"', f'name = "{name}"')
    parameters = "".join(f"{key} = {value}\n" for key, value in SETTINGS[name].items())
    section = f"[strategy.parameters]\n{parameters}\n[aggregation]\nsecure = false"
    plain = plain.replace("[aggregation]", section)
    study = parse_study(plain).with_changes(rounds=8)
    table = read_table(heart_data(), ",")
    parts = partition_by_column(table.column("site"), "site")
    sites = [VirtualSite(site, table.take(indexes), OPEN) for site, indexes in parts.items()]
    with LocalExchange(sites, 0) as exchange:
        run, first = open_run(study, exchange, lambda state: None, lambda event: None)
        state = run_study(run, first)
    auc, loss = state.history[-1].metrics["auc"], state.history[-1].metrics["loss"]
    assert auc is not None
    assert auc > 0.87
    assert loss is not None
    assert loss < math.log(2)
    assert np.isfinite(state.model).all()


def test_every_strategy_is_among_those_trained() -> None:
    assert set(SETTINGS) == set(STRATEGIES)


def test_bounds() -> None:
    open_end, half = Bounds(0.0), Bounds(0.0, 1.0, closed=True)
    assert [open_end.contains(value) for value in (-1.0, 0.0, 1e-9, 1e9)] == [False, False, True, True]
    assert [half.contains(value) for value in (-1e-9, 0.0, 0.99, 1.0)] == [False, True, True, False]
    assert not open_end.contains(math.nan)
    assert open_end.text() == "above 0"
    assert half.text() == "at least 0 and below 1"
