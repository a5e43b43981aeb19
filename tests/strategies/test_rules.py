"""Combinations that no study may have."""

import pytest

from tests.strategies.samples import DECLARED, IMAGE_STUDY, NUMBERS_STUDY, PRIVACY, make_study, private_study
from vestry_strategies.study import StudyError, parse_study

SECURE = ("secure = false", "secure = true")


def strategy(name: str, parameters: str = "") -> tuple[str, str]:
    return ("[aggregation]", f'[strategy]\nname = "{name}"\n{parameters}\n[aggregation]')


def said(*changes: tuple[str, str]) -> str:
    with pytest.raises(StudyError) as error:
        make_study(*changes)
    return str(error.value)


def said_private(*changes: tuple[str, str]) -> str:
    with pytest.raises(StudyError) as error:
        private_study(*changes)
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
    message = said_private(model)
    assert message.startswith("model.norm: 'batch' mixes the patients of a batch")
    assert "'layer' or 'none'" in message
    make_study(model)
    text = IMAGE_STUDY.replace("hidden = 8", 'hidden = 8\nnorm = "batch"')
    text = text.replace("local_epochs", "local_steps")
    with pytest.raises(StudyError, match="'group' or 'none'"):
        parse_study(text + PRIVACY)


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
    column = 'unit_column = "patient"'
    assert "privacy.unit_column: unit = 'patient' needs the column" in said_private((column, ""))
    assert "privacy.unit_column: 'age' is also a feature" in said_private((column, 'unit_column = "age"'))
    assert "privacy.unit_column: 'sick' is the target" in said_private((column, 'unit_column = "sick"'))
    record = (column, f'{column}\nunit = "record"')
    assert "privacy.unit_column: goes with unit = 'patient', not with 'record'" in said_private(record)
    private_study((column, 'unit_column = "row"'))
    private_study((column, 'unit = "record"'))


SITE = ('unit_column = "patient"', 'unit = "site"')
GUARANTEE = "[privacy.site]\nepsilon = 1.0\ndelta = 1e-2\nclip = 1.0\n[evaluation]"
SECOND = ("[evaluation]", GUARANTEE)
AT_SERVER = ("[evaluation]", GUARANTEE.replace("clip", 'noise_at = "server"\nclip'))
PATIENTS_OUT = ("sampling_probability = 0.25\n", "")


@pytest.mark.parametrize(
    ("changes", "key", "way_out"),
    [
        ([("local_steps = 5", "local_epochs = 1")], "training.local_epochs", "write local_steps"),
        (
            [('kind = "tabular"', 'kind = "tabular"\nstandardise = "per-site"')],
            "task.standardise: 'per-site' lets each person change everybody's inputs",
            "use 'declared'",
        ),
        ([("range = [-6, 6]", "")], "task.features 'dose'.range", "task.standardise = 'declared'"),
        (
            [("delta", 'adjacency = "add-remove"\ndelta')],
            "privacy.expected_batch: is needed with adjacency = 'add-remove'",
            "not public",
        ),
        (
            [
                ("delta", 'adjacency = "add-remove"\nexpected_batch = 9.0\ndelta'),
                ("delta", 'sampling = "truncated_poisson"\ndelta'),
            ],
            "privacy.sampling: 'truncated_poisson' needs adjacency = 'zero-out'",
            "use 'poisson'",
        ),
        ([("delta", 'metrics = ["rmse"]\ndelta')], "privacy.metrics: a binary target has no metric", "auc"),
        (
            [("[privacy]", '[early_stopping]\nmetric = "auc"\npatience = 2\n[privacy]')],
            "early_stopping.metric: 'auc' does not leave the sites",
            "add it to privacy.metrics",
        ),
        (
            [('metrics = ["accuracy", "auc"]', 'keep = "best"\nprimary = "auc"')],
            "evaluation.keep: 'best' needs evaluation.primary",
            "or use 'last'",
        ),
        ([SECOND], "privacy.site: bounds a site's updates, not the sums of round 0", "'declared' or 'none'"),
        (
            [DECLARED, ("delta", 'metrics = ["auc"]\ndelta'), SECOND],
            "privacy.site: bounds a site's updates, not its metrics",
            "leave privacy.metrics empty",
        ),
        (
            [DECLARED, AT_SERVER, strategy("fedmedian")],
            "privacy.site.noise_at: 'server' noises a mean, and 'fedmedian' makes none",
            "a strategy on the mean such as fedavg",
        ),
        ([SITE, PATIENTS_OUT], "task.standardise: 'shared' sends sums", "use 'declared'"),
        (
            [DECLARED, SITE, PATIENTS_OUT, ("delta", 'metrics = ["auc"]\ndelta')],
            "privacy.metrics: nothing bounds a whole site's metrics",
            "leave it empty",
        ),
        (
            [DECLARED, SITE, PATIENTS_OUT, SECOND],
            "privacy.site: is a second guarantee",
            "the same one already",
        ),
    ],
)
def test_what_no_private_study_may_have(changes: list[tuple[str, str]], key: str, way_out: str) -> None:
    message = said_private(*changes)
    assert message.startswith(key)
    assert way_out in message


