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
from crown_exp.config.changes import merged
from crown_exp.config.settings import machine as paid_machine
from crown_exp.config.settings import notices_of
from crown_exp.devices.memory import free_memory
from crown_exp.errors import StoreError, TaskError
from crown_exp.folder import (
    AttemptRecord,
    EndRecord,
    Facts,
    ResultRecord,
    RunPaths,
    state,
)
from crown_exp.folder.records import CodeHash
from crown_exp.outcome import FINAL, ExitCode
from crown_exp.runner.boundary import Visit
from crown_exp.runner.call import Call
from crown_exp.runner.device import DeviceOnDemand
from crown_exp.runner.earlier import (
    MOST_WITHOUT_PROGRESS,
    applied,
    final_word,
    without_progress,
)
from crown_exp.runner.ending import Ending, stopped
from crown_exp.runner.heart import superseded
from crown_exp.runner.imports import when_imported
from crown_exp.runner.indexing import Indexing
from crown_exp.runner.notices import watched
from crown_exp.runner.parts import Found, Parts, used_before
from crown_exp.runner.place import place_of
from crown_exp.runner.process import imported_at_rest, process_globals
from crown_exp.runner.report import Report
from crown_exp.runner.spending import job_of
from crown_exp.runner.stopping import StopRequest, stop_signals
from crown_exp.runner.task import load_task
from crown_exp.storage import AlreadyExists, BlobStore, Portal
from crown_exp.storage.machine import here, process_started
from crown_exp.storage.runs import (
    Over,
    claim_attempt,
    is_superseded,
    read_facts,
    write_end,
    write_result,
)
from crown_exp.tracking.run_log import BEAT_SECONDS


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
    changes: Mapping[str, Any]
    counting: bool
    visit: Visit | None
    elsewhere: bool


def run_attempt(
    portal: Portal, blobs: BlobStore, run_id: str, **options: Unpack[Options]
) -> Ending:
    """See a run through, in this process and thread: one attempt, or more if memory runs out.

    What the task does wrong is told in the Ending and on the stream, as is a store that does not take the
    end. A run that is completed or failed is not run again. Raises Superseded if another attempt holds the
    run, ConfigError if this machine lacks its device, StoreError if the store cannot be read or does not
    take the attempt: in these cases it did not begin.
    """
    paths = RunPaths(run_id)
    parts = 0
    while True:
        facts = portal.call(read_facts, blobs, run_id)
        stored = read_config(portal.call(blobs.get, paths.config), paths.config)
        changes = merged(facts.changes, options.get("changes", {}))
        given: Options = {**options, "changes": changes}
        attempt = Attempt(portal, blobs, facts, paths, applied(stored, changes), **given)
        if state(facts, portal.call(blobs.now)) in FINAL:
            ending = final_ending(facts)
            attempt.report.already(ending)
            return ending
        try:
            ending = attempt.run(max(parts, used_before(facts.attempts)))
        except Over:  # since it was looked at
            continue
        if ending.parts is None:
            return ending
        parts = ending.parts
        free_memory()


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
    end = facts.last_end
    assert end is not None
    return Ending(end.exit_code, end.step, error=end.reason, failure=end.error)


@dataclass
class Attempt:
    """What one process life of a run is made of.

    facts: what is known of the run before it. config: as it is to be carried out, `changes` included.
    home: where files lie for stores that are not on this machine. root: the project, for imports and code.
    job: the executor's id of the job this process is. take_over: end a living holder's turn to write.
    database: the URL of the registry that is to know of it; None: none is.
    beat_seconds: how often it shows that it lives. changes: what resumes changed of the recorded config.
    counting: whether ends without progress are counted, of which there may be three. visit: as Boundary.
    elsewhere: the store is not the one of this project's settings, so an id names the run to nobody here.
    """

    portal: Portal
    blobs: BlobStore
    facts: Facts
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
    changes: Mapping[str, Any] = field(default_factory=dict)
    counting: bool = False
    visit: Visit | None = None
    elsewhere: bool = False
    stop: StopRequest = field(default_factory=StopRequest)

    def __post_init__(self) -> None:
        self.record = self.facts.run
        address = f"{self.blobs.url}/{self.paths.root}" if self.elsewhere else ""
        self.report = Report(self.stream, self.record, self.config["tracker"], address)

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
            undo.enter_context(watched(self.stop, notices_of(self.root)))
            attempt = self.claim(numerics, device.versions())
            self.report.begin(attempt, device.choice, self.parts)
            indexing = self.indexing()
            carried = Call(self, attempt, device).carry_out(self.allowed(task))
            ending = carried.ending
            self.report.stop_clock()
            if ending.exit_code == ExitCode.OK and self.parts.count > self.parts.asked:
                self.fitting(device).write(self.parts.count)
            files = imported_files(self.root) | code
            ending = self.write(attempt, ending, carried.saved, files)
            if indexing is not None:
                indexing.finish()
            carried.release(ending)
            kept = None if self.config["debug"] else self.folder
            self.report.end(ending, kept, carried.memory)
        return ending

    def allowed(self, task: Callable[..., Any] | Exception) -> Callable[..., Any] | Exception:
        """The task, or the error that stands for it: that of importing it, or that enough was tried."""
        count = without_progress(self.facts) if self.counting else 0
        return task if count < MOST_WITHOUT_PROGRESS else TaskError(final_word(count))

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
        place = place_of(job_of(self.facts.jobs, self.job), paid_machine())

        def build(number: int) -> AttemptRecord:
            return AttemptRecord(
                run=self.record.id, attempt=number, started=self.clock.now(), host=machine.host,
                pid=pid, process_started=process_started(pid), boot_id=machine.boot_id,
                job=self.job, numerics=numerics, versions=ours | versions,
                changes=dict(self.changes) or None, place=place,
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

    def write(
        self, attempt: AttemptRecord, ending: Ending, saved: int | None, files: Mapping[str, str]
    ) -> Ending:
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
                saved=saved, again=ending.parts is not None,
            )  # fmt: skip
            self.portal.call(write_end, self.blobs, end)
        except AlreadyExists:
            return stopped(superseded(attempt), ExitCode.SUPERSEDED, ending.step)
        except StoreError as error:
            code = ExitCode.INFRASTRUCTURE if ending.exit_code == ExitCode.OK else ending.exit_code
            return replace(ending, exit_code=int(code), unwritten=(*ending.unwritten, str(error)))
        return ending
