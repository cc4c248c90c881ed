"""One attempt of a run: from its folder in the store to its end record."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Required, TextIO, TypedDict, Unpack

import yaml

from crown_exp import __version__
from crown_exp.clock import Clock, SystemClock
from crown_exp.compute.code import code_hash, imported_files
from crown_exp.devices import Choice
from crown_exp.devices.memory import free_memory, peak_memory
from crown_exp.errors import StoreError
from crown_exp.folder import (
    AttemptRecord,
    EndRecord,
    Facts,
    ResultRecord,
    RunPaths,
    RunRecord,
    state,
)
from crown_exp.folder.records import CodeHash
from crown_exp.outcome import FINAL, ExitCode
from crown_exp.runner.artifacts import Artifacts
from crown_exp.runner.context import Run
from crown_exp.runner.device import DeviceOnDemand
from crown_exp.runner.ending import (
    Ending,
    after_out_of_memory,
    completed,
    ended_by,
    stopped,
)
from crown_exp.runner.heart import Heart, superseded
from crown_exp.runner.imports import when_imported
from crown_exp.runner.indexing import Indexing
from crown_exp.runner.parts import Found, Parts, used_before
from crown_exp.runner.process import imported_at_rest, process_globals, seed_again
from crown_exp.runner.report import Report
from crown_exp.runner.stopping import StopRequest, stop_signals
from crown_exp.runner.task import call_task, load_task
from crown_exp.runner.trackers import open_feed
from crown_exp.storage import AlreadyExists, BlobStore, Portal
from crown_exp.storage.machine import here, process_started
from crown_exp.storage.runs import (
    claim_attempt,
    is_superseded,
    read_facts,
    write_end,
    write_result,
)
from crown_exp.tracking import Sink
from crown_exp.tracking.run_log import BEAT_SECONDS, RunLog


class Options(TypedDict, total=False):
    """How an attempt is carried out, whatever the run: fields of `Attempt` that a caller may set."""

    home: Required[Path]
    root: Path
    job: str | None
    take_over: bool
    database: str | None
    stream: TextIO
    clock: Clock
    beat_seconds: float


def run_attempt(
    portal: Portal, blobs: BlobStore, run_id: str, **options: Unpack[Options]
) -> Ending:
    """See a run through, in this process and thread: one attempt, or more if memory runs out.

    What the task does wrong is told in the Ending and on the stream, as is a store that does not take the
    end. A run that is completed or failed is not run again. Raises Superseded if another attempt holds the
    run, ConfigError if this machine lacks its device, StoreError if the store cannot be read or does not
    take the attempt: in these cases it did not begin.
    """
    facts = portal.call(read_facts, blobs, run_id)
    paths = RunPaths(run_id)
    config = read_config(portal.call(blobs.get, paths.config), paths.config)
    attempt = Attempt(portal, blobs, facts.run, paths, config, **options)
    if state(facts, portal.call(blobs.now)) in FINAL:
        ending = final_ending(facts)
        attempt.report.already(ending)
        return ending
    ending = attempt.run(used_before(facts.attempts))
    while ending.parts is not None:
        free_memory()
        ending = Attempt(portal, blobs, facts.run, paths, config, **options).run(ending.parts)
    return ending


def read_config(data: bytes, path: str) -> dict[str, Any]:
    """config.yaml as it was recorded. Raises StoreError if it is damaged."""
    try:
        config = yaml.load(data, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError):
        config = None
    if not isinstance(config, dict) or not {"task", "device", "limits", "tracker"} <= config.keys():
        raise StoreError(f"{path}: damaged, not the config that was recorded")
    return config


def final_ending(facts: Facts) -> Ending:
    """How a run ended that nothing can change any more."""
    if facts.result is not None:
        return Ending(int(ExitCode.OK), facts.result.step, facts.result.result)
    end = max(facts.ends, key=lambda item: item.attempt)
    return Ending(end.exit_code, end.step, error=end.reason, failure=end.error)


@dataclass
class Attempt:
    """What one process life of a run is made of.

    home: where files lie for stores that are not on this machine. root: the project, for imports and code.
    job: the executor's id of the job this process is. take_over: end a living holder's turn to write.
    database: the URL of the registry that is to know of it; None: none is.
    beat_seconds: how often it shows that it lives.
    """

    portal: Portal
    blobs: BlobStore
    record: RunRecord
    paths: RunPaths
    config: Mapping[str, Any]
    home: Path
    root: Path = field(default_factory=Path.cwd)
    job: str | None = None
    take_over: bool = False
    database: str | None = None
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    clock: Clock = field(default_factory=SystemClock)
    beat_seconds: float = BEAT_SECONDS
    stop: StopRequest = field(default_factory=StopRequest)

    def __post_init__(self) -> None:
        self.report = Report(self.stream, self.record, self.config["tracker"])
        self.memory: dict[str, int] = {}

    def run(self, parts: int) -> Ending:
        """Load the task, take the fence, call the task, write how it ended.

        parts: into how many batches are cut at least, as earlier attempts found out.
        """
        with ExitStack() as undo:
            environment = undo.enter_context(process_globals(self.root, self.record.seed))
            device = DeviceOnDemand(self.config["device"], self.record.seed, environment, undo)
            undo.enter_context(when_imported("torch", device.torch_came))
            wake_collector = undo.enter_context(imported_at_rest())
            task = self.loaded()
            self.parts = self.cut_into(parts, device)
            numerics = device.numerics(self.parts.count)
            wake_collector()
            code = imported_files(self.root)
            undo.enter_context(stop_signals(self.stop))
            attempt = self.claim(numerics, device.versions())
            self.report.begin(attempt, device.choice, self.parts)
            indexing = self.indexing()
            ending, release = self.carry_out(task, attempt, device)
            self.report.stop_clock()
            if ending.exit_code == ExitCode.OK and self.parts.count > self.parts.asked:
                self.fitting(device).write(self.parts.count)
            ending = self.write(attempt, ending, imported_files(self.root) | code)
            if indexing is not None:
                indexing.finish()
            release(ending)
            kept = None if self.config["debug"] else self.folder
            self.report.end(ending, kept, self.memory)
        return ending

    def cut_into(self, parts: int, device: DeviceOnDemand) -> Parts:
        """How batches are cut: as asked, or as was found to fit."""
        asked = self.config["device"]["accumulate"]
        if device.choice is not None:
            parts = max(parts, self.fitting(device).read())
        return Parts(asked, max(asked, parts))

    def fitting(self, device: DeviceOnDemand) -> Found:
        """What was found to fit on this machine's device."""
        return Found(self.home, self.config, device.numerics(self.config["device"]["accumulate"]))

    @property
    def folder(self) -> Path | str:
        """The run's folder in the store, for people."""
        return self.blobs.local_path(self.paths.root) or f"{self.blobs.url}/{self.paths.root}"

    @property
    def has_files(self) -> bool:
        """Whether the store's blobs are files of this machine."""
        return self.blobs.local_path(self.paths.root) is not None

    def local(self, path: str) -> Path:
        """Where a path of the store is on this machine: in the store itself, or in the spool."""
        return self.blobs.local_path(path) or self.home / "spool" / path

    def loaded(self) -> Callable[..., Any] | Exception:
        """The user's function, or the error of importing it, which belongs to the attempt."""
        try:
            return load_task(self.config)
        except Exception as error:
            return error

    def claim(self, numerics: dict[str, Any], versions: dict[str, str]) -> AttemptRecord:
        """Begin the next attempt. Raises Superseded if a living one holds the run."""
        machine, pid = here(), os.getpid()
        ours = {"crown_exp": __version__, "python": platform.python_version()}

        def build(number: int) -> AttemptRecord:
            return AttemptRecord(
                run=self.record.id, attempt=number, started=self.clock.now(), host=machine.host,
                pid=pid, process_started=process_started(pid), boot_id=machine.boot_id,
                job=self.job, numerics=numerics, versions=ours | versions,
            )  # fmt: skip

        return self.portal.call(
            claim_attempt, self.blobs, self.record.id, build, machine,
            job=self.job, take_over=self.take_over,
        )  # fmt: skip

    def indexing(self) -> Indexing | None:
        """What keeps the registry up to date, already at work."""
        if self.database is None:
            return None
        return Indexing(
            self.portal, self.blobs, self.record.id, self.database, seconds=self.beat_seconds
        )

    def carry_out(
        self, task: Callable[..., Any] | Exception, attempt: AttemptRecord, device: DeviceOnDemand
    ) -> tuple[Ending, Callable[[Ending], None]]:
        """Call the task and say how it ended, whatever it did.

        Returns, too, what lets go of the tracker: it may be waited for, so call it when the end is written.
        """
        segment = self.local(self.paths.segment(attempt.attempt, 1))
        heart = Heart(
            self.portal, self.blobs, attempt, self.stop,
            spooled=None if self.has_files else segment, seconds=self.beat_seconds,
        )  # fmt: skip
        feed = open_feed(self.config, self.record, attempt.attempt, self.home)
        sinks: list[Sink] = [self.report.console, heart, *([feed] if feed else [])]
        log = RunLog(
            segment, self.record.id, attempt.attempt, sinks, beat_seconds=self.beat_seconds
        )
        device.on_choice(lambda choice: self.chosen(choice, log))
        artifacts = Artifacts(
            self.portal, self.blobs, self.paths, self.home / "spool",
            event=log.event, tell=feed.artifact if feed else None,
        )  # fmt: skip
        run = Run(
            id=self.record.id, name=self.record.name, config=self.config, attempt=attempt.attempt,
            folder=self.local(self.paths.root), precision=device.ask, log=log,
            console=self.report.console, stop=self.stop, artifacts=artifacts, parts=self.parts,
        )  # fmt: skip
        ending = self.call(task, run)
        self.memory = peak_memory(device.choice.device if device.choice else "cpu")
        log.event("memory", **self.memory)
        log.close()
        ending = replace(ending, unwritten=(*unwritten(log, heart), *artifacts.finish()))

        def release(ended: Ending) -> None:
            if feed:
                asked = self.stop.times
                feed.finish(ended.exit_code, ended.result, lambda: self.stop.times > asked)
            artifacts.clear()

        return ending, release

    def chosen(self, choice: Choice, log: RunLog) -> None:
        """Print and record the device and why it is that one."""
        self.report.device(choice)
        log.event("device", device=choice.device, name=choice.name, reason=choice.reason)

    def call(self, task: Callable[..., Any] | Exception, run: Run) -> Ending:
        """From the task's start to its end, in whatever way."""
        try:
            with self.stop.heeded():
                if isinstance(task, Exception):
                    raise task
                seed_again(self.record.seed)
                return completed(call_task(task, run, self.record.bound), run.done)
        except BaseException as error:
            return self.ended(error, run)

    def ended(self, error: BaseException, run: Run) -> Ending:
        """What an error that left the task makes of the attempt."""
        if self.stop.raised:  # what a library made of the stop is still the stop
            return stopped(self.stop.why, self.stop.code or ExitCode.INTERRUPTED, run.done)
        ending = ended_by(error, run.done)
        if ending.exit_code == ExitCode.OUT_OF_MEMORY:
            ending = after_out_of_memory(ending, self.parts, run.step)
        if ending.parts is not None and self.stop.code is not None:
            return stopped(self.stop.why, self.stop.code, run.done)
        if self.config["debug"] and ending.failure is not None:
            from crown_exp.runner.post_mortem import post_mortem

            self.report.console.end()
            ending = post_mortem(error, ending)
        return ending

    def write(self, attempt: AttemptRecord, ending: Ending, files: Mapping[str, str]) -> Ending:
        """The result, then the end, unless a later attempt has taken over; how it ended after all."""
        now = self.clock.now()
        try:
            if self.portal.call(is_superseded, self.blobs, attempt.run, attempt.attempt):
                return stopped(superseded(attempt), ExitCode.SUPERSEDED, ending.step)
            if ending.exit_code == ExitCode.OK:
                result = ResultRecord(attempt.run, attempt.attempt, ending.step, now, ending.result)
                self.portal.call(write_result, self.blobs, result)
            end = EndRecord(
                run=attempt.run, attempt=attempt.attempt, ended=now, exit_code=ending.exit_code,
                step=ending.step, reason=ending.error or "completed", error=ending.failure,
                code=CodeHash(hash=code_hash(files), files=sorted(files)),
            )  # fmt: skip
            self.portal.call(write_end, self.blobs, end)
        except AlreadyExists:
            return stopped(superseded(attempt), ExitCode.SUPERSEDED, ending.step)
        except StoreError as error:
            code = ExitCode.INFRASTRUCTURE if ending.exit_code == ExitCode.OK else ending.exit_code
            return replace(ending, exit_code=int(code), unwritten=(*ending.unwritten, str(error)))
        return ending


def unwritten(log: RunLog, heart: Heart) -> tuple[str, ...]:
    """What of the log the store did not take."""
    if not log.segment.complete:
        return (f"the end of the log {log.segment.path}",)
    try:
        heart.send()
    except StoreError as error:
        return (str(error),)
    if heart.spooled is not None:
        heart.spooled.unlink()
    return ()
