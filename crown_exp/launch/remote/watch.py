"""Runs that are elsewhere, watched until they are over: one poll for all jobs, deadlines, values brought back.

All that is decided here is recorded in the runs' folders, so that whoever watches later finds it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TextIO

from crown_exp.clock import Clock
from crown_exp.compute.base import OVER, ExecutorError, JobState, JobStatus
from crown_exp.errors import CrownError, StoreError
from crown_exp.folder import Facts, state
from crown_exp.launch.invocation import Ended
from crown_exp.launch.remote.base import Submitted
from crown_exp.launch.remote.cancelling import (
    BY_USER,
    Opened,
    cancel_jobs,
    handle_of,
    note_cancelled,
)
from crown_exp.launch.remote.ending import after_job, by_itself, ended, is_begun, with_tail
from crown_exp.launch.remote.progress import Progress
from crown_exp.launch.remote.watch_table import Mode, Row, Shown
from crown_exp.launch.summary import state_of
from crown_exp.outcome import ExitCode, State
from crown_exp.storage.machine import here
from crown_exp.storage.parallel import each

POLL_SECONDS = 15.0
QUICK_SECONDS = 2.0
"""Between polls in the first minute, and of jobs on Slurm: asking that costs nobody anything."""
FIRST_SECONDS = 60.0
QUICK = frozenset({"slurm", "local"})
MOST_STARTS = 3
"""A job that its executor has started again so often, and whose run has never begun, will not begin."""
GONE_SECONDS = 60.0
"""A job that its executor does not know for so long is over: it may list a new one late."""
AT_ONCE = 16


@dataclass
class Watched:
    """A run, and what is known of it.

    trouble: why its folder could not be read at the last look. gone: since when its executor does not know its
    job, by the monotonic clock; None while it does. closed: whether it was recorded that its job is over.
    """

    run: Submitted
    progress: Progress
    status: JobStatus | None = None
    ended: Ended | None = None
    trouble: str = ""
    gone: float | None = None
    closed: bool = False

    @property
    def facts(self) -> Facts | None:
        """Its records, once they were read."""
        return self.progress.facts


@dataclass
class Watch:
    """Watches runs: `turn` by `turn` from any one thread, or behind the caller between `start` and `stop`.

    stream, mode: where and how it is shown; without a mode a table on a terminal, else lines. left: the exit
    code of those that go on when nobody watches any more. failure: what ended the thread, if anything did.
    """

    opened: Opened
    submitted: Sequence[Submitted]
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    clock: Clock | None = None
    mode: Mode | None = None
    left: ExitCode = ExitCode.INTERRUPTED
    failure: BaseException | None = None

    def __post_init__(self) -> None:
        self.clock = self.clock or self.opened.clock
        self.time: Clock = self.clock
        self.runs = [Watched(run, Progress(run.record.id)) for run in self.submitted]
        mode: Mode = self.mode or ("table" if self.stream.isatty() else "lines")
        self.shown = Shown(self.stream, mode, self.time)
        self.began = self.time.monotonic()
        self.stopping, self.changed = threading.Event(), threading.Event()
        self._asking = threading.Lock()
        self._complained: set[str] = set()
        self._thread: threading.Thread | None = None

    # --- turns ----------------------------------------------------------------------------------------

    @property
    def open(self) -> list[Watched]:
        """The runs that are not over."""
        return [it for it in self.runs if it.ended is None]

    @property
    def over(self) -> bool:
        """Whether all are."""
        return not self.open

    def turn(self) -> None:
        """Look once at all that is open, and do what is due. What does not answer is told once."""
        self.poll()
        now = self.look()
        for it in self.open:
            if self.stopping.is_set():
                return
            if now is not None and not it.trouble:
                self.guarded(it, now)
        self.shown.show([row_of(it, now) for it in self.runs])

    def pause(self) -> float:
        """Seconds until the next turn."""
        young = self.time.monotonic() - self.began < FIRST_SECONDS
        quick = any(it.run.job.executor in QUICK for it in self.open)
        return QUICK_SECONDS if young or quick else POLL_SECONDS

    def poll(self) -> None:
        """Ask every executor once, for all of its jobs."""
        for name in dict.fromkeys(it.run.job.executor for it in self.open):
            own = [it for it in self.open if it.run.job.executor == name]
            try:
                with self._asking:
                    self._poll(name, own)
            except ExecutorError as error:
                self.complain(f"{error}; {name} is asked again")

    def _poll(self, name: str, own: Sequence[Watched]) -> None:
        for it in own:
            if it.run.job.handle is None:  # whoever submitted it was cut short
                handle = handle_of(self.opened, it.run.job)
                it.run = replace(it.run, job=replace(it.run.job, handle=handle))
        handles = {it.run.job.handle for it in own} - {None}
        found = self.opened.executors[name].poll(sorted(map(str, handles))) if handles else {}
        for it in own:
            it.status = found.get(it.run.job.handle or "", JobStatus(JobState.GONE))
            known = it.status.state is not JobState.GONE
            it.gone = None if known else it.gone or self.time.monotonic()

    def look(self) -> datetime | None:
        """Read what is new of every open run; the store's time, None if the store does not answer."""
        try:
            return self.opened.portal.call(self._look)
        except StoreError as error:
            self.complain(f"{error}; it is asked again")
            return None

    async def _look(self) -> datetime:
        blobs = self.opened.blobs

        async def one(it: Watched) -> None:
            is_over = it.status is not None and it.status.state in OVER
            try:
                await it.progress.look(blobs, anew=is_over)
                it.trouble = ""
            except StoreError:
                raise
            except CrownError as error:
                it.trouble = str(error)

        await each(one, self.open, at_once=AT_ONCE)
        return await blobs.now()

    def guarded(self, it: Watched, now: datetime) -> None:
        """Settle a run; what cannot be done now is done at a later turn."""
        try:
            it.ended = self.settled(it, now)
        except (ExecutorError, StoreError) as error:
            self.complain(f"{it.run.record.id}: {error}; it is tried again")

    def settled(self, it: Watched, now: datetime) -> Ended | None:
        """How a run has ended, if it has. Ends the job of one that will never begin."""
        facts, status = it.facts, it.status
        assert facts is not None
        if status is None or status.state not in OVER:
            return by_itself(it.run, facts, now) or self.given_up(it, facts, status)
        if it.gone is not None and self.time.monotonic() - it.gone < GONE_SECONDS:
            return by_itself(it.run, facts, now)
        tail = "" if facts.attempts and facts.ends else self.tail(it)
        found = after_job(it.run, facts, status, now, here(), tail)
        if found is not None and by_itself(it.run, facts, now) is None:
            if it.gone is not None and it.run.job.handle is not None:  # it must not live, unseen
                with self._asking:
                    self.opened.executors[it.run.job.executor].cancel([it.run.job.handle])
            self.note(it, found.error.partition("\n")[0])
        return found

    def given_up(self, it: Watched, facts: Facts, status: JobStatus | None) -> Ended | None:
        """The end of a run whose job has not begun in time, or never comes to begin: it is cancelled."""
        job, limit = it.run.job, it.run.target.start_deadline
        if job.handle is None or is_begun(facts, job):
            return None
        waited = (self.time.now() - job.created).total_seconds()
        if status is not None and status.recoveries >= MOST_STARTS:
            reason = f"its job was started {status.recoveries + 1} times and the run never began"
        elif waited > limit:
            reason = f"its job did not begin within {limit / 60:g} minutes (compute.start_deadline)"
        else:
            return None
        told = f": {status.reason}" if status is not None and status.reason else ""
        tail = self.tail(it)
        with self._asking:
            cancel_jobs(self.opened, [job], f"{reason}{told}")
        it.closed = True
        text = with_tail(f"{reason}{told}; it was cancelled", tail, it.run.record.id)
        return ended(it.run.record, ExitCode.INFRASTRUCTURE, text)

    def note(self, it: Watched, reason: str) -> None:
        """Record that a job is over, so that its run does not wait for it for ever."""
        self.opened.portal.call(note_cancelled, self.opened.blobs, it.run.job, reason)
        it.closed = True

    def tail(self, it: Watched) -> str:
        """The end of what a job, or the setting up of its machine, has printed; "" if it cannot be had."""
        job = it.run.job
        if job.handle is None:
            return ""
        try:
            with self._asking:
                return self.opened.executors[job.executor].log(job.handle)
        except ExecutorError as error:
            return f"(its log cannot be read: {error})"

    def complain(self, line: str) -> None:
        """Say what is wrong, once."""
        if line not in self._complained and not self.stopping.is_set():
            self._complained.add(line)
            self.shown.say(line)

    # --- behind the caller ----------------------------------------------------------------------------

    def start(self) -> None:
        """Turn after turn in a thread, until all are over or `stop`; `changed` is set then."""
        self._thread = threading.Thread(target=self._work, name="crown-watch", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            while not self.stopping.is_set():
                self.turn()
                if self.over or self.stopping.wait(self.pause()):
                    return
        except BaseException as error:
            if not self.stopping.is_set():  # what it stands on may be gone by now
                self.failure = error
        finally:
            self.changed.set()

    @property
    def started(self) -> bool:
        """Whether a thread watches, or has."""
        return self._thread is not None

    def stop(self, seconds: float = 1.0) -> None:
        """Watch no longer, and show nothing more. A question that is not answered is left to itself."""
        self.stopping.set()
        if self._thread is not None:
            self._thread.join(seconds)
        self.shown.close()

    # --- the end --------------------------------------------------------------------------------------

    def ended(self) -> list[Ended]:
        """How each run ended, in order; one that is not over goes on without us."""
        return [it.ended or self.detached(it) for it in self.runs]

    def detached(self, it: Watched) -> Ended:
        """What is told of a run that goes on."""
        what = f"detached; it goes on: crown-exp logs -f {it.run.record.id}"
        return ended(it.run.record, self.left, what)

    def cancel(self) -> None:
        """End the jobs of all that are not over. Raises ExecutorError, StoreError."""
        left = self.open
        with self._asking:
            cancel_jobs(self.opened, [it.run.job for it in left])
        for it in left:
            told = ended(it.run.record, ExitCode.INTERRUPTED, BY_USER)
            it.ended = replace(told, state=State.STOPPED)  # its process may save yet


def row_of(it: Watched, now: datetime | None) -> Row:
    """A run as it is shown."""
    read, run = it.progress, it.run
    is_over = it.ended is not None
    note = it.status.reason if it.status is not None and not is_over else ""
    return Row(
        run=run.record.id, name=run.record.name, state=word_of(it, now), step=read.step, total=read.total,
        metric=read.metric, usd=read.usd, seconds_left=read.seconds_left,
        note=it.trouble or " ".join(note.split()), over=is_over,
    )  # fmt: skip


def word_of(it: Watched, now: datetime | None) -> str:
    """What a run does, in a word: as its records say, else as its job's executor does."""
    if it.ended is not None:
        found = state_of(it.ended)
        return str(State.STOPPED if it.closed and found is State.LOST else found)
    if it.facts is not None and now is not None and is_begun(it.facts, it.run.job):
        found = state(it.facts, now)
        if found is State.RUNNING:
            return str(found)
    if it.status is None:
        return "submitted"
    # its command runs, or is about to, and the run has not begun
    return "starting" if it.status.state is JobState.RUNNING else str(it.status.state)
