"""Whole commands on a real Slurm: the same run there, values back, failures told, moved there and back."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from crown_exp.folder import SpendingRecord, encode
from crown_exp.folder.paths import spending_path
from crown_exp.folder.records import Rate
from tests.remote_runs import TASKS, jobs_of, record, result, wait_for
from tests.running import Project, ends
from tests.slurm import cluster, missing

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(bool(missing()), reason=missing()),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def configuration() -> Iterator[str]:
    with cluster() as found:
        yield found


@pytest.fixture
def project(tmp_path: Path, configuration: str) -> Project:
    project = Project.write(tmp_path / "project", TASKS)
    project.environment["SLURM_CONF"] = configuration
    return project


def test_a_sweep_over_here_and_there(project: Project) -> None:
    done = project.crown("-m", "task=train", "compute=local,slurm", "task.lr=0.1,0.2")
    assert done.returncode == 0, done.stdout
    assert len(project.runs) == 4
    assert len({result(run)["sum"] for run in project.runs}) == 2
    there = [run for run in project.runs if jobs_of(run) == [run.name]]
    assert len(there) == 2
    again = project.crown("-m", "task=train", "compute=slurm", "task.lr=0.1,0.2")
    assert again.returncode == 0
    assert len(project.runs) == 4  # both were done


def test_one_that_raises(project: Project) -> None:
    done = project.crown("-m", "task=fails,train", "compute=slurm")
    assert done.returncode == 1
    assert "ValueError: the data is not there" in done.stdout
    assert sorted(ends(run)[-1] for run in project.runs) == [0, 1]


def test_what_slurm_refuses(project: Project) -> None:
    done = project.crown("task=train", "compute=slurm", "compute.partition=nowhere")
    assert done.returncode == 2
    assert "compute.partition: no such partition; known: cpu, spot" in done.stdout
    assert project.runs == []


def test_a_cap_on_a_cluster_that_costs_what_its_target_says(project: Project) -> None:
    """A cent of a month's ten dollars is left, which is spent in ten seconds."""
    now = datetime.now(UTC)
    place = Rate(cloud="aws", region="r", accelerators="", spot=False, usd_per_hour=1.0)
    past = SpendingRecord(
        run="r261001-aaaaaa", attempt=1, user="me", experiment=None, sweep=None, target="cpu",
        place=place, since=now, until=now, usd=9.99,
    )  # fmt: skip
    ledger = project.root / ".crown/store" / spending_path(f"{now:%Y-%m}", past.run, past.attempt)
    ledger.parent.mkdir(parents=True)
    ledger.write_bytes(encode(past))
    typed = ("task=train", "task.steps=2000", "task.pace=0.05", "compute=slurm")
    refused = project.crown(*typed, "compute.usd_per_hour=3.6")
    assert refused.returncode == 2
    assert "budget.confirm_above_usd: what it will cost is not known" in refused.stdout
    done = project.crown(*typed, "compute.usd_per_hour=3.6", "budget.month_usd=10")
    assert done.returncode == 77, done.stdout
    (run,) = project.runs
    assert ends(run) == [77]
    end = record(run / "attempts/000001.end.json")
    assert "budget.month_usd=10 reached: all runs of" in end["reason"]
    assert end["saved"] == end["step"] > 0
    (cost,) = json.loads(project.crown("cost", run.name, "--json").stdout)
    assert 0.01 <= cost["usd"] < 0.1


def test_a_launcher_that_was_killed_is_gone_on_with(project: Project) -> None:
    typed = ("task=train", "task.steps=200", "task.pace=0.05", "compute=slurm")
    child = project.popen(*typed)
    run = wait_for(lambda: project.runs and (project.runs[0] / "attempts/000001.json").exists())
    child.send_signal(signal.SIGKILL)
    child.communicate()
    done = project.crown(*typed)
    assert done.returncode == 0, done.stdout
    (run,) = project.runs
    assert ends(run) == [0]


def test_moved_there_and_back_and_cancelled(project: Project) -> None:
    typed = ("task=train", "task.steps=400")
    assert project.crown(*typed).returncode == 0
    child = project.popen(*typed, "task.pace=0.05")
    _, run = wait_for(lambda: project.runs if len(project.runs) == 2 else None)
    wait_for((run / "attempts/000001.json").exists)
    away = project.popen("move", run.name, "compute=slurm")
    child.communicate(timeout=60)
    assert child.returncode == 75
    wait_for((run / "attempts/000002.json").exists)
    back = project.crown("move", run.name, "compute=local")
    assert back.returncode == 0, back.stdout
    away.communicate(timeout=60)
    assert result(run) == result(project.runs[0])
    assert jobs_of(run) == [None, run.name, None]


def test_cancelled_it_is_stopped_and_resumed(project: Project) -> None:
    typed = ("task=train", "task.steps=300", "task.pace=0.05", "compute=slurm")
    child = project.popen(*typed)
    (run,) = wait_for(lambda: project.runs)
    wait_for((run / "attempts/000001.json").exists)
    assert project.crown("cancel", run.name, "--yes").returncode == 0
    child.communicate(timeout=60)
    assert child.returncode == 130
    wait_for(lambda: "stopped" in project.crown("show", run.name).stdout)
    done = project.crown("resume", run.name)
    assert done.returncode == 0, done.stdout
    assert jobs_of(run) == [run.name, f"{run.name}-2"]
