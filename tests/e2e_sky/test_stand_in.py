"""The stand-in for SkyPilot does what the real one does, in lives of a job and in what it refuses."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from crown_exp.compute.base import OVER, Executor, Job, JobState, NotSubmitted
from crown_exp.compute.executors.skypilot.child import Child
from crown_exp.compute.executors.skypilot.executor import SkyPilotExecutor
from tests.skypilot import SCRIPT, TARGET, bed, marks, open_executor, script
from tests.stand_in.sky import edge
from tests.stand_in.sky.preempt import preempt

pytestmark = marks

ATTEMPTS = """
import os, pathlib, signal, sys, time
notes = pathlib.Path(sys.argv[1])
number = notes.read_text().count("begins") if notes.exists() else 0
def note(what):
    with notes.open("a") as file:
        file.write(f"{number} {what}\\n")
def told(*_):
    note("told")
signal.signal(signal.SIGTERM, told)
note("begins")
print("attempt", number, os.environ["CROWN_JOB"], flush=True)
if number:
    time.sleep(1)
    os._exit({1: 75, 2: 80}.get(number, 1))
while True:
    time.sleep(0.05)
    note("lives")
"""
"""The first attempt lives on after it was told to end, the next exit with 75 and with 80, the last with 1."""


NAMES = f"life-{os.getpid()}-"
UNLIKE = re.compile(
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|life-[0-9-]+|\b[0-9]+$|(?<=Job )[0-9]+|(?<=user )\w+",
    re.MULTILINE,
)
"""In what is told: a request's id, a job's name and number, who asks."""


@dataclass
class Side:
    """One of the two. folder: of its jobs. every: seconds between two looks at a job.

    take: the machine of a job of that name; crowd: others have all machines from now on, or no longer.
    """

    executor: Executor
    folder: Path
    every: float
    take: Callable[[str], object]
    crowd: Callable[[bool], object]

    @property
    def notes(self) -> Path:
        """What the attempts of its job write."""
        return self.folder / "notes"

    def job(self, setup: tuple[str, ...] = ()) -> Job:
        self.folder.mkdir()
        argv = (sys.executable, "-c", ATTEMPTS, str(self.notes))
        name = f"{NAMES}{time.time():.0f}"  # SkyPilot cuts off what is beyond 25 letters
        return Job(name, argv, TARGET, directory=self.folder, setup=setup)

    def submit(self, job: Job) -> str:
        return self.executor.handle(self.executor.submit(job))

    def live(self, handle: str, *steps: tuple[JobState, Callable[[], object]]) -> Life:
        """Look at a job until it is over. steps: what is done, one after the other, in which state of it."""
        seen: list[tuple[JobState, int]] = []
        reasons: dict[JobState, str] = {}
        until = time.monotonic() + 1500
        left = list(steps)
        while not seen or seen[-1][0] not in OVER:
            assert time.monotonic() < until, seen
            status = self.executor.poll([handle])[handle]
            if not seen or seen[-1] != (status.state, status.recoveries):
                seen.append((status.state, status.recoveries))
            if status.reason and (status.state is not JobState.WAITING or len(seen) > 1):
                reasons.setdefault(status.state, UNLIKE.sub("…", status.reason))
            if left and status.state is left[0][0]:
                left.pop(0)[1]()
            time.sleep(self.every)
        assert not left, seen
        notes = read(self.notes)
        return Life(seen, reasons, notes, UNLIKE.sub("…", self.executor.log(handle)))

    def wait_for_note(self, what: str) -> None:
        until = time.monotonic() + 900
        while what not in read(self.notes):
            assert time.monotonic() < until
            time.sleep(self.every)


@dataclass
class Life:
    """What was seen of a job. seen: its states with the recoveries counted by then.

    reasons: the first that was told in each state, but for the first wait, which may be missed.
    """

    seen: list[tuple[JobState, int]]
    reasons: dict[JobState, str]
    notes: str
    printed: str

    @property
    def states(self) -> list[tuple[JobState, int]]:
        """Without those so short that one who looks may miss them: the first wait, CANCELLING."""
        begun = self.seen[self.seen[0][0] is JobState.WAITING :]
        return [one for one in begun if one[0] is not JobState.CANCELLING]

    @property
    def events(self) -> list[str]:
        """Of its processes, each once."""
        lines = dict.fromkeys(self.notes.splitlines())
        return [line for line in lines if not line.endswith("lives")]

    @property
    def lived_on(self) -> bool:
        """Whether the first process was there for a while when it had been told to end."""
        return "0 lives" in self.notes.partition("0 told")[2]


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Side]:
    """The stand-in, 20 times as fast."""
    folder = tmp_path / "stand-in"
    folder.mkdir()
    monkeypatch.setenv("SKY_STAND_IN", str(folder))  # `preempt` is called in this process
    variables = {"PYTHONPATH": str(Path(edge.__file__).parents[1]), "SKY_STAND_IN_SCALE": "0.05"}
    executor = SkyPilotExecutor(Child(sys.executable, env={**os.environ, **variables}))

    def crowd(full: bool) -> None:
        edge.crowd(folder, full)

    yield Side(executor, tmp_path / "a", 0.02, preempt, crowd)
    executor.close()
    edge.stop(folder)


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Side]:
    """The real one."""
    with bed() as variables:
        executor = open_executor(variables)

        def crowd(full: bool) -> None:
            script("crowd" if full else "room")

        try:
            yield Side(executor, tmp_path / "b", 1.0, lambda name: script("preempt", name), crowd)
        finally:
            crowd(False)
            ours = [it.handle for it in executor.jobs() if it.name.startswith(NAMES)]
            executor.cancel(ours)
            executor.close()


def refusals(executor: Executor, taken: Job) -> list[str]:
    """Which calls that ask for what is not there are refused, and how."""
    found = []
    for call in (
        lambda: executor.submit(taken),
        lambda: executor.handle("job/nobody/00000000-0000-0000-0000-000000000000"),
        lambda: executor.poll(["999999"])["999999"].state.value,
        lambda: executor.log("999999"),
        lambda: executor.cancel(["999999"]),
    ):
        try:
            found.append(str(call()))  # type: ignore[func-returns-value]
        except NotSubmitted as error:
            found.append(str(error).partition(":")[2].partition(":")[0])
    return found


def alike(lives: Sequence[Life], *reasons: JobState) -> None:
    """That two lives are the same; their reasons in those states, where they were seen."""
    one, two = lives
    assert one.states == two.states
    assert one.events == two.events
    assert one.lived_on == two.lived_on
    for state in reasons:
        assert one.reasons.get(state) == two.reasons.get(state), state


def test_a_machine_is_taken_then_it_ends_by_itself(here: Side, there: Side) -> None:
    """Recovered thrice: from a preemption, from 75 and 80; not from 1."""

    def life(side: Side) -> tuple[Life, list[str]]:
        job = side.job()

        def take() -> None:
            side.wait_for_note("lives")
            side.take(job.name)

        found = side.live(side.submit(job), (JobState.RUNNING, take))
        return found, refusals(side.executor, job)

    (one, refused), (two, refused_there) = life(here), life(there)
    alike([one, two], JobState.RECOVERING, JobState.FAILED)
    assert one.lived_on
    assert one.states[-1] == (JobState.FAILED, 3)
    assert one.printed.splitlines()[-1:] == two.printed.splitlines()[-1:]
    assert refused == refused_there


def test_cancelled_while_it_runs(here: Side, there: Side) -> None:
    """Its process is told, and is there for a while if it does not heed."""

    def life(side: Side) -> Life:
        handle = side.submit(side.job())

        def cancel() -> None:
            side.wait_for_note("lives")
            side.executor.cancel([handle])

        return side.live(handle, (JobState.RUNNING, cancel))

    lives = [life(here), life(there)]
    alike(lives, JobState.CANCELLED)
    assert lives[0].states[-1] == (JobState.CANCELLED, 0)
    assert lives[0].lived_on


def test_cancelled_while_it_waits_for_a_machine(here: Side, there: Side) -> None:
    def life(side: Side) -> Life:
        side.crowd(True)
        handle = side.submit(side.job())
        found = side.live(
            handle,
            (JobState.STARTING, lambda: None),
            (JobState.WAITING, lambda: side.executor.cancel([handle])),
        )
        side.crowd(False)
        return found

    lives = [life(here), life(there)]
    alike(lives, JobState.CANCELLED)
    assert not lives[0].notes
    assert lives[0].printed == lives[1].printed


def test_a_machine_that_others_have(here: Side, there: Side) -> None:
    """Waited for, given up and tried again, at first and after a preemption; then it is had."""

    def life(side: Side) -> Life:
        job = side.job()

        def preempted() -> None:
            side.wait_for_note("lives")
            side.take(job.name)
            side.crowd(True)

        side.crowd(True)
        return side.live(
            side.submit(job),
            (JobState.STARTING, lambda: None),
            (JobState.WAITING, lambda: side.crowd(False)),
            (JobState.RUNNING, preempted),
            (JobState.WAITING, lambda: side.crowd(False)),
        )

    lives = [life(here), life(there)]
    alike(lives, JobState.WAITING, JobState.RECOVERING)


def test_a_machine_that_cannot_be_prepared(here: Side, there: Side) -> None:
    code = "import sys; print('one'); print('two', file=sys.stderr); sys.exit('no such package')"

    def life(side: Side) -> Life:
        return side.live(side.submit(side.job((sys.executable, "-c", code))))

    lives = [life(here), life(there)]
    alike(lives, JobState.FAILED)
    assert not lives[0].notes
    assert lives[0].printed == lives[1].printed == "one\ntwo\nno such package"


def test_a_server_that_was_started_again_forgets_requests_and_no_jobs(tmp_path: Path) -> None:
    """The job goes on, and is found by its name; SkyPilot's server is killed and started here."""
    notes = tmp_path / "notes"
    with bed() as found:
        executor = open_executor(found)
        argv = (sys.executable, "-c", ATTEMPTS, str(notes))
        one = Job(f"again-{os.getpid()}-{int(time.time())}", argv, TARGET, directory=tmp_path)
        ticket = executor.submit(one)
        handle = executor.handle(ticket)
        try:
            until = time.monotonic() + 900
            while "lives" not in read(notes):
                assert time.monotonic() < until
                time.sleep(1)
            script("restart")
            assert executor.handle(ticket) == handle
            while executor.poll([handle])[handle].state is not JobState.RUNNING:
                assert time.monotonic() < until
                time.sleep(1)
            assert executor.poll([handle])[handle].recoveries == 0
            assert read(notes).count("begins") == 1
            assert [one.handle for one in executor.jobs() if one.handle == handle] == [handle]
        finally:
            executor.cancel([handle])
            executor.close()


