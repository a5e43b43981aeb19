"""What a person sees while a simulation runs, and at its end. Everything but tables goes to stderr."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from vestry_server.progress import (
    Event,
    RoundFailed,
    RoundRecord,
    SecureAggregation,
    StatisticsDone,
    Working,
)
from vestry_simulations.curve import CurvePoint
from vestry_simulations.results import Outcome, SimulationResult, epsilon_everywhere
from vestry_simulations.settings import settings
from vestry_strategies.catalogue import DEFAULT_METRICS, PRIMARY
from vestry_strategies.study import StudySpec
from vestry_strategies.task import Metrics

__all__ = [
    "ProgressBar",
    "RoundLines",
    "console",
    "curve_table",
    "number",
    "privacy_table",
    "result_table",
    "seeds_table",
    "shown_metrics",
    "study_table",
]

_SHORT = {
    "accuracy": "acc.",
    "balanced_accuracy": "bal. acc.",
    "sensitivity": "sens.",
    "specificity": "spec.",
}


def console(*, stderr: bool = False) -> Console:
    """A console that leaves text alone where the output is no terminal."""
    return Console(stderr=stderr, highlight=False, soft_wrap=stderr)


def number(value: float | None) -> str:
    """A metric for people; a dash where it is not defined."""
    return "–" if value is None else f"{value:.3f}"


def shown_metrics(study: StudySpec, metrics: Metrics) -> list[str]:
    """The metrics that the study names, or the task's usual ones."""
    named = study.evaluation.metrics or DEFAULT_METRICS.get(study.task.target.type, ())
    shown = [name for name in named if name in metrics]
    return shown or list(metrics)


