"""What every executor does."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from crown_exp.compute.base import (
    OVER,
    Executor,
    ExecutorError,
    Job,
    JobState,
    JobStatus,
    NotSubmitted,
    Target,
    Terminal,
)

ODD_WORDS = (
    "",
    "two words",
    "it's",
    'say "x"',
    "back\\slash",
    "a\nb",
    "$(echo pwned)",
    "`echo pwned`",
    "$HOME",
    "${HOME}",
    "~",
    "*",
    "a;b&&c|d>e",
    "{a,b}",
    "#no comment",
    "!1",
    "-n",
    "überläufe 学習🦊",
    "%s",
    "tab\there",
)
PRINTS = "import json, sys; print(json.dumps(sys.argv[1:]))"
AGAIN = """
import os, pathlib, sys
notes = pathlib.Path(sys.argv[1])
first = not notes.exists()
with notes.open("a") as file:
    file.write(os.environ["CROWN_JOB"] + " " + os.environ["CONTRACT_A"] + "\\n")
sys.exit(int(sys.argv[2]) if first else 0)
"""
"""Notes each of its starts in a file; the first one ends with the exit code that it is given."""
ENTERS = """
import json, os, sys
told = [open("sub/a.txt").read(), open("prepared.txt").read()]
told += [os.environ[name] for name in ("CROWN_JOB", "CONTRACT_A", "CONTRACT_TOKEN")]
print(json.dumps(told + sys.argv[1:]))
sys.exit(5)
"""
"""What it finds where it begins, in its environment and in its arguments."""
LIVES = "import time; print('up', flush=True); time.sleep(600)"


class ExecutorContract:
    """What every `Executor` does. Override `open_executor` and, if its jobs are not local ones, `target`.

    The tests submit small Python programs, run by `python`, in names that nobody has.
    """

    patience_seconds = 120.0
    """How long a job may take to come to where a test waits for it."""
    poll_seconds = 0.1
    """Between two looks at a job."""
    python: str = sys.executable
    """The Python on the executor's machines."""
    travels_without_bundle = True
    """Whether the machines see this one's files."""
    gives_terminals = True
    """Whether a person can be given one of its machines."""

    @pytest.fixture
    def open_executor(self) -> Callable[[], Executor]:
        """Opens an executor; called again, one that stands for a later process's."""
        raise NotImplementedError("override `open_executor` with a fixture that opens one")

    @pytest.fixture
    def target(self) -> Target:
        """Where the jobs run."""
        return Target()

    @pytest.fixture
    def executor(self, open_executor: Callable[[], Executor], job: Job) -> Iterator[Executor]:
        """One, whose jobs of this test are cancelled at the end: it may be shared with others."""
        executor = open_executor()
        yield executor
        ours = [one.handle for one in executor.jobs() if one.name.startswith(job.name)]
        executor.cancel(ours)
        executor.close()

    @pytest.fixture
    def bundle(self, tmp_path: Path) -> Path:
        """A folder that travels."""
        folder = tmp_path / "bundle"
        (folder / "sub").mkdir(parents=True)
        (folder / "sub" / "a.txt").write_text("in the bundle")
        return folder

    @pytest.fixture
    def job(self, target: Target, bundle: Path) -> Job:
        """A job that prints its arguments as JSON, and none are given."""
        return Job(f"c{uuid4().hex[:12]}", (self.python, "-c", PRINTS), target, bundle=bundle)

    def wait(
        self, executor: Executor, handle: str, states: Collection[JobState] = OVER
    ) -> JobStatus:
        """Poll until the job is in one of the states; fails if it is over in another."""
        until = time.monotonic() + self.patience_seconds
        while True:
            status = executor.poll([handle])[handle]
            if status.state in states:
                return status
            assert status.state not in OVER, f"{status}\n{executor.log(handle)}"
            assert time.monotonic() < until, f"{status}\n{executor.log(handle)}"
            time.sleep(self.poll_seconds)

    def start(self, executor: Executor, job: Job) -> str:
        """Submit; the handle."""
        return executor.handle(executor.submit(job))

    def wait_for_log(self, executor: Executor, handle: str, text: str) -> None:
        """Until the job has printed the text."""
        until = time.monotonic() + self.patience_seconds
        while text not in executor.log(handle):
            assert time.monotonic() < until, executor.poll([handle])
            time.sleep(self.poll_seconds)

    def test_a_job_succeeds(self, executor: Executor, job: Job) -> None:
        """And what it has printed is kept: all, or its last lines."""
        lines = "for i in range(30): print('line', i)"
        handle = self.start(executor, replace(job, argv=(self.python, "-c", lines)))
        status = self.wait(executor, handle)
        assert status.state is JobState.SUCCEEDED
        assert not status.began_nothing
        assert "line 0\n" in executor.log(handle)
        short = executor.log(handle, lines=5)
        assert "line 29" in short
        assert "line 20\n" not in short

    def test_a_job_fails(self, executor: Executor, job: Job) -> None:
        """With its exit code if the executor knows it, and else a reason; stderr is kept too."""
        argv = (self.python, "-c", "import sys; print('oh no', file=sys.stderr); sys.exit(3)")
        handle = self.start(executor, replace(job, argv=argv))
        status = self.wait(executor, handle)
        assert status.state is JobState.FAILED
        assert status.exit_code == 3 or (status.exit_code is None and status.reason)
        assert "\n" not in status.reason
        assert "oh no" in executor.log(handle)

    def test_a_job_is_cancelled(self, executor: Executor, job: Job) -> None:
        """Twice is no error, nor is one that is over, nor one that nobody knows."""
        handle = self.start(executor, replace(job, argv=(self.python, "-c", LIVES)))
        self.wait_for_log(executor, handle, "up")
        executor.cancel([handle])
        executor.cancel([handle])
        assert self.wait(executor, handle).state is JobState.CANCELLED
        executor.cancel([handle, "999999"])
        executor.cancel([])
        assert executor.poll([handle])[handle].state is JobState.CANCELLED

    def test_polls_many_at_once(self, executor: Executor, job: Job) -> None:
        """What it does not know is gone."""
        one = self.start(executor, job)
        two = self.start(executor, replace(job, name=f"{job.name}-2"))
        for handle in (one, two):
            self.wait(executor, handle)
        found = executor.poll([one, two, "999999"])
        assert {handle: status.state for handle, status in found.items()} == {
            one: JobState.SUCCEEDED,
            two: JobState.SUCCEEDED,
            "999999": JobState.GONE,
        }
        assert executor.poll([]) == {}
        assert executor.log("999999") == ""

    def test_lists_what_lives_by_name(self, executor: Executor, job: Job) -> None:
        """And not what is over."""
        handle = self.start(executor, replace(job, argv=(self.python, "-c", LIVES)))
        over = self.start(executor, replace(job, name=f"{job.name}-2"))
        self.wait(executor, over)
        self.wait(executor, handle, {JobState.RUNNING})
        ours = {one.name: one for one in executor.jobs() if one.name.startswith(job.name)}
        assert {name: one.handle for name, one in ours.items()} == {job.name: handle}
        assert ours[job.name].status.state is JobState.RUNNING

    def test_a_ticket_is_redeemed_again(
        self, executor: Executor, open_executor: Callable[[], Executor], job: Job
    ) -> None:
        """Also by a later process."""
        ticket = executor.submit(job)
        later = open_executor()
        try:
            handle = later.handle(ticket)
            assert executor.handle(ticket) == handle
            assert executor.handle(ticket) == handle
            assert self.wait(later, handle).state is JobState.SUCCEEDED
        finally:
            later.close()

    def test_the_server_is_the_same_for_a_later_process(
        self, executor: Executor, open_executor: Callable[[], Executor]
    ) -> None:
        """It has a name of its own, and a place that people know."""
        later = open_executor()
        server, again = executor.server(), later.server()
        later.close()
        assert server is not None and server == again and all(server.values())

    def test_jobs_outlive_their_executor(
        self, open_executor: Callable[[], Executor], job: Job
    ) -> None:
        """`close` ends nothing; a later process finds the job by its name, and may cancel it."""
        first = open_executor()
        handle = self.start(first, replace(job, argv=(self.python, "-c", LIVES)))
        self.wait_for_log(first, handle, "up")
        first.close()
        later = open_executor()
        try:
            assert handle in [one.handle for one in later.jobs() if one.name == job.name]
            self.wait(later, handle, {JobState.RUNNING})  # it may print before it is said to run
            later.cancel([handle])
            assert self.wait(later, handle).state is JobState.CANCELLED
        finally:
            later.close()

    def test_arguments_arrive_as_they_are(self, executor: Executor, job: Job) -> None:
        """No shell reads them."""
        handle = self.start(executor, replace(job, argv=(*job.argv, *ODD_WORDS)))
        assert self.wait(executor, handle).state is JobState.SUCCEEDED, executor.log(handle)
        assert _json(executor.log(handle)) == list(ODD_WORDS)

    def test_env_and_secrets_arrive(self, executor: Executor, job: Job) -> None:
        """As environment variables, as they are; a job's description shows no secret."""
        values = {"CONTRACT_A": "it's $HOME", "CONTRACT_B": "a b=c"}
        job = replace(job, env=values, secrets={"CONTRACT_TOKEN": 'hush"$(x)'})
        assert "hush" not in repr(job)
        code = "import json, os, sys; print(json.dumps([os.environ.get(n) for n in sys.argv[1:]]))"
        argv = (self.python, "-c", code, *values, "CONTRACT_TOKEN")
        handle = self.start(executor, replace(job, argv=argv))
        assert self.wait(executor, handle).state is JobState.SUCCEEDED, executor.log(handle)
        assert _json(executor.log(handle)) == [*values.values(), 'hush"$(x)']

    def test_a_bundle_is_the_working_directory(
        self, executor: Executor, job: Job, bundle: Path
    ) -> None:
        """A copy of it: what the job writes there is not in ours."""
        write = "print(open('sub/a.txt').read()); open('sub/new.txt', 'w').close()"
        handle = self.start(executor, replace(job, argv=(self.python, "-c", write)))
        assert self.wait(executor, handle).state is JobState.SUCCEEDED, executor.log(handle)
        assert "in the bundle" in executor.log(handle)
        assert not (bundle / "sub" / "new.txt").exists()

    def test_a_directory_is_the_working_directory(
        self, executor: Executor, job: Job, tmp_path: Path
    ) -> None:
        """Where machines see our files."""
        if not self.travels_without_bundle:
            pytest.skip("its machines do not see this one's files")
        folder = tmp_path / "it's a folder"
        folder.mkdir()
        argv = (self.python, "-c", "open('new.txt', 'w').close()")
        handle = self.start(executor, replace(job, argv=argv, bundle=None, directory=folder))
        assert self.wait(executor, handle).state is JobState.SUCCEEDED, executor.log(handle)
        assert (folder / "new.txt").exists()

    def test_a_job_is_told_its_name(self, executor: Executor, job: Job) -> None:
        """As CROWN_JOB, whatever its environment says; so is what prepares its machine."""
        tells = (self.python, "-c", "import os; print('this is', os.environ['CROWN_JOB'] + '.')")
        job = replace(job, argv=tells, setup=tells, env={"CROWN_JOB": "another"})
        handle = self.start(executor, job)
        assert self.wait(executor, handle).state is JobState.SUCCEEDED, executor.log(handle)
        assert executor.log(handle).count(f"this is {job.name}.") == 2

    @pytest.mark.parametrize("code", [75, 80])
    def test_an_end_that_asks_for_it_is_followed_by_another_start(
        self, executor: Executor, job: Job, tmp_path: Path, code: int
    ) -> None:
        """Under the same name, with the same environment, and without being taken for over between them."""
        if not self.travels_without_bundle:
            pytest.skip("its machines do not see this one's files")
        argv = (self.python, "-c", AGAIN, str(tmp_path / "notes"), str(code))
        handle = self.start(executor, replace(job, argv=argv, env={"CONTRACT_A": "a"}))
        status = self.wait(executor, handle)
        assert (status.state, status.recoveries) == (JobState.SUCCEEDED, 1), executor.log(handle)
        assert (tmp_path / "notes").read_text() == f"{job.name} a\n" * 2

    @pytest.mark.parametrize("code", [1, 76, 77])
    def test_no_other_end_is(self, executor: Executor, job: Job, tmp_path: Path, code: int) -> None:
        """A failure, a run that another attempt has taken over, a cap: for good."""
        if not self.travels_without_bundle:
            pytest.skip("its machines do not see this one's files")
        argv = (self.python, "-c", AGAIN, str(tmp_path / "notes"), str(code))
        handle = self.start(executor, replace(job, argv=argv, env={"CONTRACT_A": "a"}))
        status = self.wait(executor, handle)
        assert (status.state, status.recoveries) == (JobState.FAILED, 0)
        assert len((tmp_path / "notes").read_text().splitlines()) == 1

    def test_what_prepares_a_machine_comes_first(self, executor: Executor, job: Job) -> None:
        """In the working directory of the job."""
        setup = (self.python, "-c", "open('prepared.txt', 'w').write('it is')")
        argv = (self.python, "-c", "print(open('prepared.txt').read())")
        handle = self.start(executor, replace(job, argv=argv, setup=setup))
        assert self.wait(executor, handle).state is JobState.SUCCEEDED, executor.log(handle)
        assert "it is" in executor.log(handle)

    def test_a_machine_that_cannot_be_prepared_begins_nothing(
        self, executor: Executor, job: Job
    ) -> None:
        """The job fails, its command is never started, and the log tells why."""
        setup = (self.python, "-c", "import sys; sys.exit('no such package')")
        argv = (self.python, "-c", "print('be' 'gun')")
        handle = self.start(executor, replace(job, argv=argv, setup=setup))
        status = self.wait(executor, handle)
        assert (status.state, status.began_nothing) == (JobState.FAILED, True)
        log = executor.log(handle)
        assert "no such package" in log
        assert "begun" not in log

    def test_a_person_is_given_a_machine(
        self, executor: Executor, job: Job, target: Target, bundle: Path
    ) -> None:
        """Prepared, with the bundle, variables and arguments as they are; it ends with their exit code."""
        if not self.gives_terminals:
            pytest.skip("none of its machines is for a person")
        job = replace(
            job, argv=(self.python, "-c", ENTERS, *ODD_WORDS),
            setup=(self.python, "-c", "open('prepared.txt', 'w').write('it is')"),
            env={"CONTRACT_A": "it's $HOME"}, secrets={"CONTRACT_TOKEN": 'hush"$(x)'},
        )  # fmt: skip
        try:
            for text in ("in the bundle", "in the new one"):
                (bundle / "sub/a.txt").write_text(text)
                terminal = executor.interactive(job, tty=False)
                assert "hush" not in repr(terminal)
                done = self.enter(terminal)
                assert done.returncode == 5, done.stderr
                told = _json(done.stdout)
                assert told == [text, "it is", job.name, "it's $HOME", 'hush"$(x)', *ODD_WORDS]
        finally:
            executor.release(job.name)
        self.wait_for_no(executor, job.name)

    def test_a_machine_that_cannot_be_prepared_is_given_to_nobody(
        self, executor: Executor, job: Job
    ) -> None:
        """It is refused, or ends at once; nothing is left of it."""
        if not self.gives_terminals:
            pytest.skip("none of its machines is for a person")
        job = replace(job, setup=(self.python, "-c", "import sys; sys.exit('no such package')"))
        try:
            done = self.enter(executor.interactive(job, tty=False))
            said, code = done.stderr, done.returncode
            assert not done.stdout
        except NotSubmitted as error:
            said, code = str(error), 1
        assert code == 1
        assert job.name in said or "no such package" in said
        self.wait_for_no(executor, job.name)

    def wait_for_no(self, executor: Executor, name: str) -> None:
        """Until there is no machine of that name."""
        until = time.monotonic() + self.patience_seconds
        while executor.release(name):
            assert time.monotonic() < until
            time.sleep(self.poll_seconds)

    def enter(self, terminal: Terminal) -> subprocess.CompletedProcess[str]:
        """Be there, with nothing to type."""
        return subprocess.run(
            terminal.argv, env=None if terminal.env is None else dict(terminal.env),
            cwd=terminal.directory, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def test_a_ticket_of_nothing_is_refused(self, executor: Executor) -> None:
        """In one line."""
        with pytest.raises((NotSubmitted, ExecutorError)) as caught:
            executor.handle(uuid4().hex)
        assert "\n" not in str(caught.value)


def _json(log: str) -> object:
    """What PRINTS printed; an executor may put a prefix before each line."""
    (line,) = [line for line in log.splitlines() if "[" in line and line.rstrip().endswith("]")]
    return json.loads(line[line.index('["') :])
