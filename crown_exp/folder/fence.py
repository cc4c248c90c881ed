"""One writer: who may start the next attempt of a run (or of a sweep).

The fence is a row of numbered records that can only be created, never changed: whoever creates the
highest number holds the run. This is the monotonic epoch of SlateDB's manifests
(github.com/slatedb/slatedb, docs/0001-manifest.md). Here is only the judgement whether to try;
that one of many who try at once succeeds is the store's create-only write.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from crown_exp.folder.records import AttemptRecord, EndRecord
from crown_exp.folder.state import BEAT_LIMIT, Facts, last_sign


@dataclass(frozen=True, slots=True)
class Here:
    """The machine of the one who asks.

    boot_id: as in AttemptRecord.
    alive: whether a process of this machine lives, given its pid and, if known, its start as in
        AttemptRecord.process_started; False only if it is certain.
    """

    host: str
    boot_id: str | None
    alive: Callable[[int, float | None], bool]


@dataclass(frozen=True, slots=True)
class Free:
    """`next_attempt` may be claimed: nobody holds the run, or who does is taken over from (`took_over`)."""

    next_attempt: int
    took_over: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """A living attempt holds the run; it was last heard of `beat_age_s` seconds ago."""

    by: AttemptRecord
    beat_age_s: float


def judge(
    newest: AttemptRecord | None,
    end: EndRecord | None,
    last_beat: datetime | None,
    now: datetime,
    here: Here,
    *,
    job: str | None = None,
    take_over: bool = False,
) -> Free | Held:
    """Whether an attempt may start after `newest`, whose end (if any) is `end`.

    last_beat, now: by the store's clock. job: the executor's job that starts us, if one does: the
    executor knows that what it started before under the same id is over.
    """
    if newest is None:
        return Free(1)
    free = Free(newest.attempt + 1)
    if end is not None or (job is not None and job == newest.job):
        return free
    age = now - last_sign(newest, last_beat)
    if age >= BEAT_LIMIT or is_dead(newest, here):
        return free
    return replace(free, took_over=True) if take_over else Held(newest, age.total_seconds())


def holder(facts: Facts, now: datetime, here: Here) -> Held | None:
    """The attempt that holds a run: it has not ended, and lives by the clock `now` of the store, or None."""
    newest = facts.newest_attempt
    end = next((it for it in facts.ends if newest and it.attempt == newest.attempt), None)
    found = judge(newest, end, facts.last_beat, now, here)
    return found if isinstance(found, Held) else None


def is_dead(holder: AttemptRecord, here: Here) -> bool:
    """Whether it is certain that a holder is gone: it lived in our own table of processes."""
    ours = holder.host == here.host and holder.boot_id == here.boot_id is not None
    return ours and not here.alive(holder.pid, holder.process_started)


def gone(facts: Facts, here: Here) -> set[int]:
    """The attempts that are certainly over: they ended, or their process was one of this machine's."""
    ended = {end.attempt for end in facts.ends}
    dead = {it.attempt for it in facts.attempts if is_dead(it, here)}
    return ended | dead


def died_here(facts: Facts, here: Here) -> bool:
    """Whether the newest attempt never ended: its process was one of this machine's, and is gone."""
    newest = facts.newest_attempt
    if newest is None or any(end.attempt == newest.attempt for end in facts.ends):
        return False
    return is_dead(newest, here)
