"""What a person sees: tables without a terminal, dashes for what is not defined, no markup from users."""

import io

import pytest
from rich.console import Console

from tests.simulations.samples import sample_record, sample_result
from vestry_server.progress import Event, RoundFailed, StatisticsDone, Working
from vestry_simulations.display import (
    ProgressBar,
    RoundLines,
    number,
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
