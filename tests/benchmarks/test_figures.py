"""Figures against their targets, and how a report is printed."""

import argparse
import json

import pytest

from benchmarks.figures import Report, Sheet, at_least, at_most, main, spread

SHEET = Sheet("Both", ("model", "accuracy", "AUC"), (("federated", 0.5, None), ("pooled", 0.25, "0.9")))


def report(*measured: float) -> Report:
    return Report("toy", tuple(at_least("accuracy", value, 0.5) for value in measured), (SHEET,), ("Note.",))


def test_target_itself_is_reached() -> None:
    assert at_least("accuracy", 0.79, 0.79).reached
    assert at_most("seconds", 5.0, 5.0).reached
    assert not at_least("accuracy", 0.7899, 0.79).reached
    assert not at_most("seconds", 5.01, 5.0).reached


def test_report_is_reached_when_all_figures_are() -> None:
    assert report(0.5, 0.6).reached
    assert not report(0.6, 0.4).reached
    assert Report("nothing to reach").reached


def test_spread_has_the_sample_deviation() -> None:
    assert spread([1.0, 2.0, 3.0]) == "2.000 ± 1.000"
    assert spread([0.5]) == "0.500"
    assert spread([None, 0.5, None]) == "0.500"
    assert spread([None]) == "–"


def test_json_is_one_object_with_everything(capsys: pytest.CaptureFixture[str]) -> None:
    main("A benchmark.", lambda options: report(0.75), ["--json"])
    plain = json.loads(capsys.readouterr().out)
    assert plain["reached"] is True
    assert plain["figures"] == [
        {"name": "accuracy", "measured": 0.75, "target": "at least 0.5", "reached": True}
    ]
    assert plain["sheets"][0]["rows"] == [["federated", 0.5, None], ["pooled", 0.25, "0.9"]]
    assert plain["notes"] == ["Note."]
    assert plain["seconds"] >= 0


def test_missed_target_ends_with_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main("A benchmark.", lambda options: report(0.25), [])
    assert ended.value.code == 1
    shown = capsys.readouterr().out
    assert "NOT REACHED" in shown
    assert "0.2500" in shown


def test_tables_show_four_digits_and_a_dash(capsys: pytest.CaptureFixture[str]) -> None:
    main("A benchmark.", lambda options: Report("toy", sheets=(SHEET,)), [])
    shown = capsys.readouterr().out
    assert "0.5000" in shown
    assert "–" in shown


def test_options_of_a_benchmark_reach_it() -> None:
    seen: list[argparse.Namespace] = []

    def measure(options: argparse.Namespace) -> Report:
        seen.append(options)
        return Report("toy")

    main(None, measure, ["--rounds", "3"], lambda parser: _add_rounds(parser))
    assert seen[0].rounds == 3


def _add_rounds(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int)
