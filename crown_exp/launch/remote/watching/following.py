"""A run's job while the run itself has nothing to tell: what its executor says of it, and what it prints."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from crown_exp.clock import Clock, SystemClock
from crown_exp.compute.base import JobState, Target
from crown_exp.compute.target import target_of
from crown_exp.config.changes import changed, filled
from crown_exp.config.letters import plain
from crown_exp.config.schema import defaults
from crown_exp.errors import CrownError, StoreError
from crown_exp.folder import Facts, JobRecord, RunPaths, holder
from crown_exp.launch.remote.base import Submitted
from crown_exp.launch.remote.executors import Executors
from crown_exp.launch.remote.watching.ending import is_begun
from crown_exp.launch.remote.watching.watch import Watch
from crown_exp.launch.remote.watching.watched import Watched, word_of
from crown_exp.storage import BlobStore, NotFound, Portal
from crown_exp.storage.machine import here
from crown_exp.storage.runs import read_facts

LOOK_SECONDS = 5.0
REMEMBER_SECONDS = 30.0
"""While an attempt lives, from one look at what its job has printed to the next: another machine adds to it."""


@dataclass(frozen=True)
class Place:
    """A store and the executors, for those who have no session."""

    portal: Portal
    blobs: BlobStore
    executors: Executors
    clock: Clock = field(default_factory=SystemClock)


@dataclass
class Following:
    """Looks after the newest job of a run, every few seconds, while none of its attempts lives.

    A job that is over without its run, or does not begin in time, is noted as a watch would note it.

    printed: the end of what the job has printed and is told, here or by its attempts themselves; None if nobody
    knows how much of it that is. attempt: the newest that was seen to live; machine: how often the job had been
    started again on its machine, None while that is not known; again: when its job is to be looked at again.
    """

    place: Place
    run: str
    said: str = ""
    printed: list[str] | None = None
    attempt: int | None = None
    machine: int | None = None
    watch: Watch | None = None
    due: float = 0.0
    again: float = 0.0

    def new(self, *, decide: bool = True) -> tuple[list[str], list[str]]:
        """What is new: lines about the job, and lines that it, or the setting up of its machine, has printed.

        decide: do about the job what is due. Raises StoreError.
        """
        now = self.place.clock.monotonic()
        if now < self.due:
            return [], []
        self.due = now + LOOK_SECONDS
        facts = self.place.portal.call(read_facts, self.place.blobs, self.run)
        job = newest_job(facts)
        if job is None or job.executor not in self.place.executors:
            return [], []
        if self.lives(facts):
            self.said = ""
            return [], self.remembered(facts, job, now) if decide else []
        watch = self.watching(facts, job)
        if not job.cancelled:
            watch.turn() if decide else watch.poll()
        (it,) = watch.runs
        return self.told(it, job), self.fresh(it, begun=is_begun(facts, job))

    def watching(self, facts: Facts, job: JobRecord) -> Watch:
        """The watch of the newest job; one that has not begun has told nothing yet."""
        if self.watch is None or self.watch.runs[0].run.job.number != job.number:
            run = self.place.portal.call(submitted_of, self.place.blobs, facts, job)
            self.watch = Watch(self.place, [run], sys.stderr, mode="said")
            self.printed = None if is_begun(facts, job) and self.attempt is None else []
            self.attempt = self.machine = None
        return self.watch

    def lives(self, facts: Facts) -> bool:
        """Whether an attempt is at work, which says what there is to say itself."""
        now = self.place.portal.call(self.place.blobs.now)
        return holder(facts, now, here()) is not None

    def told(self, it: Watched, job: JobRecord) -> list[str]:
        """A line about the job, if it says something else than the last."""
        if it.unknown_here and it.ended is None:
            return []  # the watch has said why it is not known
        name = f"job {job.told} on {job.target or job.executor}"
        if it.ended is not None or job.cancelled:
            why = it.ended.error.partition("\n")[0] if it.ended is not None else job.reason
            own = next((it for it in (f"its {name} ", "its job ") if why.startswith(it)), "")
            line = f"{name} {why.removeprefix(own)}" if own else f"{name} is over: {why}"
        else:
            reason = " ".join(it.status.reason.split()) if it.status else ""
            line = f"{name} is {word_of(it, None)}" + (f": {reason}" if reason else "")
        if line == self.said:
            return []
        self.said = line
        return [plain(line)]

    def fresh(self, it: Watched, *, begun: bool) -> list[str]:
        """The lines of the job's tail that nobody has told yet: of a machine, the next too, that is set up."""
        assert self.watch is not None
        if begun and it.ended is not None:
            return []
        tail = self.watch.tail(it).splitlines()
        if begun and (self.printed is None or self.is_same_machine(it)):
            self.printed = tail
            return []
        return self.taken(it, tail)

    def remembered(self, facts: Facts, job: JobRecord, now: float) -> list[str]:
        """The last lines before an attempt of the job began; what it has printed itself is remembered as told.

        Asked for when it is seen first, then now and then.
        """
        newest = facts.newest_attempt
        if newest is None or newest.job != job.job:
            return []
        if newest.attempt == self.attempt and now < self.again:
            return []
        self.again = now + REMEMBER_SECONDS
        watch = self.watching(facts, job)
        watch.poll()
        (it,) = watch.runs
        tail, same = watch.tail(it).splitlines(), self.is_same_machine(it)
        lines: list[str] = []
        if newest.attempt != self.attempt:
            lines = [] if self.printed is None or same else self.taken(it, tail)
            self.attempt, self.machine, self.printed = newest.attempt, None, tail
        elif self.machine is None or same:
            self.printed = tail
        if self.machine is None and it.status and it.status.state is JobState.RUNNING:
            self.machine = it.status.recoveries
        return lines

    def is_same_machine(self, it: Watched) -> bool:
        """Whether the job is still on the machine of the attempt that was seen last, as its executor says."""
        now = it.status
        return now is not None and (now.state, now.recoveries) == (JobState.RUNNING, self.machine)

    def taken(self, it: Watched, tail: Sequence[str]) -> list[str]:
        """What is new in the tail, and told from now on; where an attempt begins, it tells the rest itself."""
        record, new = it.run.record, added(self.printed or [], tail)
        head = f"{record.name}  {record.id}"
        begins = [number for number, line in enumerate(new) if line.startswith(head)]
        rest = len(new) - begins[-1] if begins else 0
        self.printed = list(tail[: len(tail) - rest])
        return new[: len(new) - rest]


