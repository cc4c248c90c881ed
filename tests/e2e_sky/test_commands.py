"""Whole commands on the real SkyPilot over the real Slurm: `make test-e2e`. A job takes minutes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e_sky.bed_project import bed_project, see_through, take_machine, wait_long_for
from tests.remote_runs import jobs_of, result
from tests.running import Project, ends
from tests.skypilot import SCRIPT, marks, script

ROOT = SCRIPT.parents[1]

pytestmark = marks


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with bed_project(tmp_path / "project") as project:
        yield project


def test_preempted_once_and_called_again_once_it_is_the_run_it_would_be_here(
    project: Project, tmp_path: Path
) -> None:
    typed = ("task=train", "task.steps=100", "checkpoint.every=1 steps")
    assert see_through(project, *typed)[0] == 0
    slow = ("task.pace=0.3", f"task.asks={tmp_path / 'asked'}", "compute=bed", "reuse=never")
    child = project.popen(*typed, *slow)
    _, run = wait_long_for(lambda: project.runs if len(project.runs) == 2 else None)
    take_machine(run, attempt=1)
    said, _ = child.communicate(timeout=1200)
    assert child.returncode == 0, said
    assert result(run) == result(project.runs[0])
    assert ends(run)[-2:] == [75, 0]
    assert len(ends(run)) == 3
    assert set(jobs_of(run)) == {run.name}


def test_a_mixed_sweep_brings_its_values_back(project: Project) -> None:
    code, said = see_through(project, "-m", "task=train", "compute=local,bed", "task.lr=0.2")
    assert code == 0, said
    assert len({str(result(run)) for run in project.runs}) == 1
    here, there = sorted(project.runs, key=lambda run: jobs_of(run) != [None])
    assert (jobs_of(here), jobs_of(there)) == ([None], [there.name])


def test_a_plan_needs_no_network(tmp_path: Path) -> None:
    """In a namespace without any, by the prices of a catalogue that is here; this checkout is the project."""
    lines = script("plan", str(tmp_path)).splitlines()
    variables = dict(line.removeprefix("export ").split("=", 1) for line in lines if "=" in line)
    typed = ("-m", "+experiment=digits_cnn", "compute=a100_spot,h100", "optimizer.lr=1e-3,3e-4")
    store = {"CROWN_STORAGE__ROOT": str(tmp_path / "store"), "CROWN_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-m", "crown_exp", "plan", *typed],
        cwd=ROOT, env={**os.environ, **variables, **store}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2  # machines in a cloud do not see that store
    assert done.stdout.count(" new ") == 4
    assert "a100_spot: tried in this order" in done.stdout
    assert "h100: tried in this order" in done.stdout
    assert "set CROWN_STORAGE__ROOT=s3://bucket/prefix" in done.stderr
