"""Migrations lead from nothing to exactly the tables of the code."""

from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect

from vestry_server.migrate import known_revisions, upgrade
from vestry_server.tables import Base


def test_the_migrated_schema_is_that_of_the_tables(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 's.sqlite'}")
    upgrade(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
        names = set(inspect(connection).get_table_names())
    assert names == {*Base.metadata.tables, "alembic_version"}
    engine.dispose()


def test_upgrading_twice_changes_nothing(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 's.sqlite'}")
    upgrade(engine)
    before = (tmp_path / "s.sqlite").stat().st_size
    upgrade(engine)
    assert (tmp_path / "s.sqlite").stat().st_size == before
    engine.dispose()


def test_a_folder_with_a_percent_sign_does_no_harm(tmp_path: Path) -> None:
    folder = tmp_path / "100%"
    folder.mkdir()
    engine = create_engine(f"sqlite:///{folder / 's.sqlite'}")
    upgrade(engine)
    engine.dispose()


def test_revisions_are_known() -> None:
    assert "0001" in known_revisions()
