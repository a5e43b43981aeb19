"""What a person sees: tables without a terminal, dashes for what is not defined, no markup from users."""

import io

import pytest
from rich.console import Console

from tests.simulations.samples import private_result, sample_record, sample_result
from tests.simulations.test_curve import point
from vestry_server.progress import Event, RoundFailed, SecureAggregation, StatisticsDone, Working
from vestry_simulations.display import (
    ProgressBar,
    RoundLines,
    curve_table,
    number,
    privacy_table,
    result_table,
    seeds_table,
    shown_metrics,
    study_table,
)
from vestry_strategies.task import Metrics

STUDY = sample_result().study


def printed(item: object, width: int = 80) -> str:
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=False).print(item)
    return out.getvalue()


def test_numbers() -> None:
    assert number(0.12345) == "0.123"
    assert number(None) == "–"


def test_a_table_has_a_line_a_site_and_two_for_all() -> None:
    text = printed(result_table(sample_result()))
    for word in ("cleveland", "hungary", "switzerland", "mean of sites", "all rows", "acc.", "auc"):
        assert word in text
    assert "–" in next(line for line in text.splitlines() if "switzerland" in line)


def test_three_models_fit_a_terminal() -> None:
    text = printed(result_table(sample_result(baselines=True)), width=80)
    assert "…" not in text
    for word in ("federated", "pooled", "local"):
        assert word in text


def test_seeds_are_mean_and_deviation() -> None:
    text = printed(seeds_table([sample_result(baselines=True)] * 3), width=140)
    assert "3 seeds, mean ± sd" in text
    assert "0.800 ± 0.000" in text


def test_a_study_is_a_list_of_settings() -> None:
    text = printed(study_table(STUDY), width=120)
    assert STUDY.digest() in text
    assert "training.learning_rate" in text
    assert "task.features[age]" in text


def test_metrics_are_those_the_study_names() -> None:
    metrics: Metrics = {"loss": 1.0, "auc": 0.5, "accuracy": 0.5, "brier": 0.1}
    assert shown_metrics(STUDY, metrics) == ["accuracy", "auc", "loss"]
    assert shown_metrics(STUDY, {"other": 1.0}) == ["other"]


EVENTS: list[Event] = [
    StatisticsDone(("a", "b"), {"[red]c": "data: column 'x' is [bold]missing"}, 100),
    RoundFailed(1, 1, {"a": "no reply before the deadline"}),
    sample_record(1, ["a", "b"]),
    sample_record(2, ["a", "b"], evaluated=False),
    Working("baselines"),
]


def test_rounds_are_lines() -> None:
    out = io.StringIO()
    lines = RoundLines(STUDY, Console(file=out, width=200))
    for event in EVENTS:
        lines.tell(event)
    text = out.getvalue()
    assert "round  0   2 sites, 100 training rows" in text
    assert "round  1/15  1 sites  loss 1.0000  accuracy 0.710  auc 0.710  3.0 KiB" in text
    assert "left out: [red]c: data: column 'x' is [bold]missing" in text
    assert "round 1, attempt 1: too few updates" in text


def test_secure_aggregation_is_said_and_why_a_sum_failed() -> None:
    out = io.StringIO()
    lines = RoundLines(STUDY, Console(file=out, width=200))
    lines.tell(SecureAggregation(4, "an update is hidden among [bold]2 honest sites"))
    lines.tell(RoundFailed(2, 1, {"a": "no reply"}, "survivors: 2 sites; [red]nothing is unmasked"))
    text = out.getvalue()
    assert "secure aggregation: an update is hidden among [bold]2 honest sites" in text
    assert "round 2, attempt 1: survivors: 2 sites; [red]nothing is unmasked" in text
    assert "too few updates" not in text


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_shows_round_and_metric(terminal: bool) -> None:
    out = io.StringIO()
    screen = Console(file=out, width=120, force_terminal=terminal, color_system=None)
    with ProgressBar(STUDY, "heart (seed 1)", screen) as bar:
        for event in EVENTS[:3]:
            bar.tell(event)
    assert "left out: [red]c" in out.getvalue()
    if terminal:
        assert "loss 1.0000  auc 0.710" in out.getvalue()


def line_of(text: str, label: str) -> str:
    return next(line for line in text.splitlines() if line.strip().startswith(label))


def test_ledgers_are_a_table_with_what_is_most() -> None:
    text = printed(privacy_table(private_result()))
    assert "per patient: epsilon at delta 0.001 (PLD), from each site's ledger" in text
    assert "…" not in text
    assert line_of(text, "cleveland").split()[1:] == ["20", "2.500", "0.500", "dp"]
    assert line_of(text, "switzerland").split()[1:] == ["20", "2.750", "0.500", "dp"]
    assert line_of(text, "most").split()[1:] == ["2.750", "0.500"]
    assert "a person at all sites" in text
    assert "whole site" not in text


def test_a_second_guarantee_has_a_column_of_its_own() -> None:
    text = printed(privacy_table(private_result(site_epsilon=1.25)))
    assert "whole site" in text
    assert line_of(text, "cleveland").split()[1:] == ["20", "2.500", "0.500", "1.250", "dp"]


def test_sites_names_are_no_markup_here() -> None:
    assert "[red]c" in printed(privacy_table(private_result(["a", "[red]c"])))


def test_a_curve_is_a_table_that_fits_a_terminal() -> None:
    points = [point(0.9, 0.92, epsilon=None), point(0.88, 0.9), point(0.8, 0.7, epsilon=1.0, spent=0.9)]
    text = printed(curve_table(points))
    assert "…" not in text
    assert "seeds: 2" in text
    assert line_of(text, "none").split()[1] == "–"
    assert line_of(text, "8").split()[1] == "7.600"
    assert "0.890 ± 0.014" in line_of(text, "8")
    assert "±" not in printed(curve_table([point(0.9)]))


def test_a_private_round_shows_epsilon_and_no_loss() -> None:
    record = private_result().history[0]
    out = io.StringIO()
    RoundLines(STUDY, Console(file=out, width=200)).tell(record)
    assert "epsilon 0.550" in out.getvalue()
    assert "loss" not in out.getvalue()
    assert "None" not in out.getvalue()
    screen = Console(file=(shown := io.StringIO()), width=120, force_terminal=True, color_system=None)
    with ProgressBar(STUDY, "private", screen) as bar:
        bar.tell(record)
    assert "epsilon 0.550" in shown.getvalue()


def test_round_zero_without_a_count_says_no_count() -> None:
    out = io.StringIO()
    RoundLines(STUDY, Console(file=out, width=200)).tell(StatisticsDone(("a", "b")))
    assert out.getvalue() == "round  0   2 sites\n"
