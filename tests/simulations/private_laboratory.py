"""A small federation under differential privacy: patients of several records at three clinics."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tests.simulations.laboratory import rows, write_csv, write_study
from tests.strategies.samples import FULL_BATCH, PRIVATE
from vestry_privacy.accounting import Event
from vestry_privacy.identity import load_identity
from vestry_privacy.ledger import Ledger
from vestry_privacy.ledger_entries import Entry
from vestry_privacy.ledger_verify import verify_ledger
from vestry_privacy.plan import Partition
from vestry_simulations.manifest import Manifest, file_hash
from vestry_strategies.study import StudySpec, load_study

__all__ = [
    "CLINICS",
    "METRICS",
    "SIMULATED",
    "counted",
    "entries_of",
    "lay_out",
    "ledger_file",
    "make_manifest",
    "patients",
    "spent",
]

CLINICS = ("north", "south", "west")
METRICS = ("delta", 'metrics = ["accuracy", "auc"]\ndelta')
SIMULATED = ("delta = 1e-3", 'delta = 1e-3\nnoise = "simulation"')


def patients(count: int = 150, seed: int = 0) -> list[dict[str, str]]:
    """Rows of patients who came once to four times, each to one clinic."""
    generator = np.random.default_rng(seed + 100)
    made = rows(count, seed)
    for row in made:
        row["patient"] = f"{row['clinic'][0]}{int(generator.integers(count // 5)):03d}"
        row["dose"] = f"{np.clip(float(row['dose']), -6, 6):.4f}"
    return made


def lay_out(folder: Path, *changes: tuple[str, str], sampled: bool = False) -> Path:
    """Write study.toml and data.csv into a folder."""
    write_study(folder / "study.toml", *PRIVATE, *([] if sampled else [FULL_BATCH]), *changes)
    write_csv(folder / "data.csv", patients())
    return folder


def make_manifest(folder: Path, run_id: str = "run", **settings: object) -> Manifest:
    """A run of the study in a folder, in this process."""
    plain = {
        "run_id": run_id,
        "study": load_study(folder / "study.toml"),
        "data": folder / "data.csv",
        "data_hash": file_hash(folder / "data.csv"),
        "by": "clinic",
        "workers": 0,
        **settings,
    }
    return Manifest(**plain)  # type: ignore[arg-type]


def ledger_file(run: Path, site: str) -> Path:
    """The ledger of a run's site."""
    return run / "sites" / site / "ledger.sqlite"


def entries_of(run: Path, site: str) -> list[Entry]:
    """All entries of a ledger whose chain holds."""
    folder = run / "sites" / site
    verify_ledger(ledger_file(run, site))
    with Ledger(ledger_file(run, site), load_identity(folder / "identity.pem")) as ledger:
        return list(ledger.entries())


def counted(events: Iterable[Event]) -> dict[Event, int]:
    """Events, those of equal parameters together."""
    counts: Counter[Event] = Counter()
    for event in events:
        counts[event.model_copy(update={"count": 1})] += event.count
    return dict(counts)


def spent(run: Path, site: str, study: StudySpec, partition: Partition) -> dict[Event, int]:
    """What a ledger says was charged to a partition, counted."""
    folder = run / "sites" / site
    with Ledger(ledger_file(run, site), load_identity(folder / "identity.pem")) as ledger:
        return counted(ledger.spent(study.digest(), partition))
