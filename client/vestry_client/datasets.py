"""A site's data for one study: rows checked against the contract, split once, standardised once.

Without [privacy] rows that break the contract refuse the study. Under [privacy] each of them is left out by
itself: the contract is the coordinator's to choose, and a refusal would answer, exactly and free of charge,
whether any row has some value.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vestry_client.units import Owners, read_owners, split_persons
from vestry_privacy.disclosure import safe_count
from vestry_strategies.rows import ContractViolation, DataFileError, Indexes, Rows
from vestry_strategies.schema import Target
from vestry_strategies.seeds import derive_seed
from vestry_strategies.study import StudySpec
from vestry_strategies.sums import Arrays
from vestry_strategies.task import Design, Examples, Task

__all__ = ["SiteData", "open_data", "split_holdout"]

_Flags = NDArray[np.bool_]
_log = logging.getLogger("vestry.site")


@dataclass
class SiteData:
    """The rows of one site for one study.

    Attributes:
        train: rows to train on; the only rows that statistics see.
        holdout: rows kept for evaluation.
        train_owners: (n,) number of each training row's privacy unit; a row each without [privacy].
        holdout_owners: the same of the held-out rows.
        persons: privacy units in the whole file, whatever the study leaves out; never leaves the site.
    """

    train: Design
    holdout: Design
    train_owners: Indexes = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    holdout_owners: Indexes = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    persons: int = 0
    _encoded: dict[str, tuple[Arrays, Examples]] = field(default_factory=dict)

    def examples(
        self, study: StudySpec, task: Task, preprocessing: Arrays, *, holdout: bool = False
    ) -> Examples:
        """Standardised examples; kept until another preprocessing comes."""
        part = "holdout" if holdout else "train"
        kept = self._encoded.get(part)
        if kept is None or not _same(kept[0], preprocessing):
            design = self.holdout if holdout else self.train
            with np.errstate(all="ignore"):  # whoever sends extreme arrays gets values that count as zero
                kept = (preprocessing, task.features.encode(study, preprocessing, design))
            self._encoded[part] = kept
        return kept[1]


def _same(left: Arrays, right: Arrays) -> bool:
    return left.keys() == right.keys() and all(np.array_equal(left[name], right[name]) for name in left)


def open_data(
    study: StudySpec, task: Task, site: str, load: Callable[[], Rows], secret: bytes = b""
) -> SiteData:
    """Check, split and keep a site's rows.

    Args:
        study: gives contract, holdout and seed.
        task: reads and checks.
        site: name of the site; the split is its own.
        load: gives the rows.
        secret: of the site, for the split of persons under [privacy].

    Raises:
        DataError: there are no rows, or no such column; without [privacy] also where rows break the contract.

    Guarantees:
        Under [privacy] whether it raises, and which of a person's rows are in, depends on the file as a whole
        and on that person's own rows; never does a study's choice of rows decide whether it raises.
    """
    rows = load()
    if not len(rows):
        raise DataFileError("the data file has no rows")
    if study.privacy is None:
        design = task.features.design(study, rows)
        if not len(design):
            raise DataFileError("no row is left after rows with missing values were dropped")
        held_out = split_holdout(study, task, site, rows, design)
        owners, persons = np.arange(len(design), dtype=np.int64), len(design)
    else:
        design = _conforming(study, task, rows)
        found = read_owners(study.privacy, task, rows, design)
        held_out = _split_persons(study, task, rows, design, found, secret)
        owners, persons = found[0], len(found[1])
    train, test = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    return SiteData(design.take(train), design.take(test), owners[train], owners[test], persons)


def _conforming(study: StudySpec, task: Task, rows: Rows) -> Design:
    """The rows that keep the contract, each judged by itself."""
    try:
        return task.features.design(study, rows)
    except ContractViolation as error:
        first = error
    good: list[int] = []
    parts = [np.arange(len(rows), dtype=np.int64)]
    while parts:
        part = parts.pop()
        try:
            task.features.design(study, rows.take(part))
        except ContractViolation:
            if len(part) > 1:
                parts += [part[len(part) // 2 :], part[: len(part) // 2]]
        else:
            good += part.tolist()
    kept = np.array(good, dtype=np.int64)
    left_out = safe_count(len(rows) - len(kept))
    _log.warning("study %s: %s left out, first because: %s", study.digest()[:12], left_out, first)
    design = task.features.design(study, rows.take(kept))
    return Design(design.inputs, design.targets, kept[design.kept])


def _split_persons(
    study: StudySpec, task: Task, rows: Rows, design: Design, owners: Owners, secret: bytes
) -> _Flags:
    """Whole persons are held out: by a keyed hash, or where a column says it of any of their rows."""
    holdout = study.evaluation.holdout
    if holdout.column is None:
        return split_persons(owners, secret, holdout.fraction or 0.0)
    said = task.features.column(rows, holdout.column)[design.kept] == holdout.test_value
    of_person = np.bincount(owners[0], weights=said, minlength=len(owners[1])) > 0
    return of_person[owners[0]]


def split_holdout(study: StudySpec, task: Task, site: str, rows: Rows, design: Design) -> _Flags:
    """Which examples are held out of a study without [privacy].

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
