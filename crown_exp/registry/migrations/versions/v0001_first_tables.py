"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None

NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
MOMENT = sa.DateTime(timezone=True)
JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    """Make them."""
    _runs()
    _beside_runs()
    _values()
    _metrics()
    _logs()


def _runs() -> None:
    op.create_table(
        "runs",
        sa.Column("id", NAME, nullable=False),
        sa.Column("tail", NAME, nullable=False),
        sa.Column("store", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("experiment", sa.Text()),
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("signature", NAME, nullable=False),
        sa.Column("compute", sa.Text(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("created", MOMENT, nullable=False),
        sa.Column("overrides", JSON, nullable=False),
        sa.Column("bound", JSON, nullable=False),
        sa.Column("composed_tags", JSON, nullable=False),
        sa.Column("sweep_id", sa.Text()),
        sa.Column("sweep_number", sa.BigInteger()),
        sa.Column("sweep_of", sa.BigInteger()),
        sa.Column("code", JSON),
        sa.Column("lineage", JSON),
        sa.Column("jobs", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("started", MOMENT),
        sa.Column("ended", MOMENT),
        sa.Column("exit_code", sa.Integer()),
        sa.Column("reason", sa.Text()),
        sa.Column("last_beat", MOMENT),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("result_attempt", sa.Integer()),
        sa.Column("pruned", sa.Boolean()),
        sa.Column("result", JSON),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("mark", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
    )
    op.create_index("ix_runs_created_id", "runs", ["created", "id"])
    op.create_index("ix_runs_experiment_created_id", "runs", ["experiment", "created", "id"])
    op.create_index("ix_runs_signature", "runs", ["signature"])
    op.create_index("ix_runs_sweep_id_sweep_number", "runs", ["sweep_id", "sweep_number"])
    op.create_index("ix_runs_tail", "runs", ["tail"])
    op.create_index("ix_runs_user_created_id", "runs", ["user", "created", "id"])


def _beside_runs() -> None:
    op.create_table(
        "configs",
        sa.Column("run_id", NAME, nullable=False),
        sa.Column("tree", JSON),
        sa.PrimaryKeyConstraint("run_id", name="pk_configs"),
    )
    op.create_table(
        "attempts",
        sa.Column("run_id", NAME, nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("started", MOMENT),
        sa.Column("host", sa.Text()),
        sa.Column("pid", sa.BigInteger()),
        sa.Column("process_started", sa.Double()),
        sa.Column("boot_id", sa.Text()),
        sa.Column("job", sa.Text()),
        sa.Column("numerics", JSON),
        sa.Column("versions", JSON),
        sa.Column("ended", MOMENT),
        sa.Column("exit_code", sa.Integer()),
        sa.Column("step", sa.BigInteger()),
        sa.Column("reason", sa.Text()),
        sa.Column("error", JSON),
        sa.Column("code_hash", sa.Text()),
        sa.PrimaryKeyConstraint("run_id", "attempt", name="pk_attempts"),
    )
    op.create_table(
        "jobs",
        sa.Column("run_id", NAME, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("executor", sa.Text(), nullable=False),
        sa.Column("created", MOMENT, nullable=False),
        sa.Column("job", sa.Text()),
        sa.Column("cancelled", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "number", name="pk_jobs"),
    )
    op.create_table(
        "tags",
        sa.Column("run_id", NAME, nullable=False),
        sa.Column("tag", NAME, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "tag", name="pk_tags"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_tags_tag_run_id", "tags", ["tag", "run_id"])

    op.create_table(
        "files",
        sa.Column("run_id", NAME, nullable=False),
        sa.Column("path", NAME, nullable=False),
        sa.Column("step", sa.BigInteger()),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "path", name="pk_files"),
    )


def _values() -> None:
    op.create_table(
        "keys",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("leaf", NAME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_keys"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_keys_kind_name", "keys", ["kind", "name"], unique=True)
    op.create_index("ix_keys_leaf", "keys", ["leaf"])
    op.create_table(
        "run_params",
        sa.Column("run_id", NAME, nullable=False),
        sa.Column("key_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("num", sa.Double()),
        sa.PrimaryKeyConstraint("run_id", "key_id", name="pk_run_params"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_run_params_key_id_num_run_id", "run_params", ["key_id", "num", "run_id"])
    op.create_index("ix_run_params_key_id_text_run_id", "run_params", ["key_id", "text", "run_id"])
    op.create_table(
        "run_results",
        sa.Column("run_id", NAME, nullable=False),
        sa.Column("key_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("num", sa.Double()),
        sa.PrimaryKeyConstraint("run_id", "key_id", name="pk_run_results"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_run_results_key_id_num_run_id", "run_results", ["key_id", "num", "run_id"])
    op.create_index(
        "ix_run_results_key_id_text_run_id", "run_results", ["key_id", "text", "run_id"]
    )


def _metrics() -> None:
    op.create_table(
        "metric_points",
        sa.Column("run_id", NAME, nullable=False),
        sa.Column("key_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("step", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("value", sa.Double()),
        sa.Column("ts", sa.Double(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "key_id", "step", name="pk_metric_points"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "metric_summaries",
        sa.Column("run_id", NAME, nullable=False),
        sa.Column("key_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.Column("last_step", sa.BigInteger(), nullable=False),
        sa.Column("last", sa.Double()),
        sa.Column("min", sa.Double()),
        sa.Column("min_step", sa.BigInteger()),
        sa.Column("max", sa.Double()),
        sa.Column("max_step", sa.BigInteger()),
        sa.PrimaryKeyConstraint("run_id", "key_id", name="pk_metric_summaries"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_metric_summaries_key_id_last_run_id", "metric_summaries", ["key_id", "last", "run_id"]
    )
    op.create_index(
        "ix_metric_summaries_key_id_max_run_id", "metric_summaries", ["key_id", "max", "run_id"]
    )
    op.create_index(
        "ix_metric_summaries_key_id_min_run_id", "metric_summaries", ["key_id", "min", "run_id"]
    )


def _logs() -> None:
    op.create_table(
        "events",
        sa.Column("run_id", NAME, nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("segment", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("ts", sa.Double(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("data", JSON),
        sa.PrimaryKeyConstraint("run_id", "attempt", "segment", "number", name="pk_events"),
    )
    op.create_table(
        "segments",
        sa.Column("run_id", NAME, nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("segment", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("good_bytes", sa.BigInteger(), nullable=False),
        sa.Column("records", sa.BigInteger(), nullable=False),
        sa.Column("first_step", sa.BigInteger()),
        sa.PrimaryKeyConstraint("run_id", "attempt", "segment", name="pk_segments"),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Take them away."""
    for table in (
        "attempts",
        "configs",
        "events",
        "files",
        "jobs",
        "keys",
        "metric_points",
        "metric_summaries",
        "run_params",
        "run_results",
        "runs",
        "segments",
        "tags",
    ):
        op.drop_table(table)
