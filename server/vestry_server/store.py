"""The coordinator's database: runs, rounds, metrics, models.

A checkpoint is the truth of a run; the store is what people ask. Every write is one transaction, and
writing a round again changes nothing, so a resumed run may repeat itself.

    VestryError
    └── StoreError    the database cannot be opened or written, is of another version, or lacks a run
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Engine, create_engine, delete, event, inspect, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.orm import Session

from vestry_privacy.errors import VestryError
from vestry_server.progress import RoundRecord
from vestry_server.tables import MetricRow, ModelRow, RoundRow, RunRow
from vestry_strategies.study import StudySpec

__all__ = ["SCHEMA_REVISION", "Store", "StoreError", "StoredModel", "StoredRun", "open_store"]

SCHEMA_REVISION = "0001"
"""Newest migration in migrations/versions."""

RunStatus = Literal["running", "finished", "stopped", "failed"]


class StoreError(VestryError):
    """The database refuses or is refused."""


@dataclass(frozen=True)
class StoredRun:
    """A run as the store knows it.

    Attributes:
        run_id: its name.
        study_hash: identity of its study.
        study_name: the study's name.
        kind: ``simulation`` or ``federation``.
        insecure: insecure choices stamped at the start.
        status: ``running``, ``finished``, ``stopped`` or ``failed``.
        reason: of an early end, or "".
        started: first start.
        finished: end, or None.
    """

    run_id: str
    study_hash: str
    study_name: str
    kind: str
    insecure: tuple[str, ...]
    status: str
    reason: str
    started: datetime
    finished: datetime | None


@dataclass(frozen=True)
class StoredModel:
    """A model file: which round's, its SHA-256, where it lies."""

    alias: str
    round: int
    sha256: str
    path: str


class Store:
    """Runs and what came of them. Use :func:`open_store`."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine, self._name = engine, name

    def close(self) -> None:
        """Give back all connections."""
        self._engine.dispose()

    def start_run(
        self,
        run_id: str,
        study: StudySpec,
        *,
        kind: str,
        insecure: tuple[str, ...],
        started: datetime,
    ) -> None:
        """Enter a run, or set a run that goes on to ``running``.

        Raises:
            StoreError: the run is there with another study, or the database refuses.
        """
        with self._session() as session:
            row = session.get(RunRow, run_id)
            if row is None:
                session.add(
                    RunRow(
                        run_id=run_id,
                        study_hash=study.digest(),
                        study_name=study.study.name,
                        study_json=study.to_json(),
                        kind=kind,
                        insecure=json.dumps(insecure),
                        status="running",
                        reason="",
                        started=started,
                        finished=None,
                    )
                )
                return
            if row.study_hash != study.digest():
                raise StoreError(
                    f"run '{run_id}' is in the store with study {row.study_hash[:12]}, not "
                    f"{study.digest()[:12]}; start a new run"
                )
            row.status, row.reason, row.finished = "running", "", None

    def record_round(self, run_id: str, record: RoundRecord, finished: datetime, seconds: float) -> None:
        """Enter a round and its metrics, in place of what was there for this round."""
        with self._session() as session:
            self._row(session, run_id)
            number = record.round
            for table in (MetricRow, RoundRow):
                session.execute(delete(table).where(table.run_id == run_id, table.round == number))
            plain = json.dumps(record.plain(), sort_keys=True)
            session.add(
                RoundRow(run_id=run_id, round=number, finished=finished, seconds=seconds, record=plain)
            )
            values = {("", "training_loss"): record.loss}
            if record.epsilon is not None:
                values["", "epsilon"] = record.epsilon
            for site, metrics in {"": record.metrics, **record.per_site}.items():
                values.update({(site, name): value for name, value in metrics.items()})
            session.add_all(
                MetricRow(run_id=run_id, round=number, site=site, name=name, value=value)
                for (site, name), value in values.items()
            )

    def rewind(self, run_id: str, last_round: int) -> None:
        """Drop all rounds after ``last_round``: the run goes on from its checkpoint."""
        with self._session() as session:
            self._row(session, run_id)
            for table in (MetricRow, RoundRow):
                session.execute(delete(table).where(table.run_id == run_id, table.round > last_round))

    def finish_run(self, run_id: str, status: RunStatus, finished: datetime, reason: str = "") -> None:
        """Enter how a run ended."""
        with self._session() as session:
            row = self._row(session, run_id)
            row.status, row.finished, row.reason = status, finished, reason

    def add_model(self, run_id: str, number: int, sha256: str, path: str, *, alias: str) -> None:
        """Enter a model file, in place of the run's earlier one of this alias."""
        with self._session() as session:
            self._row(session, run_id)
            session.merge(ModelRow(run_id=run_id, alias=alias, round=number, sha256=sha256, path=path))

    def runs(self) -> list[StoredRun]:
        """All runs, oldest first."""
        with self._session() as session:
            rows = session.scalars(select(RunRow).order_by(RunRow.started, RunRow.run_id))
            return [_stored_run(row) for row in rows]

    def run(self, run_id: str) -> StoredRun:
        """One run.

        Raises:
            StoreError: there is none of this name.
        """
        with self._session() as session:
            return _stored_run(self._row(session, run_id))

    def rounds(self, run_id: str) -> list[RoundRecord]:
        """The finished rounds of a run, in order."""
        with self._session() as session:
            self._row(session, run_id)
            query = select(RoundRow).where(RoundRow.run_id == run_id).order_by(RoundRow.round)
            return [RoundRecord.from_plain(json.loads(row.record)) for row in session.scalars(query)]

    def metrics(self, run_id: str, name: str) -> dict[str, list[tuple[int, float | None]]]:
        """The course of a metric: site (or "" for all) -> (round, value) in order."""
        with self._session() as session:
            self._row(session, run_id)
            query = select(MetricRow).where(MetricRow.run_id == run_id, MetricRow.name == name)
            course: dict[str, list[tuple[int, float | None]]] = {}
            for row in session.scalars(query.order_by(MetricRow.site, MetricRow.round)):
                course.setdefault(row.site, []).append((row.round, row.value))
            return course

    def models(self, run_id: str) -> list[StoredModel]:
        """The model files of a run, by alias."""
        with self._session() as session:
            self._row(session, run_id)
            query = select(ModelRow).where(ModelRow.run_id == run_id).order_by(ModelRow.alias)
            return [StoredModel(row.alias, row.round, row.sha256, row.path) for row in session.scalars(query)]

    def _row(self, session: Session, run_id: str) -> RunRow:
        row = session.get(RunRow, run_id)
        if row is None:
            raise StoreError(f"{self._name}: has no run '{run_id}'")
        return row

    @contextmanager
    def _session(self) -> Iterator[Session]:
        with _readable(self._name), Session(self._engine) as session, session.begin():
            yield session


