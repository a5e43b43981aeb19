"""From a study to the plan of a secure sum: pure functions that both sides call.

The coordinator makes a plan and signs it; each site makes the same plan from the study it approved and its
own directory, and refuses the coordinator's if they differ in any field (docs/secagg-protocol.md). So
threshold, ring, bounds, shapes and the least number of organisations are taken from nobody.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from vestry_privacy.canonical import canonical_bytes, canonical_hash
from vestry_privacy.secagg.directory import Directory
from vestry_privacy.secagg.plan import (
    MIN_SITES,
    Plan,
    honest_crowd,
    most_colluders,
    threshold,
    tolerated_dropouts,
)
from vestry_strategies.private_plan import releases_statistics
from vestry_strategies.study import StudyError, StudySpec
from vestry_strategies.sums import Arrays, Sums

if TYPE_CHECKING:
    from vestry_strategies.task import Design, Task

__all__ = [
    "DIVERGED",
    "LARGEST_WEIGHT_LIMIT",
    "LOSS",
    "STATISTICS_WEIGHT_LIMIT",
    "SumKind",
    "SumLayout",
    "configuration_hash",
    "crowd_words",
    "evaluates_after",
    "round_plan",
    "sum_layout",
]

SumKind = Literal["statistics", "train", "evaluate"]

LARGEST_WEIGHT_LIMIT = 2**40
"""Most that one site's weight may be, whatever the coordinator says."""

STATISTICS_WEIGHT_LIMIT = LARGEST_WEIGHT_LIMIT
"""Of round 0, where no weight is known yet; nothing is scaled by it there."""

DIVERGED = "diverged"
"""Name of the wide value of a training sum that counts sites whose training went wrong: they add zeros."""

LOSS = "loss"
"""Name of the wide value of a training sum: weight times loss."""

_LANE_BITS = 21
_VALUE_RANGE = 8.0


@dataclass(frozen=True)
class SumLayout:
    """Named sums as one run of wide values.

    Attributes:
        shapes: name -> shape, in the order of the values.
    """

    shapes: Mapping[str, tuple[int, ...]]

    @cached_property
    def size(self) -> int:
        """k, number of values."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def flatten(self, sums: Arrays) -> NDArray[np.float64]:
        """One site's sums as (k,) values.

        Raises:
            ValueError: other names or shapes.
        """
        if sums.keys() != self.shapes.keys():
            raise ValueError(f"names={sorted(sums)} are not {sorted(self.shapes)}")
        for name, shape in self.shapes.items():
            if np.shape(sums[name]) != shape:
                raise ValueError(f"{name}: shape={np.shape(sums[name])} is not {shape}")
        parts = [np.asarray(sums[name], dtype=np.float64).ravel() for name in self.shapes]
        return np.concatenate([*parts, np.zeros(0)])

    def read(self, wide: NDArray[np.float64]) -> Sums:
        """The named sums of (k,) values.

        Raises:
            ValueError: another length.
        """
        if wide.shape != (self.size,):
            raise ValueError(f"shape={wide.shape} must be ({self.size},)")
        sums: Sums = {}
        offset = 0
        for name, shape in self.shapes.items():
            length = math.prod(shape)
            sums[name] = wide[offset : offset + length].reshape(shape).copy()
            offset += length
        return sums


def sum_layout(
    study: StudySpec, task: "Task", kind: SumKind, preprocessing: Arrays | None = None
) -> SumLayout:
    """What is summed beside the update, known before any data are read.

    Args:
        study: the study.
        task: its functions.
        kind: of the sum.
        preprocessing: of an evaluation; default: what the study's task makes of no rows. It has no influence
            on the shapes.

    Raises:
        StudyError: the task cannot say its shapes without data.
    """
    if kind == "train":
        return SumLayout({} if study.privacy is not None else {LOSS: (), DIVERGED: ()})
    privacy = study.privacy
    if kind == "statistics":
        if privacy is not None and (privacy.unit == "site" or not releases_statistics(study)):
            return SumLayout({})
        return _statistics(study, task)
    if privacy is not None and not privacy.metrics:
        return SumLayout({})
    return _evaluation(study, task, preprocessing or _no_rows_fitted(study, task))


def _statistics(study: StudySpec, task: "Task") -> SumLayout:
    blank = _blank(study, task)
    if study.privacy is None:
        return _layout_of(task.features.statistics(study, blank))
    if task.features.bounded_statistics is None:
        raise StudyError(
            f"task: '{task.name}' has no bounded form of its statistics, so nothing of round 0 may leave "
            "under [privacy]; give the plug-in bounded_statistics and fit_released"
        )
    return SumLayout(dict(task.features.bounded_statistics(study, blank).shapes))


def _evaluation(study: StudySpec, task: "Task", preprocessing: Arrays) -> SumLayout:
    target = study.task.target
    outputs = np.zeros((0, target.outputs), dtype=np.float32)
    targets = np.zeros(0, dtype=np.float32 if target.type == "regression" else np.int64)
    losses = np.zeros(0, dtype=np.float32)
    if study.privacy is None:
        return _layout_of(task.score(study, preprocessing, outputs, targets, losses))
    if task.bounded_score is None:
        raise StudyError(
            f"privacy.metrics: the task '{task.name}' has no bounded form of its metrics, so none may leave; "
            "leave privacy.metrics empty"
        )
    names = study.privacy.metrics
    return SumLayout(dict(task.bounded_score(study, preprocessing, names, outputs, targets, losses).shapes))


def _no_rows_fitted(study: StudySpec, task: "Task") -> Arrays:
    """A preprocessing with the study's names and shapes, made of no data."""
    features = task.features
    if study.privacy is not None and features.fit_released is not None:
        return features.fit_released(study, {})
    return features.fit(study, features.statistics(study, _blank(study, task)))


