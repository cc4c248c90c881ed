"""Every executor keeps the contract of executors."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from crown_exp.compute.base import (
    Executor,
    ExecutorError,
    Job,
    JobState,
    NotSubmitted,
    Target,
)
from crown_exp.compute.executors.local import LocalExecutor
from crown_exp.compute.executors.skypilot.child import Child
from crown_exp.compute.executors.skypilot.executor import SkyPilotExecutor
from crown_exp.testing import ExecutorContract
from crown_exp.testing.executors import LIVES
from tests.sky_project import STAND_IN, stand_in
from tests.stand_in.sky import edge
from tests.stand_in.sky.preempt import preempt

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "print('up', flush=True); time.sleep(600)"
)
BEATS = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True:
    with open(sys.argv[1], "a") as notes:
        notes.write(f"{os.getpid()}\\n")
    time.sleep(0.05)
"""
"""A process that does not end when it is told to, and says so in a file."""
SUBMITS = """
import os, pathlib, sys
from crown_exp.compute.base import Job, Target
from crown_exp.compute.executors.local import LocalExecutor
folder, name, code = sys.argv[1:]
executor = LocalExecutor(pathlib.Path(folder), os.environ)
print(flush=True)
executor.submit(Job(name, (sys.executable, "-c", code), Target()))
"""


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

    @pytest.mark.parametrize("milliseconds", [0, 20, 40, 60, 80, 120])
    def test_a_submit_that_is_killed(
        self, executor: Executor, job: Job, folder: Path, milliseconds: int
    ) -> None:
        """At any moment: the job runs, or there is none and its name is free. Never two."""
        ran = folder.parent.parent / "ran"
        code = f"open({str(ran)!r}, 'a').write('x')"
        with subprocess.Popen(
            [sys.executable, "-c", SUBMITS, str(folder.parent), job.name, code],
            stdout=subprocess.PIPE,
        ) as submits:
            assert submits.stdout is not None
            submits.stdout.readline()  # it begins
            time.sleep(milliseconds / 1000)
            submits.kill()
        try:
            handle = executor.handle(job.name)
        except NotSubmitted:
            handle = self.start(executor, replace(job, argv=(sys.executable, "-c", code)))
        assert self.wait(executor, handle).state is JobState.SUCCEEDED
        assert ran.read_text() == "x"

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