def _stored_run(row: RunRow) -> StoredRun:
    return StoredRun(
        run_id=row.run_id,
        study_hash=row.study_hash,
        study_name=row.study_name,
        kind=row.kind,
        insecure=tuple(json.loads(row.insecure)),
        status=row.status,
        reason=row.reason,
        started=row.started,
        finished=row.finished,
    )


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Turn the database's errors into one that a user can read."""
    try:
        yield
    except SQLAlchemyError as error:
        cause = str(getattr(error, "orig", None) or type(error).__name__)
        hint = {
            "database is locked": "another process holds it; wait and try again",
            "database or disk is full": "make room and resume",
            "file is not a database": "it is no SQLite file; name another one",
            "unable to open database file": "check the path and its permissions",
        }.get(cause, "check the path, its permissions and the disk")
        raise StoreError(f"{name}: {cause}; {hint}") from None


def open_store(location: Path | str) -> Store:
    """Open the database, make it where there is none, and bring its tables up to date.

    Args:
        location: file of an SQLite database, or a URL that SQLAlchemy knows.

    Raises:
        StoreError: it cannot be opened, or was written by a newer version.
    """
    name = str(location)
    url = name if "://" in name else f"sqlite:///{name}"
    try:
        engine = create_engine(make_url(url))
    except (ArgumentError, ImportError) as error:
        raise StoreError(f"{name}: is no database URL that can be used here ({error})") from None
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _set_pragmas)
    with _readable(name):
        _migrate(engine, name)
    return Store(engine, name)


def _set_pragmas(connection: Any, record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA busy_timeout = 10000")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _migrate(engine: Engine, name: str) -> None:
    with engine.connect() as connection:
        revision = None
        if inspect(connection).has_table("alembic_version"):
            revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if revision == SCHEMA_REVISION:
        return  # alembic takes a while to load, and is not needed
    from vestry_server.migrate import known_revisions, upgrade

    if revision is not None and revision not in known_revisions():
        raise StoreError(
            f"{name}: has schema revision '{revision}', which this version does not know; "
            "use the version of Vestry that wrote it, or a newer one"
        )
    upgrade(engine)
