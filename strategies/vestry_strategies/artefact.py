"""The model artefact: one safetensors file with weights, preprocessing and the whole study.

    VestryError
    └── ModelFileError    the file is missing, truncated, of another version, or not ours

The file holds one tensor for each of the model's (``model/NAME``), one for each array of the
preprocessing (``preprocessing/NAME``), and in its header one text ``vestry``: JSON with the version, the
study, the round and the insecure choices made. It has no time stamp: equal results give equal files.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vestry_privacy.errors import VestryError
from vestry_strategies.files import write_atomically
from vestry_strategies.study import StudyError, StudySpec, study_from_json

if TYPE_CHECKING:
    from vestry_strategies.parameters import Layout, Vector
    from vestry_strategies.sums import Arrays

__all__ = ["ARTEFACT_VERSION", "ModelArtefact", "ModelFileError", "load_artefact", "save_artefact"]

ARTEFACT_VERSION = 1


class ModelFileError(VestryError):
    """A model file is refused."""


@dataclass(frozen=True)
class ModelArtefact:
    """A trained model and all that is needed to use it.

    Attributes:
        study: the study that made it.
        round: after which it stood.
        tensors: the model's tensors by name, float32.
        preprocessing: the standardiser and imputer that all sites shared.
        insecure: insecure choices under which it was made, such as ``aggregation.secure = false``.
    """

    study: StudySpec
    round: int
    tensors: "dict[str, Vector]"
    preprocessing: "Arrays"
    insecure: tuple[str, ...] = ()


def save_artefact(path: Path, artefact: ModelArtefact, layout: "Layout") -> None:
    """Write a model file, atomically and durably.

    Args:
        path: the file; its folder must exist.
        artefact: what to write.
        layout: gives the order in which the tensors are checked.

    Raises:
        ValueError: the tensors are not those of the layout.
        OSError: the disk refuses.
    """
    from safetensors.numpy import save

    layout.join(artefact.tensors)
    tensors: dict[str, Any] = {
        f"model/{name}": np.asarray(tensor, order="C") for name, tensor in artefact.tensors.items()
    }
    for name, array in artefact.preprocessing.items():
        tensors[f"preprocessing/{name}"] = np.asarray(array, order="C")
    header = {
        "version": ARTEFACT_VERSION,
        "study": artefact.study.canonical(),
        "study_hash": artefact.study.digest(),
        "round": artefact.round,
        "insecure": list(artefact.insecure),
    }
    text = json.dumps(header, sort_keys=True, separators=(",", ":"))
    write_atomically(path, save(tensors, metadata={"vestry": text}))


def load_artefact(path: Path) -> ModelArtefact:
    """Read a model file.

    Raises:
        ModelFileError: it is missing, no such file, truncated, or of an unknown version.
    """
    if not path.is_file():
        raise ModelFileError(f"{path}: there is no such file")
    if not os.access(path, os.R_OK):
        raise ModelFileError(f"{path}: cannot be read; check its permissions")
    header, tensors = _read(path)
    if header.get("version") != ARTEFACT_VERSION:
        raise ModelFileError(
            f"{path}: version={header.get('version')} is unknown; this program reads "
            f"version {ARTEFACT_VERSION}"
        )
    try:
        study = study_from_json(json.dumps(header["study"]))
        study_hash, number, insecure = header["study_hash"], int(header["round"]), tuple(header["insecure"])
    except (StudyError, KeyError, TypeError, ValueError):
        raise ModelFileError(f"{path}: its header is damaged; it was changed") from None
    if study.digest() != study_hash:
        raise ModelFileError(f"{path}: its study does not match its study hash; it was changed")
    split: dict[str, dict[str, Any]] = {"model": {}, "preprocessing": {}}
    for key, tensor in tensors.items():
        part, _, name = key.partition("/")
        split.setdefault(part, {})[name] = tensor
    return ModelArtefact(
        study=study,
        round=number,
        tensors=split["model"],
        preprocessing=split["preprocessing"],
        insecure=insecure,
    )


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = json.loads(metadata["vestry"])
    except (SafetensorError, OSError):
        raise ModelFileError(f"{path}: is no safetensors file, or it is truncated") from None
    except (KeyError, ValueError):
        raise ModelFileError(f"{path}: is a safetensors file, but none of Vestry's") from None
    return header, tensors
