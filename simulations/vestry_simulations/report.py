"""A simulation as one HTML file that needs no network: charts, tables, settings, and what was insecure."""

import platform
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from vestry_server.progress import RoundRecord
from vestry_simulations.curve import CurvePoint
from vestry_simulations.display import shown_metrics
from vestry_simulations.plots import Chart, charts, curve_charts, curve_png, png
from vestry_simulations.results import Outcome, SimulationResult, epsilon_everywhere
from vestry_simulations.settings import settings
from vestry_simulations.summary import over_seeds
from vestry_strategies.files import write_atomically

__all__ = ["curve_html", "report_html", "write_curve", "write_png", "write_report"]

_UNDEFINED = '<abbr title="not defined here, as AUC where only one class occurs">–</abbr>'


def write_report(path: Path, results: Sequence[SimulationResult]) -> None:
    """Write the report of one run, or of several seeds of one study.

    Args:
        path: of the HTML file.
        results: at least one; the last one is shown in full.
    """
    write_atomically(path, report_html(results).encode())


def write_png(path: Path, results: Sequence[SimulationResult]) -> None:
    """Write the charts as one PNG."""
    write_atomically(path, png(results))


def report_html(results: Sequence[SimulationResult]) -> str:
    """The report as one HTML text; every text of a user in it is escaped."""
    result = results[-1]
    body = "\n".join(
        [
            _header(result),
            _strip(result),
            _crowd(result),
            _insecure(result),
            _seeds(results),
            _charts(results),
            "<h2>Held-out rows, model of round " + str(result.kept_round) + "</h2>",
            _final_table(result, _named(result)),
            f"<details><summary>Every metric</summary>{_final_table(result, _names(result))}</details>",
            _privacy(result),
            _left_out(result),
            _rounds(result),
            _settings(result),
            _footer(result),
        ]
    )
    return _page(result, body)


def _page(result: SimulationResult, body: str) -> str:
    title = escape(result.study.study.name)
    style = (files("vestry_simulations") / "report.css").read_text(encoding="utf-8")
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title} · Vestry</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _number(value: float | None) -> str:
    return _UNDEFINED if value is None else f"{value:.3f}"


def _header(result: SimulationResult) -> str:
    study = result.study.study
    return (
        f"<header><h1>{escape(study.name)}</h1>\n<p>{escape(study.purpose)}</p>\n"
        f'<p class="soft">{escape(study.initiator)} · run {escape(result.run_id)} · study '
        f"<code>{result.study.digest()[:16]}</code></p></header>"
    )


def _strip(result: SimulationResult) -> str:
    metric = _names(result)[0] if _names(result) else "loss"
    spent = [] if result.epsilon is None else [(f"{result.epsilon:.2f}", "epsilon of a person, at most")]
    facts = [
        (str(len(result.sites)), "sites"),
        (str(result.rounds), "rounds"),
        (_number(result.federated.metrics.get(metric)), f"{metric}, mean of sites"),
        (_number(result.federated.pooled_test.get(metric)), f"{metric}, all held-out rows"),
        *spent,
        (f"{result.seconds:.1f} s", "for all rounds"),
        (f'<code title="{result.model_sha256}">{result.model_sha256[:12]}</code>', "model, SHA-256"),
    ]
    cells = "".join(f"<div><b>{value}</b><span>{escape(label)}</span></div>" for value, label in facts)
    return f'<div class="strip">{cells}</div>'


def _insecure(result: SimulationResult) -> str:
    if not result.insecure:
        return ""
    items = "".join(f"<li>{escape(choice)}</li>" for choice in result.insecure)
    return f'<div class="note" role="note"><b>Insecure choices of this study</b><ul>{items}</ul></div>'


def _crowd(result: SimulationResult) -> str:
    if not result.crowd:
        return ""
    return (
        f"<p>Secure aggregation: {escape(result.crowd)}. The coordinator saw sums, and no site's update, "
        "loss or metrics; those of single sites in this report were measured by the laboratory, which holds "
        "the rows.</p>"
    )


