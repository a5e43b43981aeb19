"""Results: means over sites, the final line, and what is read back is what was written."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.simulations.samples import private_result, sample_privacy, sample_result
from vestry_privacy.accounting import epsilon
from vestry_privacy.events import GaussianRelease, PoissonGaussian
from vestry_simulations.results import epsilon_everywhere, load_result, mean_over_sites, save_result


def test_each_site_counts_once_where_a_metric_is_defined() -> None:
    means = mean_over_sites({"a": {"auc": 0.5, "loss": 1.0}, "b": {"auc": None, "loss": 2.0}})
    assert means == {"auc": 0.5, "loss": 1.5}


def test_a_metric_that_is_defined_nowhere_has_no_mean() -> None:
    assert mean_over_sites({"a": {"auc": None}}) == {"auc": None}
    assert mean_over_sites({}) == {}


def test_a_metric_that_only_some_sites_report_is_their_mean() -> None:
    assert mean_over_sites({"a": {"x": 1.0}, "b": {"y": 2.0}}) == {"x": 1.0, "y": 2.0}


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    result = sample_result(baselines=True)
    save_result(tmp_path / "result.json", result)
    assert load_result(tmp_path / "result.json") == result


def test_the_honest_crowd_is_read_back_and_may_be_missing(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    save_result(path, replace(sample_result(), crowd="an update is hidden"))
    assert load_result(path).crowd == "an update is hidden"
    plain = json.loads(path.read_text())
    del plain["final"]["crowd"]  # of before there was secure aggregation
    path.write_text(json.dumps(plain))
    assert load_result(path).crowd == ""


def test_a_result_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    save_result(path, sample_result())
    plain = json.loads(path.read_text())
    path.write_text(json.dumps({**plain, "version": 2}))
    with pytest.raises(ValueError, match="version=2"):
        load_result(path)


def test_the_final_line_holds_what_is_promised() -> None:
    line = sample_result().final_line()
    assert {"final", "metrics", "pooled_test", "per_site", "rounds", "model_sha256"} <= set(line)
    assert "baselines" not in line
    assert set(sample_result(baselines=True).final_line()["baselines"]) == {"pooled", "local-only"}
    json.dumps(line)


def test_a_private_result_is_read_back(tmp_path: Path) -> None:
    result = private_result(site_epsilon=1.5)
    save_result(tmp_path / "result.json", result)
    assert load_result(tmp_path / "result.json") == result


def test_the_epsilon_of_a_run_is_that_of_the_site_that_spent_most() -> None:
    result = private_result()
    assert result.epsilon == 2.75
    line = result.final_line()
    assert line["epsilon"] == 2.75
    assert {site["epsilon"] for site in line["privacy"].values()} == {2.75, 2.5}
    assert set(line["privacy"]) == {"cleveland", "hungary", "switzerland"}
    json.dumps(line)


def test_without_privacy_nothing_is_said_of_it() -> None:
    assert sample_result().epsilon is None
    assert not {"epsilon", "privacy"} & set(sample_result().final_line())
    with pytest.raises(ValueError, match="no section"):
        epsilon_everywhere(sample_result())


def test_a_person_at_every_site_lost_what_all_sites_did_together() -> None:
    steps = PoissonGaussian(noise_multiplier=6.0, sampling_probability=1.0, count=60)
    assert epsilon_everywhere(private_result()) == pytest.approx(epsilon([steps], 1e-3))
    release = GaussianRelease(noise_multiplier=3.0, count=1).model_dump_json()
    sites = sample_privacy(["a", "b"])
    sites["b"] = replace(sites["b"], events=(release,))
    mixed = replace(private_result(["a", "b"]), privacy=sites)
    twenty = PoissonGaussian(noise_multiplier=6.0, sampling_probability=1.0, count=20)
    expected = epsilon([twenty, GaussianRelease(noise_multiplier=3.0, count=1)], 1e-3)
    assert epsilon_everywhere(mixed) == pytest.approx(expected)
