"""Images from a .npz file: arrays of pixels and labels, and further arrays to split by."""

import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vestry_strategies.bounded import BoundedPart, BoundedSums, stack_parts
from vestry_strategies.catalogue import LOWER_IS_BETTER
from vestry_strategies.rows import ContractViolation, DataFileError, Indexes, Rows
from vestry_strategies.schema import ImageTask
from vestry_strategies.sums import Arrays, Sums
from vestry_strategies.task import Design, Examples, Features, Task
from vestry_strategies.tasks.bounded_score import bounded_score
from vestry_strategies.tasks.models import build_model
from vestry_strategies.tasks.targets import (
    metric_names,
    primary_metric,
    read_targets,
    score,
    summarise,
    target_losses,
)

if TYPE_CHECKING:
    from vestry_strategies.study import StudySpec

__all__ = ["IMAGE", "ImageArrays", "image_features"]

_LEAST_DEVIATION = 0.01  # noise can make a variance as small as it likes


@dataclass(frozen=True)
class ImageArrays:
    """Arrays of a .npz file, all of the same length.

    Attributes:
        arrays: name -> array, shape (rows, ...).
    """

    arrays: dict[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values()))) if self.arrays else 0

    def take(self, indexes: Indexes) -> "ImageArrays":
        """The rows at ``indexes`` (shape (k,))."""
        return ImageArrays({name: array[indexes] for name, array in self.arrays.items()})

    def array(self, name: str) -> NDArray[Any]:
        """One array.

        Raises:
            DataFileError: there is no such array.
        """
        if name not in self.arrays:
            raise DataFileError(f"array '{name}' is missing; the file has: {', '.join(self.arrays)}")
        return self.arrays[name]


def _task(study: "StudySpec") -> ImageTask:
    if not isinstance(study.task, ImageTask):
        raise TypeError(f"task.kind={study.task.kind} is not image")
    return study.task


def _read(study: "StudySpec", path: Path) -> Rows:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise DataFileError(f"{path}: there is no such file") from None
    except (OSError, ValueError, TypeError, AttributeError, zipfile.BadZipFile):
        raise DataFileError(f"{path}: is no .npz file of plain arrays") from None
    lengths = {len(array) for array in arrays.values() if array.ndim}
    if len(lengths) != 1 or any(not array.ndim for array in arrays.values()):
        raise DataFileError(f"{path}: its arrays must all have the same number of rows")
    return ImageArrays(arrays)


def _arrays(rows: Rows) -> ImageArrays:
    if not isinstance(rows, ImageArrays):
        raise TypeError(f"rows={type(rows).__name__} must be ImageArrays")
    return rows


def _column(rows: Rows, name: str) -> NDArray[np.str_]:
    array = _arrays(rows).array(name)
    if array.ndim != 1:
        raise DataFileError(f"array '{name}' has shape {array.shape}; one value a row is needed")
    return array.astype(np.str_)


def _design(study: "StudySpec", rows: Rows) -> Design:
    task, arrays = _task(study), _arrays(rows)
    images = arrays.array(task.images)
    shape = (task.height, task.width, task.channels)
    if images.ndim == 3 and task.channels == 1:
        images = images[..., None]
    if images.shape[1:] != shape:
        raise DataFileError(
            f"array '{task.images}' has images of shape {images.shape[1:]}; "
            f"the study says height, width, channels = {shape}"
        )
    low, high = task.value_range
    flat = images.reshape(len(images), math.prod(shape))
    wrong = int((~((flat >= low) & (flat <= high)).all(axis=1)).sum())
    if wrong:
        raise ContractViolation(task.images, f"pixels in the range [{low:g}, {high:g}]", wrong)
    pixels = (images.astype(np.float32) - np.float32(low)) / np.float32(high - low)
    targets = read_targets(task.target, _column(rows, task.target.name))
    channels_first = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    return Design(channels_first, targets, np.arange(len(images), dtype=np.int64))


