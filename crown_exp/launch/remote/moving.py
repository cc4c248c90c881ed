"""Have a run stop where it is, saved at a boundary, so that it can go on somewhere else."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

from crown_exp.compute.base import OVER, JobState
from crown_exp.errors import ConfigError, CrownError
from crown_exp.folder import AttemptRecord, Facts, JobRecord, state
from crown_exp.launch.remote.cancelling import cancel_jobs, with_handles
from crown_exp.launch.remote.servers import AnotherServer, unknown_here
from crown_exp.launch.remote.watching.ending import says_over
from crown_exp.launch.session import Session
from crown_exp.outcome import FINAL, State
from crown_exp.storage.machine import alive, here
from crown_exp.storage.runs import read_facts
from crown_exp.tracking.run_log import to_stderr

STOP_SECONDS = 900.0
"""How long a run may take to come to a boundary and save."""

LOOK_SECONDS = 1.0
MOVED = "moved to another machine"


def stop(session: Session, facts: Facts) -> Facts:
    """Stop a run wherever it is carried out, and wait until it is saved; what is known of it then.

    One that is nowhere is left as it is. Raises as `refuse`; CrownError if it does not stop in time.
    """
    found = refuse(session, facts)
    record, job, attempt = facts.run, going_job(facts, found), facts.newest_attempt
    if job is not None and unknown_here(session.executors, job):
        job = None  # over, by its run's own records
    if (
        job is not None and job.cancelled
    ):  # by an earlier command, say, that did not wait for so long
        to_stderr(f"{record.id}: its job on {job.target or job.executor} was told to end before")
    elif job is not None:
        to_stderr(f"{record.id}: stopping its job on {job.target or job.executor}")
        cancel_jobs(session, [job], MOVED)
    elif found is State.RUNNING:
        assert attempt is not None
        terminate(attempt)
        to_stderr(f"{record.id}: stopping its process {attempt.pid} here")
    return waited(session, facts, job)


def refuse(session: Session, facts: Facts) -> State:
    """What it does now.

    Raises ConfigError if it is over, or by hand on a machine that is not this one; AnotherServer if its job may
    live where it is not known here; ExecutorError.
    """
    now = session.portal.call(session.blobs.now)
    found = state(facts, now)
    if found in FINAL:
        raise ConfigError.of(facts.run.id, f"is {found}, so there is nothing to move")
    attempt = facts.newest_attempt
    by_hand = found is State.RUNNING and going_job(facts, found) is None
    if by_hand and attempt is not None and attempt.boot_id != here().boot_id:
        where = f"runs on {attempt.host} (pid {attempt.pid}), started by hand"
        raise ConfigError.of(facts.run.id, f"{where}: stop it there, then resume it")
    job = going_job(facts, found)
    over = job is None or says_over(facts, job, now)
    if job is not None and not over and (why := unknown_here(session.executors, job)):
        raise AnotherServer(f"{facts.run.id} is not moved: {why}")
    return found


def going_job(facts: Facts, found: State) -> JobRecord | None:
    """The job that carries a run out, or is to; None if none may. A cancelled one while its attempt lives."""
    newest = max(facts.jobs, key=lambda it: it.number, default=None)
    if newest is not None and not newest.cancelled:
        return newest
    attempt = facts.newest_attempt
    if attempt is None or attempt.job is None or found is not State.RUNNING:
        return None
    return next((it for it in facts.jobs if it.job == attempt.job), None)


def terminate(attempt: AttemptRecord) -> None:
    """Ask the process of an attempt here to save and stop."""
    if alive(attempt.pid, attempt.process_started):
        os.kill(attempt.pid, signal.SIGTERM)


def waited(session: Session, facts: Facts, job: JobRecord | None) -> Facts:
    """The run once nothing carries it out any more. Raises CrownError if that takes too long."""
    until = time.monotonic() + STOP_SECONDS
    for found in looks(session, facts):
        if is_at_rest(session, found) and (job is None or is_over(session, now_of(found, job))):
            return found
        if time.monotonic() > until:
            break
        time.sleep(LOOK_SECONDS)
    raise CrownError(not_yet(facts.run.id, job))


def not_yet(run: str, job: JobRecord | None) -> str:
    """What was done about a run that did not stop in time, and what to type."""
    whose = "its process" if job is None else f"its job on {job.target or job.executor}"
    told = f"{whose} was told to end and has not within {STOP_SECONDS / 60:g} minutes"
    again = "type the same again to wait on, and it goes on there then"
    return f"{run}: {told}, so it does not go on anywhere else yet; {again} (crown-exp logs {run})"


def now_of(facts: Facts, job: JobRecord) -> JobRecord:
    """The job as it is recorded by now."""
    return next((it for it in facts.jobs if it.number == job.number), job)


def looks(session: Session, facts: Facts) -> Iterator[Facts]:
    """What is known of a run, again and again."""
    while True:
        yield session.portal.call(read_facts, session.blobs, facts.run.id)


def is_at_rest(session: Session, facts: Facts) -> bool:
    """Whether no attempt lives."""
    return state(facts, session.portal.call(session.blobs.now)) is not State.RUNNING


def is_over(session: Session, job: JobRecord) -> bool:
    """Whether a job is. One that its executor does not know ends by itself, should it come yet."""
    if job.executor not in session.executors:
        return True
    (found,) = with_handles(session, job.executor, [job])
    handle = found.handle
    if handle is None:
        return True
    status = session.executors[job.executor].poll([handle]).get(handle)
    return status is None or status.state in OVER or status.state is JobState.GONE
