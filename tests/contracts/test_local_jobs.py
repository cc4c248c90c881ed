"""Jobs on this machine beyond the contract of executors: what is given up, what is kept, and for how long."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Collection
from pathlib import Path

import pytest

from crown_exp.compute.base import OVER, Job, JobState, JobStatus, Target
from crown_exp.compute.executors.again import MOST_LOST
from crown_exp.compute.executors.local import LocalExecutor

COUNTS = """
import sys
with open("starts", "a") as starts:
    starts.write("start\\n")
sys.exit(int(sys.argv[1]))
"""
LEAVES = """
import subprocess, sys
from pathlib import Path
if Path("left").exists():
    sys.exit(0)
left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
Path("left").write_text(str(left.pid))
sys.exit(75)
"""
"""Ends with 75 and leaves a process behind, the first time."""


@pytest.fixture
def executor(tmp_path: Path) -> LocalExecutor:
    return LocalExecutor(tmp_path / "jobs", os.environ, grace_seconds=1, pause_seconds=0.05)


def start(executor: LocalExecutor, root: Path, code: str, *arguments: str, name: str = "j") -> str:
    argv = (sys.executable, "-c", code, *arguments)
    return executor.handle(executor.submit(Job(name, argv, Target(), directory=root)))


def wait(executor: LocalExecutor, handle: str, states: Collection[JobState] = OVER) -> JobStatus:
    until = time.monotonic() + 120
    while (status := executor.poll([handle])[handle]).state not in states:
        assert time.monotonic() < until and status.state not in OVER, status
        time.sleep(0.02)
    return status


def test_a_store_that_is_never_there_is_given_up(executor: LocalExecutor, tmp_path: Path) -> None:
    status = wait(executor, start(executor, tmp_path, COUNTS, "80"))
    assert (status.state, status.exit_code, status.recoveries) == (
        JobState.FAILED, 80, MOST_LOST - 1,
    )  # fmt: skip
    assert status.reason == (
        f"its store was not to be had {MOST_LOST} times in a row; the next launch starts it again"
    )
    assert len((tmp_path / "starts").read_text().splitlines()) == MOST_LOST


def test_a_job_that_waits_for_its_next_start_is_cancelled(tmp_path: Path) -> None:
    executor = LocalExecutor(tmp_path / "jobs", os.environ, pause_seconds=600)
    handle = start(executor, tmp_path, COUNTS, "75")
    assert wait(executor, handle, {JobState.RECOVERING}).recoveries == 1
    assert [job.status.state for job in executor.jobs()] == [JobState.RECOVERING]
    executor.cancel([handle])
    assert wait(executor, handle).state is JobState.CANCELLED
    assert len((tmp_path / "starts").read_text().splitlines()) == 1


def test_what_a_start_left_behind_does_not_meet_the_next(
    executor: LocalExecutor, tmp_path: Path
) -> None:
    assert wait(executor, start(executor, tmp_path, LEAVES)).state is JobState.SUCCEEDED
    left = int((tmp_path / "left").read_text())
    until = time.monotonic() + 120
    while lives(left):
        assert time.monotonic() < until
        time.sleep(0.02)


def lives(pid: int) -> bool:
    """Whether a process does more than wait to be reaped."""
    try:
        return b") Z " not in Path(f"/proc/{pid}/stat").read_bytes()
    except FileNotFoundError:
        return False


def test_jobs_that_are_over_for_two_weeks_are_forgotten(
    executor: LocalExecutor, tmp_path: Path
) -> None:
    for name in ("old", "new", "lives", "killed"):
        code = "import time; time.sleep(600)" if name == "lives" else "pass"
        handle = start(executor, tmp_path, code, name=name)
        if name != "lives":
            wait(executor, handle)
    (tmp_path / "jobs/killed/end.json").unlink()
    record = json.loads((tmp_path / "jobs/killed/record.json").read_text())
    (tmp_path / "jobs/killed/record.json").write_text(json.dumps(record | {"boot": "another"}))
    long_ago = time.time() - 15 * 86400
    for name in ("old", "lives", "killed"):
        for file in (tmp_path / "jobs" / name).glob("*.json"):
            os.utime(file, (long_ago, long_ago))
    start(executor, tmp_path, "pass", name="next")
    assert {path.name for path in (tmp_path / "jobs").iterdir()} == {"new", "lives", "next"}
    executor.cancel(["lives"])


def test_a_record_of_an_earlier_version_is_read(executor: LocalExecutor, tmp_path: Path) -> None:
    folder = tmp_path / "jobs" / "before"
    folder.mkdir(parents=True)
    (folder / "end.json").write_text(json.dumps({"exit_code": 0}))
    assert executor.poll(["before"])["before"] == JobStatus(JobState.SUCCEEDED, exit_code=0)
