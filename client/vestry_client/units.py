"""Who owns which row: privacy units, and a split of whole persons by a keyed hash.

The key never leaves the site, so nobody outside knows who is held out, and the same person is on the same
side in every study that holds out the same share.
"""

import hashlib
import hmac

import numpy as np
from numpy.typing import NDArray

from vestry_client.dataset_file import one_spelling
from vestry_strategies.recipe import PrivacySpec
from vestry_strategies.rows import ContractViolation, Indexes, Rows
from vestry_strategies.task import Design, Task

__all__ = ["ROW", "Owners", "read_owners", "split_persons"]

ROW = "row"
"""In place of a column's name: every row is declared to be another person."""

Owners = tuple[Indexes, list[str]]
"""((n,) number of each example's owner, the identifiers of all persons of the file in that order)."""


def read_owners(privacy: PrivacySpec, task: Task, rows: Rows, design: Design) -> Owners:
    """Who owns each example.

    Args:
        privacy: names the unit and its column.
        task: reads the column.
        rows: of the file.
        design: the examples, which know their row.

    Raises:
        DataFileError: there is no such column.
        ContractViolation: a row without an identifier; the message holds no value.

    Guarantees:
        Persons and refusals are of the file and its column alone, whatever rows a study chooses. An
        identifier has one spelling, the one by which the ledger compares populations.
    """
    if privacy.unit != "patient" or privacy.unit_column in {None, ROW}:
        return design.kept.astype(np.int64), [str(row) for row in range(len(rows))]
    column = str(privacy.unit_column)
    texts, places = np.unique(task.features.column(rows, column), return_inverse=True)
    spelt = np.array([one_spelling(str(text)) for text in texts], dtype=np.str_)
    missing = int((spelt[places] == "").sum())
    if missing:
        raise ContractViolation(column, "an identifier of the patient in every row", missing)
    names, numbers = np.unique(spelt, return_inverse=True)
    return numbers[places][design.kept].astype(np.int64), [str(name) for name in names]


def split_persons(owners: Owners, key: bytes, share: float) -> NDArray[np.bool_]:
    """Which examples are held out: all of a person's or none.

    Args:
        owners: from :func:`read_owners`.
        key: secret of the site.
        share: of the persons, on average.

    Returns:
        (n,) True for a held-out example.

    Guarantees:
        Whether a person is held out depends on the key and their identifier, on nobody else.
    """
    numbers, names = owners
    drawn = np.array([_uniform(key, name) < share for name in names], dtype=np.bool_)
    return drawn[numbers] if len(numbers) else np.zeros(0, dtype=np.bool_)


def _uniform(key: bytes, name: str) -> float:
    digest = hmac.digest(key, b"vestry-holdout/1|" + name.encode(), hashlib.sha256)
    return int.from_bytes(digest[:7], "big") / 2.0**56
