"""Alembic's entry: migrate over the connection that `vestry_server.migrate` hands in."""

from alembic import context

from vestry_server.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    transactional_ddl=True,
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
