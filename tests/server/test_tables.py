"""Tables: moments are UTC, keys are what makes a row one of a kind."""

from datetime import UTC, datetime, timedelta, timezone
from types import ModuleType

import pytest
from sqlalchemy.dialects import postgresql, sqlite

from vestry_server.tables import Base, MetricRow, UtcDateTime

KOLKATA = timezone(timedelta(hours=5, minutes=30))


def test_a_moment_is_stored_in_utc() -> None:
    moment = datetime(2026, 1, 1, 12, tzinfo=KOLKATA)
    stored = UtcDateTime().process_bind_param(moment, sqlite.dialect())
    assert stored == moment
    assert stored is not None
    assert stored.utcoffset() == timedelta(0)


def test_a_moment_without_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        UtcDateTime().process_bind_param(datetime(2026, 1, 1), sqlite.dialect())  # noqa: DTZ001


@pytest.mark.parametrize("module", [sqlite, postgresql])
def test_what_comes_back_has_a_zone(module: ModuleType) -> None:
    dialect = module.dialect()
    naive = datetime(2026, 1, 1, 12)  # noqa: DTZ001  as SQLite gives it back
    assert UtcDateTime().process_result_value(naive, dialect) == naive.replace(tzinfo=UTC)
    aware = datetime(2026, 1, 1, 12, tzinfo=KOLKATA)
    assert UtcDateTime().process_result_value(aware, dialect) == aware


def test_none_stays_none() -> None:
    assert UtcDateTime().process_bind_param(None, sqlite.dialect()) is None
    assert UtcDateTime().process_result_value(None, sqlite.dialect()) is None


def test_a_metric_is_one_by_run_round_site_and_name() -> None:
    assert [column.name for column in MetricRow.__table__.primary_key] == ["run_id", "round", "site", "name"]


def test_every_table_belongs_to_a_run() -> None:
    for name, table in Base.metadata.tables.items():
        if name != "runs":
            assert {key.target_fullname for key in table.foreign_keys} == {"runs.run_id"}
