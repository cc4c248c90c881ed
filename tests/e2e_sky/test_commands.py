"""Whole commands on the real SkyPilot over the real Slurm: `make test-e2e`. A job takes minutes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e_sky.bed_project import bed_project, see_through, take_machine, wait_long_for
from tests.remote_runs import jobs_of, result
from tests.running import Project, ends
from tests.skypilot import marks

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
