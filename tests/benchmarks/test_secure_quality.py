"""The benchmark of secure aggregation: pairs of runs that differ in it alone."""

import argparse
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import secure_quality
from benchmarks.secure_quality import FEDERATIONS, Pair, Run, measure, run_pair, with_secure
from vestry_simulations.datasets import heart_data, heart_study
from vestry_strategies.study import load_study


def test_the_two_studies_differ_in_secure_aggregation_only() -> None:
    study = load_study(heart_study())
    plain, secure = with_secure(study, False), with_secure(study, True)
    assert (plain.aggregation.secure, secure.aggregation.secure) == (False, True)
    assert plain.model_copy(update={"aggregation": secure.aggregation}) == secure
    assert with_secure(plain, True).digest() == secure.digest()


def test_a_pair_is_trained_from_the_same_start(tmp_path: Path) -> None:
    pair = run_pair(FEDERATIONS["heart"], 1, heart_data(), tmp_path, workers=0, rounds=2)
    assert pair.plain.metric > 0.7
    assert abs(pair.difference) < 1e-3
    assert pair.ratio == pair.secure.seconds / pair.plain.seconds > 0
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == [
        "heart-four-hospitals-1-plain",
        "heart-four-hospitals-1-secure",
    ]


PAIRS = {
    1: Pair(1, Run(0.80, 0.010), Run(0.81, 0.015)),
    2: Pair(2, Run(0.90, 0.010), Run(0.86, 0.030)),
    3: Pair(3, Run(0.85, 0.010), Run(0.85, 0.017)),
}


def options(**changes: object) -> argparse.Namespace:
    return argparse.Namespace(**{"workers": 0, "only": None, "seeds": None, **changes})


@pytest.fixture
def canned(monkeypatch: pytest.MonkeyPatch) -> None:
    """The arithmetic of the report, on numbers made by hand."""
    monkeypatch.setattr(secure_quality, "run_pair", lambda federation, seed, *more: PAIRS[seed])
    heart = replace(FEDERATIONS["heart"], seeds=(1, 2, 3))
    monkeypatch.setattr(secure_quality, "FEDERATIONS", {"heart": heart})


def test_differences_are_held_against_the_noise_of_seeds(canned: None) -> None:
    report = measure(options())
    difference, ratio = report.figures
    assert difference.measured == pytest.approx(0.03 / 3)
    assert difference.target == "at most 0.05"
    assert ratio.measured == pytest.approx(1.7)
    assert ratio.target == "at most 2"
    assert report.reached
    assert report.sheets[0].rows[1][:4] == ("2", 0.90, 0.86, "-0.040000")
    assert report.sheets[0].rows[-1][1] == "0.850 ± 0.050"


def test_one_seed_has_no_noise_to_be_held_against(canned: None) -> None:
    report = measure(options(seeds=1))
    assert [figure.name for figure in report.figures] == ["heart: seconds of a round, secure over plain"]


def test_one_federation_can_be_asked_for(canned: None) -> None:
    assert measure(options(only="mnist")).sheets == ()
    assert len(measure(options(only="heart")).sheets) == 1
