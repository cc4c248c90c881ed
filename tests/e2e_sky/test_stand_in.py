"""The stand-in for SkyPilot does what the real one does, in one life of a job and in what it refuses."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

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


@dataclass
class Life:
    """What was seen of a job. seen: its states with the recoveries counted by then; events: of its process."""

    seen: list[tuple[JobState, int]]
    events: list[str]
    lived_on: bool
    reasons: dict[JobState, str]
    printed: list[str]


def lived(
    executor: Executor, take: Callable[[str], object], job: Job, notes: Path, every: float
) -> Life:
    """A job whose machine is taken once it runs, until it is over."""
    handle = executor.handle(executor.submit(job))
    seen: list[tuple[JobState, int]] = []
    reasons: dict[JobState, str] = {}
    taken = False
    until = time.monotonic() + 1500
    while not seen or seen[-1][0] not in OVER:
        assert time.monotonic() < until, seen
        status = executor.poll([handle])[handle]
        if not seen or seen[-1] != (status.state, status.recoveries):
            seen.append((status.state, status.recoveries))
        if not taken and status.state is JobState.RUNNING and "lives" in read(notes):
            take(job.name)
            taken = True
        if status.reason:
            reasons.setdefault(status.state, status.reason)
        time.sleep(every)
    lines = read(notes).splitlines()
    told = lines.index("0 told")
    events = [line for line in dict.fromkeys(lines) if not line.endswith("lives")]
    return Life(
        # the first may be over before it is looked at
        [one for one in seen if one[0] is not JobState.WAITING],
        events,
        "0 lives" in lines[told:],
        reasons,
        executor.log(handle).splitlines(),
    )


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def job(name: str, notes: Path) -> Job:
    notes.parent.mkdir(exist_ok=True)
    return Job(name, (sys.executable, "-c", ATTEMPTS, str(notes)), TARGET, directory=notes.parent)


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


def test_the_stand_in_lives_as_the_real_one_does(tmp_path: Path) -> None:
    name = f"life-{os.getpid()}-{int(time.time())}"
    folder = tmp_path / "stand-in"
    variables = {"SKY_STAND_IN": str(folder), "PYTHONPATH": str(Path(edge.__file__).parents[1])}
    stand_in = SkyPilotExecutor(Child(sys.executable, env={**os.environ, **variables}))
    os.environ["SKY_STAND_IN"] = str(folder)  # `preempt` is called in this process
    try:
        one = job(name, tmp_path / "a" / "notes")
        here = lived(stand_in, preempt, one, tmp_path / "a" / "notes", 0.01)
        here_refused = refusals(stand_in, one)
    finally:
        stand_in.close()
        edge.stop(folder)
        del os.environ["SKY_STAND_IN"]
    with bed() as found:
        real = open_executor(found)
        two = job(name, tmp_path / "b" / "notes")
        there = lived(
            real, lambda name: script("preempt", name), two, tmp_path / "b" / "notes", 1.0
        )
        there_refused = refusals(real, two)
        real.close()
    assert here.seen == there.seen
    assert here.events == there.events
    assert here.lived_on
    assert there.lived_on
    assert here.reasons[JobState.RECOVERING] == there.reasons[JobState.RECOVERING]
    number = there.reasons[JobState.FAILED].rpartition(" ")[2]
    assert (
        here.reasons[JobState.FAILED].rpartition(" ")[0]
        == there.reasons[JobState.FAILED][: -len(number) - 1]
    )
    assert here.printed[-1:] == there.printed[-1:]
    assert here_refused == there_refused


def test_a_server_that_was_started_again_forgets_requests_and_no_jobs(tmp_path: Path) -> None:
    """The job goes on, and is found by its name; SkyPilot's server is killed and started here."""
    notes = tmp_path / "notes"
    with bed() as found:
        executor = open_executor(found)
        one = job(f"again-{os.getpid()}-{int(time.time())}", notes)
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
