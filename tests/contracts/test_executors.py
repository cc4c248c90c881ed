"""Every executor keeps the contract of executors."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from crown_exp.compute.base import Executor, Job, JobState, NotSubmitted, Target
from crown_exp.compute.executors.local import LocalExecutor
from crown_exp.testing import ExecutorContract
from crown_exp.testing.executors import LIVES

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "print('up', flush=True); time.sleep(600)"
)


class TestLocalExecutor(ExecutorContract):
    @pytest.fixture
    def open_executor(self, tmp_path: Path) -> Callable[[], Executor]:
        return lambda: LocalExecutor(tmp_path / "not made" / "yet", os.environ, grace_seconds=0.5)

    @pytest.fixture
    def folder(self, tmp_path: Path, job: Job) -> Path:
        return tmp_path / "not made" / "yet" / job.name

    def test_a_name_is_given_once(self, executor: Executor, job: Job) -> None:
        self.wait(executor, self.start(executor, job))
        for name in (job.name, "../x", "", "a/b", "."):
            with pytest.raises(NotSubmitted, match=r"expected"):
                executor.submit(replace(job, name=name))

    def test_a_submit_that_was_cut_off_is_nothing(
        self, executor: Executor, job: Job, folder: Path
    ) -> None:
        """Killed before it had started anything: the name is free."""
        folder.mkdir(parents=True)
        (folder / "work").mkdir()
        assert executor.poll([job.name])[job.name].state is JobState.GONE
        with pytest.raises(NotSubmitted):
            executor.handle(job.name)
        assert self.wait(executor, self.start(executor, job)).state is JobState.SUCCEEDED

    def test_one_that_ignores_the_end_is_killed(self, executor: Executor, job: Job) -> None:
        handle = self.start(executor, replace(job, argv=(sys.executable, "-c", STUBBORN)))
        self.wait_for_log(executor, handle, "up")
        executor.cancel([handle])
        status = self.wait(executor, handle)
        assert (status.state, status.exit_code) == (JobState.CANCELLED, -signal.SIGKILL)

    def test_a_command_that_is_not_there(self, executor: Executor, job: Job) -> None:
        handle = self.start(executor, replace(job, argv=("/no/such/command",)))
        status = self.wait(executor, handle)
        assert (status.state, status.began_nothing) == (JobState.FAILED, True)
        assert status.reason.startswith("/no/such/command cannot be started")

    def test_a_keeper_that_is_killed_alone(
        self, executor: Executor, job: Job, folder: Path
    ) -> None:
        """Its job runs on, and can be cancelled."""
        handle = self.start(executor, replace(job, argv=(sys.executable, "-c", LIVES)))
        self.wait_for_log(executor, handle, "up")
        record = json.loads((folder / "record.json").read_text())
        os.kill(record["keeper"], signal.SIGKILL)
        time.sleep(0.2)
        assert executor.poll([handle])[handle].state is JobState.RUNNING
        executor.cancel([handle])
        status = self.wait(executor, handle)
        assert status.state is JobState.FAILED
        assert "no exit code" in status.reason

    def test_after_a_restart_of_the_machine(
        self, executor: Executor, job: Job, folder: Path
    ) -> None:
        """The numbers of processes are others' now: nothing is sent to them."""
        record = {
            "boot": "another", "keeper": os.getpid(), "keeper_started": None,
            "process": os.getpid(), "process_started": None,
        }  # fmt: skip
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(json.dumps(record))
        executor.cancel([job.name])
        assert executor.poll([job.name])[job.name].state is JobState.FAILED

    def test_no_file_holds_a_secret(self, executor: Executor, job: Job, folder: Path) -> None:
        handle = self.start(executor, replace(job, secrets={"TOKEN": "hush-hush"}))
        self.wait(executor, handle)
        kept = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
        assert kept
        assert not any(b"hush-hush" in data for data in kept)

    def test_another_target_is_refused(self, executor: Executor) -> None:
        assert not executor.problems(Target())
        (problem,) = executor.problems(Target(name="a100", executor="skypilot"))
        assert "compute=local" in str(problem)
