"""Runs that are elsewhere, watched until they are over: one poll for all jobs, deadlines, values brought back.

All that is decided here is recorded in the runs' folders, so that whoever watches later finds it.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TextIO

from crown_exp.clock import Clock
from crown_exp.compute.base import OVER, ExecutorError, JobState, JobStatus
from crown_exp.compute.money import as_of, sums
from crown_exp.errors import CrownError, StoreError
from crown_exp.folder import Facts
from crown_exp.launch.invocation import Ended
from crown_exp.launch.remote.base import Submitted
from crown_exp.launch.remote.cancelling import (
    BY_USER,
    Opened,
    cancel_jobs,
    handle_of,
    note_cancelled,
)
from crown_exp.launch.remote.servers import AnotherServer, unknown_here
from crown_exp.launch.remote.watching.ending import (
    after_job,
    as_recorded,
    by_itself,
    ended,
    is_begun,
    with_tail,
    without_beats,
)
from crown_exp.launch.remote.watching.progress import Progress
from crown_exp.launch.remote.watching.table import Mode, Shown
from crown_exp.launch.remote.watching.watched import Watched, is_over, row_of
from crown_exp.outcome import ExitCode, State
from crown_exp.storage.machine import here
from crown_exp.storage.parallel import each
from crown_exp.storage.spending import FollowedLedger

POLL_SECONDS = 15.0
QUICK_SECONDS = 2.0
"""Between polls of few runs, in the first minute, or on this machine: asking that costs nobody anything."""
FIRST_SECONDS = 60.0
QUICK = frozenset({"local"})
FEW = 10
"""So many runs are looked at in every turn; of more, each when what its executor says of its job changes."""
LOOK_SECONDS = 30.0
LOOKS = 20
"""Of many runs, how often each is looked at all the same, and how many in one turn: those that wait longest."""
MOST_STARTS = 3
"""A job that its executor has started again so often, and whose run has never begun, will not begin."""
GONE_SECONDS = 60.0
"""A job that its executor does not know for so long is over: it may list a new one late."""
AT_ONCE = 16
ROWS = ("table", "lines")
"""How runs are shown where it is shown what they cost."""


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
        self.ledger = FollowedLedger({it.record.id for it in self.submitted})
        self._counted = -math.inf
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
        began = self.time.monotonic()
        now, went_on = self.look(), self.open
        for it in went_on:
            if self.stopping.is_set():
                return
            if now is not None and it.looked >= began and not it.trouble:
                self.guarded(it, now)
        self.count(went_on)
        self.shown.show([row_of(it) for it in self.runs])

    def pause(self) -> float:
        """Seconds until the next turn."""
        young = self.time.monotonic() - self.began < FIRST_SECONDS
        quick = young or any(it.run.job.executor in QUICK for it in self.open)
        return QUICK_SECONDS if quick and len(self.open) <= FEW else POLL_SECONDS

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
        own = self.at_hand(name, own, anew=any(it.unknown_here for it in own))  # it may be back
        for it in own:
            it.known = True
            if it.run.job.handle is None:  # whoever submitted it was cut short
                handle = handle_of(self.opened, it.run.job)
                it.run = replace(it.run, job=replace(it.run.job, handle=handle))
        handles = {it.run.job.handle for it in own} - {None}
        found = self.opened.executors[name].poll(sorted(map(str, handles))) if handles else {}
        for it in own:
            it.status = found.get(it.run.job.handle or "", JobStatus(JobState.GONE))
            known = it.status.state is not JobState.GONE
            it.gone = None if known else it.gone or self.time.monotonic()
        gone = [it for it in own if it.gone is not None and it.run.job.server is not None]
        if gone:  # its server may have been set up anew while we watched
            self.at_hand(name, gone, anew=True)

    def at_hand(self, name: str, own: Sequence[Watched], *, anew: bool) -> list[Watched]:
        """The runs of an executor whose jobs it can be asked after; of the others that is told, once.

        anew: its server is asked who it is, though it was before. Raises ExecutorError.
        """
        if anew:
            self.opened.executors.server(name, anew=True)
        for it in own:
            it.unknown_here = unknown_here(self.opened.executors, it.run.job)
            if it.unknown_here:
                it.status = it.gone = None
        others = [it for it in own if it.unknown_here]
        for server in dict.fromkeys(str(it.run.job.server) for it in others):
            there = [it for it in others if str(it.run.job.server) == server]
            if server not in self._complained:
                self._complained.add(server)
                more = f" and {len(there) - 1} more" if len(there) > 1 else ""
                what = f"{there[0].run.record.id}{more}: {there[0].unknown_here}"
                self.complain(f"{what}; shown is what the store says")
        return [it for it in own if not it.unknown_here]

    def look(self) -> datetime | None:
        """Read what is new of the runs that are due; the store's time, None if the store does not answer."""
        try:
            return self.opened.portal.call(self._look)
        except StoreError as error:
            self.complain(f"{error}; it is asked again")
            return None

    async def _look(self) -> datetime:
        blobs = self.opened.blobs
        now = await blobs.now()

        async def one(it: Watched) -> None:
            news = it.news
            try:
                await it.progress.look(blobs, anew=is_over(it) or bool(it.unknown_here))
                it.trouble = ""
            except StoreError:
                raise
            except CrownError as error:
                it.trouble = str(error)
            it.looked, it.told, it.seen = self.time.monotonic(), news, now

        await each(one, self.due(), at_once=AT_ONCE)
        return now

    def due(self) -> list[Watched]:
        """The runs whose folders are to be read in this turn, so that no end waits for a later one.

        All of few; of many those with news of their jobs, and those that were not looked at for long.
        """
        if len(self.open) <= FEW:
            return self.open
        now = self.time.monotonic()
        urgent: list[Watched] = []
        others: list[Watched] = []
        for it in self.open:
            if self.is_urgent(it):
                urgent.append(it)
            elif now - it.looked >= LOOK_SECONDS:
                others.append(it)
        return urgent + sorted(others, key=lambda it: it.looked)[:LOOKS]

    def is_urgent(self, it: Watched) -> bool:
        """Whether something is to be decided about a run, for which its records must be as they are now."""
        if it.facts is None or is_over(it) or it.news != it.told:
            return True
        return bool(not is_begun(it.facts, it.run.job) and self.too_late(it, it.status))

    def count(self, runs: Sequence[Watched]) -> None:
        """Find out what runs have cost: one look at the ledger for all, now and then and when one is over."""
        paid = [it for it in runs if it.progress.is_paid] if self.shown.mode in ROWS else []
        now = self.time.monotonic()
        is_time = now - self._counted >= LOOK_SECONDS or any(
            it.ended or it.usd is None for it in paid
        )
        if not paid or not is_time:
            return
        try:
            self.opened.portal.call(
                self.ledger.look, self.opened.blobs, self.time.now(), earlier=True
            )
        except StoreError as error:
            self.complain(f"{error}; it is asked again")
            return
        self._counted = now
        spent = sums(
            (as_of(it.record, it.until) for it in self.ledger.known.values() if it.record), "run"
        )
        for it in paid:
            it.usd = spent.get(it.run.record.id, 0.0)

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
        if it.unknown_here:
            if as_recorded(facts, it.run.job).cancelled:  # by who could
                return after_job(it.run, facts, JobStatus(JobState.GONE), now, here())
            if it.known:  # its server may be back
                return by_itself(it.run, facts, now)
            return without_beats(it.run, facts, now, it.unknown_here)
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
        job = it.run.job
        if job.handle is None or is_begun(facts, job):
            return None
        reason = self.too_late(it, status)
        if not reason:
            return None
        told = f": {status.reason}" if status is not None and status.reason else ""
        tail = self.tail(it)
        with self._asking:
            cancel_jobs(self.opened, [job], f"{reason}{told}")
        it.closed = True
        more = f"crown-exp resume {it.run.record.id} compute.start_deadline=..."
        hint = f"more time: {more}" if "start_deadline" in reason else ""
        text = with_tail(f"{reason}{told}; it was cancelled", tail, it.run.record.id, hint=hint)
        return ended(it.run.record, ExitCode.INFRASTRUCTURE, text)

    def too_late(self, it: Watched, status: JobStatus | None) -> str:
        """Why a run that has not begun is not waited for any longer; "" while it is."""
        limit = it.run.target.start_deadline
        if status is not None and status.recoveries >= MOST_STARTS:
            return f"its job was started {status.recoveries + 1} times and the run never began"
        if (self.time.now() - it.run.job.created).total_seconds() > limit:
            return f"its job did not begin within {spoken(limit)} (compute.start_deadline)"
        return ""

    def note(self, it: Watched, reason: str) -> None:
        """Record that a job is over, so that its run does not wait for it for ever."""
        self.opened.portal.call(note_cancelled, self.opened.blobs, it.run.job, reason)
        it.closed = True

    def tail(self, it: Watched) -> str:
        """The end of what a job, or the setting up of its machine, has printed; "" if it cannot be had."""
        job = it.run.job
        if job.handle is None or it.unknown_here:
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
        """End the jobs of all that are not over. Raises ExecutorError, StoreError.

        AnotherServer too, when the others were ended, for what cannot be ended from here.
        """
        left = [it for it in self.open if not it.unknown_here]
        with self._asking:
            cancel_jobs(self.opened, [it.run.job for it in left])
        for it in left:
            told = ended(it.run.record, ExitCode.INTERRUPTED, BY_USER)
            it.ended = replace(told, state=State.STOPPED)  # its process may save yet
        for it in self.open:
            raise AnotherServer(f"{it.run.record.id} was not cancelled: {it.unknown_here}")


def spoken(seconds: float) -> str:
    """`45 minutes`, `10 seconds`."""
    return f"{seconds / 60:g} minutes" if seconds >= 60 else f"{seconds:g} seconds"