def _blank(study: StudySpec, task: "Task") -> "Design":
    if task.features.blank is None:
        raise StudyError(
            f"aggregation.secure: the task '{task.name}' cannot say the shapes of its sums before it reads "
            "data; give the plug-in features.blank, or write secure = false"
        )
    return task.features.blank(study)


def _layout_of(sums: Arrays) -> SumLayout:
    return SumLayout({name: np.shape(array) for name, array in sums.items()})


def evaluates_after(study: StudySpec, number: int) -> bool:
    """Does the study evaluate its model after this round?"""
    rounds = study.training.rounds
    if study.privacy is not None and not study.privacy.metrics:
        return False
    return 1 <= number <= rounds and (number % study.evaluation.every == 0 or number == rounds)


def round_plan(
    study: StudySpec,
    *,
    run: str,
    kind: SumKind,
    round: int,  # noqa: A002 - the plan's word
    sequence: int,
    directory: Directory,
    roster: tuple[bytes, ...],
    model: bytes,
    configuration: bytes,
    values: int,
    wide: int,
    weight_limit: int,
) -> Plan:
    """The plan of one sum; everything that is no argument follows from the study.

    Args:
        study: the study.
        run: name of the run.
        kind: of the sum.
        round: of the study; 0 for statistics.
        sequence: of the run.
        directory: whose version and members count.
        roster: key hashes, ascending.
        model: hash of the global model, 32 bytes; for statistics the study's hash.
        configuration: from :func:`configuration_hash`.
        values: d.
        wide: k, the size of :func:`sum_layout`.
        weight_limit: most that a site's weight may be.

    Returns:
        The plan, not yet checked: see :meth:`~vestry_privacy.secagg.plan.Plan.check`.
    """
    rule = study.aggregation
    privacy = study.privacy
    block = b"" if privacy is None else canonical_bytes(privacy.model_dump(mode="json", exclude_none=True))
    return Plan(
        study=bytes.fromhex(study.digest()),
        run=run,
        kind=kind,
        sequence=sequence,
        round=round,
        directory=directory.version,
        roster=roster,
        model=model,
        configuration=configuration,
        code=_code_hash(),
        values=values,
        wide=wide,
        lane_bits=rule.lane_bits or _LANE_BITS,
        value_range=rule.value_range or _VALUE_RANGE,
        weight_limit=weight_limit,
        threshold=threshold(len(roster)),
        least=max(rule.min_sites, MIN_SITES),
        privacy=block,
        deadline=rule.deadline_seconds,
    )


@lru_cache(maxsize=1)
def _code_hash() -> bytes:
    """Of the software's name and version: sites that run different code do not add up."""
    try:
        number = version("vestry")
    except PackageNotFoundError:
        number = "source"
    return bytes.fromhex(canonical_hash("vestry-code/1", ["vestry", number]))


def configuration_hash(preprocessing: Arrays, shared: Arrays) -> bytes:
    """Hash of the arrays that come with an order, 32 bytes."""
    plain = [_plain(preprocessing), _plain(shared)]
    return bytes.fromhex(canonical_hash("vestry-configuration/1", plain))


def _plain(arrays: Arrays) -> dict[str, list[object]]:
    return {
        name: [str(array.dtype), list(np.shape(array)), np.ascontiguousarray(array).tobytes()]
        for name, array in arrays.items()
    }


def crowd_words(sites: int) -> str:
    """Among how many honest sites an update is hidden, in words; the two numbers it stands on beside it."""
    lost, against = tolerated_dropouts(sites), most_colluders(sites)
    helps = "collude" if against > 1 else "colludes"
    return (
        f"an update is hidden among at least t - c = {honest_crowd(sites)} honest sites ({sites} sites, at "
        f"most {against} {helps} with the coordinator, {lost or 'none'} may drop out)"
    )
