"""The first minute is measured as a user sees it."""

import argparse
from pathlib import Path

import pytest

from benchmarks import demo
from benchmarks.processes import Watched

LINES = (
    (0.5, "Vestry demo: four hospitals"),
    (1.0, "round  0   4 sites, 693 training rows"),
    (1.5, "round  1/15  4 sites  loss 0.5"),
    (1.6, "round 11/15  4 sites  loss 0.4"),
)


def watched(lines: tuple[tuple[float, str], ...], status: int = 0) -> Watched:
    return Watched(lines, 3.0, 400 * demo.MIB, 5, 60, status)


def test_first_finished_round_is_round_1_not_the_statistics() -> None:
    assert watched(LINES).first(demo.FIRST_ROUND) == 1.5


def test_command_is_the_installed_one() -> None:
    command = demo.demo_command()
    assert command[-1] == "demo"
    assert Path(command[0]).exists()


@pytest.mark.parametrize(("lines", "status"), [(LINES, 70), (LINES[:2], 0)])
def test_run_that_failed_or_has_no_round_is_no_measurement(
    lines: tuple[tuple[float, str], ...], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "watch", lambda *given, **named: watched(lines, status))
    with pytest.raises(RuntimeError, match="four hospitals"):
        demo.run_demo(memory=False)


def test_figures_are_medians_and_memory_is_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float | None] = []

    def fake(*given: object, sample_seconds: float | None) -> Watched:
        seen.append(sample_seconds)
        return watched(LINES)

    monkeypatch.setattr(demo, "watch", fake)
    report = demo.measure(argparse.Namespace(repetitions=2))
    assert seen == [None, None, 0.05, None, 0.05]
    assert [figure.measured for figure in report.figures] == [1.5, 3.0, 400.0]
    assert report.reached
    assert len(report.sheets[0].rows) == 2


@pytest.mark.slow
def test_demo_runs_and_is_seen_with_all_its_processes() -> None:
    run = demo.run_demo(memory=True)
    assert run.first(demo.FIRST_ROUND) is not None
    assert run.peak_processes >= 3  # the command, the fork server, at least one worker
    assert run.peak_pss > 100 * demo.MIB
