"""The charts of a report, drawn with matplotlib as SVG that follows the page's colours, or as one PNG."""

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vestry_simulations.curve import CurvePoint
from vestry_simulations.results import SimulationResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Chart", "charts", "curve_charts", "curve_png", "png"]


_SITES = ("#3b6ea5", "#c2703d", "#4d8f6b", "#8a6bb0", "#a8893a", "#5b8fa3", "#b05a74", "#6b7a3f")
_INK, _FAINT = "#010203", "#040506"  # stand for the page's own colours in the SVG
_MANY_SITES = 12
_Draw = Callable[["Axes"], None]


@dataclass(frozen=True)
class Chart:
    """One chart.

    Attributes:
        title: what it shows.
        svg: the drawing, to be put into a page.
    """

    title: str
    svg: str


def charts(results: Sequence[SimulationResult]) -> list[Chart]:
    """The charts of one run, or of several seeds of one study (then of the last one)."""
    result = results[-1]
    found: list[Chart] = []
    for title, draw in _drawings(result):
        figure = _figure(6.4, 3.3)
        draw(figure.add_subplot())
        found.append(Chart(title, _svg(figure)))
    return found


def png(results: Sequence[SimulationResult]) -> bytes:
    """All charts in one picture, for slides."""
    return _picture(_drawings(results[-1]))


def _picture(drawings: "list[tuple[str, _Draw]]") -> bytes:
    figure = _figure(6.4 * max(1, len(drawings)), 3.8)
    figure.set_facecolor("white")
    for place, (title, draw) in enumerate(drawings, start=1):
        axes = figure.add_subplot(1, len(drawings), place)
        draw(axes)
        axes.set_title(title, loc="left", fontsize=10, color="#1c2733")
        for text in [*axes.texts, *axes.get_xticklabels(), *axes.get_yticklabels()]:
            text.set_color("#1c2733" if text.get_color() in (_INK, _FAINT) else text.get_color())
        axes.tick_params(colors="#5c6875")
        for line in axes.lines:
            if line.get_color() == _INK:
                line.set_color("#1c2733")
        axes.xaxis.label.set_color("#5c6875")
        axes.grid(visible=True, axis="y", color="#d8dee4", linewidth=0.6)
        for spine in axes.spines.values():
            spine.set_color("#b8c2cc")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=200, metadata={"Software": None})
    return buffer.getvalue()


def _drawings(result: SimulationResult) -> "list[tuple[str, _Draw]]":
    metric = _primary(result)
    drawings: list[tuple[str, _Draw]] = []
    if any(record.metrics for record in result.history):
        noised = " (noised)" if result.study.privacy is not None else ""
        title = f"{metric} on held-out rows, by round{noised}"
        drawings.append((title, lambda axes: _courses(axes, result, metric)))
    if any(record.loss is not None for record in result.history):
        drawings.append(("loss, by round", lambda axes: _losses(axes, result)))
    if any(record.epsilon is not None for record in result.history):
        drawings.append(("epsilon of a person, by round", lambda axes: _epsilons(axes, result)))
    if result.baselines and 0 < len(result.federated.per_site) <= 40:
        title = f"{metric} by site: together, pooled, alone"
        drawings.append((title, lambda axes: _compared(axes, result, metric)))
    return drawings


def _primary(result: SimulationResult) -> str:
    from vestry_strategies.catalogue import PRIMARY

    wanted = result.study.evaluation.primary or PRIMARY.get(result.study.task.target.type, "loss")
    known = [name for record in result.history for name in record.metrics]
    return wanted if wanted in known or not known else known[0]


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _style(axes: "Axes", xlabel: str) -> None:
    axes.set_facecolor("none")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(_FAINT)
    axes.grid(visible=True, axis="y", color=_FAINT, linewidth=0.5, alpha=0.35)
    axes.tick_params(colors=_INK, labelsize=8, length=0)
    axes.set_xlabel(xlabel, color=_INK, fontsize=8)
    axes.margins(x=0.02)


def _courses(axes: "Axes", result: SimulationResult, metric: str) -> None:
    rounds = [r.round for r in result.history if r.metrics]
    ends: list[tuple[float, str, str]] = []
    names = sorted({site for record in result.history for site in record.per_site})
    for name, colour in zip(names, _cycle(len(names)), strict=True):
        course = [_get(r.per_site.get(name, {}).get(metric)) for r in result.history if r.metrics]
        many = len(names) > _MANY_SITES
        axes.plot(rounds, course, color=colour, linewidth=0.5 if many else 1.1, alpha=0.4 if many else 0.8)
        if course and not many and course[-1] == course[-1]:
            ends.append((course[-1], name, colour))
    pooled = [_get(r.metrics.get(metric)) for r in result.history if r.metrics]
    axes.plot(rounds, pooled, color=_INK, linewidth=2.2)
    if pooled and pooled[-1] == pooled[-1]:
        ends.append((pooled[-1], "all rows", _INK))
    _style(axes, "round")
    _label_ends(axes, rounds[-1] if rounds else 0, ends)
    _whole_rounds(axes)


