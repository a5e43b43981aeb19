"""The tables of metrics and models hang together."""

import pytest

from vestry_strategies.catalogue import DEFAULT_METRICS, LOWER_IS_BETTER, METRICS, MODELS, PRIMARY, better


@pytest.mark.parametrize("target", METRICS)
def test_defaults_are_metrics_of_the_target(target: str) -> None:
    assert set(DEFAULT_METRICS[target]) <= set(METRICS[target])
    assert PRIMARY[target] in METRICS[target]


def test_what_is_lower_is_a_metric() -> None:
    assert {name for names in METRICS.values() for name in names} >= LOWER_IS_BETTER


def test_every_task_says_its_models_for_every_target_it_takes() -> None:
    assert set(MODELS) == {"tabular", "image", "plugin"}
    assert set(MODELS["tabular"]) == set(MODELS["plugin"]) == set(METRICS)
    assert "regression" not in MODELS["image"]


def test_better() -> None:
    assert better(0.9, 0.8, False)
    assert not better(0.8, 0.8, False)
    assert better(0.7, 0.8, True)
    assert not better(0.85, 0.8, False, min_delta=0.1)
    assert not better(0.75, 0.8, True, min_delta=0.1)
