"""The call of the task, with all that stands around it: the log, trackers, files, checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from crown_exp.checkpoints.base import Restored
from crown_exp.checkpoints.checkpoints import Checkpoints
from crown_exp.checkpoints.mirror import Mirror
from crown_exp.devices import Choice
from crown_exp.devices.memory import peak_memory
from crown_exp.errors import StoreError
from crown_exp.folder import AttemptRecord
from crown_exp.folder.fence import gone
from crown_exp.folder.records import Damaged
from crown_exp.folder.segment import RESUMED
from crown_exp.outcome import FINAL, STATE_OF_EXIT, ExitCode
from crown_exp.runner import earlier
from crown_exp.runner.artifacts import Artifacts
from crown_exp.runner.context import Run
from crown_exp.runner.device import DeviceOnDemand
from crown_exp.runner.ending import (
    Ending,
    after_out_of_memory,
    after_stop,
    completed,
    ended_by,
    stopped,
)
from crown_exp.runner.fetching import fetching_of
from crown_exp.runner.heart import SEGMENT_BYTES, Heart, superseded
from crown_exp.runner.initial import initial_of, settle_initial
from crown_exp.runner.keeping import Keeping, keep_of
from crown_exp.runner.limits import Limits, spent_before
from crown_exp.runner.numerics import not_bit_comparable, numerics_changed
from crown_exp.runner.process import seed_again
from crown_exp.runner.resuming import Resuming
from crown_exp.runner.spending import spending_of
from crown_exp.runner.task import call_task
from crown_exp.runner.tracebacks import last_line
from crown_exp.runner.trackers import open_feed
from crown_exp.storage.machine import here
from crown_exp.tracking import Sink
from crown_exp.tracking.feed import Feed
from crown_exp.tracking.replay import earlier_points
from crown_exp.tracking.run_log import RunLog, to_stderr

if TYPE_CHECKING:
    from crown_exp.runner.attempt import Attempt


@dataclass(frozen=True)
class Carried:
    """How the task ended.

    saved: the step of the run's newest checkpoint. memory: the most that was used, in bytes. release: lets go
    of the tracker; it may be waited for, so it is called when the end is written.
    """

    ending: Ending
    saved: int | None
    memory: dict[str, int]
    release: Callable[[Ending], None]


class Call:
    """One call of the task in an attempt that has begun.

    of: what the attempt is made of. record: its own. device: chosen, or to be.
    """

    def __init__(self, of: Attempt, record: AttemptRecord, device: DeviceOnDemand) -> None:
        self.of, self.record, self.device = of, record, device
        self.portal, self.blobs, self.paths, self.stop = of.portal, of.blobs, of.paths, of.stop
        segment = of.local(of.paths.segment(record.attempt, 1))
        self.heart = Heart(
            of.portal, of.blobs, record, of.stop,
            spooled=None if of.has_files else segment.parent, gone=gone(of.facts, here()),
            seconds=of.beat_seconds,
        )  # fmt: skip
        sinks: list[Sink] = [of.report.console, self.heart]
        self.log = RunLog(
            segment, record.run, record.attempt, sinks, beat_seconds=of.beat_seconds,
            segment_bytes=None if of.has_files else SEGMENT_BYTES,
        )  # fmt: skip
        self.mirror = self.mirrored()
        self.feed: Feed | None = None
        self.checkpoints: Checkpoints | None = None
        self.keeping: Keeping | None = None
        self.run: Run | None = None
        self.artifacts = Artifacts(
            of.portal, of.blobs, of.paths, of.home / "spool",
            event=self.log.event, tell=lambda file: self.feed.artifact(file) if self.feed else None,
        )  # fmt: skip

    def carry_out(self, task: Callable[..., Any] | Exception) -> Carried:
        """Call the task and say how it ended, whatever it did."""
        self.device.on_choice(self.chosen)
        self.stop.delayed = lambda: self.log.event(
            "stopping", code=int(self.stop.code or 0), why=self.stop.why
        )
        ending = self.call(task)
        self.settle()
        saved = self.checkpoints.saved if self.checkpoints else None
        if saved is None:  # it was not looked at: what was known before holds
            saved = earlier.newest_saved(self.of.facts)
        ending = after_stop(ending, self.stop, saved)
        if self.stop.notice and not self.stop.trains_on:
            self.log.event("notice", **asdict(self.stop.notice))
        choice = self.device.choice
        memory = peak_memory(choice.device if choice else "cpu")
        self.log.event("memory", **memory)
        self.log.close()
        cost = self.heart.spending.close() if self.heart.spending else ()
        unwritten = (*self.unwritten(), *self.artifacts.finish(), *self.unsaved(), *cost)
        ending = replace(ending, unwritten=unwritten)
        return Carried(ending, saved, memory, self.release)

    def release(self, ended: Ending) -> None:
        """Let go of the tracker, and of the files that it needed."""
        if self.feed:
            asked = self.stop.times
            self.feed.finish(ended.exit_code, ended.result, lambda: self.stop.times > asked)
        self.artifacts.clear()
        over = STATE_OF_EXIT.get(ExitCode(ended.exit_code)) in FINAL and ended.parts is None
        if self.mirror is not None and over:
            self.mirror.remove()

    def chosen(self, choice: Choice) -> None:
        """Print and record the device and why it is that one."""
        self.of.report.device(choice)
        self.log.event("device", device=choice.device, name=choice.name, reason=choice.reason)

    # --- before, during and after the task ------------------------------------------------------------

    def call(self, task: Callable[..., Any] | Exception) -> Ending:
        """From the restore to the task's end, in whatever way."""
        try:
            with self.stop.heeded():
                self.heart.spending = spending_of(self.of, self.record)
                if isinstance(task, Exception):
                    raise task
                self.run = self.prepared(self.restored())
                seed_again(self.of.record.seed)
                result = call_task(task, self.run, self.of.record.bound)
                settle_initial(self.run)
                return completed(result, self.run.done)
        except BaseException as error:
            return self.ended(error)

    def mirrored(self) -> Mirror | None:
        """Where the newest checkpoint is kept on this machine, if the store is elsewhere."""
        of = self.of
        if of.has_files or of.config["debug"] or not of.config["checkpoint"]["mirror"]:
            return None
        return Mirror(of.home / "mirror", of.record.id, to_stderr)

    def restored(self) -> Restored | None:
        """The state to go on from. Raises Damaged, NewerFormat or StoreError if none can be used."""
        choice = self.device.choice
        self.checkpoints = Checkpoints(
            self.portal, self.blobs, self.paths, self.record.attempt,
            keep=keep_of(self.of.config["checkpoint"]), before_commit=self.make_log_durable,
            pin=choice is not None and choice.device.startswith("cuda"),
            mirror=self.mirror, progress=self.of.report.console.transfer.moved,
        )  # fmt: skip
        if self.record.attempt == 1 and self.of.record.lineage is None:
            return None
        with self.of.report.console.transfer.shown():
            restored = self.checkpoints.restore()
        if restored is None and (
            step := self.portal.call(earlier.saved_up_to, self.blobs, self.of.facts)
        ):
            raise Damaged(
                f"{self.paths.root}: was saved after step {step}, and none of its checkpoints is there any "
                "more; nothing was changed: put the folder checkpoints back, or start a new run"
            )
        return restored

    def prepared(self, restored: Restored | None) -> Run:
        """What the task is handed, once it is told and logged from where it goes on."""
        of, number = self.of, self.record.attempt
        step = restored.step if restored else 0
        if number > 1 or restored:
            self.tell_of_resuming(restored, step)
        again = step if number > 1 else None
        self.artifacts.up_to = step
        points = partial(
            self.portal.call, earlier_points, self.blobs, self.record.run, number, step
        )
        self.feed = open_feed(of.config, of.record, number, of.home, resumed=again, earlier=points)
        if self.feed:
            self.log.sinks.append(self.feed)
        assert self.checkpoints is not None
        spent = self.portal.call(spent_before, self.blobs, of.facts)
        self.keeping = Keeping(
            self.checkpoints, of.config["checkpoint"], self.log, self.stop, superseded(self.record),
            lived=spent, deaths=earlier.deaths(of.facts), waits=of.report.console.transfer.shown,
        )  # fmt: skip
        resuming = Resuming(
            restored.state, step, forked=restored.attempt == 0, say=to_stderr
        ) if restored else None  # fmt: skip
        given = of.config["limits"]
        limits = Limits(given["attempt"], given["run"], spent, of.clock, self.heart.spending)
        return Run(
            id=of.record.id, name=of.record.name, config=of.config, attempt=number,
            folder=of.local(of.paths.root), precision=self.device.ask, log=self.log,
            console=of.report.console, stop=self.stop, artifacts=self.artifacts, parts=of.parts,
            keeping=self.keeping, limits=limits, resuming=resuming, visit=of.visit,
            initial=initial_of(self, restored), fetch=fetching_of(of),
        )  # fmt: skip

    def tell_of_resuming(self, restored: Restored | None, step: int) -> None:
        """Print and record from where the attempt goes on, and what that costs."""
        facts, record = self.of.facts, self.record
        lost = self.portal.call(earlier.steps_lost, self.blobs, facts, step)
        saver = next(
            (it for it in facts.attempts if restored and it.attempt == restored.attempt), None
        )
        changed = numerics_changed(saver, record.numerics, record.versions) if saver else {}
        damaged = restored.damaged if restored else ()
        self.log.event(
            RESUMED, step=step, lost=lost, checkpoint=restored.name if restored else None,
            damaged=list(damaged), numerics=changed,
        )  # fmt: skip
        for line in damaged:
            self.of.report.line(line)
        if restored and not damaged:
            known = self.portal.call(earlier.saved_up_to, self.blobs, facts)
            if known is not None and known > step:
                self.of.report.line(
                    f"a checkpoint of step {known} was saved and is gone, or was damaged before"
                )
        self.of.report.resumed(step, lost)
        if changed:
            self.of.report.line(not_bit_comparable(changed, step))

    def make_log_durable(self) -> None:
        """Before a checkpoint is committed: the points before it are not computed again. Raises StoreError."""
        self.artifacts.flush()
        self.log.drain()
        if not self.log.segment.complete:
            raise StoreError(f"the log {self.log.segment.path} cannot be written")
        self.heart.send()

    def ended(self, error: BaseException) -> Ending:
        """What an error that left the task makes of the attempt."""
        of, run = self.of, self.run
        before = (self.checkpoints and self.checkpoints.saved) or 0
        done, turn = (run.done, run.step) if run else (before, 0)
        if self.stop.raised:  # what a library made of the stop is still the stop
            if run and not self.stop.at_once:
                self.save_what_is_whole(run)
            return stopped(self.stop.why, self.stop.code or ExitCode.INTERRUPTED, done)
        ending = ended_by(error, done)
        if ending.exit_code == ExitCode.OUT_OF_MEMORY:
            ending = after_out_of_memory(ending, of.parts, turn)
        if ending.parts is not None:
            self.stop.obey_notice()  # there is no time for another attempt here
        if ending.parts is not None and self.stop.code is not None:
            return stopped(self.stop.why, self.stop.code, done)
        if of.config["debug"] and ending.failure is not None:
            from crown_exp.runner.post_mortem import post_mortem

            of.report.console.end()
            ending = post_mortem(error, ending)
        return ending

    def settle(self) -> None:
        """Wait for the save that is in flight, unless a further signal ends that."""
        if self.keeping and not self.stop.at_once:
            asked = self.stop.times
            self.keeping.finish(lambda: self.stop.times > asked)

    def unsaved(self) -> tuple[str, ...]:
        """What is to be told of the state, if its last save failed."""
        keeping = self.keeping
        return (f"the state: {keeping.failing}",) if keeping and keeping.failing else ()

    def save_what_is_whole(self, run: Run) -> None:
        """After a stop in an evaluation: the state of the boundary before it, if that is what there is."""
        try:
            run._boundary.whole = False
            run._boundary.save_held()
        except Exception as error:
            self.of.report.line(f"not saved: {last_line(error)}")

    def unwritten(self) -> tuple[str, ...]:
        """What of the log the store did not take."""
        if not self.log.segment.complete:
            return (f"the end of the log {self.log.segment.path}",)
        try:
            self.heart.send(closing=True)
        except (StoreError, OSError) as error:
            return (str(error),)
        return ()
