"""How a run that was elsewhere has ended: by its records, and by what its executor says of the job. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from crown_exp.compute.base import JobState, JobStatus, Target
from crown_exp.config.letters import plain
from crown_exp.folder import (
    AttemptRecord,
    EndRecord,
    Facts,
    Here,
    JobRecord,
    RunRecord,
    holder,
    state,
)
from crown_exp.launch.invocation import Ended
from crown_exp.launch.remote.base import Submitted
from crown_exp.launch.remote.servers import AnotherServer
from crown_exp.outcome import ExitCode, State

LINES = 10
"""How much of a job's output, or of a traceback, an error text has."""
TRACEBACK_LINES = 4


def is_begun(facts: Facts, job: JobRecord) -> bool:
    """Whether an attempt of this job has begun."""
    return any(attempt.job == job.job for attempt in facts.attempts)


def as_recorded(facts: Facts, job: JobRecord) -> JobRecord:
    """The job as its record is now: somebody may have cancelled it meanwhile."""
    return next((it for it in facts.jobs if it.number == job.number), job)


def by_itself(run: Submitted, facts: Facts, now: datetime) -> Ended | None:
    """How a run ended for good, or until somebody goes on with it; None while its job may go on with it."""
    found = state(facts, now)
    if facts.result is not None:
        return ended(run.record, ExitCode.OK, result=facts.result.result)
    newest, end = _newest(facts)
    if newest is None or end is None or end.again:
        return None
    if found is State.FAILED:
        deciding = facts.last_end if end.exit_code != ExitCode.SUPERSEDED else _deciding(facts)
        return _failed(run.record, deciding or end)
    if newest.job != run.job.job or found not in (State.CAPPED, State.STOPPED):
        return None
    if end.exit_code in (ExitCode.PREEMPTED, ExitCode.INFRASTRUCTURE):
        return ended(run.record, ExitCode.INTERRUPTED, as_recorded(facts, run.job).reason)
    return ended(run.record, end.exit_code, end.reason)


def without_beats(run: Submitted, facts: Facts, now: datetime, unknown_here: str) -> Ended | None:
    """The end of the watch of a run that is seen by its beats alone: when there are none, as if asked for now.

    unknown_here: why its job cannot be asked after.
    """
    if found := by_itself(run, facts, now):
        return found
    if state(facts, now) is not State.LOST:
        return None
    what = f"{run.record.id} is lost, and may go on elsewhere, so no second job is made"
    told = ended(run.record, AnotherServer.exit_code, f"{what}: {unknown_here}")
    return replace(told, state=State.LOST)


def says_over(facts: Facts, job: JobRecord, now: datetime) -> bool:
    """Whether a run's own records say that a job of it is over, whoever may know of the job."""
    return by_itself(Submitted(facts.run, job, Target()), facts, now) is not None


def after_job(
    run: Submitted, facts: Facts, status: JobStatus, now: datetime, here: Here, tail: str = ""
) -> Ended | None:
    """How a run ended whose job is over; None while its last process may still write its end.

    tail: the end of what the job printed, told where the records have nothing to tell.
    """
    if found := by_itself(run, facts, now):
        return found
    newest, end = _newest(facts)
    if newest is not None and holder(facts, now, here) is not None:
        if newest.job == run.job.job:
            return None
        what = f"it goes on elsewhere: attempt {newest.attempt} on {newest.host}"
        return ended(run.record, ExitCode.SUPERSEDED, what)
    job = as_recorded(facts, run.job)
    if job.cancelled:
        return ended(run.record, ExitCode.INTERRUPTED, job.reason or "its job was cancelled")
    if status.state is JobState.CANCELLED:
        return ended(run.record, ExitCode.INTERRUPTED, why(run, status, begun=True))
    if newest is not None and newest.job == job.job and end is not None and not end.again:
        return ended(run.record, end.exit_code, end.reason)
    reason = why(run, status, begun=is_begun(facts, job))
    text = with_tail(reason, tail, run.record.id, hint=setup_hint(run, status))
    return ended(run.record, ExitCode.INFRASTRUCTURE, text)


def setup_hint(run: Submitted, status: JobStatus) -> str:
    """What to type where the user's own setup of a machine failed, as it would fail again; else ""."""
    if not status.setup_failed or not run.target.setup:
        return ""
    other = f"crown-exp resume {run.record.id} 'compute.setup=[...]'"
    return f"another setup: {other}; more time for it: compute.start_deadline=..."


def why(run: Submitted, status: JobStatus, *, begun: bool) -> str:
    """Half a sentence about a job that is over."""
    job = f"its job {run.job.told} on {run.job.target or run.job.executor}"
    if status.state is JobState.GONE:
        return f"{run.job.executor} does not know {job} any more"
    if status.state is JobState.CANCELLED:
        said = f"{job} was cancelled, not from here"
    elif status.began_nothing:
        said = f"{job} ended before its command began"
    elif begun:
        said = f"{job} ended without a word of the run"
    else:
        said = f"{job} ended before the run began"
    code = "" if status.exit_code is None else f" (exit code {status.exit_code})"
    return f"{said}{code}" + (
        f": {' '.join(plain(status.reason).split())}" if status.reason else ""
    )


def with_tail(reason: str, tail: str, run: str, lines: int = LINES, hint: str = "") -> str:
    """A reason, below it the last lines of what was printed, where there is more, and what may help."""
    last = [plain(line).rstrip() for line in tail.splitlines() if line.strip()][-lines:]
    below = [*(f"| {line}" for line in last), f"log: crown-exp logs {run}", *filter(None, [hint])]
    return "\n".join([reason, *(f"  {line}" for line in below)])


def ended(run: RunRecord, code: int, error: str = "", result: object = None) -> Ended:
    """The end of a run as the command that asked for it notes it."""
    return Ended(run.id, run.name, int(code), result, error, tuple(run.overrides))


def _failed(run: RunRecord, end: EndRecord) -> Ended:
    """A task that raised, with the end of its traceback."""
    traceback = end.error["traceback"] if end.error else ""
    lines = [line for line in traceback.splitlines() if line.strip() != end.reason.strip()]
    told = with_tail(end.reason, "\n".join(lines), run.id, TRACEBACK_LINES)
    return ended(run, end.exit_code, told)


def _newest(facts: Facts) -> tuple[AttemptRecord | None, EndRecord | None]:
    newest = facts.newest_attempt
    if newest is None:
        return None, None
    return newest, next((it for it in facts.ends if it.attempt == newest.attempt), None)


def _deciding(facts: Facts) -> EndRecord | None:
    """The newest end of an attempt that was not superseded."""
    told: Sequence[EndRecord] = [it for it in facts.ends if it.exit_code != ExitCode.SUPERSEDED]
    return max(told, key=lambda it: it.attempt, default=None)
