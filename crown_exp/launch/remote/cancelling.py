"""Jobs of runs ended on demand: asked of their executors, then recorded, so that no run waits for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from crown_exp.clock import Clock
from crown_exp.compute.base import NotSubmitted
from crown_exp.folder import JobRecord, RunPaths, decode
from crown_exp.launch.remote.executors import Executors
from crown_exp.storage import BlobStore, NotFound, Portal
from crown_exp.storage.runs import write_job

BY_USER = "cancelled by the user"


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


def cancel_jobs(opened: Opened, jobs: Sequence[JobRecord], reason: str = BY_USER) -> None:
    """End jobs and record it: one request for all of an executor. Again is no error.

    What has no handle yet is looked for first. Raises ExecutorError, then of that executor nothing is
    recorded; StoreError.
    """
    for name in dict.fromkeys(job.executor for job in jobs):
        own = [job for job in jobs if job.executor == name]
        known = own if name in opened.executors else []  # not of an executor of another version
        handles = [handle for job in known if (handle := handle_of(opened, job))]
        if handles:
            opened.executors[name].cancel(handles)
        for job in own:
            opened.portal.call(note_cancelled, opened.blobs, job, reason)


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


async def note_cancelled(blobs: BlobStore, job: JobRecord, reason: str) -> JobRecord:
    """Record that a job was cancelled, or was over before its run was; why is said once, by the first."""
    path = RunPaths(job.run).job(job.number)
    try:
        job = decode(JobRecord, await blobs.get(path), path)
    except NotFound:
        pass
    if job.cancelled:
        return job
    noted = replace(job, cancelled=True, reason=" ".join(reason.split()))
    await write_job(blobs, noted)
    return noted
