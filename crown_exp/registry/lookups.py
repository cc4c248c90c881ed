"""One run, or a few, looked up: by prefix, as a curve, beside each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Table, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from crown_exp.config.nearest import did_you_mean
from crown_exp.errors import ConfigError
from crown_exp.registry import story
from crown_exp.registry.base import (
    LATEST,
    AttemptInfo,
    Comparison,
    Curve,
    Details,
    EventInfo,
    FileInfo,
    RunInfo,
    Summary,
)
from crown_exp.registry.keys import key_id
from crown_exp.registry.models import (
    attempts,
    configs,
    events,
    files,
    keys,
    metric_points,
    metric_summaries,
    run_params,
    run_results,
    runs,
    tags,
)
from crown_exp.registry.pages import infos
from crown_exp.registry.states import states_of
from crown_exp.storage.database.statements import in_pieces

CANDIDATES = 5
"""How many runs are named when a prefix fits several."""

EVENTS = 1000
"""How many events of a run are shown, the newest."""

T = TypeVar("T")


async def find_id(connection: AsyncConnection, prefix: str) -> str:
    """The id of the one run that begins with `prefix`, as a whole or after its dash, as in the store.

    `latest` is the one that was made last. Raises ConfigError if no run fits, or several do.
    """
    typed, c = prefix.strip().lower(), runs.c
    if not typed:
        raise ConfigError.of("run", f"expected an id or its beginning, or `{LATEST}`, got nothing")
    if typed == LATEST:
        newest_of_all = select(c.id).order_by(c.created.desc(), c.id.desc()).limit(1)
        if latest := await connection.scalar(newest_of_all):
            return str(latest)
        raise ConfigError.of(LATEST, "there is no run yet")
    if await connection.scalar(select(c.id).where(c.id == typed)):
        return typed
    last = f"{typed}\x7f"  # after everything that begins so
    fits = or_(c.id.between(typed, last), c.tail.between(typed, last))
    newest = select(c.id).where(fits).order_by(c.id.desc()).limit(CANDIDATES + 1)
    found = list(await connection.scalars(newest))
    if len(found) == 1:
        return str(found[0])
    if not found:
        raise ConfigError.of(
            prefix, "no run that is indexed has this id; `crown-exp runs` lists them"
        )
    named = ", ".join(found[:CANDIDATES]) + (", ..." if len(found) > CANDIDATES else "")
    raise ConfigError.of(prefix, f"several runs fit: {named}; type more of the id")


async def find_infos(
    connection: AsyncConnection, ids: Sequence[str], now: datetime
) -> list[RunInfo]:
    """These runs, in the order given."""
    rows: dict[str, Mapping[str, Any]] = {}
    for piece in in_pieces(ids):
        found = await connection.execute(select(runs).where(runs.c.id.in_(piece)))
        rows |= {row["id"]: row for row in found.mappings()}
    ordered = [rows[run_id] for run_id in ids]
    return await infos(connection, ordered, await states_of(connection, ordered, now), {})


async def find_details(connection: AsyncConnection, prefix: str, now: datetime) -> Details:
    """See `Registry.get`."""
    run_id = await find_id(connection, prefix)
    (info,) = await find_infos(connection, [run_id], now)
    told = (await story.find_stories(connection, [run_id])).get(run_id, {})
    recent = select(events).where(events.c.run_id == run_id)
    recent = recent.order_by(
        events.c.attempt.desc(), events.c.segment.desc(), events.c.number.desc()
    )
    happened = (await connection.execute(recent.limit(EVENTS))).mappings().all()
    return Details(
        run=info,
        config=await connection.scalar(select(configs.c.tree).where(configs.c.run_id == run_id)),
        attempts=await _attempts(connection, run_id, told),
        summaries=(await find_summaries(connection, [run_id]))[run_id],
        files=await _all(connection, files, run_id, FileInfo),
        events=tuple(
            EventInfo(row["attempt"], row["ts"], row["kind"], row["data"])
            for row in reversed(happened)
        ),
        saves=await story.find_saves(connection, run_id, told),
        forks=await story.find_forks(connection, run_id),
    )


async def _attempts(
    connection: AsyncConnection, run_id: str, told: story.Story
) -> tuple[AttemptInfo, ...]:
    """The attempts of a run, with from where each went on, and how far those came that left no end."""
    statement = select(attempts).where(attempts.c.run_id == run_id).order_by(attempts.c.attempt)
    known = AttemptInfo.__dataclass_fields__.keys() - {"resumed"}
    found = []
    for row in (await connection.execute(statement)).mappings():
        values = {name: row[name] for name in known}
        number = row["attempt"]
        if row["step"] is None:
            values["step"] = story.reached(told, number)
        found.append(AttemptInfo(**values, resumed=told.get(number)))
    return tuple(found)


async def _all(
    connection: AsyncConnection, table: Table, run_id: str, cls: Callable[..., T]
) -> tuple[T, ...]:
    """Every row of a run as what is answered, by the rest of the primary key."""
    rows = await connection.execute(
        select(table).where(table.c.run_id == run_id).order_by(*table.primary_key.columns)
    )
    names = cls.__dataclass_fields__  # type: ignore[attr-defined]
    return tuple(cls(**{name: row[name] for name in names}) for row in rows.mappings())


async def find_summaries(
    connection: AsyncConnection, ids: Iterable[str]
) -> dict[str, dict[str, Summary]]:
    """The summary of every metric of every run, by name."""
    c, found = metric_summaries.c, {run_id: dict[str, Summary]() for run_id in ids}
    columns = (c.n, c.last_step, c.last, c.min, c.min_step, c.max, c.max_step)
    statement = select(c.run_id, keys.c.name, *columns).join(keys, keys.c.id == c.key_id)
    for piece in in_pieces(found):
        rows = await connection.execute(
            statement.where(c.run_id.in_(piece)).order_by(c.run_id, keys.c.name)
        )
        for run_id, name, n, last_step, last, *extremes in rows:
            found[run_id][name] = Summary(
                n, last_step, math.nan if last is None else last, *extremes
            )
    return found


async def find_curve(
    connection: AsyncConnection, prefix: str, metric: str, at_most: int | None
) -> Curve:
    """See `Registry.curve`."""
    run_id, number, c = await find_id(connection, prefix), key_id("metric", metric), metric_points.c
    of_curve = (c.run_id == run_id, c.key_id == number)
    summary = (
        await connection.execute(
            select(func.count(), func.min(c.step), func.max(c.step)).where(*of_curve)
        )
    ).one()
    n, first, last = summary
    if not n:
        names = (await find_summaries(connection, [run_id]))[run_id]
        hint = did_you_mean(metric, names) or "it has none yet"
        raise ConfigError.of(metric, f"{run_id} has no metric of this name; {hint}")
    if at_most is None or n <= at_most:
        statement = select(c.step, c.value, c.ts).where(*of_curve)
    else:
        width = (last - first) // at_most + 1
        statement = (
            select(func.max(c.step), func.avg(c.value), func.max(c.ts))
            .where(*of_curve)
            .group_by((c.step - first) // width)
        )
    rows = (await connection.execute(statement.order_by(c.step))).all()
    return Curve(
        run_id,
        metric,
        [row[0] for row in rows],
        [math.nan if row[1] is None else row[1] for row in rows],
        [row[2] for row in rows],
    )


async def find_tags(connection: AsyncConnection) -> dict[str, int]:
    """Every tag with how many runs have it, the most used first."""
    n = func.count().label("n")
    rows = await connection.execute(
        select(tags.c.tag, n).group_by(tags.c.tag).order_by(n.desc(), tags.c.tag)
    )
    return dict(rows.all())


async def find_names(connection: AsyncConnection) -> dict[str, list[str]]:
    """What runs are filtered, sorted and shown by: names of metrics, params and results."""
    rows = await connection.execute(select(keys.c.kind, keys.c.name).order_by(keys.c.name))
    found: dict[str, list[str]] = {"metric": [], "param": [], "result": []}
    for kind, name in rows:
        found[kind].append(name)
    return found


async def compare(
    connection: AsyncConnection, prefixes: Sequence[str], now: datetime
) -> Comparison:
    """See `Registry.compare`."""
    ids = [await find_id(connection, prefix) for prefix in prefixes]
    ids = list(dict.fromkeys(ids))
    if len(ids) < 2:
        raise ConfigError.of("compare", "expected two runs or more: crown-exp compare <id> <id>")
    found = await find_infos(connection, ids, now)
    config = beside(ids, await _texts(connection, run_params, ids))
    summaries = await find_summaries(connection, ids)
    codes = [run.code for run in found]
    return Comparison(
        runs=tuple(found),
        config={name: texts for name, texts in config.items() if len(set(texts)) > 1},
        results=beside(ids, await _texts(connection, run_results, ids)),
        summaries=beside(ids, summaries),
        same_code=None if None in codes else all(code == codes[0] for code in codes),
    )


async def _texts(
    connection: AsyncConnection, table: Table, ids: Sequence[str]
) -> dict[str, dict[str, str]]:
    """The text of every value of every run, by name."""
    found: dict[str, dict[str, str]] = {}
    statement = select(table.c.run_id, keys.c.name, table.c.text).join(
        keys, keys.c.id == table.c.key_id
    )
    for piece in in_pieces(ids):
        for run_id, name, text in await connection.execute(
            statement.where(table.c.run_id.in_(piece)).order_by(keys.c.name)
        ):
            found.setdefault(run_id, {})[name] = text
    return found


def beside(
    ids: Sequence[str], values: Mapping[str, Mapping[str, T]]
) -> dict[str, tuple[T | None, ...]]:
    """Each name of any run, with its value in every run."""
    names = sorted({name for found in values.values() for name in found})
    return {name: tuple(values.get(run_id, {}).get(name) for run_id in ids) for name in names}
