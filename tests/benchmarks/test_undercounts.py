"""The published under-counts: how theirs come about, and what a ledger says of the same rounds."""

import argparse

import numpy as np
import pytest

from benchmarks import undercounts
from benchmarks.flamby import flamby_rows, flamby_study
from benchmarks.undercounts import (
    HOSPITALS,
    Training,
    engine_reports,
    flamby_training,
    flower_training,
    ledger_says,
    measure,
    opacus_says,
    rounds_within,
)
from vestry_privacy.accounting import epsilon

pytestmark = pytest.mark.filterwarnings("ignore")  # of Opacus, on alphas and on its noise

SMALL = Training(noise_multiplier=2.0, sampling_probability=0.25, steps_a_round=4, persons=100, delta=1e-4)


def test_a_new_engine_says_the_same_after_every_round() -> None:
    training = flower_training()
    assert training.sampling_probability == pytest.approx(0.05)
    first, second, third = engine_reports(training, 3)
    assert first == second == third
    assert first == pytest.approx(1.98, rel=0.01)
    assert first == pytest.approx(opacus_says(training, 20), rel=1e-6)


def test_the_ledger_remembers_every_round() -> None:
    training = flower_training()
    (ten,) = ledger_says(training, [10])
    assert ten == pytest.approx(4.77, rel=0.005)
    assert ten == pytest.approx(opacus_says(training, 200), rel=0.005)


def test_the_ledger_is_looked_at_in_between() -> None:
    assert ledger_says(SMALL, [1, 3]) == [epsilon([SMALL.event(rounds)], 1e-4) for rounds in (1, 3)]


def test_a_budget_of_the_claim_lets_few_rounds_through() -> None:
    (three,) = ledger_says(SMALL, [3])
    assert 0 < rounds_within(SMALL, three) <= 3
    assert rounds_within(SMALL, 0.1) == 0


def test_flambys_noise_is_for_fifteen_epochs_and_its_rounds_are_more() -> None:
    training = flamby_training(HOSPITALS["switzerland"])
    assert training.sampling_probability == 1 / 8
    assert opacus_says(training, 15 * 8) == pytest.approx(1.0, abs=0.011)  # the tolerance of Opacus' search
    assert training.event(15).count == 1500
    (truth,) = ledger_says(training, [15])
    assert truth == pytest.approx(4.50, rel=0.005)


def test_hospitals_are_those_of_flambys_split() -> None:
    rows = flamby_rows(flamby_study())
    train = rows.column("site")[rows.column("split") == "train"]
    names, counts = np.unique(train, return_counts=True)
    assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == HOSPITALS


def test_report_sets_theirs_beside_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Made quick: the known figures in place of the accountants'."""
    monkeypatch.setattr(undercounts, "engine_reports", lambda training, rounds: [1.99] * rounds)
    monkeypatch.setattr(undercounts, "opacus_says", lambda training, steps: float(steps))
    monkeypatch.setattr(undercounts, "rounds_within", lambda training, budget: 5)
    monkeypatch.setattr(undercounts, "flamby_training", lambda persons: SMALL)
    monkeypatch.setattr(
        undercounts, "ledger_says", lambda training, rounds: [4.77, 10.99, 16.6][-len(rounds) :]
    )
    report = measure(argparse.Namespace())
    flower, shipped, flamby = report.sheets
    assert flower.rows[0] == ("10", 1.99, 4.77, 200.0)
    assert [row[0] for row in shipped.rows] == ["1", "1.5"]
    assert [row[0] for row in flamby.rows] == list(HOSPITALS)
    assert flamby.rows[0][3:5] == ("60", "60")
    reached = {figure.name: figure.reached for figure in report.figures}
    assert reached["a. ledger after 10 rounds"]
    assert not reached["a. ledger after 100 rounds"]
    assert not report.reached
