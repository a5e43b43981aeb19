"""A site with a ledger, for tests: small populations, Gaussian events, and a clock that stands still."""

import shutil
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vestry_privacy.accounting import Event, GaussianRelease
from vestry_privacy.budget import Budget
from vestry_privacy.identity import SiteIdentity
from vestry_privacy.ledger import Ledger
from vestry_privacy.ledger_entries import (
    NO_HASH,
    Create,
    Dataset,
    Entry,
    Hold,
    Register,
    Reserve,
    StudyRef,
)
from vestry_privacy.ledger_state import LedgerState
from vestry_privacy.plan import Partition
from vestry_privacy.population import Population

NOON = 1_760_000_000.0
"""A day in October 2025."""

SIGMA = 10.0
STEPS = 100

Kind = TypeVar("Kind", bound=Entry)

IDENTITY = SiteIdentity(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
STRANGER = SiteIdentity(Ed25519PrivateKey.from_private_bytes(bytes(32)))


def gaussian(count: int, sigma: float = SIGMA) -> GaussianRelease:
    """So many releases; their divergence has a closed form, so that nothing slow is loaded."""
    return GaussianRelease(noise_multiplier=sigma, count=count)


def plan(count: int = STEPS, holdout: int = 0, sigma: float = SIGMA) -> Mapping[Partition, Sequence[Event]]:
    """A study's events."""
    kept = (gaussian(holdout, sigma),) if holdout else ()
    return {"train": (gaussian(count, sigma),), "holdout": kept}


def study(name: str = "one") -> StudyRef:
    """A study of that name."""
    return StudyRef(name.encode().hex().ljust(64, "0"), name, "run-1")


ONE = study()


def population(
    name: str = "heart", epsilon: float = 8.0, order: float = 4.0, delta: float = 1e-5
) -> Population:
    """Patients of one hospital."""
    return Population(name, "patient", "pid", "zero-out", 303, Budget(epsilon, delta, order))


@dataclass
class Site:
    """A folder with a ledger.

    Attributes:
        folder: of the site.
        now: what its clock says.
    """

    folder: Path
    now: float = NOON
    identity: SiteIdentity = field(default=IDENTITY)

    @property
    def path(self) -> Path:
        """The database."""
        return self.folder / "ledger.db"

    @property
    def head(self) -> Path:
        """The head's file."""
        return self.folder / "ledger.db.head"

    def open(self, patience: float = 5.0) -> Ledger:
        """A handle."""
        return Ledger(self.path, self.identity, clock=lambda: self.now, patience=patience)

    def held(self, steps: int = STEPS) -> Ledger:
        """A handle on a ledger with one population and one study."""
        ledger = self.open()
        ledger.register(population())
        ledger.add_dataset("heart", "rows", "f1", ["a", "b"])
        ledger.hold("heart", ONE, plan(steps))
        return ledger

    def reserve(self, ledger: Ledger, number: int, count: int = 10, repeat: int = 0) -> int:
        """One round of the one study."""
        return ledger.reserve(
            ONE.study_hash, "train", "train", number, gaussian(count), f"order-{number}", repeat=repeat
        )

    def rows(self) -> list[tuple[int, str, str, bytes]]:
        """What is stored."""
        with sqlite3.connect(self.path) as connection:
            found = connection.execute("SELECT * FROM entries ORDER BY seq").fetchall()
        connection.close()
        return found

    def change(self, statement: str, values: Sequence[object] = ()) -> None:
        """Tamper."""
        with sqlite3.connect(self.path) as connection:
            connection.execute(statement, values)
        connection.close()

    def unchanged(self, rows: list[tuple[int, str, str, bytes]], head: bytes) -> None:
        """Nothing was written, and nothing left lying about."""
        assert self.rows() == rows
        assert self.head.read_bytes() == head
        assert not list(self.folder.glob(".*.tmp"))

    def back_up(self, name: str = "backup") -> Path:
        """A copy of the database, as a backup program would take one."""
        copy = self.folder / name
        source, target = sqlite3.connect(self.path), sqlite3.connect(copy)
        source.backup(target)
        source.close()
        target.close()
        return copy

    def restore(self, copy: Path) -> None:
        """Put a backup in the database's place."""
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        fresh = copy.with_name(copy.name + ".new")
        shutil.copy(copy, fresh)
        fresh.replace(self.path)


class Replay:
    """A ledger's state without its file: entries are applied as they are made."""

    def __init__(self, now: int = int(NOON * 1000)) -> None:
        self.state = LedgerState()
        self.now = now
        self._seq = 0
        self.add(Create, public_key=IDENTITY.public_key.hex(), ledger="0" * 64)

    def make(self, kind: type[Kind], **fields: Any) -> Kind:
        """The next entry, not applied."""
        common = {"seq": self._seq + 1, "previous": NO_HASH, "time": self.now, "software": {}}
        return kind(**{**common, **fields})

    def add(self, kind: type[Entry], **fields: Any) -> int:
        """Apply the next entry; its number."""
        entry = self.make(kind, **fields)
        self.state.apply(entry)
        self._seq = entry.seq
        return entry.seq

    def register(self, name: str = "heart", **budget: Any) -> None:
        """A population whose persons were checked against all others."""
        declared = population(name, **budget)
        self.add(Register, population=declared, row_is_person=declared.row_is_person)
        self.dataset(name, "checked")

    def dataset(self, name: str, overlap: str, data: str = "rows") -> None:
        """A data set of a population."""
        known = "c" * 64 if overlap == "checked" else None
        fields = {
            "fingerprint": f"f-{name}-{data}",
            "overlap": overlap,
            "identifiers": known,
            "key_check": known,
        }
        self.add(Dataset, population=name, name=data, **fields)

    def make_hold(self, name: str = "heart", of: StudyRef = ONE, steps: int = STEPS, **fields: Any) -> Hold:
        """A study's hold, not applied."""
        usual = {"train": (gaussian(steps),), "holdout": (), "delta": 1e-5, "epsilon_cap": None}
        return self.make(
            Hold, population=name, study=of, **{**usual, "guarantee": "dp", "details": {}, **fields}
        )

    def make_reserve(self, number: int, of: StudyRef = ONE, count: int = 10, **fields: Any) -> Reserve:
        """A round, not applied."""
        usual = {"partition": "train", "purpose": "train", "event": gaussian(count), "owner": "me"}
        order = f"order-{number}"
        return self.make(Reserve, study=of.study_hash, round=number, order_hash=order, **{**usual, **fields})

    def take(self, entry: Entry) -> int:
        """Apply an entry that :meth:`make` made."""
        self.state.apply(entry)
        self._seq = entry.seq
        return entry.seq


def charged(ledger: Ledger, name: StudyRef = ONE, partition: Partition = "train") -> int:
    """How many releases a study is charged."""
    return sum(event.count for event in ledger.spent(name.study_hash, partition))
