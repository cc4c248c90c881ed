"""One attempt of a run: from its folder in the store to its end record."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import yaml

from crown_exp import __version__
from crown_exp.clock import Clock, SystemClock
from crown_exp.compute.code import code_hash, imported_files
from crown_exp.errors import ConfigError, StoreError
from crown_exp.folder import AttemptRecord, EndRecord, ResultRecord, RunPaths, RunRecord
from crown_exp.folder.records import CodeHash
from crown_exp.outcome import ExitCode
from crown_exp.runner.context import Run
from crown_exp.runner.ending import Ending, completed, ended_by, stopped
from crown_exp.runner.heart import Heart, superseded
from crown_exp.runner.imports import when_imported
from crown_exp.runner.process import imported_at_rest, process_globals, seed_again
from crown_exp.runner.report import Report
from crown_exp.runner.stopping import StopRequest, stop_signals
from crown_exp.runner.task import call_task, load_task
from crown_exp.storage import AlreadyExists, BlobStore, Portal
from crown_exp.storage.machine import here, process_started
from crown_exp.storage.runs import (
    claim_attempt,
    is_superseded,
    read_facts,
    write_end,
    write_result,
)
from crown_exp.tracking.run_log import BEAT_SECONDS, RunLog

if TYPE_CHECKING:
    from crown_exp.devices.precision import Precision


def run_attempt(portal: Portal, blobs: BlobStore, run_id: str, **options: Any) -> Ending:
    """See one attempt of a run through, in this process and thread. Options: the fields of `Attempt`.

    What the task does wrong is told in the Ending and on the stream, as is a store that does not take the
    end. A run that is completed already is not run again. Raises Superseded if another attempt holds the
    run, ConfigError if this machine lacks its device, StoreError if the store cannot be read or does not
    take the attempt: in these cases it did not begin.
    """
    facts = portal.call(read_facts, blobs, run_id)
    paths = RunPaths(run_id)
    config = yaml.load(portal.call(blobs.get, paths.config), Loader=yaml.CSafeLoader)
    attempt = Attempt(portal, blobs, facts.run, paths, config, **options)
    if facts.result is not None:
        attempt.report.already(facts.result.result)
        return Ending(int(ExitCode.OK), facts.result.step, facts.result.result)
    return attempt.run()


@dataclass
class Attempt:
    """What one process life of a run is made of.

    home: where files lie for stores that are not on this machine. root: the project, for imports and code.
    job: the executor's id of the job this process is. take_over: end a living holder's turn to write.
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
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    clock: Clock = field(default_factory=SystemClock)
    beat_seconds: float = BEAT_SECONDS
    stop: StopRequest = field(default_factory=StopRequest)
    undo: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self.report = Report(self.stream, self.record, self.config["tracker"])

    def run(self) -> Ending:
        """Load the task, take the fence, call the task, write how it ended."""
        with self.undo as undo:
            self.environment = undo.enter_context(process_globals(self.root, self.record.seed))
            undo.enter_context(when_imported("torch", self.prepare_torch))
            wake_collector = undo.enter_context(imported_at_rest())
            task = self.loaded()
            if "torch" in sys.modules:
                self.precision()
            wake_collector()
            code = imported_files(self.root)
            undo.enter_context(stop_signals(self.stop))
            attempt = self.claim()
            ending = self.carry_out(task, attempt)
            ending = self.write(attempt, ending, imported_files(self.root) | code)
            self.report.end(ending, self.folder)
        return ending

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

    # --- the device -----------------------------------------------------------------------------------

    @cached_property
    def chosen(self) -> Precision:
        """The device and precision, chosen once; torch's random state and switches are set for them."""
        from crown_exp.devices import choose
        from crown_exp.devices.precision import Precision, TorchProbe, torch_globals

        wish = self.config["device"]
        choice = choose(wish, TorchProbe())
        if choice.deterministic:  # what cuBLAS needs for it; read when CUDA is first used
            self.environment.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        self.undo.enter_context(torch_globals(choice, self.record.seed, wish["threads"]))
        return Precision(choice)

    def precision(self) -> Precision:
        """`chosen`, as a function that can be handed on."""
        return self.chosen

    def prepare_torch(self) -> None:
        """torch has been imported; a device that is not there is for those who ask for it to tell."""
        with suppress(ConfigError):
            self.precision()

    def numerics(self) -> dict[str, Any]:
        """What decides the bits beside the signature; nothing if torch has no part in it."""
        torch = sys.modules.get("torch")
        if torch is None:
            return {}
        return self.chosen.choice.numerics() | {
            "accumulate": self.config["device"]["accumulate"],
            "threads": torch.get_num_threads(),
            "ranks": 1,
        }

    # --- the attempt ----------------------------------------------------------------------------------

    def claim(self) -> AttemptRecord:
        """Begin the next attempt. Raises Superseded if a living one holds the run."""
        machine, pid, numerics = here(), os.getpid(), self.numerics()
        versions = {"crown_exp": __version__, "python": platform.python_version()}
        if "torch" in sys.modules:
            versions["torch"] = sys.modules["torch"].__version__

        def build(number: int) -> AttemptRecord:
            return AttemptRecord(
                run=self.record.id, attempt=number, started=self.clock.now(), host=machine.host,
                pid=pid, process_started=process_started(pid), boot_id=machine.boot_id,
                job=self.job, numerics=numerics, versions=versions,
            )  # fmt: skip

        return self.portal.call(
            claim_attempt, self.blobs, self.record.id, build, machine,
            job=self.job, take_over=self.take_over,
        )  # fmt: skip

    def carry_out(self, task: Callable[..., Any] | Exception, attempt: AttemptRecord) -> Ending:
        """Call the task and say how it ended, whatever it did."""
        self.report.begin(attempt, self.chosen.choice if attempt.numerics else None)
        segment = self.local(self.paths.segment(attempt.attempt, 1))
        heart = Heart(
            self.portal, self.blobs, attempt, self.stop,
            spooled=None if self.has_files else segment, seconds=self.beat_seconds,
        )  # fmt: skip
        log = RunLog(
            segment, self.record.id, attempt.attempt, [self.report.console, heart],
            beat_seconds=self.beat_seconds,
        )  # fmt: skip
        run = Run(
            id=self.record.id, name=self.record.name, config=self.config, attempt=attempt.attempt,
            folder=self.local(self.paths.root), precision=self.precision, log=log,
            console=self.report.console, stop=self.stop,
        )  # fmt: skip
        ending = self.call(task, run)
        log.close()
        return replace(ending, unwritten=unwritten(log, heart))

    def call(self, task: Callable[..., Any] | Exception, run: Run) -> Ending:
        """From the task's start to its end, in whatever way."""
        try:
            with self.stop.heeded():
                if isinstance(task, Exception):
                    raise task
                seed_again(self.record.seed)
                return completed(call_task(task, run, self.record.bound), run.done)
        except BaseException as error:
            if self.stop.raised:  # what a library made of the stop is still the stop
                return stopped(self.stop.why, self.stop.code or ExitCode.INTERRUPTED, run.done)
            return ended_by(error, run.done)

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
