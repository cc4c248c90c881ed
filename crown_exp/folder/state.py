"""The state of a run, computed from its records. None is stored, so none can go stale."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

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

_GOES_ON = (State.LOST, State.PREEMPTED)
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

    @property
    def newest_attempt(self) -> AttemptRecord | None:
        """The attempt that began last."""
        return max(self.attempts, key=lambda attempt: attempt.attempt, default=None)

    @property
    def last_end(self) -> EndRecord | None:
        """The end of the newest attempt that has one."""
        return max(self.ends, key=lambda end: end.attempt, default=None)

    @property
    def changes(self) -> dict[str, Any]:
        """What the newest attempt ran with that is not in the run's config: values by dotted key or group."""
        newest = self.newest_attempt
        return dict((newest.changes if newest else None) or {})

    @property
    def env(self) -> dict[str, str]:
        """The variables that Hydra sets for it: those of its newest job whose record tells them."""
        known = [job for job in self.jobs if job.env is not None]
        newest = max(known, key=lambda job: job.number, default=None)
        return dict((newest.env if newest else None) or {})


def state(facts: Facts, now: datetime) -> State:
    """What the run is doing at `now`, the time of the store's clock.

    A result decides, even without an end record. Else the newest attempt does: by its beat while it
    has no end, by its exit code after. What would go on by itself is stopped if the user cancelled
    its job. A job recorded after all that, which no attempt has taken up, means queued again.
    """
    if facts.result is not None:
        return State.PRUNED if facts.result.pruned else State.COMPLETED
    attempt = facts.newest_attempt
    last = _deciding_end(facts.ends)
    if attempt is not None and not _has_ended(attempt, facts.ends):
        since = last_sign(attempt, facts.last_beat)
        found = State.RUNNING if now - since < BEAT_LIMIT else State.LOST
    elif last is not None:
        since, found = last.ended, _of_exit(last.exit_code)
    else:
        return _of_jobs(facts.jobs)
    if found is State.RUNNING:
        return found
    if _is_waiting(facts, since):
        return State.QUEUED
    return State.STOPPED if found in _GOES_ON and _is_cancelled(facts.jobs, attempt) else found


def last_sign(attempt: AttemptRecord, last_beat: datetime | None) -> datetime:
    """When the attempt was last heard of: its beat, or its start where there is none.

    The start is by the attempt's own clock, which may be wrong, so a beat replaces it.
    """
    return attempt.started if last_beat is None else last_beat


def _deciding_end(ends: Collection[EndRecord]) -> EndRecord | None:
    """The newest end, of those that are not superseded if there are such."""
    return max(
        ends, key=lambda end: (end.exit_code != ExitCode.SUPERSEDED, end.attempt), default=None
    )


def _has_ended(attempt: AttemptRecord, ends: Collection[EndRecord]) -> bool:
    return any(end.attempt >= attempt.attempt for end in ends)


def _of_exit(code: int) -> State:
    """The state after an end. Codes that are none of ours mean failed."""
    if code in (ExitCode.OK, ExitCode.SUPERSEDED):
        # The result is written before the end: without one nothing is completed. And whoever
        # superseded the newest attempt has left nothing.
        return State.LOST
    return _STATES.get(code, State.FAILED)


def _is_waiting(facts: Facts, since: datetime) -> bool:
    """Whether a job recorded after `since` has yet to start an attempt."""
    taken = {attempt.job for attempt in facts.attempts} - {None}
    return any(
        job.created > since and not job.cancelled and job.job not in taken for job in facts.jobs
    )


def _is_cancelled(jobs: Collection[JobRecord], attempt: AttemptRecord | None) -> bool:
    if attempt is None or attempt.job is None:
        return False
    return any(job.cancelled and job.job == attempt.job for job in jobs)


def _of_jobs(jobs: Collection[JobRecord]) -> State:
    """The state before the first attempt."""
    if not jobs:
        return State.PLANNED
    return State.STOPPED if all(job.cancelled for job in jobs) else State.QUEUED
