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
    TrainingSpec,
)
from vestry_strategies.schema import NumberFeature, PluginTask, TabularTask, TaskSpec
from vestry_strategies.strategies import STRATEGIES, StrategyEntry

__all__ = ["broken_rules"]


def broken_rules(
    *,
    task: TaskSpec,
    model: ModelSpec,
    training: TrainingSpec,
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
        *_privacy(task, model, training, privacy),
        *_noised_mean(strategy, privacy),
        *_metrics(task, evaluation, early_stopping, privacy),
        *_released(evaluation, early_stopping, privacy),
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
    for key in ("lane_bits", "value_range"):
        if getattr(aggregation, key) is not None and not aggregation.secure:
            yield f"aggregation.{key}: is of a secure sum, and secure = false makes none; remove it"


def _privacy(
    task: TaskSpec, model: ModelSpec, training: TrainingSpec, privacy: PrivacySpec | None
) -> Iterator[str]:
    if privacy is None:
        return
    yield from _unit(task, privacy)
    if privacy.unit == "site":
        yield from _whole_sites(task, privacy)
        return
    if isinstance(model, MlpModel | CnnModel) and model.norm == "batch":
        other = "layer" if isinstance(model, MlpModel) else "group"
        yield (
            "model.norm: 'batch' mixes the patients of a batch, so no patient's share can be "
            f"bounded under differential privacy; use '{other}' or 'none'"
        )
    if training.local_steps is None:
        yield (
            "training.local_epochs: the number of steps must not depend on the data under differential "
            "privacy; write local_steps"
        )
    if getattr(task, "standardise", "none") == "per-site":
        yield (
            "task.standardise: 'per-site' lets each person change everybody's inputs, so no person's share "
            "is bounded; use 'declared' (no privacy cost) or 'shared' (noised and charged)"
        )
    yield from _public_bounds(task, privacy)
    yield from _second(task, privacy)
    if privacy.adjacency == "add-remove" and privacy.expected_batch is None:
        yield (
            "privacy.expected_batch: is needed with adjacency = 'add-remove', where the number of persons "
            "is not public"
        )
    if privacy.adjacency == "add-remove" and privacy.sampling == "truncated_poisson":
        yield "privacy.sampling: 'truncated_poisson' needs adjacency = 'zero-out'; use 'poisson'"


def _unit(task: TaskSpec, privacy: PrivacySpec) -> Iterator[str]:
    if privacy.unit == "patient" and privacy.unit_column is None:
        yield (
            "privacy.unit_column: unit = 'patient' needs the column that tells patients apart, "
            "or 'row' to declare that every row is another person"
        )
    if privacy.unit != "patient" and privacy.unit_column is not None:
        yield f"privacy.unit_column: goes with unit = 'patient', not with '{privacy.unit}'; remove it"
    names = [feature.name for feature in task.features] if isinstance(task, TabularTask) else []
    if privacy.unit_column in names:
        yield f"privacy.unit_column: '{privacy.unit_column}' is also a feature; remove the feature"
    if privacy.unit_column == task.target.name:
        yield f"privacy.unit_column: '{privacy.unit_column}' is the target; name the patients' column"


def _public_bounds(task: TaskSpec, privacy: PrivacySpec) -> Iterator[str]:
    """A noised sum needs a public bound on what one person adds to it."""
    if not isinstance(task, TabularTask):
        return
    if task.standardise == "shared":
        for feature in task.features:
            if isinstance(feature, NumberFeature) and feature.range is None:
                yield (
                    f"task.features '{feature.name}'.range: noised statistics need a public range; declare "
                    "one, or use task.standardise = 'declared' or 'none'"
                )
    released = task.standardise == "shared" or privacy.metrics
    if task.target.type == "regression" and task.target.range is None and released:
        yield "task.target.range: noised sums need a public range of the target; declare one"


def _whole_sites(task: TaskSpec, privacy: PrivacySpec) -> Iterator[str]:
    """unit = 'site' bounds the update only, so nothing else may leave."""
    if getattr(task, "standardise", "shared") == "shared":
        yield (
            "task.standardise: 'shared' sends sums that unit = 'site' does not bound; use 'declared', "
            "'per-site' or 'none'"
        )
    if privacy.metrics:
        yield "privacy.metrics: nothing bounds a whole site's metrics; leave it empty with unit = 'site'"
    ignored = [key for key in ("sampling_probability", "expected_batch") if getattr(privacy, key) is not None]
    ignored += ["adjacency"] if privacy.adjacency != "zero-out" else []
    for key in ignored:
        yield f"privacy.{key}: means nothing with unit = 'site', where the site is in every round; remove it"
    if privacy.site is not None:
        yield "privacy.site: is a second guarantee; unit = 'site' is the same one already"


def _second(task: TaskSpec, privacy: PrivacySpec) -> Iterator[str]:
    """The guarantee for whole sites bounds their updates, so nothing else of a site may leave."""
    if privacy.site is None or privacy.unit == "site":
        return
    if getattr(task, "standardise", "shared") == "shared":
        yield (
            "privacy.site: bounds a site's updates, not the sums of round 0; use task.standardise = "
            "'declared' or 'none', or remove [privacy.site]"
        )
    if privacy.metrics:
        yield "privacy.site: bounds a site's updates, not its metrics; leave privacy.metrics empty"


def _noised_mean(strategy: StrategySpec, privacy: PrivacySpec | None) -> Iterator[str]:
    """The server's noise is scaled to one site's share of a mean."""
    entry = STRATEGIES.get(strategy.name)
    if privacy is None or privacy.site is None or entry is None:
        return
    if privacy.site.noise_at == "server" and entry.needs_individual_updates:
        yield (
            f"privacy.site.noise_at: 'server' noises a mean, and '{strategy.name}' makes none, so nothing "
            "bounds what one site changes; use 'site', or a strategy on the mean such as fedavg"
        )


def _released(
    evaluation: EvaluationSpec, early_stopping: EarlyStoppingSpec | None, privacy: PrivacySpec | None
) -> Iterator[str]:
    """Whoever decides by a metric must be able to see it."""
    if privacy is None:
        return
    if early_stopping is not None and early_stopping.metric not in privacy.metrics:
        yield (
            f"early_stopping.metric: '{early_stopping.metric}' does not leave the sites; add it to "
            "privacy.metrics, where it is noised and charged"
        )
    if evaluation.keep == "best" and evaluation.primary not in privacy.metrics:
        yield (
            "evaluation.keep: 'best' needs evaluation.primary, and that metric in privacy.metrics, where it "
            "is noised and charged; or use 'last'"
        )


def _metrics(
    task: TaskSpec,
    evaluation: EvaluationSpec,
    early_stopping: EarlyStoppingSpec | None,
    privacy: PrivacySpec | None,
) -> Iterator[str]:
    if isinstance(task, PluginTask):
        return  # a plug-in names its own metrics; vestry_strategies.tasks checks them
    known = METRICS[task.target.type]
    named = [("evaluation.metrics", name) for name in evaluation.metrics or ()]
    named += [("privacy.metrics", name) for name in (privacy.metrics if privacy else ())]
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
