"""Jobs of runs ended on demand: asked of their executors, and recorded, so that no run waits for them.

A job may come after it was cancelled: it was asked for, and its executor does not know it yet. It reads its
record when it begins, and ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from crown_exp.clock import Clock
from crown_exp.compute.base import ExecutorError, NotSubmitted
from crown_exp.folder import JobRecord
from crown_exp.launch.remote.executors import Executors
from crown_exp.launch.remote.servers import (
    AnotherServer,
    StillRuns,
    holding,
    still_runs,
    unknown_here,
)
from crown_exp.storage import BlobStore, NotFound, Portal
from crown_exp.storage.machine import here
from crown_exp.storage.runs import cancel_job, job_age, read_facts, read_job

BY_USER = "cancelled by the user"
GIVEN_UP = "given up by the user: the server that was asked for it is no more"

PENDING_SECONDS = 3600.0
"""So long after its record was last written a request may take to become a job that its executor lists."""


class Opened(Protocol):
    """What is asked for runs that are elsewhere: a session has it."""

    @property
    def portal(self) -> Portal:
        """To the store's event loop."""

    @property
    def blobs(self) -> BlobStore:
        """The store that the runs are in."""

    @property
    def executors(self) -> Executors:
        """Who carries the jobs out."""

    @property
    def clock(self) -> Clock:
        """By which deadlines are kept."""


@dataclass
class Cancelled:
    """What there is to tell of jobs that were cancelled.

    coming: those that are not there and may still come; such a job ends by itself when it begins. given_up:
    those whose machines were not asked to end.
    """

    coming: list[JobRecord] = field(default_factory=list)
    given_up: list[JobRecord] = field(default_factory=list)


def cancel_jobs(
    opened: Opened, jobs: Sequence[JobRecord], reason: str = BY_USER, *, forget: bool = False
) -> Cancelled:
    """End jobs and record it: one request for all of an executor. Again is no error.

    What has no handle is recorded first, then looked for once: no request is waited for. Raises AnotherServer
    if one of them cannot be ended from here, before anything is done; ExecutorError, then of that executor
    nothing is recorded of what has a handle; StoreError.

    forget: what cannot be ended from here, or of an executor that does not answer, is recorded as given up; it
    ends by itself should it begin. Raises StillRuns instead if its attempt beats: nothing is recorded of it.
    """
    silent = silent_servers(opened.executors, jobs)
    known: list[JobRecord] = []
    away: list[JobRecord] = []
    for job in jobs:
        why = "" if job.executor in silent else unknown_here(opened.executors, job)
        if why and not forget:
            raise AnotherServer(f"{job.run} was not cancelled: {why}")
        (away if why else known).append(job)
    if forget:
        refuse_running(opened, [*away, *(job for job in known if job.executor in silent)])
    for job in away:
        noted(opened, job, GIVEN_UP)
    found = Cancelled(given_up=away)
    known = [job if job.handle else noted(opened, job, reason) for job in known]
    for name in dict.fromkeys(job.executor for job in known):
        own, said = [job for job in known if job.executor == name], reason
        try:
            if name in silent:
                raise silent[name]
            found.coming += end_jobs(opened, name, own)
        except ExecutorError:
            if not forget:
                raise
            refuse_running(opened, own)
            found.given_up += own
            said = GIVEN_UP
        for job in own:
            noted(opened, job, said)
    return found


def refuse_running(opened: Opened, jobs: Sequence[JobRecord]) -> None:
    """Raises StillRuns if an attempt of one of these jobs beats: its machine would run on, and be paid."""
    for job in jobs:
        facts = opened.portal.call(read_facts, opened.blobs, job.run)
        held = holding(facts, job, opened.portal.call(opened.blobs.now), here())
        if held is not None:
            raise StillRuns(still_runs(job, held))


def silent_servers(executors: Executors, jobs: Sequence[JobRecord]) -> dict[str, ExecutorError]:
    """Of the executors of jobs whose server is recorded, those that cannot tell who answers now."""
    found = {}
    for name in dict.fromkeys(job.executor for job in jobs if job.server is not None):
        if name in executors:
            try:
                executors.server(name, anew=True)
            except ExecutorError as error:
                found[name] = error
    return found


def end_jobs(opened: Opened, name: str, jobs: Sequence[JobRecord]) -> list[JobRecord]:
    """Ask an executor for the end of jobs; those that it does not know and that may still come."""
    if name not in opened.executors:  # one of another version
        return []
    found = with_handles(opened, name, jobs)
    handles = [job.handle for job in found if job.handle is not None]
    if handles:
        opened.executors[name].cancel(handles)
    return [job for job in found if job.handle is None and is_pending(opened, job)]


def with_handles(opened: Opened, name: str, jobs: Sequence[JobRecord]) -> list[JobRecord]:
    """Jobs of an executor with their handles, as far as it knows them: those without are looked for by name."""
    if all(job.handle for job in jobs):
        return list(jobs)
    listed = {it.name: it.handle for it in opened.executors[name].jobs()}
    return [job if job.handle else replace(job, handle=listed.get(str(job.job))) for job in jobs]


def is_pending(opened: Opened, job: JobRecord) -> bool:
    """Whether a job was meant to be asked for so lately that its executor may be about to list it."""
    try:
        age = opened.portal.call(job_age, opened.blobs, job.run, job.number)
    except NotFound:
        return False
    return age < PENDING_SECONDS


def handle_of(opened: Opened, job: JobRecord) -> str | None:
    """The executor's id of a job, also of one whose submission was cut short; None if there is none.

    Waits for a request that is not answered yet: what comes of it would be nobody's. Raises ExecutorError.
    """
    if job.handle is not None:
        return job.handle
    executor = opened.executors[job.executor]
    if job.ticket is not None:
        try:
            return executor.handle(job.ticket)
        except NotSubmitted:
            pass  # or forgotten: its job may live all the same
    return next((it.handle for it in executor.jobs() if it.name == job.job), None)


def noted(opened: Opened, job: JobRecord, reason: str) -> JobRecord:
    """As `note_cancelled`, from any thread."""
    return opened.portal.call(note_cancelled, opened.blobs, job, reason)


async def note_cancelled(blobs: BlobStore, job: JobRecord, reason: str) -> JobRecord:
    """Record that a job was cancelled, or was over before its run was; why is said once, by the first.

    The job as it is recorded now: whoever asked for it may have noted its handle meanwhile.
    """
    await cancel_job(blobs, job.run, job.number, reason)
    try:
        return await read_job(blobs, job.run, job.number)
    except NotFound:
        return replace(job, cancelled=True, reason=" ".join(reason.split()))
