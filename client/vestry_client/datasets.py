"""A site's data for one study: rows checked against the contract, split once, standardised once."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from vestry_strategies.rows import DataFileError, Indexes, Rows
from vestry_strategies.schema import Target
from vestry_strategies.seeds import derive_seed
from vestry_strategies.study import StudySpec
from vestry_strategies.sums import Arrays
from vestry_strategies.task import Design, Examples, Task

__all__ = ["SiteData", "open_data", "split_holdout"]


@dataclass
class SiteData:
    """The rows of one site for one study.

    Attributes:
        train: rows to train on; the only rows that statistics see.
        holdout: rows kept for evaluation.
    """

    train: Design
    holdout: Design
    _encoded: dict[str, tuple[Arrays, Examples]] = field(default_factory=dict)

    def examples(
        self, study: StudySpec, task: Task, preprocessing: Arrays, *, holdout: bool = False
    ) -> Examples:
        """Standardised examples; kept until another preprocessing comes."""
        part = "holdout" if holdout else "train"
        kept = self._encoded.get(part)
        if kept is None or not _same(kept[0], preprocessing):
            design = self.holdout if holdout else self.train
            kept = (preprocessing, task.features.encode(study, preprocessing, design))
            self._encoded[part] = kept
        return kept[1]


def _same(left: Arrays, right: Arrays) -> bool:
    return left.keys() == right.keys() and all(np.array_equal(left[name], right[name]) for name in left)


def open_data(study: StudySpec, task: Task, site: str, load: Callable[[], Rows]) -> SiteData:
    """Check, split and keep a site's rows.

    Args:
        study: gives contract, holdout and seed.
        task: reads and checks.
        site: name of the site; the split is its own.
        load: gives the rows.

    Raises:
        DataError: the rows break the contract, or there are none.
    """
    rows = load()
    if not len(rows):
        raise DataFileError("the data file has no rows")
    design = task.features.design(study, rows)
    if not len(design):
        raise DataFileError("no row is left after rows with missing values were dropped")
    held_out = split_holdout(study, task, site, rows, design)
    return SiteData(
        train=design.take(np.flatnonzero(~held_out)), holdout=design.take(np.flatnonzero(held_out))
    )


def split_holdout(
    study: StudySpec, task: Task, site: str, rows: Rows, design: Design
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which examples are held out.

    By a column of the file, or a share drawn by systematic sampling over the shuffled classes: the share
    holds over all rows and in each class, rounded up or down.

    Returns:
        (n,) bool, True for a held-out example of ``design``.
    """
    holdout = study.evaluation.holdout
    held_out = np.zeros(len(design), dtype=np.bool_)
    if holdout.column is not None:
        held_out[:] = task.features.column(rows, holdout.column)[design.kept] == holdout.test_value
        return held_out
    share = holdout.fraction or 0.0
    generator = np.random.default_rng(derive_seed(study.seed, "holdout", site))
    order = _class_order(study.task.target, design, generator)
    places = np.floor(np.arange(len(order) + 1) * share + generator.random())
    chosen = np.flatnonzero(np.diff(places) > 0)
    held_out[order[chosen]] = True
    return held_out


def _class_order(target: Target, design: Design, generator: np.random.Generator) -> Indexes:
    """Examples in random order, sorted by class where there are classes."""
    order = generator.permutation(len(design))
    if target.type == "regression":
        return order
    return order[np.argsort(design.targets[order], kind="stable")]