def _statistics(study: "StudySpec", design: Design) -> Sums:
    inputs = design.inputs
    pixels = float(len(design) * inputs.shape[2] * inputs.shape[3])
    return {
        "count": np.full(inputs.shape[1], pixels),
        "sum": inputs.sum(axis=(0, 2, 3), dtype=np.float64),
        "sum_of_squares": np.square(inputs, dtype=np.float64).sum(axis=(0, 2, 3)),
        "examples": np.array([float(len(design))]),
        "classes": np.bincount(design.targets, minlength=len(_task(study).target.classes or ())).astype(
            np.float64
        ),
    }


def _bounded_statistics(study: "StudySpec", design: Design) -> BoundedSums:
    """Each image's mean pixel and mean squared pixel by channel, all in [0, 1]."""
    pixels = np.clip(design.inputs.astype(np.float64), 0.0, 1.0)
    bound = pixels.shape[1] ** 0.5
    return stack_parts(
        {
            "persons": BoundedPart(np.ones((len(design), 1)), 1.0),
            "sum": BoundedPart(pixels.mean(axis=(2, 3)), bound),
            "sum_of_squares": BoundedPart((pixels**2).mean(axis=(2, 3)), bound),
        }
    )


def _fit_released(study: "StudySpec", sums: Arrays) -> Arrays:
    """Mean and deviation from noised sums; declared ones where nothing was released."""
    if not sums:
        return _declared(study)
    persons = max(float(sums["persons"][0]), 1.0)
    mean = np.clip(sums["sum"] / persons, 0.0, 1.0)
    variance = np.clip(sums["sum_of_squares"] / persons, 0.0, 1.0) - mean**2
    return {"mean": mean, "scale": np.sqrt(np.maximum(variance, _LEAST_DEVIATION**2))}


def _declared(study: "StudySpec") -> Arrays:
    task = _task(study)
    middle, deviation = (0.0, 1.0) if task.standardise == "none" else (0.5, 0.5)
    return {"mean": np.full(task.channels, middle), "scale": np.full(task.channels, deviation)}


def _fit(study: "StudySpec", sums: Arrays) -> Arrays:
    if _task(study).standardise in {"declared", "none"}:
        return _declared(study)
    count = np.maximum(sums["count"], 1.0)
    mean = sums["sum"] / count
    scale = np.sqrt(np.maximum(sums["sum_of_squares"] / count - mean**2, 0.0))
    return {"mean": mean, "scale": np.where(scale < 1e-6, 1.0, scale)}


def _encode(study: "StudySpec", preprocessing: Arrays, design: Design) -> Examples:
    mean = preprocessing["mean"].astype(np.float32)[:, None, None]
    scale = preprocessing["scale"].astype(np.float32)[:, None, None]
    return Examples((design.inputs - mean) / scale, design.targets)


def _shape(study: "StudySpec") -> tuple[int, int, int]:
    task = _task(study)
    return task.channels, task.height, task.width


def _blank(study: "StudySpec") -> Design:
    none = np.zeros(0, dtype=np.int64)
    return Design(np.zeros((0, *_shape(study)), dtype=np.float32), none, none)


image_features = Features(
    read=_read,
    column=_column,
    design=_design,
    statistics=_statistics,
    fit=_fit,
    encode=_encode,
    bounded_statistics=_bounded_statistics,
    fit_released=_fit_released,
    blank=_blank,
)
"""From a .npz file to examples; plug-in tasks may reuse it."""


IMAGE = Task(
    name="image",
    features=image_features,
    build_model=lambda study: build_model(study, _shape(study)),
    losses=target_losses,
    score=score,
    summarise=summarise,
    metrics=metric_names,
    primary=primary_metric,
    lower_is_better=LOWER_IS_BETTER,
    bounded_score=bounded_score,
)
"""Arrays of images."""