def test_a_plan_needs_no_network(tmp_path: Path) -> None:
    """Prices of two clouds, in a network namespace that leads nowhere."""
    exports = script("plan", str(tmp_path)).splitlines()
    python = exports[0].partition("=")[2]
    code = (
        "import pathlib, sys\n"
        "from crown_exp.compute.base import Target\n"
        "from crown_exp.compute.executors.skypilot.executor import make_executor\n"
        "e = make_executor(*map(pathlib.Path, sys.argv[1:]))\n"
        "t = Target(name='t', executor='skypilot', accelerators=('A100:1', 'H100:1'), spot=True)\n"
        "print(e.problems(t))\n"
        "print([(c.cloud, c.accelerators, c.usd_per_hour) for c in e.candidates(t)][:3])\n"
        "e.close()\n"
    )

    def said() -> list[str]:
        command = ["unshare", "--net", sys.executable, "-c", code, python, str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=SCRIPT.parents[1])
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    assert said() == [
        "[]",
        "[('gcp', 'A100:1', 1.15), ('gcp', 'A100:1', 1.2075), ('gcp', 'H100:1', 2.4)]",
    ]
    for path in (tmp_path / ".sky/catalogs").rglob("*.csv"):
        path.unlink()
    problems, candidates = said()
    assert "no prices of aws, gcp here yet" in problems
    assert candidates == "[]"
