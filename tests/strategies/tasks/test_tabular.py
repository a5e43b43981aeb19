"""Tabular data: the contract, the columns, and preprocessing that no split into sites changes."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.impute import SimpleImputer

from tests.strategies.samples import NUMBERS_STUDY, table
from vestry_strategies.rows import ContractViolation, DataFileError, Table
from vestry_strategies.schema import TabularTask
from vestry_strategies.study import StudySpec, parse_study
from vestry_strategies.sums import Arrays, add_sums
from vestry_strategies.task import Design
from vestry_strategies.tasks.tabular import TABULAR, design_columns

STUDY = parse_study(NUMBERS_STUDY)


def study(*changes: tuple[str, str]) -> StudySpec:
    text = NUMBERS_STUDY
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return parse_study(text)


def rows(count: int = 40, seed: int = 0, **columns: Any) -> Table:
    generator = np.random.default_rng(seed)
    made: dict[str, list[Any]] = {
        "x": ["" if i % 7 == 3 else round(float(generator.normal(3, 2)), 3) for i in range(count)],
        "flag": [("yes", "no", "", "1", "0", "TRUE", "false")[i % 7] for i in range(count)],
        "kind": [("1", "2.0", "blue", "")[int(generator.integers(4))] for _ in range(count)],
        "y": [round(float(generator.normal()), 3) for _ in range(count)],
    }
    return table(**{**made, **columns})


def design(spec: StudySpec, data: Table) -> Design:
    return TABULAR.features.design(spec, data)


def columns(spec: StudySpec) -> list[str]:
    assert isinstance(spec.task, TabularTask)
    return design_columns(spec.task)


def fitted(spec: StudySpec, parts: list[Design]) -> Arrays:
    return TABULAR.features.fit(spec, add_sums(TABULAR.features.statistics(spec, part) for part in parts))


def test_columns_are_named() -> None:
    assert columns(STUDY) == [
        "x", "x:missing", "flag", "flag:missing", "kind=1", "kind=2", "kind=blue", "kind=:missing",
    ]  # fmt: skip
    dropped = columns(study(('kind = "tabular"', 'kind = "tabular"\ndrop_first = true')))
    assert "kind=1" not in dropped
    assert len(dropped) == 7


def test_rows_become_numbers() -> None:
    data = table(
        x=["2.5", "", "-9", "1e1"],
        flag=["yes", "FALSE", "", "1.0"],
        kind=["1.0", "", "2", "blue"],
        y=[1, 2, 3, 4],
    )
    found = design(STUDY, data)
    nan = np.nan
    expected = [
        [2.5, 0, 1, 0, 1, 0, 0, 0],
        [nan, 1, 0, 0, 0, 0, 0, 1],
        [nan, 1, nan, 1, 0, 1, 0, 0],
        [10, 0, 1, 0, 0, 0, 1, 0],
    ]
    np.testing.assert_array_equal(found.inputs, expected)
    assert found.targets.tolist() == [1, 2, 3, 4]
    assert found.kept.tolist() == [0, 1, 2, 3]
    assert found.inputs.shape[1] == len(columns(STUDY))


def test_rows_with_missing_values_may_be_dropped() -> None:
    spec = study(('missing = "mean"\nmissing_codes', 'missing = "drop-row"\nmissing_codes'))
    data = table(x=["2", "", "-9.0", "4"], flag=["1"] * 4, kind=["1"] * 4, y=[1, 2, 3, 4])
    found = design(spec, data)
    assert found.kept.tolist() == [0, 3]
    assert found.targets.tolist() == [1, 4]


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("x", "SECRET", "a number"),
        ("x", "inf", "a finite number"),
        ("x", "nan", "a finite number"),
        ("flag", "maybe", "one of 0, 1, true, false, yes, no"),
        ("kind", "SECRET", "one of the categories ['1', '2', 'blue']"),
        ("y", "", "a finite number"),
    ],
)
@pytest.mark.parametrize(("count", "said"), [(9, "fewer than 10 rows"), (12, "12 rows")])
def test_rows_outside_the_contract_are_refused(
    column: str, value: str, rule: str, count: int, said: str
) -> None:
    data = rows()
    cells = data.columns[column].tolist()
    cells[:count] = [value] * count
    broken = Table({**data.columns, column: np.array(cells)})
    with pytest.raises(ContractViolation) as error:
        design(STUDY, broken)
    assert str(error.value) == f"column '{column}': {said} break the rule: {rule}"


@pytest.mark.parametrize(("missing", "column"), [("x", "x"), ("flag", "flag"), ("kind", "kind")])
def test_missing_values_are_refused_by_default(missing: str, column: str) -> None:
    plain = study(
        ('missing = "mean"\nmissing_codes = [-9]', ""),
        ('missing = "mean"\n', ""),
        ('missing = "category"', ""),
    )
    data = table(x=["1"], flag=["1"], kind=["1"], y=["1"])
    gap = Table({**data.columns, missing: np.array([""])})
    with pytest.raises(ContractViolation, match=f"column '{column}'.*present"):
        design(plain, gap)


def test_a_range_is_kept() -> None:
    spec = study(("missing_codes = [-9]", "missing_codes = [-9]\nrange = [0, 5]"))
    data = rows(x=["-9"] + ["5"] * 28 + ["5.01"] * 11)
    with pytest.raises(ContractViolation, match=r"11 rows break the rule: in the range \[0, 5\]"):
        design(spec, data)


def test_a_column_must_be_there() -> None:
    data = rows()
    for name in ("x", "kind", "y"):
        less = Table({key: column for key, column in data.columns.items() if key != name})
        with pytest.raises(DataFileError, match=f"column '{name}' is missing"):
            design(STUDY, less)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.lists(st.integers(0, 60), max_size=4))
def test_no_split_into_sites_changes_the_preprocessing(seed: int, cuts: list[int]) -> None:
    whole = design(STUDY, rows(60, seed))
    parts = [whole.take(part) for part in np.split(np.arange(60), sorted(cuts))]
    together, alone = fitted(STUDY, parts), fitted(STUDY, [whole])
    for name in alone:
        np.testing.assert_allclose(together[name], alone[name], rtol=1e-9, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000))
def test_the_standardiser_is_that_of_scikit_learn_on_all_rows(seed: int) -> None:
    whole = design(STUDY, rows(60, seed))
    found = fitted(STUDY, [whole.take(np.arange(25)), whole.take(np.arange(25, 60))])
    imputer = SimpleImputer().fit(whole.inputs)
    np.testing.assert_allclose(found["mean"], imputer.statistics_, rtol=1e-9, atol=1e-12)
    spread = np.nanstd(whole.inputs, axis=0, ddof=1)
    np.testing.assert_allclose(found["scale"], np.where(spread > 1e-9, spread, 1.0), rtol=1e-7)
    examples = TABULAR.features.encode(STUDY, found, whole)
    expected = (imputer.transform(whole.inputs) - found["mean"]) / found["scale"]
    np.testing.assert_allclose(examples.inputs, expected, rtol=1e-5, atol=1e-6)


def test_a_regression_target_is_standardised_over_all_sites() -> None:
    whole = design(STUDY, rows(60))
    found = fitted(STUDY, [whole])
    examples = TABULAR.features.encode(STUDY, found, whole)
    assert examples.targets.mean() == pytest.approx(0, abs=1e-6)
    assert examples.targets.std(ddof=1) == pytest.approx(1, rel=1e-5)
    assert examples.targets.dtype == np.float32


def test_examples_are_finite_even_where_a_column_is_empty_everywhere() -> None:
    whole = design(STUDY, rows(20, x=[""] * 20))
    examples = TABULAR.features.encode(STUDY, fitted(STUDY, [whole]), whole)
    assert np.isfinite(examples.inputs).all()


def test_a_constant_column_is_left_at_zero() -> None:
    whole = design(STUDY, rows(20, x=["7.3"] * 20))
    examples = TABULAR.features.encode(STUDY, fitted(STUDY, [whole]), whole)
    assert not examples.inputs[:, 0].any()


@pytest.mark.parametrize(
    ("offset", "bounds"),
    [
        (1e3, ""),
        (1e6, ""),
        (1e9, "range = [999999990, 1000000010]"),
        (-1e9, "range = [-1000000010, -999999990]"),
    ],
)
def test_the_deviation_survives_a_large_mean(offset: float, bounds: str) -> None:
    spec = study(("missing_codes = [-9]", f"missing_codes = [-9]\n{bounds}"))
    values = offset + np.random.default_rng(0).normal(size=200)
    whole = design(spec, rows(200, x=[f"{value:.9f}" for value in values]))
    found = fitted(spec, [whole.take(np.arange(90)), whole.take(np.arange(90, 200))])
    assert found["mean"][0] == pytest.approx(values.mean(), rel=1e-12)
    assert found["scale"][0] == pytest.approx(values.std(ddof=1), rel=1e-3)


def test_without_standardisation_numbers_stay_as_they_are() -> None:
    spec = study(
        ('kind = "tabular"', 'kind = "tabular"\nstandardise = "none"'),
        ('missing = "mean"\nmissing_codes = [-9]', ""),
        ('missing = "mean"\n', ""),
    )
    data = table(x=["3", "5"], flag=["1", "0"], kind=["1", "2"], y=[1, 2])
    whole = design(spec, data)
    examples = TABULAR.features.encode(spec, fitted(spec, [whole]), whole)
    assert examples.inputs[:, 0].tolist() == [3.0, 5.0]


def test_class_counts_are_part_of_the_statistics() -> None:
    spec = study(('type = "regression"', 'type = "binary"\nclasses = ["0", "1"]'), ('"linear"', '"logistic"'))
    whole = design(spec, rows(4, y=["0", "1", "1.0", "1"]))
    assert TABULAR.features.statistics(spec, whole)["classes"].tolist() == [1.0, 3.0]


def test_the_model_has_one_input_a_column() -> None:
    layers = list(TABULAR.build_model(STUDY).parameters())
    assert layers[0].shape == (1, 8)


@pytest.mark.parametrize("kind", ['"regression"', '"binary"\nclasses = ["a", "b"]'])
def test_a_blank_design_is_one_of_no_rows(kind: str) -> None:
    asked = study(('"regression"', kind), ('"linear"', '"linear"' if "reg" in kind else '"logistic"'))
    features = TABULAR.features
    assert features.blank is not None
    blank = features.blank(asked)
    column = ["a"] * 40 if "binary" in kind else [0.5] * 40
    read = features.design(asked, rows(y=column)).take(np.zeros(0, dtype=np.int64))
    assert (blank.inputs.shape, blank.inputs.dtype) == (read.inputs.shape, read.inputs.dtype)
    assert (blank.targets.dtype, blank.kept.dtype) == (read.targets.dtype, read.kept.dtype)
    assert len(blank) == 0
