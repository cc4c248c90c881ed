"""A run leaves no file outside $CROWN_HOME and nothing of itself in its process."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import crown_exp
from tests.running import Project, ends

TASKS = """
import random
import sys

def train(run, *, turns=3, fail=False):
    for turn in run.steps(turns):
        run.log(turn=turn)
    assert not fail
    return {"drawn": random.random(), "torch": "torch" in sys.modules, "numpy": "numpy" in sys.modules}

def waits(run):
    import time
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project.write(tmp_path / "project", TASKS, train="turns: 3")
    (project.root / "deep/er").mkdir(parents=True)
    return project


def test_no_file_is_left_in_the_user_s_tree(project: Project) -> None:
    before = project.tree()
    assert project.crown("task=train").returncode == 0
    assert project.crown("task=train", "+task.fail=true").returncode == 1
    assert project.crown("-m", "task=train", "seed=1,2", "task.turns=0,1").returncode == 0
    assert project.crown("task=trian").returncode == 2
    child = project.popen("task=waits")
    assert child.stdout is not None
    while "ready" not in child.stdout.readline():
        pass
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=60)
    assert child.returncode == 130
    child = project.popen("task=waits")
    assert child.stdout is not None
    while "ready" not in child.stdout.readline():
        pass
    child.kill()
    child.communicate(timeout=60)
    assert project.tree() == before
    assert [ends(run) for run in project.runs] == [[0], [1], [0], [0], [0], [0], [130], [-1]]


def test_nor_with_a_home_elsewhere_from_below_the_root(project: Project, tmp_path: Path) -> None:
    before = project.tree()
    project.environment["CROWN_HOME"] = str(tmp_path / "home")
    inside = Project(project.root / "deep/er", project.environment)
    done = inside.crown("task=train")
    assert done.returncode == 0, done.stdout
    assert project.tree() == before
    assert not (project.root / ".crown").exists()
    (run,) = (tmp_path / "home/store/runs").iterdir()
    assert ends(run) == [0]
    assert inside.crown("run", str(run)).returncode == 0


def test_a_task_without_torch_imports_none(project: Project) -> None:
    done = project.crown("task=train")
    assert "torch            False" in done.stdout
    assert "numpy            False" in done.stdout


STARTS = """
import random, sys, os, warnings, logging, signal
import crown_exp

def observed():
    return [
        random.getstate(), list(sys.path), list(sys.meta_path), logging.root.level,
        list(logging.root.handlers), signal.getsignal(signal.SIGINT), list(warnings.filters),
        dict(os.environ), os.getcwd(), sys.stdout, sys.stderr, sys.unraisablehook,
    ]

crown_exp.compose("task=train")  # what is imported once and for all
before = observed()
first = crown_exp.start("task=train")
assert observed() == before
try:
    crown_exp.start("task=train", "task.fail=true")
except crown_exp.errors.CrownError:
    pass
assert observed() == before
assert crown_exp.start("task=train").result == first.result
assert crown_exp.start("task=train", "seed=1").result != first.result
print("drawn", first.result["drawn"])
"""


def test_runs_in_one_process_do_not_feel_each_other(project: Project) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", STARTS], cwd=project.root, text=True, capture_output=True,
        env=dict(os.environ) | {"PYTHONPATH": str(Path(crown_exp.__file__).parents[1])}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    drawn = float(done.stdout.split()[-1])
    assert drawn == random.Random(0).random()
    assert f"drawn            {drawn:.6g}" in project.crown("task=train").stdout


def test_ctrl_c_in_start_is_a_keyboard_interrupt(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root)
    (project.root / "own.py").write_text("def train(run):\n    raise KeyboardInterrupt\n")
    (project.root / "conf/task/own.yaml").write_text("_target_: own.train\n")
    with pytest.raises(KeyboardInterrupt):
        crown_exp.start("task=own")
    (run,) = project.runs
    assert ends(run) == [130]


def test_a_project_is_not_left_on_the_path(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root)
    before: list[Any] = list(sys.path)
    assert crown_exp.start("task=train").result["torch"] in (True, False)
    assert sys.path == before
    monkeypatch.delitem(sys.modules, "tasks")
