"""Where attempts were paid for, and what jobs were expected to cost and became."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"

JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
TEXTS = ("ticket", "handle", "reason", "target", "bundle")
TREES = ("changes", "rates")
NUMBERS = ("hours", "usd")


def upgrade() -> None:
    """Add columns; what is known already had nothing of it."""
    op.add_column("attempts", sa.Column("place", JSON))
    kinds: dict[str, Any] = {
        **dict.fromkeys(TEXTS, sa.Text()),
        **dict.fromkeys(TREES, JSON),
        **dict.fromkeys(NUMBERS, sa.Double()),
    }
    for name, kind in kinds.items():
        op.add_column("jobs", sa.Column(name, kind))


def downgrade() -> None:
    """Take them away."""
    for name in (*NUMBERS, *TREES, *TEXTS):
        op.drop_column("jobs", name)
    op.drop_column("attempts", "place")
