"""A site's data: the split into training and held-out rows, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.client.bench import make_study, make_table
from vestry_client.datasets import SiteData, open_data, split_holdout
from vestry_strategies.rows import ContractViolation, DataFileError, Table
from vestry_strategies.study import StudySpec
from vestry_strategies.tasks.registry import find_task

STUDY = make_study()
TASK = find_task(STUDY)


def data(study: StudySpec = STUDY, table: Table | None = None, site: str = "north") -> SiteData:
    rows = make_table() if table is None else table
    return open_data(study, TASK, site, lambda: rows)


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(2, 80),
    share=st.floats(0.05, 0.95),
    seed=st.integers(0, 10_000),
    site=st.text(min_size=1, max_size=8),
)
def test_the_share_holds_over_all_and_in_each_class(count: int, share: float, seed: int, site: str) -> None:
    study = make_study(("fraction = 0.25", f"fraction = {share}"), ("seed = 5", f"seed = {seed}"))
    table = make_table(count, seed)
    design = TASK.features.design(study, table)
    held_out = split_holdout(study, TASK, site, table, design)
    assert abs(held_out.sum() - share * count) < 1
    for label in (0, 1):
        members = design.targets == label
        assert abs(held_out[members].sum() - share * members.sum()) < 1 + 1e-9
    assert np.array_equal(held_out, split_holdout(study, TASK, site, table, design))


def test_training_and_held_out_rows_make_up_the_whole() -> None:
    parts = data()
    kept = np.concatenate([parts.train.kept, parts.holdout.kept])
    assert sorted(kept.tolist()) == list(range(60))
    assert len(parts.holdout) == 15


def test_each_site_and_seed_has_its_own_split() -> None:
    one, other = data(site="north").holdout.kept, data(site="south").holdout.kept
    assert not np.array_equal(np.sort(one), np.sort(other))
    reseeded = data(make_study(("seed = 5", "seed = 6"))).holdout.kept
    assert not np.array_equal(np.sort(one), np.sort(reseeded))


def test_a_column_may_say_it() -> None:
    study = make_study(("fraction = 0.25", 'column = "clinic"\ntest_value = "west"'))
    parts = data(study)
    table = make_table()
    assert set(table.column("clinic")[parts.holdout.kept]) == {"west"}
    assert "west" not in set(table.column("clinic")[parts.train.kept])


def test_a_column_that_says_it_must_be_there() -> None:
    study = make_study(("fraction = 0.25", 'column = "split"'))
    with pytest.raises(DataFileError, match="column 'split' is missing"):
        data(study)


def test_dropped_rows_are_neither() -> None:
    study = make_study(('missing = "mean"', 'missing = "drop-row"'))
    table = make_table()
    parts = data(study, table)
    empty = np.flatnonzero(table.column("age") == "")
    assert len(empty)
    assert not set(empty) & {*parts.train.kept.tolist(), *parts.holdout.kept.tolist()}


def test_an_empty_site_is_refused() -> None:
    with pytest.raises(DataFileError, match="has no rows"):
        data(table=make_table().take(np.zeros(0, dtype=np.int64)))
    study = make_study(('missing = "mean"', 'missing = "drop-row"'))
    with pytest.raises(DataFileError, match="no row is left"):
        data(study, make_table(age=""))


def test_a_broken_contract_is_refused() -> None:
    with pytest.raises(ContractViolation, match="column 'colour': 60 rows"):
        data(table=make_table(colour="mauve"))


def test_standardised_examples_are_kept_until_the_preprocessing_changes() -> None:
    parts = data()
    first = TASK.features.fit(STUDY, TASK.features.statistics(STUDY, parts.train))
    examples = parts.examples(STUDY, TASK, first)
    same = {name: array.copy() for name, array in first.items()}
    assert parts.examples(STUDY, TASK, same) is examples
    assert parts.examples(STUDY, TASK, first, holdout=True) is not examples
    other = {**first, "mean": first["mean"] + 1}
    changed = parts.examples(STUDY, TASK, other)
    assert changed is not examples
    assert not np.array_equal(changed.inputs, examples.inputs)
