"""Names of values as expressions: what `accuracy` is of each run, to compare, to sort by, to show."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement, Select, Table, and_, func, literal, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from crown_exp.config.nearest import did_you_mean
from crown_exp.errors import ConfigError
from crown_exp.registry.base import Condition, Operator, Wanted
from crown_exp.registry.keys import Kind, kept
from crown_exp.registry.models import keys, metric_summaries, run_params, run_results, runs

MOST_SOURCES = 32
"""How many names one may stand for; SQLite takes no deeper expressions."""

_ORDER: tuple[Kind, ...] = ("result", "param", "metric")
_TABLES: dict[Kind, Table] = {
    "result": run_results,
    "metric": metric_summaries,
    "param": run_params,
}
_COMPARE: dict[Operator, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "!=": operator.ne,
}


@dataclass(frozen=True, slots=True)
class Source:
    """A name that a value may go by: a row of `keys`."""

    kind: Kind
    key: int
    name: str


Sources = tuple[Source, ...]


async def find_sources(
    connection: AsyncConnection, wanted: Iterable[Wanted]
) -> dict[Wanted, Sources]:
    """What each wanted value may be, in the order in which it is looked for. Raises ConfigError for none."""
    names = {item: kept(item.name) for item in wanted}
    if not names:
        return {}
    c, typed = keys.c, set(names.values())
    rows = await connection.execute(
        select(c.kind, c.id, c.name, c.leaf).where(or_(c.name.in_(typed), c.leaf.in_(typed)))
    )
    known = [(Source(kind, key, name), leaf) for kind, key, name, leaf in rows]
    found = {item: _ordered(name, item.statistic != "", known) for item, name in names.items()}
    for item, sources in found.items():
        if not sources:
            raise await _unknown(connection, item)
    return found


def _ordered(name: str, only_metrics: bool, known: Iterable[tuple[Source, str]]) -> Sources:
    """The sources that go by this name: results first, of each kind that of the whole name first."""
    fitting = [
        source
        for source, leaf in known
        if name in (source.name, leaf) and (source.kind == "metric" or not only_metrics)
    ]
    fitting.sort(key=lambda it: (_ORDER.index(it.kind), it.name != name, len(it.name), it.name))
    return tuple(fitting[:MOST_SOURCES])


async def _unknown(connection: AsyncConnection, wanted: Wanted) -> ConfigError:
    c = keys.c
    kinds = ("metric",) if wanted.statistic else _ORDER
    names = set(await connection.scalars(select(c.name).where(c.kind.in_(kinds)).limit(10_000)))
    names |= set(await connection.scalars(select(c.leaf).where(c.kind.in_(kinds)).limit(10_000)))
    what = "metric" if wanted.statistic else "result, metric or config key"
    hint = did_you_mean(wanted.name, names) or "there are no runs yet"
    return ConfigError.of(str(wanted), f"no run has a {what} of this name; {hint}")


def number_of(wanted: Wanted, sources: Sources) -> ColumnElement[Any]:
    """The number that it is of a run of `runs`: of the first source that the run has."""
    return _first(_value(source, _number_column(source, wanted)) for source in sources)


def text_of(sources: Sources) -> ColumnElement[Any]:
    """The text that it is of a run of `runs`, if it is no metric."""
    texts = [_value(it, _TABLES[it.kind].c.text) for it in sources if it.kind != "metric"]
    return _first(texts) if texts else literal(None)


def _first(values: Iterable[ColumnElement[Any]]) -> ColumnElement[Any]:
    one, *others = values
    return func.coalesce(one, *others) if others else one


def _value(source: Source, column: Column[Any]) -> ColumnElement[Any]:
    c = _TABLES[source.kind].c
    of_run = and_(c.run_id == runs.c.id, c.key_id == source.key)
    return select(column).where(of_run).correlate(runs).scalar_subquery()


def _number_column(source: Source, wanted: Wanted) -> Column[Any]:
    column = wanted.statistic or "last" if source.kind == "metric" else "num"
    return _TABLES[source.kind].c[column]


def meets(condition: Condition, sources: Sources) -> ColumnElement[bool]:
    """Whether a run of `runs` fits."""
    numeric = isinstance(condition.value, float)
    # An index leads to the runs of which some source fits; with one source these are they.
    some = or_(*(runs.c.id.in_(_runs_with(source, condition, numeric)) for source in sources))
    if len(sources) == 1:
        return some
    value = number_of(condition.wanted, sources) if numeric else text_of(sources)
    return and_(some, _compare(value, condition))


def _runs_with(source: Source, condition: Condition, numeric: bool) -> Select[Any]:
    c = _TABLES[source.kind].c
    if numeric:
        column = _number_column(source, condition.wanted)
    elif source.kind == "metric":
        return select(c.run_id).where(literal(False))
    else:
        column = c.text
    return select(c.run_id).where(c.key_id == source.key, _compare(column, condition))


def _compare(column: ColumnElement[Any], condition: Condition) -> ColumnElement[bool]:
    if condition.operator == "~":
        return func.lower(column).contains(str(condition.value).lower(), autoescape=True)
    found: ColumnElement[bool] = _COMPARE[condition.operator](column, condition.value)
    return found
