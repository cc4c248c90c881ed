"""A run on a real Slurm that is longer than its job may be: it saves before each limit and goes on."""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path

import pytest

from crown_exp.compute.base import OVER, Job, JobState, JobStatus, Target
from crown_exp.compute.executors.slurm import SlurmExecutor
from tests.running import Project, ends
from tests.slurm import cluster, missing

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(bool(missing()), reason=missing()),
    pytest.mark.timeout(600),
]

TASKS = """
import time
from pathlib import Path

def slow(run, *, turns: int = 3):
    done = []
    for turn in run.steps(turns):
        done.append(turn)
        with (Path(__file__).parent / "turns").open("a") as file:
            file.write(f"{run.attempt} {turn}\\n")
        time.sleep(0.1)
    return {"last": done[-1]}
"""
TURNS = 900
"""A minute and a half of work: more than one job's time, and a minute of Slurm's own carelessness."""


def watch(executor: SlurmExecutor, handle: str) -> list[JobStatus]:
    """All that is said of a job until it is over."""
    until, seen = time.monotonic() + 500, list[JobStatus]()
    while not seen or seen[-1].state not in OVER:
        assert time.monotonic() < until, (seen[-1], executor.log(handle))
        seen.append(executor.poll([handle])[handle])
        time.sleep(0.5)
    return seen


def started(project: Project) -> Path:
    """A run that was stopped in its first second; its folder."""
    child = project.popen("task=slow", f"task.turns={TURNS}", "tracker=none")
    while not (project.root / "turns").exists():
        time.sleep(0.02)
        assert child.poll() is None, child.communicate()[0]
    child.send_signal(signal.SIGTERM)
    said, _ = child.communicate(timeout=60)
    assert child.returncode == 75, said
    (run,) = project.runs
    return run


def test_a_run_outlives_the_time_limit_of_its_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project.write(tmp_path / "project", TASKS)
    run = started(project)
    target = Target(name="slurm", executor="slurm", cpus=1, time=60.0)
    argv = (sys.executable, "-m", "crown_exp", "run", str(run))
    # the checkout's package, wherever it is installed from
    job = Job(
        run.name, argv, target,
        directory=project.root, env={"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    with cluster() as conf:
        monkeypatch.setenv("SLURM_CONF", conf)
        executor = SlurmExecutor(tmp_path / "slurm")
        handle = executor.submit(job)
        seen = watch(executor, handle)
        log = executor.log(handle)
    assert (seen[-1].state, seen[-1].exit_code) == (JobState.SUCCEEDED, 0), log
    assert not {status.state for status in seen[:-1]} & OVER
    codes = ends(run)
    assert codes[-1] == 0 and set(codes[:-1]) == {75} and len(codes) >= 3, (codes, log)
    assert seen[-1].recoveries == len(codes) - 2
    reasons = {
        json.loads(file.read_text())["reason"]
        for file in run.glob("attempts/*.end.json")
        if "000001" not in file.name
    }
    assert any("SIGUSR2" in reason for reason in reasons), reasons  # before the limit, not at it
    jobs = {
        json.loads(file.read_text())["job"]
        for file in run.glob("attempts/*.json")
        if ".end" not in file.name
    }
    assert jobs == {None, run.name}
    turns = [int(line.split()[1]) for line in (project.root / "turns").read_text().splitlines()]
    assert turns == list(range(turns[0], turns[0] + TURNS))  # none lost, none done twice
    (result,) = [json.loads(file.read_text()) for file in run.glob("result.json")]
    assert result["result"] == {"last": turns[-1]}
