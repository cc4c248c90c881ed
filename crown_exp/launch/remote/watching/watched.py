"""A run that is elsewhere, as a watch knows it, and how that is shown."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

from crown_exp.compute.base import OVER, JobState, JobStatus
from crown_exp.folder import Facts, state
from crown_exp.launch.invocation import Ended
from crown_exp.launch.remote.base import Submitted
from crown_exp.launch.remote.watching.ending import is_begun
from crown_exp.launch.remote.watching.progress import Progress
from crown_exp.launch.remote.watching.table import Row
from crown_exp.launch.summary import state_of
from crown_exp.outcome import State

News = tuple[JobState, int]
"""What of a job's status may mean that its run has something to tell: its state, how often it was started."""


@dataclass
class Watched:
    """A run, and what is known of it.

    trouble: why its folder could not be read at the last look. gone: since when its executor does not know its
    job, by the monotonic clock; None while it does. closed: whether it was recorded that its job is over.
    looked: when its folder was read last, by the monotonic clock; told: the news of its job then; seen: the
    store's time then. usd: dollars as of the ledger; None: nothing is paid. unknown_here: why its job cannot be
    asked after from here, then only its records tell of it; "" if it can. known: whether it could be, ever.
    """

    run: Submitted
    progress: Progress
    status: JobStatus | None = None
    ended: Ended | None = None
    trouble: str = ""
    gone: float | None = None
    closed: bool = False
    looked: float = -math.inf
    told: News | None = None
    seen: datetime | None = None
    usd: float | None = None
    unknown_here: str = ""
    known: bool = False

    @property
    def facts(self) -> Facts | None:
        """Its records, once they were read."""
        return self.progress.facts

    @property
    def news(self) -> News | None:
        """Of its job, as its executor says; None if that has not answered yet."""
        return None if self.status is None else (self.status.state, self.status.recoveries)


def is_over(it: Watched) -> bool:
    """Whether a run's job is, as its executor says."""
    return it.status is not None and it.status.state in OVER


def row_of(it: Watched) -> Row:
    """A run as it is shown."""
    read, run = it.progress, it.run
    note = it.status.reason if it.status is not None and it.ended is None else ""
    note = "its job is at another server" if it.unknown_here and it.ended is None else note
    return Row(
        run=run.record.id, name=run.record.name, state=word_of(it, it.seen), step=read.step, total=read.total,
        metric=read.metric, usd=it.usd, seconds_left=read.seconds_left,
        note=it.trouble or " ".join(note.split()), over=it.ended is not None,
    )  # fmt: skip


def word_of(it: Watched, seen: datetime | None) -> str:
    """What a run does, in a word: as its records say, else as its job's executor does.

    seen: the store's time when those were read; None: the executor's word alone.
    """
    if it.ended is not None:
        found = state_of(it.ended)
        return str(State.STOPPED if it.closed and found is State.LOST else found)
    if it.unknown_here and it.facts is not None and seen is not None:
        return str(state(it.facts, seen))
    if it.facts is not None and seen is not None and is_begun(it.facts, it.run.job):
        found = state(it.facts, seen)
        if found is State.RUNNING:
            return str(found)
    if it.status is None:
        return "submitted"
    # its command runs, or is about to, and the run has not begun
    return "starting" if it.status.state is JobState.RUNNING else str(it.status.state)
