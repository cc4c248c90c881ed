"""The machine that watches over a job, and what it costs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"

JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    """Add a column; jobs that are known already were recorded without."""
    op.add_column("jobs", sa.Column("controller", JSON))


def downgrade() -> None:
    """Take it away."""
    op.drop_column("jobs", "controller")
