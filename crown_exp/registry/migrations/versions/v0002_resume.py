"""What attempts changed, saved and began anew; events of a kind are found at once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"

JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    """Add columns and index; attempts that are known already had nothing of it."""
    op.add_column("attempts", sa.Column("changes", JSON))
    op.add_column("attempts", sa.Column("saved", sa.BigInteger()))
    op.add_column("attempts", sa.Column("again", sa.Boolean()))
    op.create_index("ix_events_run_id_kind", "events", ["run_id", "kind"])


def downgrade() -> None:
    """Take them away."""
    op.drop_index("ix_events_run_id_kind", "events")
    for name in ("again", "saved", "changes"):
        op.drop_column("attempts", name)
