"""The summary of each metric of a run, kept beside its points in the same transaction."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select

from crown_exp.registry.models import metric_points, metric_summaries
from crown_exp.registry.reading import Points
from crown_exp.storage.database.statements import in_pieces, put_rows

COLUMNS = ("n", "last_step", "last", "min", "min_step", "max", "max_step")

Row = tuple[int, int, float | None, float | None, int | None, float | None, int | None]
"""A summary: the columns above. What is None is nan, or there is nothing but nan."""


def summarise(
    connection: Connection, run_id: str, fresh: Mapping[int, Points], *, anew: bool
) -> None:
    """Bring summaries up to date with points, by key, that were just written.

    Where they all come after those that were there, they are added; else, and with `anew`, all is counted
    again.
    """
    if anew:
        recompute(connection, run_id, None)
        return
    known = _known(connection, run_id, fresh)
    grown, again = [], []
    for key, points in fresh.items():
        old = known.get(key)
        if old is not None and min(points) <= old[1]:
            again.append(key)
        else:
            grown.append((run_id, key, *added(old, points)))
    put_rows(connection, metric_summaries, grown, replace=COLUMNS)
    recompute(connection, run_id, again)


def _known(connection: Connection, run_id: str, keys: Collection[int]) -> dict[int, Row]:
    table = metric_summaries
    found: dict[int, Any] = {}
    wanted = select(table.c.key_id, *(table.c[name] for name in COLUMNS))
    for piece in in_pieces(keys):
        rows = connection.execute(wanted.where(table.c.run_id == run_id, table.c.key_id.in_(piece)))
        found |= {row[0]: tuple(row[1:]) for row in rows}
    return found


def added(old: Row | None, points: Points) -> Row:
    """The summary of the points that `old` tells of, if any, and of these, which come after them."""
    n, _, _, low, low_step, high, high_step = old or (0, 0, None, None, None, None, None)
    last_step = max(points)
    for step in sorted(points):
        value = points[step][0]
        if value is None:
            continue
        if low is None or value < low:
            low, low_step = value, step
        if high is None or value > high:
            high, high_step = value, step
    return n + len(points), last_step, points[last_step][0], low, low_step, high, high_step


def recompute(connection: Connection, run_id: str, keys: Collection[int] | None) -> None:
    """Count the points of these keys again; of all keys with None."""
    if keys is None:
        _recompute(connection, run_id, ())
    for piece in in_pieces(keys or ()):
        _recompute(
            connection,
            run_id,
            (metric_points.c.key_id.in_(piece),),
            metric_summaries.c.key_id.in_(piece),
        )


def _recompute(connection: Connection, run_id: str, of_points: Any, *of_summaries: Any) -> None:
    """Delete the summaries and select them from the points."""
    table = metric_summaries
    connection.execute(delete(table).where(table.c.run_id == run_id, *of_summaries))
    points = metric_points.c
    counted = (
        select(
            points.run_id,
            points.key_id,
            func.count().label("n"),
            func.max(points.step).label("last_step"),
            func.min(points.value).label("min"),
            func.max(points.value).label("max"),
        )
        .where(points.run_id == run_id, *of_points)
        .group_by(points.run_id, points.key_id)
        .subquery()
        .c
    )
    point = metric_points.alias().c
    same = (point.run_id == counted.run_id, point.key_id == counted.key_id)
    last = select(point.value).where(*same, point.step == counted.last_step)
    least = select(func.min(point.step)).where(*same, point.value == counted.min)
    greatest = select(func.min(point.step)).where(*same, point.value == counted.max)
    found = select(
        counted.run_id,
        counted.key_id,
        counted.n,
        counted.last_step,
        last.scalar_subquery(),
        counted.min,
        least.scalar_subquery(),
        counted.max,
        greatest.scalar_subquery(),
    )
    connection.execute(insert(table).from_select([column.name for column in table.columns], found))