def _names(result: SimulationResult) -> list[str]:
    """Metrics in the study's order, then the others."""
    known = list(result.federated.metrics)
    first = [name for name in result.study.evaluation.metrics or () if name in known]
    return first + [name for name in known if name not in first]


def _named(result: SimulationResult) -> list[str]:
    """The metrics to show first: those the study names, or the task's usual ones."""
    return shown_metrics(result.study, result.federated.metrics)[:4]


def _seeds(results: Sequence[SimulationResult]) -> str:
    if len(results) < 2:
        return ""
    summary = over_seeds(results)
    head = ["metric", *(f"{model}, {part}" for model in summary for part in ("mean of sites", "all rows"))]
    rows = []
    for name in _names(results[-1]):
        cells = [escape(name)]
        for parts in summary.values():
            for part in ("metrics", "pooled_test"):
                mean, sd = parts[part].get(name, (None, None))
                spread = "" if sd is None else f" ± {sd:.3f}"
                cells.append(_number(mean) + spread)
        rows.append(cells)
    seeds = ", ".join(str(result.study.seed) for result in results)
    return f"<h2>{len(results)} seeds ({seeds}): mean ± standard deviation</h2>" + _table(head, rows)


def _charts(results: Sequence[SimulationResult]) -> str:
    found = charts(results)
    return f"<h2>Course</h2>{_figures(found)}" if found else ""


def _figures(found: Sequence[Chart]) -> str:
    figures = []
    for chart in found:
        label = escape(chart.title)
        svg = chart.svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
        figures.append(f"<figure><figcaption>{label}</figcaption>{svg}</figure>")
    return f'<div class="charts">{"".join(figures)}</div>'


def _final_table(result: SimulationResult, names: list[str]) -> str:
    models: dict[str, Outcome] = {"federated": result.federated, **result.baselines}
    groups = "".join(f'<th class="group" colspan="{len(names)}">{escape(m)}</th>' for m in models)
    heads = "".join(f"<th>{escape(name)}</th>" for _ in models for name in names)
    lines = [f"<thead><tr><th></th>{groups}</tr><tr><th>site</th>{heads}</tr></thead><tbody>"]
    for site in result.federated.per_site:
        parts = [outcome.per_site.get(site, {}) for outcome in models.values()]
        lines.append(_row(escape(site), parts, names))
    means = [outcome.metrics for outcome in models.values()]
    lines.append(_row("mean of sites", means, names, "sum"))
    pooled = [outcome.pooled_test for outcome in models.values()]
    lines.append(_row("all rows", pooled, names, "sum"))
    return f'<div class="scroll"><table>{"".join(lines)}</tbody></table></div>'


def _row(label: str, parts: Sequence[Mapping[str, float | None]], names: list[str], kind: str = "") -> str:
    cells = "".join(f"<td>{_number(part.get(name))}</td>" for part in parts for name in names)
    attribute = f' class="{kind}"' if kind else ""
    return f"<tr{attribute}><td>{label}</td>{cells}</tr>"


def _left_out(result: SimulationResult) -> str:
    if not result.left_out:
        return ""
    rows = [[escape(site), escape(reason)] for site, reason in result.left_out.items()]
    return "<h2>Sites that took no part</h2>" + _table(["site", "reason"], rows)


def _privacy(result: SimulationResult) -> str:
    """What each site's ledger says, and what that means."""
    privacy = result.study.privacy
    if privacy is None or not result.privacy:
        return ""
    rows = [
        [
            escape(name),
            str(site.steps),
            f"{site.epsilon:.3f}",
            f"{site.epsilon_held_out:.3f}",
            _number(site.site_epsilon),
            escape(site.guarantee),
            f'<code title="{site.fingerprint}">{site.fingerprint[:12]}</code>',
        ]
        for name, site in result.privacy.items()
    ]
    head = ["site", "steps", "in training", "held out", "whole site", "guarantee", "signed by"]
    what = {"patient": "a patient", "record": "a record", "site": "a whole site"}[privacy.unit]
    text = (
        f"Epsilon at delta {privacy.delta:g} of {what}, {privacy.adjacency}, by the PLD accountant over what "
        f"each site's ledger was charged. At most {result.epsilon or 0.0:.3f} at one site; "
        f"{epsilon_everywhere(result):.3f} for somebody in the training data of every site. "
        "The model's metrics in this report were measured by the laboratory, which holds the rows; they "
        "left no site."
    )
    return f"<h2>Privacy</h2><p>{text}</p>" + _table(head, rows)