def added(before: Sequence[str], after: Sequence[str]) -> list[str]:
    """What the end of a growing text has more than its end had before."""
    for count in range(min(len(before), len(after)), 0, -1):
        if list(before[-count:]) == list(after[:count]):
            return list(after[count:])
    return list(after)


def newest_job(facts: Facts) -> JobRecord | None:
    """The job of a run that was recorded last."""
    return max(facts.jobs, key=lambda job: job.number, default=None)


async def submitted_of(blobs: BlobStore, facts: Facts, job: JobRecord) -> Submitted:
    """A run's job as it was submitted, read from its folder; of its target as much as can be read."""
    changes = {**facts.changes, **(job.changes or {})}
    try:
        target = target_of(await _compute(blobs, facts.run.id, changes))
    except StoreError as error:
        if not isinstance(error, NotFound):
            raise
        target = Target(name=job.target, executor=job.executor)
    except (CrownError, yaml.YAMLError, UnicodeDecodeError, LookupError, TypeError, ValueError):
        target = Target(name=job.target, executor=job.executor)
    return Submitted(facts.run, job, target)


async def _compute(blobs: BlobStore, run: str, changes: Mapping[str, Any]) -> Mapping[str, Any]:
    text = await blobs.get(RunPaths(run).config)
    config = changed(filled(yaml.load(text, Loader=yaml.CSafeLoader), defaults()), changes)
    compute: Mapping[str, Any] = config["compute"]
    return compute