class ProgressBar(AbstractContextManager["ProgressBar"]):
    """A bar with the round, the primary metric and the time left; warnings above it."""

    def __init__(self, study: StudySpec, label: str, out: Console) -> None:
        self._study, self._out = study, out
        self._metric = study.evaluation.primary or PRIMARY[study.task.target.type]
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[shown]}"),
            TimeRemainingColumn(),
            console=out,
            transient=True,
        )
        self._task = self._bar.add_task(label, total=study.training.rounds, shown="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def tell(self, event: Event) -> None:
        """Show an event."""
        if isinstance(event, RoundRecord):
            shown = _course(event)
            if self._metric in event.metrics:
                shown += f"  {self._metric} {number(event.metrics[self._metric])}"
            self._bar.update(self._task, completed=event.round, shown=shown)
        elif isinstance(event, Working):
            self._bar.update(self._task, shown=event.what)
        _warn(self._out, event)


class RoundLines:
    """A line a round, for the demo and for logs."""

    def __init__(self, study: StudySpec, out: Console) -> None:
        self._rounds = study.training.rounds
        self._out = out

    def tell(self, event: Event) -> None:
        """Print an event."""
        _warn(self._out, event)
        if isinstance(event, StatisticsDone):
            rows = f", {event.examples} training rows: shared standardiser and imputer made of sums"
            self._out.print(f"round  0   {len(event.sites)} sites{rows if event.examples else ''}")
        elif isinstance(event, RoundRecord):
            metrics = "  ".join(
                f"{name} {number(event.metrics[name])}"
                for name in ("accuracy", "auc", "rmse")
                if name in event.metrics
            )
            kib = (event.bytes_up + event.bytes_down) / 1024
            self._out.print(
                f"round {event.round:>2}/{self._rounds}  {len(event.sites)} sites  "
                f"{_course(event)}  {metrics}  {kib:.1f} KiB"
            )


def _course(record: RoundRecord) -> str:
    """Training loss, and under [privacy] what a person has lost so far."""
    parts = [] if record.loss is None else [f"loss {record.loss:.4f}"]
    parts += [] if record.epsilon is None else [f"epsilon {record.epsilon:.3f}"]
    return "  ".join(parts)


def _warn(out: Console, event: Event) -> None:
    if isinstance(event, SecureAggregation):
        out.print(f"secure aggregation: {escape(event.words)}", soft_wrap=True)
    if isinstance(event, RoundFailed):
        why = escape(event.reason) if event.reason else "too few updates"
        out.print(f"[yellow]round {event.round}, attempt {event.attempt}: {why}[/]")
    for site, reason in getattr(event, "left_out", {}).items():
        out.print(f"[yellow]left out: {escape(site)}: {escape(reason)}[/]")


def result_table(result: SimulationResult) -> Table:
    """Per site and mean, beside pooled and local-only where there are baselines."""
    names = shown_metrics(result.study, result.federated.metrics)
    columns: list[tuple[str, Outcome]] = [("federated", result.federated)]
    columns += list(result.baselines.items())
    if result.baselines:
        names = names[:2]  # three models by two metrics fit a terminal; the report has them all
    table = Table(
        title=f"{result.study.study.name}: held-out rows, model of round {result.kept_round}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("site", no_wrap=True)
    for label, _ in columns:
        short = label.removesuffix("-only")  # so that three models fit into 80 columns
        for name in names:
            head = _SHORT.get(name, name)
            table.add_column(f"{short}\n{head}" if len(columns) > 1 else head, justify="right", no_wrap=True)
    for site in result.federated.per_site:
        table.add_row(
            escape(site),
            *(number(o.per_site.get(site, {}).get(name)) for _, o in columns for name in names),
        )
    table.add_section()
    table.add_row("mean of sites", *(number(o.metrics.get(name)) for _, o in columns for name in names))
    table.add_row("all rows", *(number(o.pooled_test.get(name)) for _, o in columns for name in names))
    return table


def privacy_table(result: SimulationResult) -> Table:
    """What each site's ledger says of the study."""
    sites = result.privacy
    delta = next(iter(sites.values())).delta
    second = any(site.site_epsilon is not None for site in sites.values())
    table = Table(
        title=f"{_unit(result.study)}: epsilon at delta {delta:g} (PLD), from each site's ledger",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("site", no_wrap=True)
    for head in ("steps", "in training", "held out", *(("whole site",) if second else ())):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("guarantee", no_wrap=True)
    for name, site in sites.items():
        cells = [str(site.steps), f"{site.epsilon:.3f}", f"{site.epsilon_held_out:.3f}"]
        cells += [number(site.site_epsilon)] if second else []
        table.add_row(escape(name), *cells, site.guarantee)
    table.add_section()
    worst = [f"{result.epsilon or 0.0:.3f}", f"{max(s.epsilon_held_out for s in sites.values()):.3f}"]
    table.add_row("most", "", *worst, *([""] if second else []), "")
    everywhere = ["", f"{epsilon_everywhere(result):.3f}", "", *([""] if second else []), ""]
    table.add_row("a person at all sites", *everywhere)
    return table


def _unit(study: StudySpec) -> str:
    privacy = study.privacy
    if privacy is None or privacy.unit == "patient":
        return "per patient"
    return "per record" if privacy.unit == "record" else "per site"


def curve_table(points: Sequence[CurvePoint]) -> Table:
    """The privacy-utility curve as a table."""
    study = points[0].results[-1].study
    names = shown_metrics(study, points[0].results[-1].federated.metrics)[:2]  # fits 80 columns
    table = Table(
        title=f"{study.study.name}: utility by epsilon, seeds: {len(points[0].results)}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        collapse_padding=True,  # else deviations over seeds do not fit
    )
    table.add_column("epsilon", justify="right", no_wrap=True)
    table.add_column("from\nledgers", justify="right", no_wrap=True)
    for name in names:
        for part in ("all rows", "mean of sites"):
            table.add_column(f"{_SHORT.get(name, name)}\n{part}", justify="right", no_wrap=True)
    for point in points:
        cells = [point.label, number(point.spent)]
        for name in names:
            for of_sites in (False, True):
                mean, sd = point.metric(name, of_sites=of_sites)
                cells.append(number(mean) + ("" if sd is None else f" ± {sd:.3f}"))
        table.add_row(*cells)
    return table


def seeds_table(results: Sequence[SimulationResult]) -> Table:
    """Mean and standard deviation over seeds."""
    from vestry_simulations.summary import over_seeds

    summary = over_seeds(results)
    study = results[0].study
    table = Table(
        title=f"{study.study.name}: {len(results)} seeds, mean ± sd",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("metric")
    for model in summary:
        table.add_column(f"{model}\nmean of sites", justify="right")
        table.add_column(f"{model}\nall rows", justify="right")
    for name in shown_metrics(study, results[0].federated.metrics):
        cells: list[str] = []
        for parts in summary.values():
            for part in ("metrics", "pooled_test"):
                mean, sd = parts[part].get(name, (None, None))
                cells.append("–" if mean is None else f"{mean:.3f} ± {sd or 0.0:.3f}")
        table.add_row(name, *cells)
    return table


def study_table(study: StudySpec) -> Table:
    """Every setting of a study, defaults included."""
    table = Table(
        title=f"study hash {study.digest()}", title_justify="left", show_header=False, box=box.SIMPLE_HEAD
    )
    table.add_column("key", no_wrap=True)
    table.add_column("value")
    for key, value in settings(study):
        table.add_row(escape(key), escape(value))
    return table
