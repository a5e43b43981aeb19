"""Study texts and tables for tests of the recipe."""

from typing import Any

import numpy as np

from tests.client.bench import make_study, make_table
from vestry_strategies.rows import Table
from vestry_strategies.study import StudySpec, parse_study

__all__ = [
    "DECLARED",
    "FULL_BATCH",
    "IMAGE_STUDY",
    "MULTI_STUDY",
    "NUMBERS_STUDY",
    "PRIVACY",
    "PRIVATE",
    "image_study",
    "make_study",
    "make_table",
    "private_study",
    "table",
]

NUMBERS_STUDY = """
version = 1
[study]
name = "numbers"
purpose = "p"
initiator = "i"
[task]
kind = "tabular"
[task.target]
name = "y"
type = "regression"
[[task.features]]
name = "x"
type = "number"
missing = "mean"
missing_codes = [-9]
[[task.features]]
name = "flag"
type = "boolean"
missing = "mean"
[[task.features]]
name = "kind"
type = "category"
categories = ["1", "2", "blue"]
missing = "category"
[model]
kind = "linear"
[training]
rounds = 1
local_epochs = 1
learning_rate = 0.1
[aggregation]
secure = false
"""

MULTI_STUDY = NUMBERS_STUDY.replace(
    'type = "regression"', 'type = "multiclass"\nclasses = ["a", "b", "c"]'
).replace('kind = "linear"', 'kind = "logistic"')

IMAGE_STUDY = """
version = 1
[study]
name = "pictures"
purpose = "p"
initiator = "i"
[task]
kind = "image"
height = 6
width = 4
channels = 2
[task.target]
name = "labels"
type = "multiclass"
classes = ["0", "1", "2"]
[model]
kind = "cnn"
channels = [4]
hidden = 8
[training]
rounds = 1
local_epochs = 1
learning_rate = 0.1
[aggregation]
secure = false
"""

PRIVACY = """[privacy]
unit_column = "patient"
epsilon = 3.0
delta = 1e-3
sampling_probability = 0.25
"""

PRIVATE = (
    ('name = "dose"\ntype = "number"', 'name = "dose"\ntype = "number"\nrange = [-6, 6]'),
    ("[evaluation]", PRIVACY + "[evaluation]"),
)

DECLARED = ('kind = "tabular"', 'kind = "tabular"\nstandardise = "declared"')

FULL_BATCH = ("sampling_probability = 0.25", 'sampling = "full_batch"')
"""Its noise is found in no time, by a closed form."""


def private_study(*changes: tuple[str, str]) -> StudySpec:
    """The small study under differential privacy of its patients, changed."""
    return make_study(*PRIVATE, *changes)


def image_study(*changes: tuple[str, str]) -> StudySpec:
    """The image study with some of its text replaced."""
    text = IMAGE_STUDY
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return parse_study(text)


def table(**columns: list[Any]) -> Table:
    """A table of texts."""
    return Table(
        {name: np.array([str(cell) for cell in cells], dtype=np.str_) for name, cells in columns.items()}
    )
