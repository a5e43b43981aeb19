"""Combinations that no study may have."""

import pytest

from tests.strategies.samples import IMAGE_STUDY, NUMBERS_STUDY, make_study
from vestry_strategies.study import StudyError, parse_study

PRIVATE = '[privacy]\nunit = "record"\nepsilon = 1.0\ndelta = 1e-5\n[evaluation]'
SECURE = ("secure = false", "secure = true")


def strategy(name: str, parameters: str = "") -> tuple[str, str]:
    return ("[aggregation]", f'[strategy]\nname = "{name}"\n{parameters}\n[aggregation]')


def said(*changes: tuple[str, str]) -> str:
    with pytest.raises(StudyError) as error:
        make_study(*changes)
    return str(error.value)


def test_a_robust_strategy_cannot_see_through_secure_aggregation() -> None:
    message = said(SECURE, strategy("fedmedian"))
    assert message.startswith("strategy.name: 'fedmedian' compares the sites' own updates")
    assert "fedavg" in message
    assert "aggregation.secure = false" in message
    make_study(strategy("fedmedian"))
    make_study(SECURE, strategy("fedadam"))


def test_batch_normalisation_has_no_place_under_differential_privacy() -> None:
    model = ('kind = "logistic"', 'kind = "mlp"\nnorm = "batch"')
    message = said(model, ("[evaluation]", PRIVATE))
    assert message.startswith("model.norm: 'batch' mixes the patients of a batch")
    assert "'layer' or 'none'" in message
    make_study(model)
    text = IMAGE_STUDY.replace("hidden = 8", 'hidden = 8\nnorm = "batch"')
    with pytest.raises(StudyError, match="'group' or 'none'"):
        parse_study(text + PRIVATE.removesuffix("[evaluation]"))


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (('metrics = ["accuracy", "auc"]', 'metrics = ["rmse"]'), "evaluation.metrics"),
        (('metrics = ["accuracy", "auc"]', 'primary = "rmse"'), "evaluation.primary"),
        (
            ("[evaluation]", '[early_stopping]\nmetric = "rmse"\npatience = 1\n[evaluation]'),
            "early_stopping.metric",
        ),
    ],
)
def test_a_metric_that_the_task_lacks(change: tuple[str, str], key: str) -> None:
    message = said(change)
    assert message.startswith(f"{key}: a binary target has no metric 'rmse'; use one of loss, accuracy")


@pytest.mark.parametrize(("model", "fits"), [("linear", False), ("cnn", False), ("mlp", True)])
def test_a_model_must_fit_the_task(model: str, fits: bool) -> None:
    change = ('kind = "logistic"', f'kind = "{model}"')
    if fits:
        make_study(change)
    else:
        assert said(change) == (
            f"model.kind: '{model}' does not fit a tabular task with a binary target; "
            "use one of logistic, mlp"
        )


def test_a_logistic_model_does_not_fit_a_regression() -> None:
    with pytest.raises(StudyError, match="use one of linear, mlp"):
        parse_study(NUMBERS_STUDY.replace('"linear"', '"logistic"'))


def test_an_unknown_strategy_is_answered_with_those_there_are() -> None:
    message = said(strategy("fedavgg"))
    assert message.startswith("strategy.name: 'fedavgg' is not a strategy; use one of fedadagrad")


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("fedprox", "mu = -1.0", "strategy.parameters.mu: -1.0 is out of range; use at least 0"),
        (
            "fedadam",
            "beta1 = 1.0",
            "beta1: 1.0 is out of range; use at least 0 and below 1",
        ),
        ("fedavg", "mu = 1.0", "'fedavg' has no such parameter; it has server_learning_rate"),
        ("fedmedian", "mu = 1.0", "'fedmedian' has no such parameter; it has none"),
    ],
)
def test_parameters_of_strategies(name: str, parameters: str, message: str) -> None:
    assert message in said(strategy(name, f"[strategy.parameters]\n{parameters}"))


def test_patients_must_be_told_apart() -> None:
    privacy = PRIVATE.replace('unit = "record"', 'unit = "patient"')
    assert "privacy.unit_column: unit = 'patient' needs the column" in said(("[evaluation]", privacy))
    column = privacy.replace("epsilon", 'unit_column = "age"\nepsilon')
    assert "privacy.unit_column: 'age' is also a feature" in said(("[evaluation]", column))
    make_study(("[evaluation]", privacy.replace("epsilon", 'unit_column = "row"\nepsilon')))


@pytest.mark.parametrize("column", ["age", "sick"])
def test_the_holdout_column_is_neither_feature_nor_target(column: str) -> None:
    message = said(("fraction = 0.25", f'column = "{column}"'))
    assert message.startswith(f"evaluation.holdout.column: '{column}' is also a feature or the target")


def test_a_cohort_holds_enough_sites() -> None:
    message = said(("secure = false", "secure = false\ncohort = 2\nmin_sites = 3"))
    assert message == (
        "aggregation.cohort: 2 sites a round can never be min_sites = 3; raise cohort or lower min_sites"
    )


def test_all_broken_rules_are_said_at_once() -> None:
    message = said(SECURE, strategy("fedmedian"), ('metrics = ["accuracy", "auc"]', 'metrics = ["rmse"]'))
    assert message.startswith("2 problems")
