"""`reap`: jobs that nothing needs are listed and ended, others stay."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from crown_exp.compute.base import Executor, Job, Target
from crown_exp.folder import JobRecord, encode
from tests.running import Project
from tests.sky_project import executor_of, sky_project

TASKS = "def train(run): return 1.0\n"
TARGET = Target(name="there", executor="skypilot", accelerators=("A100:1",), spot=True)
SLEEPS = (sys.executable, "-c", "import time; time.sleep(600)")


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with sky_project(tmp_path / "project", TASKS) as project:
        yield project


@pytest.fixture
def executor(project: Project) -> Iterator[Executor]:
    with executor_of(project) as executor:
        yield executor


@pytest.fixture
def start(executor: Executor) -> Callable[[str], str]:
    return lambda name: executor.handle(executor.submit(Job(name, SLEEPS, TARGET)))


def names(executor: Executor) -> set[str]:
    return {job.name for job in executor.jobs()}


def wait_until_gone(executor: Executor, name: str) -> None:
    until = time.monotonic() + 60
    while name in names(executor):
        assert time.monotonic() < until
        time.sleep(0.1)


def record_job(run: Path, name: str, number: int = 1) -> None:
    record = JobRecord(run.name, number, "skypilot", datetime.now(UTC), name, cancelled=False)
    (run / "jobs").mkdir(exist_ok=True)
    (run / f"jobs/{number:04}.json").write_bytes(encode(record))


def test_nothing_to_end(project: Project, executor: Executor, start: Callable[[str], str]) -> None:
    start("somebody-elses")
    done = project.crown("reap")
    assert done.returncode == 0
    assert done.stdout.endswith("no job on skypilot that nothing needs\n")


def test_what_is_over_is_ended_and_what_is_needed_stays(
    project: Project, executor: Executor, start: Callable[[str], str]
) -> None:
    for _ in range(2):
        assert project.crown("task=train").returncode == 0
    over, unfinished = project.runs
    for path in ("result.json", "attempts/000001.json", "attempts/000001.end.json"):
        (unfinished / path).unlink()
    for run in (over, unfinished):
        record_job(run, run.name)
        start(run.name)
    start(f"{unfinished.name}-2")
    start("r261130-zzzzzz")

    listed = project.crown("reap", "--dry-run", env={"COLUMNS": "200"})
    assert listed.returncode == 1
    assert "its run is completed" in listed.stdout
    assert f"no record of {unfinished.name} knows of it" in listed.stdout
    assert "its run is not in" in listed.stdout

    refused = project.crown("reap")
    assert refused.returncode == 2
    assert "nobody is there to answer" in refused.stdout

    done = project.crown("reap", "--yes")
    assert done.returncode == 1  # the foreign one is left
    assert "asked for the end of 2 jobs" in done.stdout
    for name in (over.name, f"{unfinished.name}-2"):
        wait_until_gone(executor, name)
    assert names(executor) == {unfinished.name, "r261130-zzzzzz"}

    assert project.crown("reap", "--yes", "--foreign").returncode == 0
    wait_until_gone(executor, "r261130-zzzzzz")
    assert names(executor) == {unfinished.name}


def test_a_job_that_was_given_up_or_replaced_is_not_needed(
    project: Project, executor: Executor, start: Callable[[str], str]
) -> None:
    assert project.crown("task=train").returncode == 0
    (run,) = project.runs
    for path in ("result.json", "attempts/000001.json", "attempts/000001.end.json"):
        (run / path).unlink()
    record_job(run, run.name)
    record_job(run, f"{run.name}-2", 2)
    for name in (run.name, f"{run.name}-2"):
        start(name)
    assert "its run goes on in job 2" in project.crown("reap", "--dry-run").stdout
    tree = json.loads((run / "jobs/0002.json").read_text())
    (run / "jobs/0002.json").write_text(json.dumps(tree | {"cancelled": True, "reason": "moved"}))
    assert "it was given up: moved" in project.crown("reap", "--dry-run").stdout


def test_without_any_executor(tmp_path: Path) -> None:
    project = Project.write(tmp_path / "plain", TASKS)
    done = project.crown("reap", env={"PATH": str(Path(sys.executable).parent)})
    if "neither" not in done.stdout:
        pytest.skip("SkyPilot is installed here")
    assert done.returncode == 0
