"""Two attempts of one run at once: its machine was taken, and the process there lives on beside the next."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from tests.remote_runs import jobs_of, record, result, wait_for
from tests.running import Project, ends
from tests.sky_project import preempt, sky_project, state_of
from tests.stand_in.sky import edge

TASKS = '''
import pathlib
import random
import time


def wait_for(path):
    while not path.exists():
        time.sleep(0.01)


def train(run, steps: int = 40, hold: str = ""):
    """Every turn depends on all before it, and on the order of random numbers.

    hold: a folder; the first process to come to turn 10 lets it last until a file `go` is there, and any that
    comes to turn 30 until a file `end` is.
    """
    state = run.state(sum=0.0)
    for turn in run.steps(steps):
        state.sum = state.sum * 0.9 + random.random()
        run.log(sum=state.sum)
        if hold and turn == 10 and not pathlib.Path(hold, "held").exists():
            pathlib.Path(hold, "held").touch()
            wait_for(pathlib.Path(hold, "go"))
        if hold and turn == 30:
            wait_for(pathlib.Path(hold, "end"))
    return {"sum": state.sum}
'''
NOTES = """\
#!/bin/bash
trap : TERM
"{python}" "$@"
code=$?
echo "$2 $code $(date +%s.%N)" >> "{notes}"
exit $code
"""
"""The machines' python3: it notes how each process ended, also of one that outlives its machine's shell."""

LIVES_ON = 600.0
"""Seconds that a process has after it was told: longer than the test needs."""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with sky_project(tmp_path / "project", TASKS) as project:
        state_of(project).mkdir()
        edge.delay(state_of(project), killed=LIVES_ON * 100)  # times the stand-in's scale
        python = tmp_path / "bin/python3"
        python.parent.mkdir()
        python.write_text(NOTES.format(python=sys.executable, notes=tmp_path / "notes"))
        python.chmod(0o755)
        with (project.root / "conf/compute/there.yaml").open("a") as target:
            target.write(f"env: {{PATH: '{python.parent}:/usr/bin:/bin'}}\n")
        yield project


def noted(folder: Path, word: str) -> list[tuple[int, float]]:
    """The exit codes of the processes that were to do this, and when they ended, in that order."""
    lines = [line.split() for line in (folder / "notes").read_text().splitlines()]
    return [(int(code), float(when)) for what, code, when in lines if what == word]


def written(run: Path, attempt: int) -> dict[str, int]:
    """What an attempt wrote, but for its own log, and when it last did, in nanoseconds."""
    return {
        str(path.relative_to(run)): path.stat().st_mtime_ns
        for path in run.rglob(f"{attempt:06}*")
        if path.is_file() and path.parent.name != "log"
    }


def test_the_new_one_writes_and_the_old_one_does_not(project: Project, tmp_path: Path) -> None:
    straight = project.crown("task=train", "checkpoint.every=1 steps")
    assert straight.returncode == 0, straight.stdout
    typed = ("task=train", "checkpoint.every=1 steps", f"task.hold={tmp_path}")
    child = project.popen(*typed, "compute=there", "reuse=never", "--yes")
    wait_for((tmp_path / "held").exists)
    _, run = project.runs
    attempts = run / "attempts"
    wait_for(lambda: list((run / "checkpoints").glob("000001-*.json")))
    preempt(project, run.name)
    wait_for((attempts / "000002.json").exists)
    wait_for(lambda: list((run / "checkpoints").glob("000002-*.json")))
    before = written(run, 1)
    assert noted(tmp_path, "run") == []
    (tmp_path / "go").touch()
    wait_for(lambda: noted(tmp_path, "run"))
    (tmp_path / "end").touch()
    said, _ = child.communicate(timeout=120)
    assert child.returncode == 0, said

    wait_for(lambda: len(noted(tmp_path, "run")) == 2)
    (old, died), (new, _) = noted(tmp_path, "run")
    assert (old, new) == (76, 0)
    assert ends(run) == [-1, 0]  # an attempt that another has taken over from writes no end
    begun = datetime.fromisoformat(record(attempts / "000002.json")["started"]).timestamp()
    ended = datetime.fromisoformat(record(attempts / "000002.end.json")["ended"]).timestamp()
    assert begun < died < ended  # both lived, for a while
    # of its checkpoints, what is no longer needed has gone
    assert written(run, 1).items() <= before.items()
    assert record(run / "result.json")["attempt"] == 2
    assert result(run) == result(project.runs[0])
    assert set(jobs_of(run)) == {run.name}
