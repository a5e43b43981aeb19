"""Mean and standard deviation over seeds, against the statistics module."""

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.simulations.samples import sample_result
from vestry_simulations.summary import mean_and_sd, over_seeds


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20))
def test_mean_and_deviation_are_those_of_the_standard_library(values: list[float]) -> None:
    mean, sd = mean_and_sd(values)
    assert mean == pytest.approx(statistics.fmean(values), abs=1e-6)
    assert sd == pytest.approx(statistics.stdev(values), rel=1e-6, abs=1e-6)


def test_undefined_values_are_passed_over() -> None:
    assert mean_and_sd([None, 1.0, 3.0])[0] == 2.0
    assert mean_and_sd([None, 1.0, 3.0])[1] == pytest.approx(2**0.5)
    assert mean_and_sd([None, 1.0]) == (1.0, None)
    assert mean_and_sd([None]) == (None, None)
    assert mean_and_sd([]) == (None, None)


def test_every_model_has_both_parts() -> None:
    results = [sample_result(baselines=True), sample_result(baselines=True)]
    summary = over_seeds(results)
    assert list(summary) == ["federated", "pooled", "local-only"]
    for parts in summary.values():
        assert set(parts) == {"metrics", "pooled_test"}
        assert set(parts["metrics"]) == {"loss", "accuracy", "auc"}
    mean, sd = summary["pooled"]["pooled_test"]["accuracy"]
    assert mean == pytest.approx(0.8)
    assert sd == pytest.approx(0.0)
