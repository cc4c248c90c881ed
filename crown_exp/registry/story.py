"""The story of a run's attempts: from where each went on, what that cost, what was saved, what it led to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeGuard

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from crown_exp.outcome import State
from crown_exp.registry.base import Resumed, Saves
from crown_exp.registry.models import events, runs
from crown_exp.registry.reading import RESUMED
from crown_exp.registry.values import forked_from
from crown_exp.storage.database.statements import in_pieces

SAVED, STOPPING = "saved", "stopping"

Story = dict[int, Resumed]
"""From where attempts went on, by their number, in order; without those that began a run."""


def read_resumed(data: Any) -> Resumed | None:
    """What an event says of it, as far as it is what it should be; None if it does not name a step."""
    if not isinstance(data, Mapping) or not _is_count(data.get("step")):
        return None
    checkpoint, damaged = data.get("checkpoint"), data.get("damaged")
    numerics = data.get("numerics")
    return Resumed(
        step=data["step"],
        lost=data["lost"] if _is_count(data.get("lost")) else 0,
        checkpoint=checkpoint if isinstance(checkpoint, str) else None,
        damaged=tuple(map(str, damaged)) if isinstance(damaged, list | tuple) else (),
        numerics=numerics if isinstance(numerics, Mapping) else {},
    )


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def exact_until(story: Story) -> int | None:
    """The step up to which the run is bit for bit what one attempt would have made; None: all of it.

    Numerics that changed after a step from which a later attempt went on are lived through again.
    """
    changed: list[int] = []
    for _, resumed in sorted(story.items()):
        changed = [step for step in changed if step < resumed.step]
        if resumed.numerics:
            changed.append(resumed.step)
    return min(changed, default=None)


def reached(story: Story, attempt: int) -> int | None:
    """The last step that an attempt did, as the one after it found out; None if that does not tell."""
    after = story.get(attempt + 1)
    return None if after is None else after.step + after.lost


async def find_stories(connection: AsyncConnection, ids: Iterable[str]) -> dict[str, Story]:
    """The stories of runs; of those that never resumed, none."""
    found: dict[str, Story] = {}
    c = events.c
    for piece in in_pieces(list(ids)):
        rows = await connection.execute(
            select(c.run_id, c.attempt, c.data)
            .where(c.run_id.in_(piece), c.kind == RESUMED)
            .order_by(c.run_id, c.attempt)
        )
        for run_id, attempt, data in rows:
            if resumed := read_resumed(data):
                found.setdefault(run_id, {})[attempt] = resumed
    return found


async def find_stopping(
    connection: AsyncConnection, rows: Sequence[Mapping[str, Any]], states: Mapping[str, State]
) -> dict[str, str]:
    """Why runs stop at the end of the turn they are in; of runs that do not, nothing."""
    running = {row["id"]: row["attempt"] for row in rows if states[row["id"]] is State.RUNNING}
    found: dict[str, str] = {}
    c = events.c
    for piece in in_pieces(list(running)):
        asked = await connection.execute(
            select(c.run_id, c.attempt, c.data).where(c.run_id.in_(piece), c.kind == STOPPING)
        )
        for run_id, attempt, data in asked:
            if attempt == running[run_id]:
                why = data.get("why") if isinstance(data, Mapping) else None
                found[run_id] = str(why or "asked to stop")
    return found


async def find_saves(connection: AsyncConnection, run_id: str, story: Story) -> Saves | None:
    """What a run has saved and can go on from; None if there is nothing.

    What was saved after the step from which a later attempt went on was of no use to it: it is not counted on.
    """
    c = events.c
    of_run = (c.run_id == run_id, c.kind == SAVED)
    newest_first = (c.attempt.desc(), c.segment.desc(), c.number.desc())
    rows = await connection.stream(
        select(c.attempt, c.ts, c.data).where(*of_run).order_by(*newest_first)
    )
    found = None
    async for attempt, moment, data in rows:
        step = data.get("step") if isinstance(data, Mapping) else None
        later = (resumed.step for number, resumed in story.items() if number > attempt)
        if _is_count(step) and step <= min([*later, step]):
            found = step, data.get("bytes"), moment
            break
    await rows.close()
    if found is None:
        return None
    count = await connection.scalar(select(func.count()).where(*of_run)) or 0
    step, bytes_, moment = found
    return Saves(count, step, bytes_ if _is_count(bytes_) else None, moment)


async def find_forks(
    connection: AsyncConnection, run_id: str
) -> tuple[tuple[str, int | None], ...]:
    """Runs that were forked from a run, with the step, the oldest first."""
    c = runs.c
    rows = await connection.execute(
        select(c.id, c.lineage).where(c.lineage.is_not(None)).order_by(c.created, c.id)
    )
    found = ((fork, forked_from(lineage)) for fork, lineage in rows)
    return tuple((fork, origin[1]) for fork, origin in found if origin and origin[0] == run_id)
