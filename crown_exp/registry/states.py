"""The state of runs in the index: a condition that SQL can see to, then `folder.state` itself.

The condition never leaves out a run that has the state (a property test holds it to that), so what it lets
through is little more than what is looked for; the last word is `folder.state`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Table, and_, false, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from crown_exp.folder import (
    BEAT_LIMIT,
    AttemptRecord,
    EndRecord,
    Facts,
    JobRecord,
    ResultRecord,
    RunRecord,
    state,
)
from crown_exp.folder.records import AnyRecord, SweepPlace
from crown_exp.outcome import STATE_OF_EXIT, ExitCode, State
from crown_exp.registry.models import attempts, jobs, runs
from crown_exp.storage.database.statements import in_pieces

_GOES_ON_AS_LOST = (int(ExitCode.OK), int(ExitCode.SUPERSEDED))
_CODES: dict[State, list[int]] = {
    found: [int(code) for code, of in STATE_OF_EXIT.items() if of is found and code != ExitCode.OK]
    for found in State
}
_CODES[State.LOST] += _GOES_ON_AS_LOST
_NOT_FAILED = [code for of, codes in _CODES.items() if of is not State.FAILED for code in codes]


def may_be(states: Iterable[State], now: datetime) -> ColumnElement[bool]:
    """A condition on `runs` that every run in one of these states meets."""
    return or_(false(), *(_may_be(found, now) for found in states))


def _may_be(wanted: State, now: datetime) -> ColumnElement[bool]:
    c = runs.c
    if wanted in (State.COMPLETED, State.PRUNED):
        return and_(c.result_attempt.is_not(None), c.pruned.is_(wanted is State.PRUNED))
    goes_on = and_(c.attempt > 0, c.exit_code.is_(None))
    heard = or_(c.last_beat.is_(None), c.last_beat > now - BEAT_LIMIT)
    conditions: dict[State, ColumnElement[bool]] = {
        State.PLANNED: and_(c.attempt == 0, c.jobs == 0),
        State.QUEUED: c.jobs > 0,
        State.RUNNING: and_(goes_on, heard),
        State.LOST: or_(goes_on, c.exit_code.in_(_CODES[State.LOST])),
        State.STOPPED: or_(c.exit_code.in_(_CODES[State.STOPPED]), c.jobs > 0),
        State.FAILED: c.exit_code.not_in(_NOT_FAILED),
    }
    else_by_code = c.exit_code.in_(_CODES[wanted])
    return and_(c.result_attempt.is_(None), conditions.get(wanted, else_by_code))


def unsettled() -> ColumnElement[bool]:
    """A condition on `runs`: more may happen to them."""
    return runs.c.result_attempt.is_(None)


async def states_of(
    connection: AsyncConnection, rows: Sequence[Mapping[str, Any]], now: datetime
) -> dict[str, State]:
    """The state of each run, given as its row of `runs`, at `now`."""
    open_ended = [row["id"] for row in rows if row["result_attempt"] is None]
    begun = await _by_run(connection, attempts, open_ended)
    submitted = await _by_run(connection, jobs, open_ended)
    return {
        row["id"]: state(facts_of(row, begun.get(row["id"], ()), submitted.get(row["id"], ())), now)
        for row in rows
    }


async def _by_run(
    connection: AsyncConnection, table: Table, run_ids: Sequence[str]
) -> dict[str, list[Any]]:
    """The rows of these runs, by run."""
    found: dict[str, list[Any]] = {}
    for piece in in_pieces(run_ids):
        rows = await connection.execute(select(table).where(table.c.run_id.in_(piece)))
        for row in rows.mappings():
            found.setdefault(row["run_id"], []).append(row)
    return found


def facts_of(
    row: Mapping[str, Any],
    attempts: Iterable[Mapping[str, Any]] = (),
    jobs: Iterable[Mapping[str, Any]] = (),
) -> Facts:
    """What `folder.state` needs to know, from a run's rows."""
    known = list(attempts)
    return Facts(
        run=run_of(row),
        jobs=[_job_of(item, row["id"]) for item in jobs],
        attempts=[
            _record(AttemptRecord, item, run=row["id"], took_over=False)  # kept in the store alone
            for item in known
            if item["started"]
        ],
        ends=[
            _record(EndRecord, item, run=row["id"], code=None, again=bool(item["again"]))
            for item in known
            if item["ended"]
        ],
        result=_result_of(row),
        last_beat=row["last_beat"],
    )


def _job_of(row: Mapping[str, Any], run: str) -> JobRecord:
    """A job's record. What is not kept here is of use to none but who asks after jobs, and reads the store."""
    told = _told(row, reason="", target="", rates=[])
    return _record(JobRecord, row, run=run, server=None, sweep_since=None, env=None, **told)


def run_of(row: Mapping[str, Any]) -> RunRecord:
    """The run's record, from its row."""
    return _record(RunRecord, row, tags=row["composed_tags"], sweep=sweep_of(row))


def sweep_of(row: Mapping[str, Any]) -> SweepPlace | None:
    """The run's place in its sweep, from its row."""
    if row["sweep_id"] is None:
        return None
    return SweepPlace(id=row["sweep_id"], number=row["sweep_number"], of=row["sweep_of"])


def _result_of(row: Mapping[str, Any]) -> ResultRecord | None:
    if row["result_attempt"] is None:
        return None
    return ResultRecord(
        run=row["id"],
        attempt=row["result_attempt"],
        step=row["step"],
        ended=row["ended"],
        result=row["result"],
        pruned=row["pruned"],
    )


def _told(row: Mapping[str, Any], **defaults: Any) -> dict[str, Any]:
    """Columns that are NULL in rows of registries that did not have them."""
    return {name: default if row[name] is None else row[name] for name, default in defaults.items()}


def _record(cls: type[AnyRecord], row: Mapping[str, Any], **more: Any) -> AnyRecord:
    """A record, with the columns of the same name, and `more` where there is none."""
    names = (field.name for field in fields(cls))
    return cls(**{name: more[name] if name in more else row[name] for name in names})
