"""Rows of a private study: whole persons on one side, each row judged by itself, no answer about others."""

import logging

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.client.clinic import SECRET, private_study, visits
from vestry_client.datasets import SiteData, open_data
from vestry_strategies.rows import ContractViolation, DataFileError, Table
from vestry_strategies.study import StudySpec
from vestry_strategies.tasks.registry import find_task

STUDY = private_study()
TASK = find_task(STUDY)
BY_COLUMN = private_study(("fraction = 0.25", 'column = "part"\ntest_value = "test"'))


def data(table: Table, study: StudySpec = STUDY, secret: bytes = SECRET) -> SiteData:
    return open_data(study, TASK, "north", lambda: table, secret)


def persons_of(table: Table, part: np.ndarray) -> set[str]:
    return set(table.column("patient")[part].tolist())


def test_a_person_is_on_one_side_with_all_their_rows() -> None:
    table = visits(60, 3)
    found = data(table)
    trained, held = (persons_of(table, part.kept) for part in (found.train, found.holdout))
    assert not trained & held
    assert len(trained | held) == found.persons == 60
    assert 5 < len(held) < 30
    assert len(found.train_owners) == len(found.train)
    assert len(found.holdout_owners) == len(found.holdout)
    for part, owners in ((found.train, found.train_owners), (found.holdout, found.holdout_owners)):
        names = table.column("patient")[part.kept]
        assert len({*zip(names.tolist(), owners.tolist(), strict=True)}) == len(set(names.tolist()))


@settings(max_examples=25, deadline=None)
@given(gone=st.sets(st.integers(0, 29), max_size=29), secret=st.binary(min_size=1, max_size=32))
def test_removing_persons_moves_nobody_else(gone: set[int], secret: bytes) -> None:
    table = visits(30, 2)
    held = persons_of(table, data(table, secret=secret).holdout.kept)
    names = {f"P{number:03d}" for number in gone}
    rest = table.take(np.flatnonzero(~np.isin(table.column("patient"), sorted(names))))
    assert persons_of(rest, data(rest, secret=secret).holdout.kept) == held - names


def test_the_key_decides_who_is_held_out_and_neither_seed_nor_study() -> None:
    table = visits(60, 1)
    held = data(table).holdout.kept
    assert np.array_equal(data(table, private_study(("seed = 5", "seed = 6"))).holdout.kept, held)
    assert not np.array_equal(data(table, secret=b"another").holdout.kept, held)


def test_by_column_one_row_of_a_person_is_enough() -> None:
    table = visits(20, 3)
    part = np.array(["train"] * 60, dtype="<U5")
    part[[4, 30, 31]] = "test"  # one row of P001, two of P010
    found = data(Table({**table.columns, "part": part}), BY_COLUMN)
    assert persons_of(table, found.holdout.kept) == {"P001", "P010"}
    assert len(found.holdout) == 6
    assert len(found.train) == 54


def test_a_column_that_says_it_must_be_there() -> None:
    with pytest.raises(DataFileError, match="column 'part' is missing"):
        data(visits(), BY_COLUMN)


def spoil(table: Table, column: str, places: list[int], text: str) -> Table:
    values = table.column(column).astype("<U20")
    values[places] = text
    return Table({**table.columns, column: values})


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(places=st.sets(st.integers(0, 39)), column=st.sampled_from(["age", "dose", "colour", "sick"]))
def test_rows_outside_the_contract_are_left_out_one_by_one(
    places: set[int], column: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.clear()
    table = visits(20, 2)
    with caplog.at_level(logging.WARNING, "vestry.site"):
        found = data(spoil(table, column, sorted(places), "Mrs Miller"))
    kept = np.sort(np.concatenate([found.train.kept, found.holdout.kept]))
    assert kept.tolist() == [place for place in range(40) if place not in places]
    assert found.persons == 20
    assert bool(caplog.records) == bool(places)
    assert "Miller" not in caplog.text
    if 0 < len(places) < 10:
        assert "fewer than 10 rows left out" in caplog.text
    whole = data(table)  # whoever stays is where they were
    assert set(found.holdout.kept.tolist()) <= set(whole.holdout.kept.tolist())


def test_without_privacy_a_broken_contract_refuses_as_before() -> None:
    from tests.client.bench import make_study

    table = spoil(visits(20, 2), "colour", [1], "mauve")
    with pytest.raises(ContractViolation):
        data(table, make_study())


def test_no_row_that_is_left_is_no_refusal() -> None:
    study = private_study(('missing = "mean"', 'missing = "drop-row"'))
    found = data(spoil(visits(20, 2), "age", list(range(40)), ""), study)
    assert (len(found.train), len(found.holdout), found.persons) == (0, 0, 20)


def test_a_file_without_rows_is_refused() -> None:
    with pytest.raises(DataFileError, match="has no rows"):
        data(visits().take(np.zeros(0, dtype=np.int64)))
