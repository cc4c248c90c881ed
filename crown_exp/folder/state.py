"""The state of a run, computed from its records. None is stored, so none can go stale."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from crown_exp.folder.records import (
    AttemptRecord,
    EndRecord,
    JobRecord,
    ResultRecord,
    RunRecord,
)
from crown_exp.outcome import STATE_OF_EXIT, ExitCode, State

BEAT_LIMIT = timedelta(seconds=60)
"""An attempt that has not been heard of for this long is taken for dead."""

_STATES: dict[int, State] = {int(code): found for code, found in STATE_OF_EXIT.items()}


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a run at one moment. The order within the collections means nothing.

    last_beat: the newest sign of life of the newest attempt, by the store's clock; None if unknown.
    """

    run: RunRecord
    jobs: Collection[JobRecord] = ()
    attempts: Collection[AttemptRecord] = ()
    ends: Collection[EndRecord] = ()
    result: ResultRecord | None = None
    last_beat: datetime | None = None


def state(facts: Facts, now: datetime) -> State:
    """What the run is doing at `now`, the time of the store's clock.

    A result decides, even without an end record. Else the newest attempt does: by its beat while it
    has no end, by its exit code after. A job that was recorded after that, and that no attempt has
    taken up, means that the run is queued again. Exit codes that are none of ours mean failed.
    """
    if facts.result is not None:
        return State.PRUNED if facts.result.pruned else State.COMPLETED
    attempt = max(facts.attempts, key=lambda attempt: attempt.attempt, default=None)
    end = _last_end(facts.ends)
    if attempt is not None and not _has_ended(attempt, facts.ends):
        return _of_open(facts, attempt, now)
    if end is not None:
        return _waiting(facts, end.ended) or _of_end(end)
    if attempt is not None:  # superseded by an attempt of which nothing is left
        return State.LOST
    return _of_jobs(facts.jobs)


def _last_end(ends: Collection[EndRecord]) -> EndRecord | None:
    ended = (end for end in ends if end.exit_code != ExitCode.SUPERSEDED)
    return max(ended, key=lambda end: end.attempt, default=None)


def _has_ended(attempt: AttemptRecord, ends: Collection[EndRecord]) -> bool:
    return any(end.attempt >= attempt.attempt for end in ends)


def _of_open(facts: Facts, attempt: AttemptRecord, now: datetime) -> State:
    """The state while the newest attempt has no end."""
    heard = last_sign(attempt, facts.last_beat)
    if now - heard < BEAT_LIMIT:
        return State.RUNNING
    if any(job.cancelled and job.job == attempt.job is not None for job in facts.jobs):
        return State.STOPPED  # killed by the user, too hard to write its end
    return _waiting(facts, heard) or State.LOST


def last_sign(attempt: AttemptRecord, last_beat: datetime | None) -> datetime:
    """When the attempt was last heard of: its beat, or its start where there is none.

    The start is by the attempt's own clock, which may be wrong, so a beat replaces it.
    """
    return attempt.started if last_beat is None else last_beat


def _of_end(end: EndRecord) -> State:
    found = _STATES.get(end.exit_code, State.FAILED)
    # The result is written before the end: without one there is nothing that is completed.
    return State.LOST if found is State.COMPLETED else found


def _waiting(facts: Facts, since: datetime) -> State | None:
    """QUEUED if a job recorded after `since` has yet to start an attempt."""
    taken = {attempt.job for attempt in facts.attempts} - {None}
    waiting = any(
        job.created > since and not job.cancelled and job.job not in taken for job in facts.jobs
    )
    return State.QUEUED if waiting else None


def _of_jobs(jobs: Collection[JobRecord]) -> State:
    """The state before the first attempt."""
    if not jobs:
        return State.PLANNED
    return State.STOPPED if all(job.cancelled for job in jobs) else State.QUEUED