def _losses(axes: "Axes", result: SimulationResult) -> None:
    rounds = [record.round for record in result.history]
    training = [_get(record.loss) for record in result.history]
    axes.plot(rounds, training, color=_SITES[0], linewidth=1.6)
    ends = [(training[-1], "training", _SITES[0])] if training else []
    held = [(r.round, _get(r.metrics.get("loss"))) for r in result.history if r.metrics]
    if held:
        axes.plot([n for n, _ in held], [v for _, v in held], color=_SITES[1], linewidth=1.6, linestyle="--")
        ends.append((held[-1][1], "held-out", _SITES[1]))
    _style(axes, "round")
    _label_ends(axes, rounds[-1] if rounds else 0, ends)
    _whole_rounds(axes)


def _epsilons(axes: "Axes", result: SimulationResult) -> None:
    """What a person has lost, and the study's target."""
    spent = [(r.round, r.epsilon) for r in result.history if r.epsilon is not None]
    axes.plot([n for n, _ in spent], [value for _, value in spent], color=_INK, linewidth=2.2)
    target = result.study.privacy.epsilon if result.study.privacy is not None else None
    ends = [(spent[-1][1], "spent", _INK)]
    if target is not None:
        axes.axhline(target, color=_SITES[1], linewidth=1.1, linestyle="--")
        ends.append((target, "study's epsilon", _SITES[1]))
    axes.set_ylim(bottom=0)
    _style(axes, "round")
    _label_ends(axes, spent[-1][0], ends)
    _whole_rounds(axes)


def curve_charts(points: Sequence[CurvePoint], names: Sequence[str]) -> list[Chart]:
    """Utility by epsilon, a chart for each metric."""
    found: list[Chart] = []
    for name in names:
        figure = _figure(6.4, 3.3)
        _curve(figure.add_subplot(), points, name)
        found.append(Chart(f"{name} on all held-out rows, by epsilon", _svg(figure)))
    return found


def curve_png(points: Sequence[CurvePoint], names: Sequence[str]) -> bytes:
    """All curves in one picture, for slides."""

    def drawing(name: str) -> _Draw:
        return lambda axes: _curve(axes, points, name)

    return _picture([(f"{name} on all held-out rows, by epsilon", drawing(name)) for name in names])


def _curve(axes: "Axes", points: Sequence[CurvePoint], name: str) -> None:
    """Epsilons on a logarithmic axis; without privacy a line across, with its spread."""
    measured = [(point.epsilon, *point.metric(name)) for point in points]
    drawn = sorted((e, m, sd or 0.0) for e, m, sd in measured if e is not None and m is not None)
    ends: list[tuple[float, str, str]] = []
    if drawn:
        x, y = [e for e, _, _ in drawn], [m for _, m, _ in drawn]
        axes.errorbar(x, y, [sd for _, _, sd in drawn], color=_SITES[0], marker="o", capsize=3)
        axes.set_xscale("log")
        axes.set_xticks(x, [f"{e:g}" for e in x])
        axes.minorticks_off()
        ends.append((y[-1], "private", _SITES[0]))
    for point in points:
        mean, sd = point.metric(name)
        if point.epsilon is None and mean is not None:
            axes.axhline(mean, color=_INK, linewidth=1.4)
            axes.axhspan(mean - (sd or 0.0), mean + (sd or 0.0), color=_FAINT, alpha=0.15, linewidth=0)
            ends.append((mean, "without privacy", _INK))
    _style(axes, "epsilon")
    _label_ends(axes, max((e for e, _, _ in drawn), default=axes.get_xlim()[1]), ends)


def _compared(axes: "Axes", result: SimulationResult, metric: str) -> None:
    names = sorted(result.federated.per_site, reverse=True)
    models = [("federated", result.federated, "o", _SITES[0])]
    marks = (("s", _SITES[1]), ("^", _SITES[2]), ("D", _SITES[3]))
    for (label, outcome), (mark, colour) in zip(result.baselines.items(), marks, strict=False):
        models.append((label, outcome, mark, colour))
    for place, name in enumerate(names):
        values = [_get(outcome.per_site.get(name, {}).get(metric)) for _, outcome, _, _ in models]
        defined = [value for value in values if value == value]
        if defined:
            axes.plot([min(defined), max(defined)], [place, place], color=_FAINT, linewidth=1)
        for value, (label, _, mark, colour) in zip(values, models, strict=True):
            axes.plot([value], [place], mark, color=colour, markersize=6, label=label if place == 0 else None)
    axes.set_yticks(range(len(names)), names)
    _style(axes, metric)
    axes.margins(y=0.15)
    legend = axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=len(models), frameon=False, fontsize=8, borderpad=0
    )
    for text in legend.get_texts():
        text.set_color(_INK)


def _label_ends(axes: "Axes", x: float, ends: list[tuple[float, str, str]]) -> None:
    """Names at the ends of the lines, pushed apart where they would overlap."""
    if not ends:
        return
    low, high = axes.get_ylim()
    gap = (high - low) * 0.07
    previous = float("-inf")
    for value, name, colour in sorted(ends):
        place = max(value, previous + gap)
        previous = place
        weight = "bold" if colour == _INK else "normal"
        axes.annotate(
            name,
            (x, place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=colour,
            fontweight=weight,
            annotation_clip=False,
        )


def _whole_rounds(axes: "Axes") -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _cycle(count: int) -> list[str]:
    return [_SITES[i % len(_SITES)] for i in range(count)]


def _get(value: float | None) -> float:
    return float("nan") if value is None else value


def _svg(figure: "Figure") -> str:
    """The figure as SVG without a date or random ids, in the colours of the page around it."""
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "vestry", "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text)
    return text.replace(_INK, "currentColor").replace(_FAINT, "var(--faint)")
