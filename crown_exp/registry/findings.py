"""What was found in a run's folder, written in place of what was known; and a run forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import Connection, Table, delete, func, insert, select

from crown_exp.registry import models
from crown_exp.registry.keys import Kind, key_id, key_row
from crown_exp.registry.rows import Findings, Row, attempt_rows, file_rows, job_rows, run_row
from crown_exp.registry.values import Value, flatten
from crown_exp.storage.database.columns import storable
from crown_exp.storage.database.statements import put_rows

OF_FINDINGS = (
    models.attempts,
    models.jobs,
    models.files,
    models.tags,
    models.configs,
    models.run_params,
    models.run_results,
)


def write_findings(connection: Connection, found: Findings) -> None:
    """Put what was found in place of what was known; metrics and events stay."""
    facts, run_id = found.facts, found.facts.run.id
    if connection.scalar(select(models.runs.c.id).where(models.runs.c.id == run_id)):
        _delete(connection, run_id, OF_FINDINGS)
    c = models.metric_summaries.c
    logged = connection.scalar(select(func.max(c.last_step)).where(c.run_id == run_id))
    tags = dict.fromkeys(map(storable, found.tags))
    config = [] if found.config is None else [{"run_id": run_id, "tree": dict(found.config)}]
    _insert(connection, models.runs, [run_row(found, logged or 0)])
    _insert(connection, models.attempts, list(attempt_rows(facts)))
    _insert(connection, models.jobs, list(job_rows(facts)))
    _insert(connection, models.files, list(file_rows(run_id, found.files)))
    _insert(connection, models.tags, [{"run_id": run_id, "tag": tag} for tag in tags])
    _insert(connection, models.configs, config)
    params = flatten(found.config) if found.config else {}
    _insert_values(connection, models.run_params, run_id, "param", params)
    result = None if facts.result is None else facts.result.result
    results = {} if result is None else flatten(result)
    _insert_values(connection, models.run_results, run_id, "result", results)


def forget(connection: Connection, run_id: str) -> None:
    """Remove all rows of a run."""
    _delete(connection, run_id, models.OF_A_RUN)


def _delete(connection: Connection, run_id: str, tables: Iterable[Table]) -> None:
    for table in tables:
        connection.execute(delete(table).where(table.c.run_id == run_id))
    connection.execute(delete(models.runs).where(models.runs.c.id == run_id))


def _insert(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    if rows:
        connection.execute(insert(table), [_storable(row) for row in rows])


def _storable(row: Row) -> Row:
    return {name: storable(item) if isinstance(item, str) else item for name, item in row.items()}


def _insert_values(
    connection: Connection,
    table: Table,
    run_id: str,
    kind: Kind,
    values: Mapping[str, Value],
) -> None:
    rows = {
        key_id(kind, name): (run_id, key_id(kind, name), item.type, storable(item.text), item.num)
        for name, item in values.items()
    }
    put_rows(connection, models.keys, [key_row(kind, name) for name in values])
    put_rows(connection, table, list(rows.values()))
