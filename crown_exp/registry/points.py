"""Records of a log, as they come: points, summaries and events, and how much of a segment was taken in.

Taking the same records in again changes nothing. Of two attempts that logged the same step the newer counts,
whichever comes first; what an older attempt logged after the step from which a newer one went on is dropped:
the newer one lives through it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, delete, func, select

from crown_exp.folder.segment import Record
from crown_exp.registry.keys import key_id, key_row
from crown_exp.registry.models import events, keys, metric_points, segments
from crown_exp.registry.reading import RESUMED, Logged, Points, read_records
from crown_exp.registry.summaries import summarise
from crown_exp.storage.database.columns import storable
from crown_exp.storage.database.statements import put_rows, upsert


@dataclass(frozen=True, slots=True)
class Place:
    """Whose records they are: those of a segment of an attempt of a run."""

    run: str
    attempt: int
    segment: int


@dataclass(frozen=True, slots=True)
class Span:
    """Which records: those from number `first` on (from 0), which are the bytes from `start` to `end`.

    end: None if the bytes from `start` on hold more records, which follow.
    """

    first: int
    start: int
    end: int | None


@dataclass(frozen=True, slots=True)
class Cursor:
    """How much of a segment was taken in, and from which step its attempt went on."""

    good_bytes: int = 0
    records: int = 0
    first_step: int | None = None


def absorb(connection: Connection, place: Place, span: Span, records: Sequence[Record]) -> int:
    """Take records in, within a transaction that writes. Returns how many were refused.

    Refused is what is no record of a point or event, or holds what is no number.
    """
    logged = read_records(records, span.first)
    cursor = _cursor(connection, place)
    first = _went_on_from(connection, place, logged, cursor)
    dropped = _drop_superseded(connection, place, first, cursor)
    points = _still_valid(connection, place, logged.points)
    _write_points(connection, place, points)
    by_key = {key_id("metric", name): found for name, found in points.items()}
    summarise(connection, place.run, by_key, anew=dropped)
    _write_events(connection, place, logged)
    _move_on(connection, place, span, len(records), first, cursor)
    return logged.refused


def _cursor(connection: Connection, place: Place) -> Cursor:
    c = segments.c
    row = connection.execute(
        select(c.good_bytes, c.records, c.first_step).where(
            c.run_id == place.run, c.attempt == place.attempt, c.segment == place.segment
        )
    ).one_or_none()
    return Cursor() if row is None else Cursor(*row)


def _went_on_from(
    connection: Connection, place: Place, logged: Logged, cursor: Cursor
) -> int | None:
    """From which step the attempt went on: as it says, else the least of which it has logged something.

    What it says counts for good: code before its loop logs at step 0, and supersedes nothing after it.
    """
    if logged.resumed is not None:
        return logged.resumed
    c = events.c
    says = (c.run_id == place.run, c.attempt == place.attempt, c.kind == RESUMED)
    if place.attempt > 1 and connection.scalar(select(c.number).where(*says).limit(1)) is not None:
        return cursor.first_step
    firsts = [step for step in (cursor.first_step, logged.first_step) if step is not None]
    return min(firsts, default=None)


def _drop_superseded(
    connection: Connection, place: Place, first: int | None, cursor: Cursor
) -> bool:
    """Delete what older attempts logged after the step from which this one went on; whether there was any."""
    known = cursor.first_step
    if place.attempt <= 1 or first is None or (known is not None and first >= known):
        return False
    c = metric_points.c
    older: tuple[ColumnElement[bool], ...] = (c.run_id == place.run, c.attempt < place.attempt)
    return connection.execute(delete(metric_points).where(*older, c.step > first)).rowcount > 0


def _still_valid(
    connection: Connection, place: Place, points: Mapping[str, Points]
) -> Mapping[str, Points]:
    """The points without those that a newer attempt has superseded already."""
    c = segments.c
    limit = connection.scalar(
        select(func.min(c.first_step)).where(c.run_id == place.run, c.attempt > place.attempt)
    )
    if limit is None:
        return points
    kept = {
        name: {step: value for step, value in found.items() if step <= limit}
        for name, found in points.items()
    }
    return {name: found for name, found in kept.items() if found}


def _write_points(connection: Connection, place: Place, points: Mapping[str, Points]) -> None:
    put_rows(connection, keys, [key_row("metric", name) for name in points])
    run, attempt = place.run, place.attempt
    rows = [
        (run, number, step, value, time, attempt)
        for name, found in points.items()
        for number in (key_id("metric", name),)
        for step, (value, time) in found.items()
    ]
    put_rows(
        connection, metric_points, rows, replace=("value", "ts", "attempt"), at_least="attempt"
    )


def _write_events(connection: Connection, place: Place, logged: Logged) -> None:
    rows = [
        {
            "run_id": place.run,
            "attempt": place.attempt,
            "segment": place.segment,
            "number": number,
            "ts": time,
            "kind": storable(kind),
            "data": data,
        }
        for number, time, kind, data in logged.events
    ]
    if rows:
        statement = upsert(connection.dialect.name, events, ("ts", "kind", "data"))
        connection.execute(statement, rows)


def _move_on(
    connection: Connection,
    place: Place,
    span: Span,
    records: int,
    first: int | None,
    cursor: Cursor,
) -> None:
    """Note how far it is, if these records follow on what was taken in: no gap is ever passed over."""
    moves = span.end is not None and span.start <= cursor.good_bytes <= span.end
    row = (
        place.run,
        place.attempt,
        place.segment,
        span.end if moves else cursor.good_bytes,
        span.first + records if moves else cursor.records,
        first,
    )
    put_rows(connection, segments, [row], replace=("good_bytes", "records", "first_step"))
