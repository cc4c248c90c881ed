"""Money caps hold while a run is elsewhere: saved, 77, not started again; with the launcher alive and dead."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from crown_exp.compute.money import month_of
from crown_exp.folder import SpendingRecord, encode
from crown_exp.folder.paths import spending_path
from crown_exp.folder.records import Rate
from crown_exp.runner.spending import POLL_SECONDS
from crown_exp.tracking.run_log import BEAT_SECONDS
from tests.remote_runs import wait_for
from tests.running import Project, ends
from tests.sky_project import executor_of, sky_project, state_of
from tests.stalls import late
from tests.stand_in.sky import edge

TASKS = """
import time


def train(run, steps: int = 600):
    for _ in run.steps(steps):
        time.sleep(0.05)
    return {"steps": steps}
"""
RATE = 1.15
"""Dollars an hour of `there` in the region in which the stand-in starts it; it costs more in another."""
CAP = 1.3
LEFT_SECONDS = 15.0
"""Until the cap is reached, by a machine that has been paid for so long as it buys but for this."""
TYPED = ("task=train", "compute=there", f"budget.run_usd={CAP}", "--yes")
OWN = ("compute.infra=[slurm/mine]", f"compute.usd_per_hour={RATE}")
"""A cluster of one's own, of which nothing but this is known."""

priced = pytest.mark.parametrize("words", [(), OWN], ids=["by a catalogue", "by its target"])


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with sky_project(tmp_path / "project", TASKS) as project:
        state = state_of(project)
        state.mkdir()
        (state / "enabled").write_text("aws gcp slurm")
        edge.older(state, CAP / RATE * 3600 - LEFT_SECONDS)
        yield project


def check(project: Project) -> Path:
    """That the run was saved and capped, once, and that nothing of it is left on SkyPilot."""
    (run,) = project.runs
    assert ends(run) == [77]
    end = json.loads((run / "attempts/000001.end.json").read_text())
    assert end["saved"] == end["step"] > 0
    assert "budget.run_usd=1.3 reached" in end["reason"]
    with executor_of(project) as executor:
        assert not executor.jobs()
    return run


@priced
def test_with_the_launcher_alive(project: Project, words: tuple[str, ...]) -> None:
    done = project.crown(*TYPED, *words)
    assert done.returncode == 77, done.stdout
    run = check(project)
    assert "$1.15/h" in done.stdout  # the plan, before it began
    assert f"{run.name} capped" in done.stdout
    assert f"crown-exp resume {run.name} budget.run_usd=2.6" in done.stdout
    told = project.crown("cost", run.name)
    assert "$1.3" in told.stdout

    again = project.crown(*TYPED, *words)  # the same command does not raise the cap
    assert again.returncode == 77
    assert ends(run) == [77]

    edge.older(state_of(project), 0.0)
    more = project.crown("resume", run.name, "budget.run_usd=4", "--yes")
    assert more.returncode == 0, more.stdout
    assert ends(run) == [77, 0]


@priced
def test_with_the_launcher_dead(project: Project, words: tuple[str, ...]) -> None:
    child = project.popen(*TYPED, *words)
    (run,) = wait_for(lambda: project.runs)
    wait_for((run / "attempts/000001.json").exists)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    wait_for((run / "attempts/000001.end.json").exists)
    with executor_of(project) as executor:
        wait_for(lambda: not executor.jobs())  # one that is to begin again is none that is over
    check(project)


def spent(project: Project, month: str) -> float:
    """Dollars in the ledger of a month; *: of all."""
    store = project.root / ".crown/store"
    records = (json.loads(path.read_text()) for path in store.glob(f"budget/{month}/*.json"))
    return math.fsum(record["usd"] for record in records)


def others_spent(project: Project, usd: float) -> None:
    """This month, and the next, should it begin before the test has ended."""
    place = Rate(cloud="aws", region="r", accelerators="", spot=False, usd_per_hour=1.0)
    now = datetime.now(UTC)
    for moment in (now, now + timedelta(minutes=10)):
        record = SpendingRecord(
            run="r261001-aaaaaa", attempt=1, user="me", experiment=None, sweep=None, target="there",
            place=place, since=moment, until=moment, usd=usd,
        )  # fmt: skip
        path = spending_path(month_of(moment), record.run, record.attempt)
        ledger = project.root / ".crown/store" / path
        ledger.parent.mkdir(parents=True, exist_ok=True)
        ledger.write_bytes(encode(record))


@pytest.mark.parametrize("cap", ["month_usd", "sweep_usd"])
def test_by_all_runs_together(project: Project, cap: str) -> None:
    """Two runs of which each has spent half, and would be done long before it had spent the other half, too.

    In a month others have: that their machines are older than they are counts for nothing on its first day.
    """
    edge.older(state_of(project), CAP / RATE * 3600 / 2 - LEFT_SECONDS)
    if cap == "month_usd":
        edge.older(state_of(project), 0.0)
        others_spent(project, CAP - 2 * LEFT_SECONDS / 3600 * RATE)
    typed = ("-m", "task=train", "compute=there", "task.steps=2000,2001", "--yes")
    with late() as stalls:
        done = project.crown(*typed, f"budget.{cap}={CAP}")
    assert done.returncode == 77, done.stdout
    assert [ends(run) for run in project.runs] == [[77], [77]]
    for run in project.runs:
        end = json.loads((run / "attempts/000001.end.json").read_text())
        assert f"budget.{cap}={CAP} reached" in end["reason"]
        job = json.loads((run / "jobs/0001.json").read_text())
        assert (job["sweep_since"] is None) == (cap == "month_usd")
    over = spent(project, "*" if cap == "sweep_usd" else month_of(datetime.now(UTC))) - CAP
    assert 0 <= over <= (POLL_SECONDS + BEAT_SECONDS + sum(stalls)) / 3600 * 2 * RATE
