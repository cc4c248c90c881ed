"""The tables. Everything in them is read from the runs' folders and can be read again.

What belongs to a run has `run_id`, the run's id as text. There are no foreign keys: a run's points may
come before the run, and `forget` (crown_exp.registry.rows) knows every table.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
)

from crown_exp.storage.database.columns import Json, Moment, Name

REVISION = "0004"
"""The newest revision in crown_exp/registry/migrations; a test keeps the two together."""

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)


def _id() -> Column[str]:
    return Column("run_id", Name, primary_key=True)


def _values(name: str) -> Table:
    """A table of plain values under dotted names: what was configured, or what came out.

    type: as JSON and Python have it (int, float, str, bool, null, list, dict). text: as one would type it.
    num: of what is a number.
    """
    return Table(
        name,
        metadata,
        _id(),
        Column("key_id", BigInteger, primary_key=True, autoincrement=False),
        Column("type", Text, nullable=False),
        Column("text", Text, nullable=False),
        Column("num", Double),
        Index(None, "key_id", "num", "run_id"),
        Index(None, "key_id", "text", "run_id"),
        sqlite_with_rowid=False,
    )


runs = Table(
    "runs",
    metadata,
    Column("id", Name, primary_key=True),
    Column("tail", Name, nullable=False),  # of the id, after its dash: what people type
    Column("store", Text, nullable=False),  # the URL of the store whose folder was read
    Column("name", Text, nullable=False),
    Column("experiment", Text),
    Column("user", Text, nullable=False),
    Column("task", Text, nullable=False),
    Column("signature", Name, nullable=False),
    Column("compute", Text, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("created", Moment, nullable=False),
    Column("overrides", Json, nullable=False),
    Column("bound", Json, nullable=False),
    Column("composed_tags", Json, nullable=False),
    Column("sweep_id", Text),
    Column("sweep_number", BigInteger),
    Column("sweep_of", BigInteger),
    Column("code", Json),
    Column("lineage", Json),
    Column("jobs", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),  # the newest; 0: none yet
    Column("started", Moment),  # the first attempt
    Column("ended", Moment),  # this and the next two: NULL while the newest attempt goes on
    Column("exit_code", Integer),
    Column("reason", Text),
    Column("last_beat", Moment),
    Column("step", BigInteger, nullable=False),
    Column("result_attempt", Integer),  # NULL: no result
    Column("pruned", Boolean),
    Column("result", Json),
    Column("note", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),  # of everything in the folder
    Column("mark", Text, nullable=False),  # a hash of how the folder was listed
    Index(None, "tail"),
    Index(None, "created", "id"),
    Index(None, "experiment", "created", "id"),
    Index(None, "user", "created", "id"),
    Index(None, "sweep_id", "sweep_number"),
    Index(None, "signature"),
)

configs = Table("configs", metadata, _id(), Column("tree", Json))

attempts = Table(
    "attempts",
    metadata,
    _id(),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("started", Moment),
    Column("host", Text),
    Column("pid", BigInteger),
    Column("process_started", Double),
    Column("boot_id", Text),
    Column("job", Text),
    Column("numerics", Json),
    Column("versions", Json),
    Column("ended", Moment),
    Column("exit_code", Integer),
    Column("step", BigInteger),
    Column("reason", Text),
    Column("error", Json),
    Column("code_hash", Text),
    Column("changes", Json),
    Column("saved", BigInteger),
    Column("again", Boolean),  # NULL in rows of registries that did not have it
    Column("place", Json),
)

jobs = Table(
    "jobs",
    metadata,
    _id(),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("executor", Text, nullable=False),
    Column("created", Moment, nullable=False),
    Column("job", Text),
    Column("cancelled", Boolean, nullable=False),
    Column("ticket", Text),
    Column("handle", Text),
    Column(
        "reason", Text
    ),  # NULL, as the next ones may be, in rows of registries that did not have it
    Column("target", Text),
    Column("bundle", Text),
    Column("changes", Json),
    Column("rates", Json),
    Column("hours", Double),
    Column("usd", Double),
    Column("controller", Json),
)

tags = Table(
    "tags",
    metadata,
    _id(),
    Column("tag", Name, primary_key=True),
    Index(None, "tag", "run_id"),
    sqlite_with_rowid=False,
)

files = Table(
    "files",
    metadata,
    _id(),
    Column("path", Name, primary_key=True),  # below the run's files/
    Column("step", BigInteger),
    Column("bytes", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
)

keys = Table(
    "keys",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),  # crown_exp.registry.keys
    Column("kind", Text, nullable=False),
    Column("name", Name, nullable=False),
    Column("leaf", Name, nullable=False),  # the part after the last dot of a param or result
    Index(None, "kind", "name", unique=True),
    Index(None, "leaf"),
    sqlite_with_rowid=False,
)

run_params = _values("run_params")
run_results = _values("run_results")

metric_points = Table(
    "metric_points",
    metadata,
    _id(),
    Column("key_id", BigInteger, primary_key=True, autoincrement=False),
    Column("step", BigInteger, primary_key=True, autoincrement=False),
    Column("value", Double),  # NULL is nan: SQLite makes it so anyway
    Column("ts", Double, nullable=False),  # seconds since 1970, UTC
    Column("attempt", Integer, nullable=False),
    sqlite_with_rowid=False,
)

metric_summaries = Table(
    "metric_summaries",
    metadata,
    _id(),
    Column("key_id", BigInteger, primary_key=True, autoincrement=False),
    Column("n", BigInteger, nullable=False),
    Column("last_step", BigInteger, nullable=False),
    Column("last", Double),  # as in metric_points
    Column("min", Double),  # of what is not nan
    Column("min_step", BigInteger),
    Column("max", Double),
    Column("max_step", BigInteger),
    Index(None, "key_id", "last", "run_id"),
    Index(None, "key_id", "min", "run_id"),
    Index(None, "key_id", "max", "run_id"),
    sqlite_with_rowid=False,
)

events = Table(
    "events",
    metadata,
    _id(),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("segment", Integer, primary_key=True, autoincrement=False),
    Column("number", BigInteger, primary_key=True, autoincrement=False),  # of the record
    Column("ts", Double, nullable=False),
    Column("kind", Text, nullable=False),
    Column("data", Json),
    Index(None, "run_id", "kind"),
)

segments = Table(
    "segments",
    metadata,
    _id(),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("segment", Integer, primary_key=True, autoincrement=False),
    Column("good_bytes", BigInteger, nullable=False),  # how much of it was taken in,
    Column("records", BigInteger, nullable=False),  # and how many records that was
    Column("first_step", BigInteger),  # from which step its attempt went on
    sqlite_with_rowid=False,
)

OF_A_RUN = (
    configs,
    attempts,
    jobs,
    tags,
    files,
    run_params,
    run_results,
    metric_points,
    metric_summaries,
    events,
    segments,
)
"""Every table with rows of a run, besides `runs`."""
