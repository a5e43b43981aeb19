"""The tables of the coordinator's database. Each change comes with a migration."""

from datetime import UTC, datetime

from sqlalchemy import DateTime, Dialect, ForeignKey, String, TypeDecorator
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

__all__ = ["Base", "MetricRow", "ModelRow", "RoundRow", "RunRow", "UtcDateTime"]


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC; databases without time zones keep it as it is."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a moment without a time zone; store UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("datetime must have a time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """SQLite gives the moment back without its zone, which is UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Base of all tables."""


class RunRow(Base):
    """A run of a study."""

    __tablename__ = "runs"

    run_id: Mapped[str] = mapped_column(String(200), primary_key=True)
    study_hash: Mapped[str] = mapped_column(String(64), index=True)
    study_name: Mapped[str] = mapped_column(String(64))
    study_json: Mapped[str]
    kind: Mapped[str] = mapped_column(String(32))
    insecure: Mapped[str]
    status: Mapped[str] = mapped_column(String(32))
    reason: Mapped[str]
    started: Mapped[datetime] = mapped_column(UtcDateTime)
    finished: Mapped[datetime | None] = mapped_column(UtcDateTime)


class RoundRow(Base):
    """A finished round."""

    __tablename__ = "rounds"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.run_id"), primary_key=True)
    round: Mapped[int] = mapped_column(primary_key=True)
    finished: Mapped[datetime] = mapped_column(UtcDateTime)
    seconds: Mapped[float]
    record: Mapped[str]


class MetricRow(Base):
    """A metric of a round, of one site or (site empty) of all."""

    __tablename__ = "metrics"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.run_id"), primary_key=True)
    round: Mapped[int] = mapped_column(primary_key=True)
    site: Mapped[str] = mapped_column(String(200), primary_key=True)
    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    value: Mapped[float | None]


class ModelRow(Base):
    """A model file of a run."""

    __tablename__ = "models"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.run_id"), primary_key=True)
    alias: Mapped[str] = mapped_column(String(32), primary_key=True)
    round: Mapped[int]
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    path: Mapped[str]
