"""Have jobs carry out runs elsewhere: whoever dies when, no job is without an owner and no run has two.

What is about to be asked is recorded before it is asked, under a name that only this job has; the answers are
recorded as they come. So whoever comes later finds each job: by its handle, by the ticket of the request, or,
cut off between asking and noting, by its name.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from crown_exp.compute.base import Listed, NotSubmitted
from crown_exp.folder import JobRecord, RunPaths, RunRecord, decode, encode
from crown_exp.launch.remote.base import Fate, Planned, Submitted
from crown_exp.launch.remote.cancelling import note_cancelled
from crown_exp.launch.remote.servers import unknown_here
from crown_exp.launch.remote.submitting.claims import claimed
from crown_exp.launch.remote.submitting.jobs import Prepared
from crown_exp.launch.remote.submitting.reuse import earlier_of, equal_key
from crown_exp.launch.remote.submitting.touching import touched
from crown_exp.launch.session import Session
from crown_exp.launch.signals import held_back
from crown_exp.storage import AlreadyExists
from crown_exp.storage.runs import job_age, read_job, read_jobs, write_job
from crown_exp.tracking.run_log import to_stderr

APPEARS_SECONDS = 120.0
"""So long after its intent was last touched a job may take to be listed; then it was never asked for.

Whoever asks for it touches the intent meanwhile, as asking may mean sending the code first.
"""

LOOK_SECONDS = 1.0

SLOW_SECONDS = 10.0
"""So long answers are waited for without a word."""

NOT_BEGUN = "it was over before its first attempt"
NEVER_CAME = "it was never asked for: the command that meant to was cut off"


def submit_all(
    session: Session, planned: Sequence[Planned], *, prepared: Prepared | None = None
) -> list[Submitted]:
    """A job for each of these runs: new ones, those to go on with, and those whose job is under way.

    All requests are made before any answer is waited for. A job that is refused is recorded, and the other
    runs go on: its record is `cancelled`, with the reason. Left out are runs that an equal run, completed by
    now, stands for. prepared: what travels; made if need be.

    Raises ConfigError for code that cannot travel, before anything is recorded; ExecutorError, StoreError at
    any moment, NotMade for a stop while a run is recorded: the same command goes on from there.
    """
    prepared = prepared or Prepared(session)
    runs = [it for it in recorded(session, planned, prepared) if it[0].fate is not Fate.DONE]
    submission, begun = ask_all(session, runs, prepared)
    with told_if_slow(sum(each.is_open for each in begun)):
        return [submission.accepted(each) for each in begun]


def recorded(
    session: Session, planned: Sequence[Planned], prepared: Prepared
) -> list[tuple[Planned, RunRecord]]:
    """Each run in the store, as the first step of `submit_all`: new ones are made, if they can travel.

    Those that another command made since they were planned are taken over, or taken for done, as a plan
    would now: a user may take an hour to say yes.
    """
    for each in planned:
        if each.is_launched:
            prepared.bundle(each.target)  # a run that cannot travel is not recorded
    new = [number for number, it in enumerate(planned) if it.earlier is None]
    keyed = [number for number in new if equal_key(session, planned[number].order)]
    with claimed(session, [planned[number].order for number in keyed]):
        known = {it.record.id for it in (each.earlier for each in planned) if it is not None}
        found = earlier_of(session, [planned[number].order for number in keyed])
        meanwhile = {
            number: earlier
            for number, earlier in zip(keyed, found, strict=True)
            if earlier and earlier.record.id not in known
        }
        now = [
            replace(each, earlier=meanwhile.get(number, each.earlier))
            for number, each in enumerate(planned)
        ]
        return [
            (each, each.earlier.record if each.earlier else session.make(each.order))
            for each in now
        ]


def ask_all(
    session: Session, runs: Sequence[tuple[Planned, RunRecord]], prepared: Prepared
) -> tuple[Submission, list[Begun]]:
    """The second step: all requests are made, and recorded; no answer is waited for."""
    submission = Submission(session, prepared)
    return submission, [submission.begin(each, record) for each, record in runs]


@contextmanager
def told_if_slow(jobs: int) -> Iterator[None]:
    """Inside, a line says what is waited for, if it takes long: a first job may take minutes."""
    what = "1 job is" if jobs == 1 else f"{jobs} jobs are"
    line = (
        f"{what} asked for and not accepted yet; cut off here, the same command goes on from there"
    )
    timer = threading.Timer(SLOW_SECONDS, to_stderr, [line])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@dataclass(frozen=True)
class Begun:
    """A run with its job, as far as that has come. anew: whether it is this command that asked for it.

    unknown_here: why it cannot be asked after from here; "" if it can.
    """

    planned: Planned
    record: RunRecord
    job: JobRecord
    anew: bool
    refused: bool = False
    unknown_here: str = ""

    @property
    def is_open(self) -> bool:
        """Whether an answer is still to come."""
        waits = self.job.handle is None and self.job.ticket is not None
        return waits and not self.refused and not self.unknown_here


class Submission:
    """The jobs of one command."""

    def __init__(self, session: Session, prepared: Prepared) -> None:
        self.session, self.prepared = session, prepared
        self.lists: dict[str, dict[str, Listed]] = {}

    # --- requests -------------------------------------------------------------------------------------

    def begin(self, planned: Planned, record: RunRecord) -> Begun:
        """The job that a run has already, else one that is asked for."""
        job = unsettled(planned)
        if job is not None and job.executor in self.session.executors:
            if why := unknown_here(self.session.executors, job):  # its run's records tell of it
                return Begun(planned, record, job, anew=False, unknown_here=why)
            found = self.found(job)
            if found is not None:
                return Begun(planned, record, found, anew=False)
        return self.ask(planned, record, self.closed(planned) + 1)

    def found(self, job: JobRecord) -> JobRecord | None:
        """A job that an earlier command recorded, or meant to ask for; None if it never did."""
        if job.handle is not None:  # noted, or found by its name when the launch was planned
            return self.adopted(job, job.handle)
        if job.ticket is not None:
            return job
        return self.appearing(job)

    def closed(self, planned: Planned) -> int:
        """Record that earlier jobs which began nothing will not come; the number of the last."""
        if planned.earlier is None:
            return 0
        facts = planned.earlier.facts
        taken = {attempt.job for attempt in facts.attempts}
        for job in facts.jobs:
            if not job.cancelled and job.job not in taken:
                self.close(job)
        return max((job.number for job in facts.jobs), default=0)

    def close(self, job: JobRecord) -> None:
        """Record that a job will not come."""
        asked = job.ticket is not None or job.handle is not None
        why = NOT_BEGUN if asked else NEVER_CAME
        self.session.portal.call(note_cancelled, self.session.blobs, job, why)

    def ask(self, planned: Planned, record: RunRecord, number: int) -> Begun:
        """Record what is to be asked, ask, record the ticket: a stop waits until that is done."""
        job = self.intent(planned, record, number)
        made = self.prepared.job(record, planned, str(job.job))
        try:
            with held_back():
                self.write(job, create=True)
                path = RunPaths(job.run).job(job.number)
                try:
                    with touched(self.session, {path: encode(job)}):
                        ticket = self.session.executors[job.executor].submit(made)
                except NotSubmitted as error:
                    job = self.refused(job, error)
                else:
                    job = self.noted(job, ticket=ticket)
        except AlreadyExists:
            return self.after_another(planned, record, number)
        return Begun(planned, record, job, anew=True)

    def intent(self, planned: Planned, record: RunRecord, number: int) -> JobRecord:
        """What is recorded before a job is asked for."""
        rates = [candidate.rate for candidate in planned.candidates]
        earlier = planned.earlier.facts.jobs if planned.earlier else ()
        if not rates and earlier:  # nobody meant to ask for one more, so nothing was priced
            rates = max(earlier, key=lambda job: job.number).rates
        return JobRecord(
            run=record.id, number=number, executor=planned.target.executor,
            created=self.session.clock.now(), job=job_name(record.id, number), cancelled=False,
            target=planned.target.name, changes=dict(planned.changes) or None,
            bundle=self.prepared.bundle(planned.target).digest,
            rates=sorted(rates, key=lambda rate: rate["usd_per_hour"]),
            hours=planned.guess.hours if planned.guess else None, usd=planned.usd,
            controller=planned.controller.rate if planned.controller else None,
            server=self.session.executors.server(planned.target.executor),
            sweep_since=planned.sweep_since, env=planned.env,
        )  # fmt: skip

    def after_another(self, planned: Planned, record: RunRecord, number: int) -> Begun:
        """Another command meant to ask for the same job at the same time, and was quicker."""
        jobs = self.session.portal.call(read_jobs, self.session.blobs, record.id)
        other = next(job for job in jobs if job.number == number)
        if not other.cancelled and (why := unknown_here(self.session.executors, other)):
            return Begun(planned, record, other, anew=False, unknown_here=why)
        found = None if other.cancelled else self.found(other)
        if found is not None:
            return Begun(planned, record, found, anew=False)
        self.close(other)
        return self.ask(planned, record, number + 1)

    # --- answers --------------------------------------------------------------------------------------

    def accepted(self, begun: Begun) -> Submitted:
        """Wait until a job is accepted, or refused."""
        while begun.is_open:
            begun = self.answered(begun)
        return Submitted(begun.record, begun.job, begun.planned.target)

    def answered(self, begun: Begun) -> Begun:
        """Wait for the answer to a request."""
        job = begun.job
        try:
            handle = self.session.executors[job.executor].handle(str(job.ticket))
        except NotSubmitted as error:
            return self.after_refusal(begun, job, error)
        return replace(begun, job=self.adopted(job, handle))

    def after_refusal(self, begun: Begun, job: JobRecord, error: NotSubmitted) -> Begun:
        """A request came to nothing, or was forgotten: one that an earlier command made is made again."""
        if begun.anew:
            return replace(begun, job=self.refused(job, error), refused=True)
        listed = self.listed(job, anew=True)
        if listed is not None:
            return replace(begun, job=self.adopted(job, listed.handle))
        self.close(job)
        return self.ask(begun.planned, begun.record, job.number + 1)

    def refused(self, job: JobRecord, error: NotSubmitted) -> JobRecord:
        """Record that a job will not be, unless it is there after all."""
        listed = self.listed(job, anew=True)
        if listed is not None:
            return self.adopted(job, listed.handle)
        return self.session.portal.call(note_cancelled, self.session.blobs, job, str(error))

    # --- records --------------------------------------------------------------------------------------

    def adopted(self, job: JobRecord, handle: str) -> JobRecord:
        """Record the handle of a job. One that was cancelled before it had any is cancelled now."""
        job = self.noted(job, handle=handle)
        if job.cancelled:
            self.session.executors[job.executor].cancel([handle])
        return job

    def noted(self, job: JobRecord, **answers: Any) -> JobRecord:
        """Record what was answered. The job as it is recorded then: somebody may have cancelled it meanwhile.

        That is looked up after the handle is written, and whoever cancels looks for the handle after having
        recorded it: one of the two sees the other.
        """
        path = RunPaths(job.run).job(job.number)
        data = self.session.portal.call(self.session.blobs.get, path)
        kept = decode(JobRecord, data, path)
        found = replace(kept, **answers)
        if found != kept:
            self.write(found)
        return self.recorded(job)

    def recorded(self, job: JobRecord) -> JobRecord:
        """A job as it is recorded now."""
        return self.session.portal.call(read_job, self.session.blobs, job.run, job.number)

    def write(self, job: JobRecord, *, create: bool = False) -> JobRecord:
        """A record, in the store. Raises AlreadyExists if it is to be the first and is not."""
        self.session.portal.call(write_job, self.session.blobs, job, create=create)
        return job

    # --- what is there --------------------------------------------------------------------------------

    def listed(self, job: JobRecord, *, anew: bool = False) -> Listed | None:
        """A job among those that its executor has; they are asked for once, unless anew."""
        if anew or job.executor not in self.lists:
            jobs = self.session.executors[job.executor].jobs()
            self.lists[job.executor] = {one.name: one for one in jobs}
        return self.lists[job.executor].get(str(job.job))

    def appearing(self, job: JobRecord) -> JobRecord | None:
        """A job that may have been asked for, waited for as long as it may take; None if it never was.

        Another command may be about to ask for it still: then its answer is waited for.
        """
        listed, told = self.listed(job), False
        while listed is None:
            job = self.recorded(job)
            if job.handle is not None or job.ticket is not None or job.cancelled:
                return None if job.cancelled else self.found(job)
            left = APPEARS_SECONDS - self.age(job)
            if left <= 0:
                return None
            if not told:
                to_stderr(
                    f"{job.run}: a command was cut off while it asked for this job, or asks still; looking "
                    f"for it among those of {job.executor}, {left:.0f} s at the most after it gave up"
                )
                told = True
            time.sleep(min(LOOK_SECONDS, left))
            listed = self.listed(job, anew=True)
        return self.adopted(job, listed.handle)

    def age(self, job: JobRecord) -> float:
        """Seconds since its record was last written, by the store's clock: those of two machines may differ."""
        return self.session.portal.call(job_age, self.session.blobs, job.run, job.number)


def unsettled(planned: Planned) -> JobRecord | None:
    """The job of a run that may live; None if it has none, or its job is known to be over."""
    if planned.earlier is None:
        return None
    newest = max(planned.earlier.facts.jobs, key=lambda job: job.number, default=None)
    if newest is None or newest.job is None or planned.fate is Fate.RUNNING:
        return newest
    return None if newest.cancelled or newest.handle is not None else newest


def job_name(run_id: str, number: int) -> str:
    """What a run's job is called: a first one as the run, a later one with its number."""
    return run_id if number == 1 else f"{run_id}-{number}"
