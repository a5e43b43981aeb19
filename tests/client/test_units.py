"""Who owns which row, and a split that moves nobody when somebody else comes or goes."""

import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.client.clinic import SECRET, private_study, visits
from vestry_client.units import Owners, read_owners, split_persons
from vestry_strategies.recipe import PrivacySpec
from vestry_strategies.rows import ContractViolation, DataFileError, Table
from vestry_strategies.tasks.registry import find_task

STUDY = private_study()
TASK = find_task(STUDY)


def owners(table: Table, *changes: tuple[str, str]) -> Owners:
    study = private_study(*changes)
    assert isinstance(study.privacy, PrivacySpec)
    return read_owners(study.privacy, TASK, table, TASK.features.design(study, table))


def named(table: Table, names: list[str]) -> Table:
    return Table({**table.columns, "patient": np.array(names)})


def test_rows_of_one_identifier_are_one_persons() -> None:
    table = named(visits(3, 2), ["B", "A", "C", "A", "B", "A"])
    numbers, names = owners(table)
    assert names == ["A", "B", "C"]
    assert numbers.tolist() == [1, 0, 2, 0, 1, 0]


def test_a_person_has_one_spelling() -> None:
    """As many units as the ledger counts: two spellings as two units would double what a person may add."""
    spelt = ["0017", "17", " 17 ", "17.0", "M\u00fcller", unicodedata.normalize("NFD", "M\u00fcller")]
    numbers, names = owners(named(visits(3, 2), spelt))
    assert names == ["17", "M\u00fcller"]
    assert numbers.tolist() == [0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize("empty", ["", "  ", "nan", "NaN"])
def test_a_row_without_an_identifier_is_refused_without_a_value(empty: str) -> None:
    table = named(visits(20, 1), ["Mrs Miller"] * 18 + [empty] * 2)
    with pytest.raises(ContractViolation) as error:
        owners(table)
    assert "column 'patient': fewer than 10 rows break the rule: an identifier" in str(error.value)
    assert "Miller" not in str(error.value)


def test_the_study_does_not_choose_whose_identifier_is_looked_for() -> None:
    """Else it could ask, value by value, whether a row without an identifier has it."""
    table = visits(20, 1)
    age = table.column("age").copy()
    age[3] = ""
    names = table.column("patient").copy()
    names[3] = ""
    spoilt = Table({**table.columns, "age": age, "patient": names})
    with pytest.raises(ContractViolation):
        owners(spoilt, ('missing = "mean"', 'missing = "drop-row"'))


def test_an_unknown_column_is_named() -> None:
    with pytest.raises(DataFileError, match="column 'case' is missing; the file has: patient, clinic"):
        owners(visits(), ('unit_column = "patient"', 'unit_column = "case"'))


@pytest.mark.parametrize(
    "unit", ['unit = "record"', 'unit = "patient"\nunit_column = "row"'], ids=["record", "row"]
)
def test_every_row_may_be_declared_another_person(unit: str) -> None:
    table = visits(10, 2)
    numbers, names = owners(
        table,
        ('unit = "patient"\nunit_column = "patient"', unit),
        ('missing = "mean"', 'missing = "drop-row"'),
    )
    kept = np.flatnonzero(table.column("age") != "")
    assert len(kept) < len(table)
    assert numbers.tolist() == kept.tolist()  # a row that is left out moves no other
    assert len(names) == len(table)


@settings(max_examples=50, deadline=None)
@given(
    names=st.lists(st.text("abc0123456789", min_size=1, max_size=6), min_size=1, max_size=40),
    gone=st.sets(st.integers(0, 39)),
    share=st.floats(0.05, 0.95),
    key=st.binary(min_size=1, max_size=40),
)
def test_a_person_stays_on_their_side_whoever_else_is_there(
    names: list[str], gone: set[int], share: float, key: bytes
) -> None:
    def sides(present: list[str]) -> dict[str, bool]:
        found = sorted(set(present))
        numbers = np.array([found.index(name) for name in present], dtype=np.int64)
        flags = split_persons((numbers, found), key, share)
        assert len({(n, bool(f)) for n, f in zip(present, flags, strict=True)}) == len(found)  # whole persons
        return dict(zip(present, flags.tolist(), strict=True))

    whole = sides(names)
    rest = [name for place, name in enumerate(names) if place not in gone]
    assert all(whole[name] == side for name, side in sides(rest).items())


@pytest.mark.parametrize("share", [0.1, 0.25, 0.7])
def test_the_share_is_about_right_and_larger_shares_hold_smaller_ones(share: float) -> None:
    count = 4000
    everybody: Owners = (np.arange(count), [f"P{n}" for n in range(count)])
    held = split_persons(everybody, SECRET, share)
    deviation = (count * share * (1 - share)) ** 0.5
    assert abs(held.sum() - count * share) < 5 * deviation
    more = split_persons(everybody, SECRET, share + 0.1)
    assert not (held & ~more).any()
    other = split_persons(everybody, b"another key", share)
    both = count * share**2
    assert abs((held & other).sum() - both) < 5 * both**0.5  # the key decides, not the name


def test_nobody_is_on_no_side() -> None:
    assert split_persons((np.zeros(0, dtype=np.int64), []), SECRET, 0.5).shape == (0,)
