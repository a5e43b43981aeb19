"""German credit: the data keep the study's contract; the federation is as good as pooled training."""

import argparse

from benchmarks.federation import accuracy
from benchmarks.german_credit import STUDY, credit_rows, measure, run_seeds
from vestry_strategies.study import load_study
from vestry_strategies.tasks.tabular import TABULAR


def test_data_keep_the_contract_with_all_features() -> None:
    study = load_study(STUDY)
    rows = credit_rows(study)
    assert len(rows) == 1000
    assert study.task.kind == "tabular"
    assert len(study.task.features) == 20
    design = TABULAR.features.design(study, rows)
    assert len(design) == 1000
    assert int(design.targets.sum()) == 300  # bad loans


def test_one_short_seed_beats_always_saying_good() -> None:
    study = load_study(STUDY)
    (run,) = run_seeds(study.with_changes(rounds=8), credit_rows(study), "iid", seeds=[5])
    assert accuracy(run.federated.pooled_test) > 0.7
    assert (run.federated.pooled_test["auc"] or 0.0) > 0.7
    assert set(run.federated.per_site) == {"site-1", "site-2", "site-3"}


def test_report_reaches_its_target() -> None:
    report = measure(argparse.Namespace())
    assert report.reached, report.figures
    assert [row[0] for row in report.sheets[0].rows] == ["federated", "pooled", "local-only"]
    assert all(len(row) == len(sheet.columns) for sheet in report.sheets for row in sheet.rows)
