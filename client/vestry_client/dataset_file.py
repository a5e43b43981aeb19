"""What the ledger learns of a data file: its fingerprint and its persons' identifiers, never another value.

Raises the errors of ``vestry_strategies.rows``: DataFileError, ContractViolation.
"""

import hashlib
import re
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vestry_strategies.rows import ContractViolation, DataFileError, read_table

__all__ = ["file_fingerprint", "identifiers_of", "one_spelling"]


def file_fingerprint(path: Path) -> str:
    """SHA-256 over a file's bytes, as 64 hexadecimal digits.

    Raises:
        DataFileError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise DataFileError(f"{path}: there is no such file") from None
    except OSError as error:
        raise DataFileError(f"{path}: cannot be read ({error.strerror})") from None


def identifiers_of(path: Path, column: str, delimiter: str = ",", *, distinct: bool = False) -> list[str]:
    """The distinct identifiers of a data file's persons.

    Args:
        path: a delimited text file, or ``.npz`` with an array of identifiers.
        column: of identifiers.
        delimiter: of a text file.
        distinct: must every row be another person?

    Returns:
        Sorted texts; leading zeros of a number and the fraction of 17.0 are left out, since one person's
        identifier is spelt in both ways after a spreadsheet.

    Raises:
        DataFileError: the file cannot be read, or has no such column.
        ContractViolation: rows without an identifier, or several rows of a person against ``distinct``.

    Guarantees:
        No message holds an identifier or a number of rows below the minimum cell.
    """
    is_npz = path.suffix.lower() == ".npz"
    values = _array(path, column) if is_npz else read_table(path, delimiter).column(column)
    identifiers = [one_spelling(str(value)) for value in values]
    empty = identifiers.count("")
    if empty:
        raise ContractViolation(column, "every row has an identifier of its person", empty)
    found, counts = np.unique(np.array(identifiers, dtype=np.str_), return_counts=True)
    if distinct and (counts > 1).any():
        rule = "every row is another person, as the policy declares"
        raise ContractViolation(column, rule, int(counts[counts > 1].sum()))
    return [str(value) for value in found]


def one_spelling(text: str) -> str:
    """One spelling of an identifier, '' for none: a spreadsheet drops leading zeros and makes 17 a 17.0."""
    text = unicodedata.normalize("NFC", text.strip())
    text = re.sub(r"^(\d+)\.0+$", r"\1", text)
    if text.lower() == "nan":
        return ""
    return text.lstrip("0") or "0" if text.isdecimal() else text


def _array(path: Path, column: str) -> NDArray[np.str_]:
    try:
        with np.load(path, allow_pickle=False) as file:
            if column not in file.files:
                known = ", ".join(file.files)
                raise DataFileError(f"array '{column}' is missing; the file has: {known}")
            array = file[column]
    except FileNotFoundError:
        raise DataFileError(f"{path}: there is no such file") from None
    except (OSError, ValueError, TypeError, AttributeError, zipfile.BadZipFile):
        raise DataFileError(f"{path}: is no .npz file of plain arrays") from None
    if array.ndim != 1:
        raise DataFileError(f"{path}: array '{column}' must have one identifier a row")
    texts: NDArray[np.str_] = array.astype(np.str_)
    return texts
