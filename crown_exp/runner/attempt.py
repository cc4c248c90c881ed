"""One attempt of a run: from its folder in the store to its end record."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import yaml

from crown_exp import __version__
from crown_exp.clock import Clock, SystemClock
from crown_exp.compute.code import code_hash, imported_files
from crown_exp.folder import AttemptRecord, EndRecord, ResultRecord, RunPaths, RunRecord
from crown_exp.folder.records import CodeHash
from crown_exp.outcome import ExitCode
from crown_exp.runner.context import Run
from crown_exp.runner.ending import Ending, completed, ended_by
from crown_exp.runner.process import process_globals, seed_all
from crown_exp.runner.report import Report
from crown_exp.runner.stopping import StopRequest, stop_signals
from crown_exp.runner.task import call_task, load_task
from crown_exp.storage import BlobStore, Portal
from crown_exp.storage.machine import here, process_started
from crown_exp.storage.runs import claim_attempt, read_run, write_end, write_result
from crown_exp.tracking.console import Progress
from crown_exp.tracking.run_log import RunLog

if TYPE_CHECKING:
    from crown_exp.devices.precision import Precision


def run_attempt(portal: Portal, blobs: BlobStore, run_id: str, **options: Any) -> Ending:
    """See one attempt of a run through, in this process and thread. Options: the fields of `Attempt`.

    What the task does wrong is told in the Ending and on the stream. Raises Superseded if another attempt
    holds the run, ConfigError if this machine lacks its device, StoreError if the store cannot be read:
    in these cases the attempt did not begin.
    """
    record = portal.call(read_run, blobs, run_id)
    paths = RunPaths(run_id)
    config = yaml.load(portal.call(blobs.get, paths.config), Loader=yaml.CSafeLoader)
    return Attempt(portal, blobs, record, paths, config, **options).run()


@dataclass
class Attempt:
    """What one process life of a run is made of.

    home: where files lie for stores that are not on this machine. root: the project, for imports and code.
    job: the executor's id of the job this process is. take_over: end a living holder's turn to write.
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
    progress: Progress = field(default_factory=Progress)
    stop: StopRequest = field(default_factory=StopRequest)
    globals: ExitStack = field(default_factory=ExitStack)

    def run(self) -> Ending:
        """Load the task, take the fence, call the task, write how it ended."""
        with self.globals:
            self.globals.enter_context(stop_signals(self.stop))
            self.globals.enter_context(process_globals(self.root))
            task = self.loaded()
            if "torch" in sys.modules:
                self.precision()
            attempt = self.claim()
            report = Report(
                self.stream, self.record, attempt, self.progress, self.config["tracker"]
            )
            ending = self.carry_out(task, attempt, report)
            self.write(attempt, ending)
            report.end(ending, self.blobs.local_path(self.paths.root) or self.blobs.url)
        return ending

    def loaded(self) -> Callable[..., Any] | Exception:
        """The user's function, or the error of importing it, which belongs to the attempt."""
        try:
            return load_task(self.config)
        except Exception as error:
            return error

    @cached_property
    def chosen(self) -> Precision:
        """The device and precision, chosen once; torch's random state and switches are set for them."""
        from crown_exp.devices import choose
        from crown_exp.devices.precision import Precision, TorchProbe, torch_globals

        wish = self.config["device"]
        choice = choose(wish, TorchProbe())
        self.globals.enter_context(torch_globals(choice, self.record.seed, wish["threads"]))
        return Precision(choice)

    def precision(self) -> Precision:
        """`chosen`, as a function that can be handed on."""
        return self.chosen

    def claim(self) -> AttemptRecord:
        """Begin the next attempt. Raises Superseded if a living one holds the run."""
        machine, pid = here(), os.getpid()
        numerics, versions = {}, {"crown_exp": __version__, "python": platform.python_version()}
        if "torch" in sys.modules:
            import torch

            numerics = self.chosen.choice.numerics() | {
                "accumulate": self.config["device"]["accumulate"],
                "threads": torch.get_num_threads(),
                "ranks": 1,
            }
            versions["torch"] = torch.__version__

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

    def carry_out(
        self, task: Callable[..., Any] | Exception, attempt: AttemptRecord, report: Report
    ) -> Ending:
        """Call the task and say how it ended, whatever it did."""
        path = self.local(self.paths.segment(attempt.attempt, 1))
        log = RunLog(path, self.record.id, attempt.attempt, report.sinks())
        run = Run(
            id=self.record.id, name=self.record.name, config=self.config, attempt=attempt.attempt,
            folder=self.local(self.paths.root), precision=self.precision, log=log,
            progress=self.progress, stop=self.stop,
        )  # fmt: skip
        try:
            report.begin(self.chosen.choice if attempt.numerics else None)
            if isinstance(task, Exception):
                raise task
            seed_all(self.record.seed)
            return completed(call_task(task, run, self.record.bound), run.done)
        except BaseException as error:
            return ended_by(error, run.done)
        finally:
            log.close()
            if self.blobs.local_path(self.paths.root) is None:
                self.portal.call(
                    self.blobs.put, self.paths.segment(attempt.attempt, 1), path.read_bytes()
                )

    def local(self, path: str) -> Path:
        """Where a path of the store is on this machine: in the store itself, or in the spool."""
        return self.blobs.local_path(path) or self.home / "spool" / path

    def write(self, attempt: AttemptRecord, ending: Ending) -> None:
        """The result, then the end. Raises StoreError if the store cannot take them."""
        files = imported_files(self.root)
        now = self.clock.now()
        if ending.exit_code == ExitCode.OK:
            result = ResultRecord(self.record.id, attempt.attempt, ending.step, now, ending.result)
            self.portal.call(write_result, self.blobs, result)
        end = EndRecord(
            run=self.record.id, attempt=attempt.attempt, ended=now, exit_code=ending.exit_code,
            step=ending.step, reason=ending.error or "completed", error=ending.failure,
            code=CodeHash(hash=code_hash(files), files=sorted(files)),
        )  # fmt: skip
        self.portal.call(write_end, self.blobs, end)
