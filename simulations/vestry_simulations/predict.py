"""Use a model artefact on new rows."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vestry_simulations.partition import SimulationError
from vestry_strategies.artefact import ModelArtefact, load_artefact
from vestry_strategies.parameters import FlatModel
from vestry_strategies.rows import Rows, Table
from vestry_strategies.sums import Arrays
from vestry_strategies.task import Task
from vestry_strategies.tasks.image import ImageArrays
from vestry_strategies.tasks.registry import find_task

__all__ = ["Predictions", "predict_file", "to_csv"]


@dataclass(frozen=True)
class Predictions:
    """One prediction a row.

    Attributes:
        rows: (n,) numbers of the rows in the file, from 1; rows with values that the study drops are
            not among them.
        columns: name -> (n,) values: ``prediction``, and for classes a ``probability:CLASS`` each.
    """

    rows: NDArray[np.int64]
    columns: dict[str, NDArray[Any]]


def predict_file(
    model: Path, data: Path, allowed_plugins: tuple[str, ...] = (), reference: Path | None = None
) -> Predictions:
    """Predict for every row of a file.

    Args:
        model: a model artefact.
        data: rows with the study's features; the target column may be absent.
        allowed_plugins: third-party tasks that may be imported.
        reference: rows to standardise by, where the study standardises each site by its own.

    Raises:
        ModelFileError: the model file is refused.
        DataError: the rows break the study's contract.
        SimulationError: a per-site study and no reference.
    """
    artefact = load_artefact(model)
    task = find_task(artefact.study, allowed_plugins)
    rows = _with_target(artefact, task.features.read(artefact.study, data))
    preprocessing = _preprocessing(artefact, task, reference)
    design = task.features.design(artefact.study, rows)
    examples = task.features.encode(artefact.study, preprocessing, design)
    flat = FlatModel(task.build_model(artefact.study))
    flat.load(flat.layout.join(artefact.tensors))
    flat.module.eval()
    with torch.no_grad():
        outputs = flat.module(torch.from_numpy(examples.inputs)).double().numpy()
    return Predictions(design.kept + 1, _columns(artefact, preprocessing, outputs))


def _with_target(artefact: ModelArtefact, rows: Rows) -> Rows:
    """New patients have no diagnosis yet: fill the target in with any legal value, unused."""
    target = artefact.study.task.target
    legal = (target.classes or ("0",))[0]
    if target.range is not None:
        legal = repr(target.range[0])
    column = np.full(len(rows), legal)
    if isinstance(rows, Table):
        return Table({**rows.columns, target.name: column})
    if isinstance(rows, ImageArrays):
        return ImageArrays({**rows.arrays, target.name: column})
    return rows  # a plug-in's own kind of rows must have the target


def _preprocessing(artefact: ModelArtefact, task: Task, reference: Path | None) -> Arrays:
    if getattr(artefact.study.task, "standardise", "shared") != "per-site":
        return artefact.preprocessing
    if reference is None:
        raise SimulationError(
            "this model standardises each site by its own data (task.standardise = 'per-site'); "
            "give rows of the site with --reference FILE"
        )
    rows = task.features.read(artefact.study, reference)
    design = task.features.design(artefact.study, rows)
    return task.features.fit(artefact.study, task.features.statistics(artefact.study, design))


def _columns(
    artefact: ModelArtefact, preprocessing: Arrays, outputs: NDArray[np.float64]
) -> dict[str, NDArray[Any]]:
    target = artefact.study.task.target
    if target.type == "regression":
        scale, mean = preprocessing["target_scale"][0], preprocessing["target_mean"][0]
        return {"prediction": outputs[:, 0] * scale + mean}
    classes = np.array(target.classes)
    if target.type == "binary":
        positive = 1.0 / (1.0 + np.exp(-np.clip(outputs[:, 0], -700, 700)))
        probabilities = np.stack([1.0 - positive, positive], axis=1)
    else:
        shifted = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        probabilities = shifted / shifted.sum(axis=1, keepdims=True)
    columns: dict[str, NDArray[Any]] = {"prediction": classes[probabilities.argmax(axis=1)]}
    for number, name in enumerate(classes):
        columns[f"probability:{name}"] = probabilities[:, number]
    return columns


def to_csv(predictions: Predictions) -> str:
    """Predictions as CSV text with a header line."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["row", *predictions.columns])
    cells = [column.tolist() for column in predictions.columns.values()]
    for row, *values in zip(predictions.rows.tolist(), *cells, strict=True):
        writer.writerow([row, *(f"{v:.6g}" if isinstance(v, float) else v for v in values)])
    return text.getvalue()
