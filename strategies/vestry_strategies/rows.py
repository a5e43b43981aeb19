"""Data files as they are: columns of text, nothing interpreted, nothing copied into an error.

Errors of data::

    VestryError
    └── DataError
        ├── DataFileError       the file is missing, is no such file, or lacks a column
        └── ContractViolation   rows break the study's contract: column and rule, never a value
"""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vestry_privacy.disclosure import safe_count
from vestry_privacy.errors import VestryError

__all__ = [
    "ContractViolation",
    "DataError",
    "DataFileError",
    "Indexes",
    "Rows",
    "Table",
    "distinct",
    "read_table",
]

Indexes = NDArray[np.int64]
"""Places of rows, shape (k,)."""

_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}


class DataError(VestryError):
    """A data file cannot be used as it is."""


class DataFileError(DataError):
    """The file cannot be read, or a column is not there."""


class ContractViolation(DataError):
    """Some rows break a rule of the study's contract.

    Guarantees:
        The message holds the column, the rule and a safe count of rows; no value of any row.
    """

    def __init__(self, column: str, rule: str, rows: int) -> None:
        self.column, self.rule = column, rule
        super().__init__(f"column '{column}': {safe_count(rows)} break the rule: {rule}")


class Rows(Protocol):
    """Rows of a data file, before any of them is interpreted."""

    def __len__(self) -> int: ...

    def take(self, indexes: Indexes) -> "Rows":
        """The rows at ``indexes`` (shape (k,)), in that order."""
        ...


@dataclass(frozen=True)
class Table:
    """Columns of text.

    Attributes:
        columns: name of the column -> array of str, shape (rows,), without surrounding blanks.
    """

    columns: dict[str, NDArray[np.str_]]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def take(self, indexes: Indexes) -> "Table":
        """The rows at ``indexes`` (shape (k,)), in that order."""
        return Table({name: column[indexes] for name, column in self.columns.items()})

    def column(self, name: str) -> NDArray[np.str_]:
        """One column, shape (rows,).

        Raises:
            DataFileError: there is no such column.
        """
        if name not in self.columns:
            known = ", ".join(self.columns)
            raise DataFileError(f"column '{name}' is missing; the file has: {known}")
        return self.columns[name]


def read_table(path: Path, delimiter: str) -> Table:
    """Read a delimited text file with a header line.

    Args:
        path: UTF-8 text, with or without byte order mark.
        delimiter: what separates fields; one character.

    Raises:
        DataFileError: missing, not text, no header, another delimiter, or a line with a wrong
            number of fields (named by its number, not its content).
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _parse(path, csv.reader(file, delimiter=delimiter, strict=True), delimiter)
    except FileNotFoundError:
        raise DataFileError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise DataFileError(f"{path}: is a folder; name a file") from None
    except UnicodeDecodeError:
        raise DataFileError(f"{path}: is not UTF-8 text; export it as CSV in UTF-8") from None
    except csv.Error as error:
        raise DataFileError(f"{path}: is not well-formed CSV ({error})") from None
    except OSError as error:
        raise DataFileError(f"{path}: cannot be read ({error.strerror})") from None


def _parse(path: Path, lines: Iterator[list[str]], delimiter: str) -> Table:
    header = [name.strip() for name in next(lines, [])]
    if not any(header):
        raise DataFileError(f"{path}: is empty; its first line must name the columns")
    _check_header(path, header, delimiter)
    records: list[list[str]] = []
    for number, fields in enumerate(lines, start=2):
        if not fields:
            continue
        if len(fields) != len(header):
            raise DataFileError(
                f"{path}: line {number} has {len(fields)} fields, the header has {len(header)}"
            )
        records.append([field.strip() for field in fields])
    cells = zip(*records, strict=True) if records else iter([[] for _ in header])
    return Table({name: np.array(cell, dtype=np.str_) for name, cell in zip(header, cells, strict=True)})


def _check_header(path: Path, header: list[str], delimiter: str) -> None:
    if len(header) == 1:
        for other, word in _DELIMITERS.items():
            if other != delimiter and other in header[0]:
                raise DataFileError(
                    f"{path}: the header is one field with a {word} in it; the study says the "
                    f"delimiter is a {_DELIMITERS.get(delimiter, delimiter)}: change task.delimiter "
                    "or export the file again"
                )
    doubled = sorted({name for name in header if header.count(name) > 1})
    if doubled:
        raise DataFileError(f"{path}: the header names {', '.join(map(repr, doubled))} twice")


def distinct(values: Iterable[str]) -> list[str]:
    """The distinct values in sorted order, numbers by value before text."""

    def order(value: str) -> tuple[int, float, str]:
        try:
            return (0, float(value), value)
        except ValueError:
            return (1, 0.0, value)

    return sorted(set(values), key=order)
