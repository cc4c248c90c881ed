"""What `make test-e2e` leaves out: failures, three preemptions, launchers that die, a move, a cancel."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e_sky.bed_project import bed_project, left, see_through, take_machine, wait_long_for
from tests.remote_runs import jobs_of, record, result
from tests.running import Project, ends
from tests.skypilot import marks

pytestmark = marks

PICKY = """

def picky(run, lr: float = 0.1):
    if lr < 0:
        raise ValueError("a rate below zero")
    return train(run, lr)
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with bed_project(tmp_path / "project") as project:
        yield project


def test_a_sweep_of_four_with_one_that_raises(project: Project) -> None:
    """Four clusters at once are what the bed has room for.

    Two that start within the same few seconds may be given the same ports by SkyPilot, and one of them comes to
    nothing; a sweep cannot be told to begin its jobs one by one. If this fails so, it is the bed.
    """
    with (project.root / "tasks.py").open("a") as file:
        file.write(PICKY)
    (project.root / "conf/task/picky.yaml").write_text("_target_: tasks.picky\n")
    code, said = see_through(project, "-m", "task=picky", "compute=bed", "task.lr=0.1,0.2,0.3,-1")
    assert code == 1, said
    assert "ValueError: a rate below zero" in said
    assert len(project.runs) == 4
    raised, *others = sorted(project.runs, key=ends, reverse=True)
    assert ends(raised) == [1]
    assert [ends(run) for run in others] == [[0]] * 3
    assert len({result(run)["sum"] for run in others}) == 3
    wait_long_for(lambda: not left(project))


def test_three_preemptions_change_no_bit(project: Project) -> None:
    typed = ("task=train", "task.steps=150", "checkpoint.every=1 steps")
    assert see_through(project, *typed)[0] == 0
    child = project.popen(*typed, "task.pace=0.3", "compute=bed", "reuse=never")
    _, run = wait_long_for(lambda: project.runs if len(project.runs) == 2 else None)
    for attempt in (1, 2, 3):
        take_machine(run, attempt)
    said, _ = child.communicate(timeout=1500)
    assert child.returncode == 0, said
    assert result(run) == result(project.runs[0])
    assert len(ends(run)) == 4
    assert set(jobs_of(run)) == {run.name}


@pytest.mark.parametrize("seen", ["intent", "ticket", "handle", "attempt"])
def test_the_launcher_is_killed(project: Project, seen: str) -> None:
    """The same command finishes what the killed one began: one run, one job, nothing left."""
    # long enough to be found under way by the second command: what is completed would be made anew
    typed = ("task=train", "task.steps=400", "task.pace=0.1", "compute=bed")
    child = project.popen(*typed)

    def come() -> bool:
        runs = project.runs
        if not runs or not (runs[0] / "jobs/0001.json").exists():
            return False
        if seen == "attempt":
            return (runs[0] / "attempts/000001.json").exists()
        return seen == "intent" or record(runs[0] / "jobs/0001.json")[seen] is not None

    wait_long_for(come)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    code, said = see_through(project, *typed)
    assert code == 0, said
    (run,) = project.runs
    assert len(set(jobs_of(run))) == 1
    assert ends(run) == [0]
    wait_long_for(lambda: not left(project))


def test_moved_there_and_back(project: Project) -> None:
    typed = ("task=train", "task.steps=600")
    assert see_through(project, *typed)[0] == 0
    child = project.popen(*typed, "task.pace=0.1")
    _, run = wait_long_for(lambda: project.runs if len(project.runs) == 2 else None)
    wait_long_for((run / "attempts/000001.json").exists)
    away = project.popen("move", run.name, "compute=bed")
    child.communicate(timeout=60)
    assert child.returncode == 75
    wait_long_for((run / "attempts/000002.json").exists)
    code, said = see_through(project, "move", run.name, "compute=local")
    assert code == 0, said
    away.communicate(timeout=120)
    assert result(run) == result(project.runs[0])
    wait_long_for(lambda: not left(project))


def test_cancelled(project: Project) -> None:
    child = project.popen("task=train", "task.steps=6000", "task.pace=0.1", "compute=bed")
    (run,) = wait_long_for(lambda: project.runs)
    wait_long_for((run / "attempts/000001.json").exists)
    assert see_through(project, "cancel", run.name, "--yes")[0] == 0
    child.communicate(timeout=300)
    assert child.returncode == 130
    wait_long_for(lambda: not left(project))
