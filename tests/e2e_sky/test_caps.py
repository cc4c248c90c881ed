"""A money cap that is reached in mid-run: saved, 77, and SkyPilot does not begin it again."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from crown_exp.compute.base import OVER, JobState
from crown_exp.folder import SpendingRecord, encode
from crown_exp.folder.paths import spending_path
from crown_exp.folder.records import Rate
from tests.e2e_sky.bed_project import bed_project, left, see_through, wait_long_for
from tests.remote_runs import record
from tests.running import Project, ends
from tests.skypilot import marks, open_executor

pytestmark = marks

USD_PER_HOUR = 3.6
CAP_USD = 3.6
"""Of a run; less than an hour's price would be refused."""
LEFT_SECONDS = 30.0
TYPED = (
    "task=train", "task.steps=12000", "task.pace=0.1", "compute=bed", f"compute.usd_per_hour={USD_PER_HOUR}",
    f"budget.run_usd={CAP_USD}", "--yes",
)  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with bed_project(tmp_path / "project") as project:
        yield project


def spend(project: Project) -> Path:
    """Have the run that is on its way cost all but what so many seconds do, long before its job begins."""
    (run,) = wait_long_for(lambda: project.runs)
    when = datetime.now(UTC) - timedelta(hours=2)
    usd = CAP_USD - LEFT_SECONDS / 3600 * USD_PER_HOUR
    place = Rate(
        cloud="slurm", region="crown-dev", accelerators="", spot=False, usd_per_hour=USD_PER_HOUR
    )
    past = SpendingRecord(
        run=run.name, attempt=99, user="me", experiment=None, sweep=None, target="bed",
        place=place, since=when, until=when, usd=usd,
    )  # fmt: skip
    path = run.parents[1] / spending_path(f"{when:%Y-%m}", run.name, past.attempt)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(past))
    assert not (run / "attempts/000001.json").exists()
    return run


def check(project: Project, run: Path) -> None:
    """That the run was saved and capped once, which SkyPilot saw and took for a failure."""
    handle = record(run / "jobs/0001.json")["handle"]
    executor = open_executor(project.environment)
    try:
        status = wait_long_for(
            lambda: it if (it := executor.poll([handle])[handle]).state in OVER else None
        )
    finally:
        executor.close()
    assert (status.state, status.recoveries) == (JobState.FAILED, 0)
    assert ends(run) == [77]
    end = record(run / "attempts/000001.end.json")
    assert end["saved"] == end["step"] > 0
    assert f"budget.run_usd={CAP_USD} reached" in end["reason"]
    assert not left(project)


def test_with_the_launcher_alive(project: Project) -> None:
    child = project.popen(*TYPED)
    run = spend(project)
    said, _ = child.communicate(timeout=1500)
    assert child.returncode == 77, said
    assert f"{run.name} capped" in said
    check(project, run)
    assert see_through(project, *TYPED)[0] == 77  # the same command does not raise the cap
    assert ends(run) == [77]


def test_with_the_launcher_dead(project: Project) -> None:
    child = project.popen(*TYPED)
    run = spend(project)
    wait_long_for((run / "attempts/000001.json").exists)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    wait_long_for((run / "attempts/000001.end.json").exists)
    check(project, run)
