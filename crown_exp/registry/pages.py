"""One page of runs: which, in what order, with what beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from crown_exp.identity import SIGNATURE_VERSION
from crown_exp.outcome import State
from crown_exp.registry.base import Filter, Page, RunInfo, Wanted
from crown_exp.registry.models import runs, tags
from crown_exp.registry.states import may_be, states_of, sweep_of
from crown_exp.registry.story import exact_until, find_stopping, find_stories
from crown_exp.registry.terms import parse_wanted
from crown_exp.registry.wanted import Sources, find_sources, meets, number_of, text_of
from crown_exp.storage.database.statements import in_pieces

LEAST = 200
"""Runs that are looked at together at least, where a state is looked for."""

SORTS: Mapping[str, ColumnElement[Any]] = {
    name: runs.c[name]
    for name in ("created", "started", "ended", "name", "experiment", "user", "step", "bytes")
}
"""What runs are sorted by beside their values."""

Row = Mapping[str, Any]


async def find_page(
    connection: AsyncConnection,
    wanted: Filter,
    *,
    sort: str,
    limit: int | None,
    offset: int,
    columns: Sequence[str],
    now: datetime,
) -> Page:
    """See `Registry.page`."""
    descending, by = sort.startswith("-"), sort.removeprefix("-")
    shown = {column: parse_wanted(column) for column in columns}
    key = None if by in SORTS else parse_wanted(by)
    asked = {condition.wanted for condition in wanted.where} | set(shown.values())
    sources = await find_sources(connection, asked | ({key} if key else set()))
    fitting = conditions(wanted, sources, now)
    by_value = (number_of(key, sources[key]), text_of(sources[key])) if key else (SORTS[by],)
    statement = select(runs).where(*fitting).order_by(*order(by_value, descending))
    rows, states = await _rows(connection, statement, wanted.states, limit, offset, now)
    more = limit is not None and len(rows) > limit
    rows = rows[:limit]
    found = await infos(
        connection, rows, states, {name: (it, sources[it]) for name, it in shown.items()}
    )
    total: int | None = None if wanted.states else await connection.scalar(_count(fitting))
    return Page(tuple(found), more, total)


def conditions(
    wanted: Filter, sources: Mapping[Wanted, Sources], now: datetime
) -> list[ColumnElement[bool]]:
    """What a run of `runs` must meet; states only as far as SQL can tell."""
    c = runs.c
    exact = ("experiment", "user", "compute")
    found = [
        c[name] == getattr(wanted, name) for name in exact if getattr(wanted, name) is not None
    ]
    if wanted.sweep is not None:
        found.append(c.sweep_id == wanted.sweep)
    if wanted.signature is not None:
        starts = (wanted.signature, f"{SIGNATURE_VERSION}:{wanted.signature}")
        found.append(or_(*(c.signature.startswith(start, autoescape=True) for start in starts)))
    if wanted.name is not None:
        found.append(func.lower(c.name).contains(wanted.name.lower(), autoescape=True))
    if wanted.newer is not None:
        found.append(c.created >= _ago(now, wanted.newer))
    if wanted.older is not None:
        found.append(c.created < _ago(now, wanted.older))
    found += [c.id.in_(select(tags.c.run_id).where(tags.c.tag == tag)) for tag in wanted.tags]
    found += [meets(condition, sources[condition.wanted]) for condition in wanted.where]
    if wanted.states:
        found.append(may_be(wanted.states, now))
    return found


def _ago(now: datetime, age: timedelta) -> datetime:
    try:
        return now - age
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)


def order(columns: Sequence[ColumnElement[Any]], descending: bool) -> list[ColumnElement[Any]]:
    """By these columns, runs without a value last; of equal ones the newest first."""
    newest = (runs.c.created, runs.c.id)
    if columns[0] is runs.c.created:
        return [it.desc() if descending else it.asc() for it in newest]
    first = [(it.desc() if descending else it.asc()).nulls_last() for it in columns]
    return [*first, *(it.desc() for it in newest)]


def _count(fitting: Sequence[ColumnElement[bool]]) -> Select[int]:
    return select(func.count()).select_from(runs).where(*fitting)


async def _rows(
    connection: AsyncConnection,
    statement: Select[Any],
    wanted: frozenset[State],
    limit: int | None,
    offset: int,
    now: datetime,
) -> tuple[list[Row], dict[str, State]]:
    """The rows of a page and one more if there is one, and their states."""
    if not wanted:
        cut = statement.limit(None if limit is None else limit + 1).offset(offset)
        rows = list((await connection.execute(cut)).mappings())
        return rows, await states_of(connection, rows, now)
    found: list[Row] = []
    states: dict[str, State] = {}
    enough = None if limit is None else offset + limit + 1
    size, at = max(LEAST, enough or 0), 0
    while enough is None or len(found) < enough:
        piece = list((await connection.execute(statement.limit(size).offset(at))).mappings())
        states |= await states_of(connection, piece, now)
        found += [row for row in piece if states[row["id"]] in wanted]
        at += size
        if len(piece) < size:
            break
    return found[offset:enough], states


async def infos(
    connection: AsyncConnection,
    rows: Sequence[Row],
    states: Mapping[str, State],
    shown: Mapping[str, tuple[Wanted, Sources]],
) -> list[RunInfo]:
    """The rows as what is answered, with tags and the values asked for."""
    ids = [row["id"] for row in rows]
    tagged = await _tags(connection, ids)
    values = await _values(connection, ids, shown)
    stories = await find_stories(connection, [row["id"] for row in rows if row["attempt"] > 1])
    stopping = await find_stopping(connection, rows, states)
    found = []
    for row in rows:
        run_id, story = row["id"], stories.get(row["id"], {})
        info = _info(row, states[run_id], tagged.get(run_id, ()), values.get(run_id, {}))
        lost = sum(resumed.lost for resumed in story.values())
        found.append(
            replace(info, stopping=stopping.get(run_id), lost=lost, exact_until=exact_until(story))
        )
    return found


async def _tags(connection: AsyncConnection, ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for piece in in_pieces(ids):
        statement = select(tags.c.run_id, tags.c.tag).where(tags.c.run_id.in_(piece))
        for run_id, tag in await connection.execute(statement.order_by(tags.c.tag)):
            found[run_id] = (*found.get(run_id, ()), tag)
    return found


async def _values(
    connection: AsyncConnection,
    ids: Sequence[str],
    shown: Mapping[str, tuple[Wanted, Sources]],
) -> dict[str, dict[str, float | str | None]]:
    """What was asked for of each run: the number, else the text."""
    found: dict[str, dict[str, float | str | None]] = {}
    numbers = [number_of(wanted, sources) for wanted, sources in shown.values()]
    texts = [text_of(sources) for _, sources in shown.values()]
    for piece in in_pieces(ids) if shown else ():
        statement = select(runs.c.id, *numbers, *texts).where(runs.c.id.in_(piece))
        for run_id, *row in await connection.execute(statement):
            pairs = zip(row[: len(shown)], row[len(shown) :], strict=True)
            both = (text if number is None else number for number, text in pairs)
            found[run_id] = dict(zip(shown, both, strict=True))
    return found


def _info(
    row: Row, state: State, tagged: Sequence[str], values: Mapping[str, float | str | None]
) -> RunInfo:
    names = (
        "id", "name", "experiment", "user", "task", "signature", "compute", "seed", "created", "note",
        "code", "lineage", "attempt", "started", "ended", "exit_code", "reason", "last_beat", "step",
        "result", "bytes", "store",
    )  # fmt: skip
    return RunInfo(
        **{name: row[name] for name in names},
        state=state,
        overrides=tuple(row["overrides"]),
        tags=tuple(tagged),
        sweep=sweep_of(row),
        values=values,
    )