def curve_html(points: Sequence[CurvePoint]) -> str:
    """The privacy-utility curve as one HTML text."""
    result = points[-1].results[-1]
    names = shown_metrics(result.study, result.federated.metrics)[:4]
    head = ["epsilon", "from ledgers", *names]
    rows = []
    for point in points:
        spent = point.spent
        cells = [escape(point.label), "–" if spent is None else f"{spent:.3f}"]
        for name in names:
            mean, sd = point.metric(name)
            cells.append(_number(mean) + ("" if sd is None else f" ± {sd:.3f}"))
        rows.append(cells)
    seeds = len(points[0].results)
    body = "\n".join(
        [
            _header(result),
            f"<h2>Utility by epsilon: all held-out rows, {seeds} seed{'s' if seeds > 1 else ''}</h2>",
            _table(head, rows),
            _figures(curve_charts(points, names)),
            _settings(result),
            _footer(result),
        ]
    )
    return _page(result, body)


def write_curve(path: Path, points: Sequence[CurvePoint], *, png: bool = False) -> Path:
    """Write the report of a privacy-utility curve, and with ``png`` its charts beside it."""
    write_atomically(path, curve_html(points).encode())
    if png:
        result = points[-1].results[-1]
        names = shown_metrics(result.study, result.federated.metrics)[:4]
        write_atomically(path.with_suffix(".png"), curve_png(points, names))
    return path


def _rounds(result: SimulationResult) -> str:
    names = _names(result)
    head = ["round", "sites", "training loss", "epsilon", *names, "left out", "up", "down", "attempt"]
    rows = [_round(record, names) for record in result.history]
    stopped = f"<p>Ended early: {escape(result.stopped)}.</p>" if result.stopped else ""
    return f"{stopped}<details><summary>Every round</summary>{_table(head, rows)}</details>"


def _round(record: RoundRecord, names: list[str]) -> list[str]:
    left_out = "; ".join(f"{site}: {reason}" for site, reason in record.left_out.items())
    return [
        str(record.round),
        str(len(record.sites)),
        "–" if record.loss is None else f"{record.loss:.4f}",
        "–" if record.epsilon is None else f"{record.epsilon:.3f}",
        *(_number(record.metrics.get(name)) for name in names),
        escape(left_out),
        f"{record.bytes_up / 1024:.1f} KiB",
        f"{record.bytes_down / 1024:.1f} KiB",
        str(record.attempt),
    ]


def _settings(result: SimulationResult) -> str:
    rows = [[f"<code>{escape(key)}</code>", escape(value)] for key, value in settings(result.study)]
    table = _table(["key", "value"], rows, "settings")
    return f"<details><summary>The study, every setting</summary>{table}</details>"


def _table(head: Iterable[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """Cells are HTML already."""
    heads = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<div class="scroll"><table class="{kind}"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def _footer(result: SimulationResult) -> str:
    return (
        f"<footer><p>Study <code>{result.study.digest()}</code><br>"
        f"Model <code>{result.model_sha256}</code></p>"
        f"<p>Vestry {version('vestry')}, torch {version('torch')}, Python {platform.python_version()}. "
        f"{_repeatable(result)}; the run's folder holds "
        "<code>manifest.json</code>, from which <code>vestry simulate --resume</code> goes on.</p></footer>"
    )


def _repeatable(result: SimulationResult) -> str:
    privacy = result.study.privacy
    if privacy is not None and privacy.noise == "cryptographic":
        return "Cryptographic noise is fresh in every run, so another run gives another model"
    return "The same study, data and versions give the same model file, byte for byte"