def test_private_studies_that_may_be() -> None:
    private_study()
    private_study(DECLARED, ("range = [-6, 6]", "typical = [0, 1]"))
    private_study(DECLARED, SECOND)
    private_study(DECLARED, SECOND, strategy("fedmedian"))
    private_study(DECLARED, AT_SERVER, strategy("fedadam"))
    private_study(DECLARED, SITE, PATIENTS_OUT)
    private_study(SITE, PATIENTS_OUT, ('kind = "tabular"', 'kind = "tabular"\nstandardise = "per-site"'))
    private_study(("delta", 'adjacency = "add-remove"\nexpected_batch = 9.0\ndelta'))
    private_study(
        ("delta", 'metrics = ["auc"]\ndelta'),
        ('metrics = ["accuracy", "auc"]', 'keep = "best"\nprimary = "auc"'),
        ("[privacy]", '[early_stopping]\nmetric = "auc"\npatience = 2\n[privacy]'),
    )


@pytest.mark.parametrize(
    "key", ["sampling_probability = 0.25", "expected_batch = 9.0", 'adjacency = "add-remove"']
)
def test_what_means_nothing_for_a_whole_site_is_refused(key: str) -> None:
    """A key that is ignored would be a promise that nobody keeps."""
    message = said_private(DECLARED, SITE, PATIENTS_OUT, ("delta", f"{key}\ndelta"))
    assert message.startswith(f"privacy.{key.split()[0]}: ")
    assert "unit = 'site'" in message


@pytest.mark.parametrize(("standardise", "refused"), [("shared", True), ("declared", True), ("none", False)])
def test_a_released_regression_target_needs_a_range(standardise: str, refused: bool) -> None:
    text = NUMBERS_STUDY.replace('kind = "tabular"', f'kind = "tabular"\nstandardise = "{standardise}"')
    text = text.replace("local_epochs", "local_steps").replace("[-9]", "[-9]\nrange = [0, 9]")
    if standardise == "none":
        text = text.replace('missing = "mean"\n', "")
    if not refused:
        parse_study(text + PRIVACY)
        text += PRIVACY + 'metrics = ["mae"]\n'
    else:
        text += PRIVACY
    with pytest.raises(StudyError, match=r"target.*range"):
        parse_study(text)
    parse_study(text.replace('type = "regression"', 'type = "regression"\nrange = [0, 99]'))


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


@pytest.mark.parametrize("setting", ["lane_bits = 16", "value_range = 2.0"])
def test_settings_of_a_secure_sum_go_with_one(setting: str) -> None:
    key = setting.split()[0]
    message = said(("secure = false", f"secure = false\n{setting}"))
    assert message.startswith(f"aggregation.{key}: is of a secure sum, and secure = false makes none")
    make_study(("secure = false", f"secure = true\n{setting}"))
