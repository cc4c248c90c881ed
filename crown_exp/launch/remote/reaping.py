"""Jobs that live and should not: their run is over, or is not in this store."""

from __future__ import annotations

import importlib.util
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

from crown_exp.compute.base import JobState, Listed
from crown_exp.errors import ConfigError
from crown_exp.folder import Facts, state
from crown_exp.launch.remote.servers import unknown_here
from crown_exp.launch.session import Session
from crown_exp.outcome import FINAL, State
from crown_exp.storage.runs import read_facts

JOB = re.compile(r"(r\d{6}-[a-z0-9]{6})(-[1-9]\d*)?")
"""What our jobs are called: the id of a run, and from its second job on a number."""

IDLE = FINAL | {State.STOPPED}


@dataclass(frozen=True)
class Stray:
    """A job that nothing needs. foreign: its run is not in this store, so it may be another project's.

    unknown_here: why its record, which is of a job at another server, is no word on it; "" if it is one.
    """

    executor: str
    job: Listed
    why: str
    foreign: bool = False
    unknown_here: str = ""

    def may_end(self, *, foreign: bool) -> bool:
        """Whether it is ended where the user agrees. foreign: those too."""
        return not self.unknown_here and (foreign or not self.foreign)


def reachable(session: Session) -> list[str]:
    """The executors that there are here: whose programs are installed."""
    found = []
    sky = session.settings.sky
    if sky.python is not None or importlib.util.find_spec("sky") is not None:
        found.append("skypilot")
    if shutil.which("squeue") is not None:
        found.append("slurm")
    return found


def strays(session: Session, executor: str) -> Iterator[Stray]:
    """All that an executor has, in its order. Raises ExecutorError if it cannot be asked."""
    for job in session.executors[executor].jobs():
        match = JOB.fullmatch(job.name)
        if match is not None and job.status.state is not JobState.CANCELLING:
            found = judged(session, executor, job, match[1])
            if found is not None:
                yield found


def judged(session: Session, executor: str, job: Listed, run: str) -> Stray | None:
    """Why a job is not needed; None if it is."""
    try:
        facts = session.portal.call(read_facts, session.blobs, run)
    except ConfigError:
        why = f"its run is not in {session.blobs.url}"
        return Stray(executor, job, why, foreign=True)
    if all(record.job != job.name for record in facts.jobs):
        return Stray(executor, job, f"no record of {run} knows of it")
    record = next(record for record in facts.jobs if record.job == job.name)
    if why := unknown_here(session.executors, record):
        return Stray(executor, job, f"not to be judged here: {why}", unknown_here=why)
    why = over(session, facts, job)
    return Stray(executor, job, why) if why else None


def over(session: Session, facts: Facts, job: Listed) -> str:
    """How its run, or the job's own part in it, came to its end; "" if it did not."""
    found = state(facts, session.portal.call(session.blobs.now))
    if found in IDLE:
        return f"its run is {found}"
    record = next(record for record in facts.jobs if record.job == job.name)
    if record.cancelled:
        return f"it was given up: {record.reason}" if record.reason else "it was given up"
    later = max(record.number for record in facts.jobs)
    return f"its run goes on in job {later}" if later > record.number else ""


def end(session: Session, doomed: list[Stray]) -> None:
    """Cancel them: one request an executor."""
    for name in dict.fromkeys(stray.executor for stray in doomed):
        handles = [stray.job.handle for stray in doomed if stray.executor == name]
        session.executors[name].cancel(handles)
