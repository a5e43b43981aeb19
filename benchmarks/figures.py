"""How a benchmark says what it measured: tables beside what they are compared with, and the figures."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from vestry_simulations.summary import mean_and_sd

__all__ = ["Cell", "Figure", "Report", "Sheet", "at_least", "at_most", "main", "spread"]

Cell = str | float | None


@dataclass(frozen=True)
class Figure:
    """One measured number and the target that it is held against.

    Attributes:
        name: what was measured, with its unit.
        measured: the number.
        target: in words, such as ``at least 0.79``.
        reached: does the number keep the target?
    """

    name: str
    measured: float
    target: str
    reached: bool


def at_least(name: str, measured: float, target: float) -> Figure:
    """A figure that must not be below its target."""
    return Figure(name, measured, f"at least {target:g}", measured >= target)


def at_most(name: str, measured: float, target: float) -> Figure:
    """A figure that must not be above its target."""
    return Figure(name, measured, f"at most {target:g}", measured <= target)


@dataclass(frozen=True)
class Sheet:
    """A table of a report.

    Attributes:
        title: what is in it.
        columns: heads.
        rows: cells; numbers are shown with four digits.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Report:
    """All that a benchmark found.

    Attributes:
        name: of the benchmark.
        figures: with their targets; may be empty.
        sheets: tables.
        notes: sentences that belong beside them.
    """

    name: str
    figures: tuple[Figure, ...] = ()
    sheets: tuple[Sheet, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def reached(self) -> bool:
        """Are all targets kept?"""
        return all(figure.reached for figure in self.figures)


def spread(values: Sequence[float | None]) -> str:
    """Mean and sample standard deviation, such as ``0.796 ± 0.006``."""
    mean, sd = mean_and_sd(values)
    if mean is None:
        return "–"
    return f"{mean:.3f}" if sd is None else f"{mean:.3f} ± {sd:.3f}"


def main(
    description: str | None,
    measure: Callable[[argparse.Namespace], Report],
    arguments: Sequence[str] | None = None,
    options: Callable[[argparse.ArgumentParser], None] = lambda parser: None,
) -> None:
    """The command line of a benchmark; ends with status 1 where a target is not kept.

    Args:
        description: the module's docstring.
        measure: does the work.
        arguments: of the command; None takes them from ``sys.argv``.
        options: adds the benchmark's own.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    options(parser)
    given = parser.parse_args(arguments)
    began = time.monotonic()
    report = measure(given)
    seconds = time.monotonic() - began
    if given.json:
        print(json.dumps(_plain(report, seconds)))
    else:
        _show(report, seconds)
    if not report.reached:
        sys.exit(1)


def _plain(report: Report, seconds: float) -> dict[str, Any]:
    return {**asdict(report), "reached": report.reached, "seconds": round(seconds, 1)}


def _show(report: Report, seconds: float) -> None:
    screen = Console(highlight=False)
    for sheet in report.sheets:
        screen.print(_table(sheet))
        screen.print()
    for note in report.notes:
        screen.print(note, markup=False)
    if report.notes:
        screen.print()
    if report.figures:
        columns = ("figure", "measured", "target", "")
        rows = tuple(
            (figure.name, figure.measured, figure.target, "reached" if figure.reached else "NOT REACHED")
            for figure in report.figures
        )
        screen.print(_table(Sheet("Figures", columns, rows)))
    screen.print(f"{report.name}: {seconds:.0f} s")


def _table(sheet: Sheet) -> Table:
    table = Table(title=sheet.title, title_justify="left")
    for place, head in enumerate(sheet.columns):
        table.add_column(head, justify="left" if place == 0 else "right")
    for row in sheet.rows:
        table.add_row(*(_text(cell) for cell in row))
    return table


def _text(cell: Cell) -> str:
    if cell is None:
        return "–"
    return cell if isinstance(cell, str) else f"{cell:.4f}"
