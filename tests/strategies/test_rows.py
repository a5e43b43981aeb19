"""Data files as text: what is read, and refusals that never hold a cell."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vestry_strategies.rows import ContractViolation, DataFileError, distinct, read_table


def read(path: Path, content: str | bytes, delimiter: str = ",") -> dict[str, list[str]]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return {name: column.tolist() for name, column in read_table(path, delimiter).columns.items()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data.csv"


@pytest.mark.parametrize(
    "content",
    [
        "a,b\n1,x\n2,\n",
        "a,b\r\n1,x\r\n2,\r\n",
        "\ufeffa,b\n1,x\n2,\n",
        'a,b\n"1",x\n 2 ,\n',
        "a , b\n1,x\n\n2,\n",
        "a,b\n1,x\n2,",
    ],
)
def test_what_spreadsheets_write_is_read(path: Path, content: str) -> None:
    assert read(path, content) == {"a": ["1", "2"], "b": ["x", ""]}


def test_quotes_hold_delimiters_and_lines(path: Path) -> None:
    assert read(path, 'a,b\n"1,5","x\ny"\n') == {"a": ["1,5"], "b": ["x\ny"]}


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_other_delimiters(path: Path, delimiter: str) -> None:
    assert read(path, f"a{delimiter}b\n1{delimiter}2\n", delimiter) == {"a": ["1"], "b": ["2"]}


def test_a_header_alone_has_no_rows(path: Path) -> None:
    path.write_text("a,b\n")
    assert len(read_table(path, ",")) == 0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        ("\n1,2\n", "is empty"),
        ("a;b\n1;2\n", "one field with a semicolon in it; the study says the delimiter is a comma"),
        ("a\tb\n1\t2\n", "one field with a tab in it"),
        ("a,b,a\n1,2,3\n", "the header names 'a' twice"),
        ("a,b\n1,2\nSECRET\n", "line 3 has 1 fields, the header has 2"),
        ("a,b\n1,2,SECRET\n", "line 2 has 3 fields, the header has 2"),
        (b"a,b\n1,\xff\xfe\n", "is not UTF-8 text"),
        ('a,b\n1,"SECRET\n', "is not well-formed CSV"),
    ],
)
def test_what_cannot_be_read_is_refused_without_its_content(
    path: Path, content: str | bytes, said: str
) -> None:
    with pytest.raises(DataFileError) as error:
        read(path, content)
    assert said in str(error.value)
    assert "SECRET" not in str(error.value)


def test_files_that_are_not_there_or_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match="there is no such file"):
        read_table(tmp_path / "x.csv", ",")
    with pytest.raises(DataFileError, match="is a folder"):
        read_table(tmp_path, ",")


def test_a_column_that_is_not_there_is_named_with_those_that_are(path: Path) -> None:
    path.write_text("a,b\nSECRET,2\n")
    table = read_table(path, ",")
    assert table.column("b").tolist() == ["2"]
    with pytest.raises(DataFileError, match="column 'c' is missing; the file has: a, b"):
        table.column("c")


def test_rows_are_taken_in_the_order_asked(path: Path) -> None:
    path.write_text("a\n0\n1\n2\n")
    taken = read_table(path, ",").take(np.array([2, 0], dtype=np.int64))
    assert taken.column("a").tolist() == ["2", "0"]
    assert len(taken) == 2


cell = st.text(alphabet=st.sampled_from(" abcXYZ0189.;|éß漢-"), max_size=6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(cell, min_size=2, max_size=2), min_size=1, max_size=6))
def test_any_table_comes_back_without_blanks(
    tmp_path_factory: pytest.TempPathFactory, cells: list[list[str]]
) -> None:
    path = tmp_path_factory.mktemp("rows") / "x.csv"
    path.write_text("a,b\n" + "".join(f'"{x}","{y}"\n' for x, y in cells), encoding="utf-8", newline="")
    table = read_table(path, ",")
    assert table.column("a").tolist() == [x.strip() for x, _ in cells]
    assert table.column("b").tolist() == [y.strip() for _, y in cells]


def test_a_violation_says_column_and_rule_and_a_safe_count() -> None:
    assert str(ContractViolation("age", "a number", 9)) == (
        "column 'age': fewer than 10 rows break the rule: a number"
    )
    assert str(ContractViolation("age", "a number", 10)) == "column 'age': 10 rows break the rule: a number"


def test_distinct_values_are_sorted_as_numbers_first() -> None:
    assert distinct(["b", "10", "9", "b", "a"]) == ["9", "10", "a", "b"]
