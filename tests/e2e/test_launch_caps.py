"""Money caps hold while a run is elsewhere: saved, 77, not started again; with the launcher alive and dead."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from crown_exp.runner.spending import POLL_SECONDS
from crown_exp.tracking.run_log import BEAT_SECONDS
from tests.remote_runs import wait_for
from tests.running import Project, ends
from tests.sky_project import executor_of, sky_project, state_of
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


def spent(project: Project) -> float:
    """Dollars in the ledger."""
    store = project.runs[0].parents[1]
    records = (json.loads(path.read_text()) for path in store.glob("budget/*/*.json"))
    return math.fsum(record["usd"] for record in records)


@pytest.mark.parametrize("cap", ["month_usd", "sweep_usd"])
def test_by_all_runs_together(project: Project, cap: str) -> None:
    """Two runs of which each has spent half, and would be done long before it had spent the other half, too."""
    edge.older(state_of(project), CAP / RATE * 3600 / 2 - LEFT_SECONDS)
    typed = ("-m", "task=train", "compute=there", "task.steps=2000,2001", "--yes")
    done = project.crown(*typed, f"budget.{cap}={CAP}")
    assert done.returncode == 77, done.stdout
    assert [ends(run) for run in project.runs] == [[77], [77]]
    for run in project.runs:
        end = json.loads((run / "attempts/000001.end.json").read_text())
        assert f"budget.{cap}={CAP} reached" in end["reason"]
        job = json.loads((run / "jobs/0001.json").read_text())
        assert (job["sweep_since"] is None) == (cap == "month_usd")
    over = spent(project) - CAP
    assert 0 <= over <= (POLL_SECONDS + BEAT_SECONDS) / 3600 * 2 * RATE
