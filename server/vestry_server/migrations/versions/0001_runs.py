"""Runs, rounds, metrics, models."""

import sqlalchemy as sa
from alembic import op

from vestry_server.tables import UtcDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the first tables."""
    op.create_table(
        "runs",
        sa.Column("run_id", sa.String(200), primary_key=True),
        sa.Column("study_hash", sa.String(64), nullable=False, index=True),
        sa.Column("study_name", sa.String(64), nullable=False),
        sa.Column("study_json", sa.String, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("insecure", sa.String, nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("started", UtcDateTime, nullable=False),
        sa.Column("finished", UtcDateTime, nullable=True),
    )
    op.create_table(
        "rounds",
        sa.Column("run_id", sa.String(200), sa.ForeignKey("runs.run_id"), primary_key=True),
        sa.Column("round", sa.Integer, primary_key=True),
        sa.Column("finished", UtcDateTime, nullable=False),
        sa.Column("seconds", sa.Double, nullable=False),
        sa.Column("record", sa.String, nullable=False),
    )
    op.create_table(
        "metrics",
        sa.Column("run_id", sa.String(200), sa.ForeignKey("runs.run_id"), primary_key=True),
        sa.Column("round", sa.Integer, primary_key=True),
        sa.Column("site", sa.String(200), primary_key=True),
        sa.Column("name", sa.String(100), primary_key=True),
        sa.Column("value", sa.Double, nullable=True),
    )
    op.create_table(
        "models",
        sa.Column("run_id", sa.String(200), sa.ForeignKey("runs.run_id"), primary_key=True),
        sa.Column("alias", sa.String(32), primary_key=True),
        sa.Column("round", sa.Integer, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False, index=True),
        sa.Column("path", sa.String, nullable=False),
    )
