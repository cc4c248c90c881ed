"""Two processes on one run: one trains. What a holder that is dead, or superseded, leaves to the other."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from crown_exp import Run
from crown_exp.folder import RunPaths
from crown_exp.storage import Portal, open_blobs
from crown_exp.storage.runs import claim_attempt
from tests.running import Lab, Project, ends

TASKS = """
import os, time, pathlib

def train(run):
    print("training", os.getpid(), flush=True)
    for turn in run.steps(100_000):
        time.sleep(0.005)
        run.log(turn=turn)
        if pathlib.Path("finish").exists():
            break
    return {"pid": os.getpid()}
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project.write(tmp_path, TASKS)


def begun(child: subprocess.Popen[str]) -> str:
    """Waits until a process trains."""
    assert child.stdout is not None
    said = ""
    for line in child.stdout:
        said += line
        if line.startswith("training"):
            return said
    raise AssertionError(said)


def recorded(project: Project) -> Path:
    """A run that was stopped as soon as it trained."""
    child = project.popen("task=train")
    begun(child)
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=60)
    (run,) = project.runs
    return run


def test_of_two_at_once_one_trains(project: Project) -> None:
    run = recorded(project)
    children = [project.popen("run", str(run)) for _ in range(2)]
    while all(child.poll() is None for child in children):
        time.sleep(0.02)
    (refused,) = [child for child in children if child.poll() is not None]
    (holder,) = [child for child in children if child is not refused]
    said, _ = refused.communicate()
    (line,) = said.splitlines()
    assert refused.returncode == 76
    assert f"run {run.name} is held by attempt 2 on " in line
    assert f"(pid {holder.pid}) since " in line
    assert "nothing was changed: wait for it to end, or add --take-over" in line

    # a third one, while it is held, and a fourth, as soon as the holder is dead
    assert project.crown("run", str(run)).returncode == 76
    begun(holder)
    holder.kill()
    holder.communicate()
    (project.root / "finish").touch()
    fourth = project.crown("run", str(run))
    assert fourth.returncode == 0, fourth.stdout
    assert ends(run) == [130, -1, 0]

    again = project.crown("run", str(run))
    assert again.returncode == 0
    assert f"{run.name} is completed already; nothing was run" in again.stdout
    assert (
        f"  pid              {json.loads((run / 'result.json').read_text())['result']['pid']}"
        in again.stdout
    )
    assert ends(run) == [130, -1, 0]


def test_a_take_over_by_hand(project: Project) -> None:
    run = recorded(project)
    holder = project.popen("run", str(run))
    begun(holder)
    (project.root / "finish").touch()
    holder_is_quick = project.crown("run", str(run), "--take-over")
    said, _ = holder.communicate(timeout=60)
    # whichever came first: one result, and the other has written nothing over it
    assert sorted([holder.returncode, holder_is_quick.returncode]) in ([0, 0], [0, 76]), said
    assert len(list(run.glob("result.json"))) == 1


# --- in this process --------------------------------------------------------------------------------


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Portal() as portal:
        yield Lab(portal, open_blobs(str(tmp_path / "store")), tmp_path / "home")


def usurp(lab: Lab, run: str) -> None:
    """Another process takes the run over."""
    newest = lab.facts(run).attempts[-1]
    from dataclasses import replace

    from crown_exp.storage.machine import here

    def build(number: int) -> object:
        return replace(newest, attempt=number, pid=1)

    lab.portal.call(claim_attempt, lab.blobs, run, build, here(), take_over=True)


def test_a_superseded_attempt_notices_at_its_next_beat(lab: Lab) -> None:
    def task(run: Run) -> int:
        for turn in run.steps(100_000):
            time.sleep(0.001)
            if turn == 3:
                usurp(lab, run.id)
        return 1

    run = lab.make(task)
    ended = lab.attempt(run, beat_seconds=0.0)
    assert ended.code == 76
    assert 3 < ended.ending.step < 100_000
    assert f"{run} ended after {ended.ending.step} steps" in ended.said
    assert "attempt 2 has taken over this run" in ended.said
    assert "Traceback" not in ended.said
    assert not ended.facts.ends and ended.facts.result is None
    assert [it.took_over for it in ended.facts.attempts] == [False, True]
    assert ended.state == "running"  # the other's


@pytest.mark.parametrize("fails", [False, True])
def test_one_that_ends_before_it_noticed_writes_nothing(lab: Lab, fails: bool) -> None:
    def task(run: Run) -> int:
        usurp(lab, run.id)
        assert not fails
        return 1

    ended = lab.run(task)
    assert ended.code == 76
    assert not ended.facts.ends and ended.facts.result is None
    paths = RunPaths(ended.id)
    assert lab.portal.call(lab.blobs.list, paths.end(1)) == []
