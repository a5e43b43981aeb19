"""The private heart benchmark: same held-out patients for every epsilon, and epsilon from the ledgers."""

import argparse
import csv
from pathlib import Path

import pytest

from benchmarks import heart_private
from benchmarks.heart_private import at, measure, run, write_split


def splits(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as file:
        return [record["split"] for record in csv.DictReader(file)]


def test_a_quarter_is_held_out_and_each_seed_has_its_own(tmp_path: Path) -> None:
    one, other = splits(write_split(tmp_path, 1)), splits(write_split(tmp_path, 2))
    assert len(one) == 920
    assert abs(one.count("test") / 920 - 0.25) < 0.05
    assert one != other
    assert splits(write_split(tmp_path, 1)) == one


def test_the_studies_differ_in_privacy_and_training_only() -> None:
    private, plain = at(3, 8.0), at(3, None)
    assert private.privacy is not None
    assert private.privacy.epsilon == 8.0
    assert plain.privacy is None
    assert private.evaluation == plain.evaluation
    assert private.task == plain.task
    assert private.model == plain.model
    assert private.seed == plain.seed == 3


@pytest.mark.slow
def test_a_run_is_good_and_its_ledgers_say_the_epsilon(tmp_path: Path) -> None:
    result = run(1, 3.0, tmp_path, workers=0)
    assert set(result.privacy) == set(result.sites)
    for site in result.privacy.values():
        assert site.epsilon == pytest.approx(3.0, rel=1e-3)
        assert site.guarantee == "dp"
    assert (result.federated.pooled_test["auc"] or 0) > 0.8


@pytest.mark.slow
def test_the_report_holds_every_epsilon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heart_private, "EPSILONS", {8.0: 0.01})
    report = measure(argparse.Namespace(seeds=1))
    (sheet,) = report.sheets
    assert [row[0] for row in sheet.rows] == ["none", "8"]
    assert len(report.figures) == 2