class TestSkyPilotExecutor(ExecutorContract):
    """On a stand-in for SkyPilot that replays what the real one was seen to do, a hundred times as fast."""

    @pytest.fixture(autouse=True)
    def state(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
        """The folder of the stand-in's server, which is ended with all that it has started."""
        monkeypatch.setenv("PATH", f"{STAND_IN / 'bin'}{os.pathsep}{os.environ['PATH']}")
        with stand_in(tmp_path / "stand-in", monkeypatch) as state:
            yield state

    @pytest.fixture
    def open_executor(self, tmp_path: Path) -> Callable[[], Executor]:
        home = tmp_path / "home"
        return lambda: SkyPilotExecutor(Child(sys.executable, home))

    @pytest.fixture
    def target(self) -> Target:
        return Target(name="a100_spot", executor="skypilot", accelerators=("A100:1",), spot=True)

    @pytest.fixture
    def notes(self, tmp_path: Path) -> Path:
        """A file of lines that an attempt writes to: no machine's home, so it outlives them."""
        return tmp_path / "notes"

    def test_a_preempted_job_begins_again_beside_its_old_process(
        self, executor: Executor, job: Job, notes: Path, state: Path
    ) -> None:
        """Seen: the old one lives for 30 s after it was told."""
        edge.delay(state, killed=1e6)
        job = replace(job, argv=(sys.executable, "-c", BEATS, str(notes)))
        handle = self.start(executor, job)
        self.wait(executor, handle, {JobState.RUNNING})
        self.wait_until(notes.exists)  # it heeds no signal any more
        edge.crowd(state, True)  # there is no other machine until it was seen to recover
        assert preempt(job.name) == 1
        self.wait(executor, handle, {JobState.RECOVERING})
        edge.crowd(state, False)
        status = self.wait(executor, handle, {JobState.RUNNING})
        assert status.recoveries == 1
        self.wait_until(lambda: len(set(notes.read_text().split())) > 1)
        pids = notes.read_text().split()
        assert len(set(pids)) == 2
        count = {pid: pids.count(pid) for pid in set(pids)}
        # both go on
        self.wait_until(
            lambda: all(notes.read_text().split().count(it) > count[it] for it in count)
        )

    def wait_until(self, done: Callable[[], bool]) -> None:
        """Until it is so."""
        until = time.monotonic() + self.patience_seconds
        while not done():
            assert time.monotonic() < until
            time.sleep(0.02)

    @pytest.mark.parametrize("code", [75, 80])
    def test_an_exit_code_asks_to_begin_again(
        self, executor: Executor, job: Job, notes: Path, code: int
    ) -> None:
        once = f"import pathlib, sys; n = pathlib.Path({str(notes)!r}); was = n.exists(); n.touch()"
        argv = (sys.executable, "-c", f"{once}; sys.exit(0 if was else {code})")
        handle = self.start(executor, replace(job, argv=argv))
        status = self.wait(executor, handle)
        assert (status.state, status.recoveries) == (JobState.SUCCEEDED, 1)

    def test_no_machine_is_to_be_had(self, executor: Executor, job: Job, state: Path) -> None:
        edge.sold_out(state, ["A100:1"])
        status = self.wait(executor, self.start(executor, job))
        assert (status.state, status.began_nothing) == (JobState.FAILED, True)
        assert "no such machine was to be had" in status.reason

    def test_a_refused_job_is_not_submitted(
        self, executor: Executor, job: Job, state: Path
    ) -> None:
        edge.refuse(state, "ResourcesUnavailableError", "quota: 0 of A100 in all regions")
        with pytest.raises(NotSubmitted, match="quota: 0 of A100"):
            self.start(executor, job)
        assert not executor.jobs()

    def test_a_name_is_given_once(self, executor: Executor, job: Job) -> None:
        """Also when its job is over."""
        handle = self.start(executor, job)
        with pytest.raises(NotSubmitted, match=f"a job called {job.name} already"):
            executor.submit(job)
        self.wait(executor, handle)
        with pytest.raises(NotSubmitted, match="expected a new name"):
            executor.submit(job)

    def test_a_server_that_was_started_again_has_forgotten_the_request(
        self, executor: Executor, job: Job, state: Path
    ) -> None:
        """Its job is found by its name, while it lives and when it is over; without one nothing is left."""
        ticket = executor.submit(job)
        handle = executor.handle(ticket)
        edge.stop(state, jobs=False)
        assert executor.handle(ticket) == handle
        self.wait(executor, handle)
        edge.stop(state, jobs=False)
        assert executor.handle(ticket) == handle
        edge.delay(state, launch=1e6)
        lost = executor.submit(replace(job, name=f"{job.name}-2"))
        edge.stop(state, jobs=False)
        with pytest.raises(NotSubmitted, match="forgot request"):
            executor.handle(lost)

    def test_a_server_is_another_with_a_new_state_alone(
        self, executor: Executor, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Neither when it is started again nor by another address; a user's hash would stay the same."""
        server = executor.server()
        assert server is not None
        edge.stop(state)
        assert executor.server() == server
        monkeypatch.setenv("SKYPILOT_API_SERVER_ENDPOINT", "https://me:hush@sky.example.com/api/")
        elsewhere = SkyPilotExecutor(Child(sys.executable, tmp_path / "home"))
        by_url = elsewhere.server()
        elsewhere.close()
        assert by_url == {"id": server["id"], "place": "https://sky.example.com/api"}
        assert server["place"].endswith(f"with HOME={tmp_path / 'home'}")
        edge.stop(state)
        shutil.rmtree(state)
        other = executor.server()
        assert other is not None
        assert (other["place"], other["id"] != server["id"]) == (server["place"], True)

    def test_a_server_that_does_not_tell_its_users_is_not_known(
        self, executor: Executor, state: Path
    ) -> None:
        executor.server()
        edge.tells_nothing(state)
        assert executor.server() is None

    def test_a_server_that_died_goes_on_where_it_was(
        self, executor: Executor, job: Job, state: Path
    ) -> None:
        """Its jobs do not even notice."""
        handle = self.start(executor, replace(job, argv=(sys.executable, "-c", LIVES)))
        self.wait(executor, handle, {JobState.RUNNING})
        edge.stop(state, jobs=False)
        status = executor.poll([handle])[handle]
        assert (status.state, status.recoveries) == (JobState.RUNNING, 0)

    def test_a_client_that_dies_cancels_nothing(
        self, executor: Executor, open_executor: Callable[[], Executor], job: Job
    ) -> None:
        """Its request goes on, and is found by its name."""
        first = open_executor()
        first.submit(job)
        first.close()
        self.wait_until(lambda: [one.name for one in executor.jobs()] == [job.name])

    def test_another_server_knows_nothing_of_its_jobs(
        self,
        executor: Executor,
        open_executor: Callable[[], Executor],
        job: Job,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Though it has counted to the same number: what is asked of it or ended there touches none."""
        lives = (sys.executable, "-c", LIVES)
        here = self.start(executor, replace(job, argv=lives))
        monkeypatch.setenv("SKY_STAND_IN", str(tmp_path / "another"))
        other = open_executor()
        try:
            there = self.start(other, replace(job, name=f"{job.name}-2", argv=lives))
            assert here.rpartition("/")[2] == there.rpartition("/")[2]
            self.wait_for_log(other, there, "up")
            assert other.poll([here])[here].state is JobState.GONE
            assert other.log(here) == ""
            other.cancel([here])
            executor.cancel([there])
            for mine, handle in ((executor, here), (other, there)):
                self.wait(mine, handle, {JobState.RUNNING})  # not on its way to its end
            other.cancel([here, there])
            assert self.wait(other, there).state is JobState.CANCELLED
            assert executor.poll([here])[here].state is JobState.RUNNING
        finally:
            other.close()
            edge.stop(tmp_path / "another")

    def test_a_controller_that_is_stopped_is_not_started_to_ask_it(
        self, executor: Executor, job: Job, state: Path
    ) -> None:
        """It is paid. A job that begins starts it, and then knows again what there was."""
        handle = self.start(executor, job)
        self.wait(executor, handle)
        edge.controller(state, "STOPPED")
        assert executor.poll([handle])[handle].state is JobState.GONE
        assert executor.jobs() == []
        assert executor.log(handle) == ""
        executor.cancel([handle])
        assert json.loads((state / "controller.json").read_text()) == "STOPPED"
        self.wait(executor, self.start(executor, replace(job, name=f"{job.name}-2")))
        assert executor.poll([handle])[handle].state is JobState.SUCCEEDED

    def test_a_controller_that_cannot_be_asked_says_nothing_of_its_jobs(
        self, executor: Executor, job: Job, state: Path
    ) -> None:
        handle = self.start(executor, replace(job, argv=(sys.executable, "-c", LIVES)))
        edge.controller(state, "INIT")
        for ask in (executor.poll, executor.cancel):
            with pytest.raises(ExecutorError, match="ClusterNotUpError"):
                ask([handle])
        edge.controller(state, "")
        assert executor.poll([handle])[handle].state is not JobState.GONE

    def test_a_plain_cluster_whose_job_is_over_is_not_listed(
        self, executor: Executor, job: Job
    ) -> None:
        """It is there until it ends itself."""
        job = replace(job, target=replace(job.target, managed=False))
        handle = self.start(executor, job)
        assert handle.startswith(f"cluster/{job.name}/")
        assert self.wait(executor, handle).state is JobState.SUCCEEDED
        assert job.name not in [one.name for one in executor.jobs()]
        executor.cancel([handle])
        assert executor.poll([handle])[handle].state is JobState.GONE

    def test_a_cancelled_job_may_live_on(
        self, executor: Executor, job: Job, notes: Path, state: Path
    ) -> None:
        """Seen: 6 s after CANCELLED. So a final state does not say that nobody writes."""
        edge.delay(state, killed=1e6)
        handle = self.start(executor, replace(job, argv=(sys.executable, "-c", BEATS, str(notes))))
        self.wait(executor, handle, {JobState.RUNNING})
        self.wait_until(notes.exists)  # it heeds no signal any more
        executor.cancel([handle])
        assert self.wait(executor, handle).state is JobState.CANCELLED
        size = notes.stat().st_size
        self.wait_until(lambda: notes.stat().st_size > size)
