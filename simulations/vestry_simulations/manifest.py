"""What was asked for, written down before a run begins, so that ``--resume RUN`` needs nothing else.

VestryError
└── SimulationError
    └── ManifestError    the folder holds no run, or its data have changed
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vestry_simulations.faults import Faults
from vestry_simulations.partition import SimulationError
from vestry_strategies.files import write_atomically
from vestry_strategies.study import StudySpec, study_from_json

__all__ = [
    "Manifest",
    "ManifestError",
    "file_hash",
    "read_manifest",
    "run_lock",
    "write_manifest",
]

MANIFEST_VERSION = 1
_FILE = "manifest.json"


class ManifestError(SimulationError):
    """A run's folder cannot be used."""


@dataclass(frozen=True)
class Manifest:
    """One simulation, as it was asked for.

    Attributes:
        run_id: name of the run's folder.
        study: the study, with the seed and rounds of this run.
        data: the data file.
        data_hash: SHA-256 of its bytes.
        by: column whose values are the sites; None for random sites.
        sites: number of random sites; 0 with ``by``.
        partition: how rows are dealt to random sites.
        baselines: train pooled and local-only models too.
        workers: processes; None for one a core.
        allowed_plugins: third-party tasks that may be imported.
        faults: on purpose.
    """

    run_id: str
    study: StudySpec
    data: Path
    data_hash: str
    by: str | None = None
    sites: int = 0
    partition: str = "iid"
    baselines: bool = False
    workers: int | None = None
    allowed_plugins: tuple[str, ...] = ()
    faults: Faults = field(default_factory=Faults)


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hexadecimal digits.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``manifest.json`` into a run's folder."""
    plain: dict[str, Any] = {
        **{name: getattr(manifest, name) for name in ("run_id", "by", "sites", "partition")},
        **{name: getattr(manifest, name) for name in ("baselines", "workers", "data_hash")},
        "version": MANIFEST_VERSION,
        "study": manifest.study.canonical(),
        "study_hash": manifest.study.digest(),
        "data": str(manifest.data),
        "allowed_plugins": list(manifest.allowed_plugins),
        "faults": asdict(manifest.faults),
    }
    write_atomically(folder / _FILE, (json.dumps(plain, indent=1) + "\n").encode())


def read_manifest(folder: Path) -> Manifest:
    """Read ``manifest.json`` of a run's folder.

    Raises:
        ManifestError: there is none, it is damaged, of another version, or its study was changed.
    """
    path = folder / _FILE
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise ManifestError(f"{folder}: holds no run ({_FILE} is missing); give a run's folder") from None
    except ValueError:
        raise ManifestError(f"{path}: is damaged; start the study again") from None
    if plain.get("version") != MANIFEST_VERSION:
        raise ManifestError(f"{path}: version={plain.get('version')} is not {MANIFEST_VERSION}")
    study = study_from_json(json.dumps(plain["study"]))
    if study.digest() != plain["study_hash"]:
        raise ManifestError(
            f"{path}: the study in it has hash {study.digest()[:12]}, the run was started with "
            f"{plain['study_hash'][:12]}; a run cannot change its study: start a new one"
        )
    return Manifest(
        study=study,
        data=Path(plain["data"]),
        allowed_plugins=tuple(plain["allowed_plugins"]),
        faults=Faults(**plain["faults"]),
        **{name: plain[name] for name in ("run_id", "by", "sites", "partition")},
        **{name: plain[name] for name in ("baselines", "workers", "data_hash")},
    )


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold a run's folder for this process.

    Raises:
        ManifestError: another process works on the run.
    """
    descriptor = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ManifestError(f"{folder}: another process is working on this run") from None
        yield
    finally:
        os.close(descriptor)
