"""Combinations that no study may have. Each broken rule is one line: key, problem, way out."""

from collections.abc import Iterator

from vestry_strategies.catalogue import METRICS, MODELS
from vestry_strategies.recipe import (
    AggregationSpec,
    CnnModel,
    EarlyStoppingSpec,
    EvaluationSpec,
    MlpModel,
    ModelSpec,
    PrivacySpec,
    StrategySpec,
)
from vestry_strategies.schema import PluginTask, TabularTask, TaskSpec
from vestry_strategies.strategies import STRATEGIES, StrategyEntry

__all__ = ["broken_rules"]


def broken_rules(
    *,
    task: TaskSpec,
    model: ModelSpec,
    strategy: StrategySpec,
    aggregation: AggregationSpec,
    privacy: PrivacySpec | None,
    evaluation: EvaluationSpec,
    early_stopping: EarlyStoppingSpec | None,
) -> list[str]:
    """List every broken rule of a study, each as ``key: problem; what would be right``."""
    return [
        *_model_fits(task, model),
        *_strategy(strategy, aggregation),
        *_cohort(aggregation),
        *_privacy(task, model, privacy),
        *_metrics(task, evaluation, early_stopping),
        *_holdout(task, evaluation),
    ]


def _model_fits(task: TaskSpec, model: ModelSpec) -> Iterator[str]:
    allowed = MODELS[task.kind][task.target.type]
    if model.kind not in allowed:
        yield (
            f"model.kind: '{model.kind}' does not fit a {task.kind} task with a "
            f"{task.target.type} target; use one of {', '.join(allowed)}"
        )


def _strategy(strategy: StrategySpec, aggregation: AggregationSpec) -> Iterator[str]:
    entry = STRATEGIES.get(strategy.name)
    if entry is None:
        known = ", ".join(sorted(STRATEGIES))
        yield f"strategy.name: '{strategy.name}' is not a strategy; use one of {known}"
        return
    if entry.needs_individual_updates and aggregation.secure:
        yield (
            f"strategy.name: '{strategy.name}' compares the sites' own updates, which secure "
            "aggregation hides; use a strategy on the mean such as fedavg, or set "
            "aggregation.secure = false"
        )
    yield from _strategy_parameters(strategy, entry)


def _strategy_parameters(strategy: StrategySpec, entry: StrategyEntry) -> Iterator[str]:
    for name, value in strategy.parameters.items():
        bounds = entry.parameters.get(name)
        if bounds is None:
            known = ", ".join(sorted(entry.parameters)) or "none"
            yield (f"strategy.parameters.{name}: '{strategy.name}' has no such parameter; it has {known}")
        elif not bounds.contains(value):
            yield f"strategy.parameters.{name}: {value} is out of range; use {bounds.text()}"


def _cohort(aggregation: AggregationSpec) -> Iterator[str]:
    cohort, least = aggregation.cohort, aggregation.min_sites
    if cohort is not None and cohort < least:
        yield (
            f"aggregation.cohort: {cohort} sites a round can never be min_sites = {least}; "
            "raise cohort or lower min_sites"
        )


def _privacy(task: TaskSpec, model: ModelSpec, privacy: PrivacySpec | None) -> Iterator[str]:
    if privacy is None:
        return
    if isinstance(model, MlpModel | CnnModel) and model.norm == "batch":
        other = "layer" if isinstance(model, MlpModel) else "group"
        yield (
            "model.norm: 'batch' mixes the patients of a batch, so no patient's share can be "
            f"bounded under differential privacy; use '{other}' or 'none'"
        )
    if privacy.unit == "patient" and privacy.unit_column is None:
        yield (
            "privacy.unit_column: unit = 'patient' needs the column that tells patients apart, "
            "or 'row' to declare that every row is another person"
        )
    names = [feature.name for feature in task.features] if isinstance(task, TabularTask) else []
    if privacy.unit_column in names:
        yield f"privacy.unit_column: '{privacy.unit_column}' is also a feature; remove the feature"


def _metrics(
    task: TaskSpec, evaluation: EvaluationSpec, early_stopping: EarlyStoppingSpec | None
) -> Iterator[str]:
    if isinstance(task, PluginTask):
        return  # a plug-in names its own metrics; vestry_strategies.tasks checks them
    known = METRICS[task.target.type]
    named = [("evaluation.metrics", name) for name in evaluation.metrics or ()]
    if evaluation.primary is not None:
        named.append(("evaluation.primary", evaluation.primary))
    if early_stopping is not None:
        named.append(("early_stopping.metric", early_stopping.metric))
    for key, name in named:
        if name not in known:
            yield (
                f"{key}: a {task.target.type} target has no metric '{name}'; use one of {', '.join(known)}"
            )


def _holdout(task: TaskSpec, evaluation: EvaluationSpec) -> Iterator[str]:
    column = evaluation.holdout.column
    if column is None or not isinstance(task, TabularTask):
        return
    if column == task.target.name or column in [feature.name for feature in task.features]:
        yield f"evaluation.holdout.column: '{column}' is also a feature or the target; use another"
