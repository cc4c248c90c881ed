"""Have a run stop where it is, saved at a boundary, so that it can go on somewhere else."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

from crown_exp.compute.base import OVER, JobState
from crown_exp.errors import ConfigError, CrownError
from crown_exp.folder import AttemptRecord, Facts, JobRecord, state
from crown_exp.launch.remote.cancelling import cancel_jobs, handle_of
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

    One that is nowhere is left as it is. Raises ConfigError as `refuse`; CrownError if it does not stop in
    time; ExecutorError.
    """
    found = refuse(session, facts)
    record, job, attempt = facts.run, going_job(facts), facts.newest_attempt
    if job is not None:
        to_stderr(f"{record.id}: stopping its job on {job.target or job.executor}")
        cancel_jobs(session, [job], MOVED)
    elif found is State.RUNNING:
        assert attempt is not None
        terminate(attempt)
        to_stderr(f"{record.id}: stopping its process {attempt.pid} here")
    return waited(session, facts, job)


def refuse(session: Session, facts: Facts) -> State:
    """What it does now. Raises ConfigError if it is over, or by hand on a machine that is not this one."""
    found = state(facts, session.portal.call(session.blobs.now))
    if found in FINAL:
        raise ConfigError.of(facts.run.id, f"is {found}, so there is nothing to move")
    attempt = facts.newest_attempt
    by_hand = found is State.RUNNING and going_job(facts) is None
    if by_hand and attempt is not None and attempt.boot_id != here().boot_id:
        where = f"runs on {attempt.host} (pid {attempt.pid}), started by hand"
        raise ConfigError.of(facts.run.id, f"{where}: stop it there, then resume it")
    return found


def going_job(facts: Facts) -> JobRecord | None:
    """The job that carries a run out, or is to; None if none may."""
    job = max(facts.jobs, key=lambda it: it.number, default=None)
    return None if job is None or job.cancelled else job


def terminate(attempt: AttemptRecord) -> None:
    """Ask the process of an attempt here to save and stop."""
    if alive(attempt.pid, attempt.process_started):
        os.kill(attempt.pid, signal.SIGTERM)


def waited(session: Session, facts: Facts, job: JobRecord | None) -> Facts:
    """The run once nothing carries it out any more. Raises CrownError if that takes too long."""
    until = time.monotonic() + STOP_SECONDS
    for found in looks(session, facts):
        if is_at_rest(session, found) and (job is None or is_over(session, job)):
            return found
        if time.monotonic() > until:
            break
        time.sleep(LOOK_SECONDS)
    what = f"{facts.run.id} did not stop within {STOP_SECONDS / 60:g} minutes; nothing was moved"
    raise CrownError(f"{what}: crown-exp logs {facts.run.id}")


def looks(session: Session, facts: Facts) -> Iterator[Facts]:
    """What is known of a run, again and again."""
    while True:
        yield session.portal.call(read_facts, session.blobs, facts.run.id)


def is_at_rest(session: Session, facts: Facts) -> bool:
    """Whether no attempt lives."""
    return state(facts, session.portal.call(session.blobs.now)) is not State.RUNNING


def is_over(session: Session, job: JobRecord) -> bool:
    """Whether a job is."""
    handle = handle_of(session, job)
    if handle is None:
        return True
    status = session.executors[job.executor].poll([handle]).get(handle)
    return status is None or status.state in OVER or status.state is JobState.GONE
