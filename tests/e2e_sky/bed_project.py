"""A project whose target `bed` is the real SkyPilot of dev/skypilot.sh, and what its runs leave behind."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.running import Project
from tests.skypilot import bed, script

TASKS = '''
import os
import pathlib
import random
import time


def train(run, lr: float = 0.1, steps: int = 6, pace: float = 0.0, asks: str = ""):
    """Every turn depends on all before it, and on the order of random numbers.

    asks: a file that is not there yet: half-way the run asks to be called again, and makes it.
    """
    state = run.state(sum=0.0)
    for turn in run.steps(steps):
        state.sum = state.sum * 0.9 + lr * random.random()
        if asks and turn > steps / 2 and not pathlib.Path(asks).exists():
            pathlib.Path(asks).touch()
            os.kill(os.getpid(), 15)
        time.sleep(pace)
        run.log(sum=state.sum)
    return {"sum": state.sum}


def fails(run):
    raise ValueError("the data is not there")
'''
TARGET = """\
name: bed
executor: skypilot
infra: [slurm/crown-dev/spot]
cpus: 1
memory_gb: 1
shared: true
environment: image
env: {{PATH: "{path}"}}
"""
PATIENCE_SECONDS = 900.0


@contextmanager
def bed_project(root: Path) -> Iterator[Project]:
    """Inside, the bed is up."""
    project = Project.write(root, TASKS)
    (root / "conf/compute").mkdir()
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    (root / "conf/compute/bed.yaml").write_text(TARGET.format(path=path))
    with bed() as variables:
        project.environment |= dict(variables)
        yield project


def see_through(project: Project, *words: str, seconds: float = 1500.0) -> tuple[int, str]:
    """A command's exit code and what it said."""
    child = project.popen(*words)
    said, _ = child.communicate(timeout=seconds)
    return child.returncode, said


def wait_for(what: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> Any:
    until = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.2)
    return found


def record(path: Path) -> Any:
    return json.loads(path.read_text())


def result(run: Path) -> Any:
    return record(run / "result.json")["result"]


def jobs_of(run: Path) -> set[str | None]:
    """The jobs whose attempts there were."""
    return {record(path)["job"] for path in (run / "attempts").glob("??????.json")}


def take_machine(run: Path, attempt: int) -> None:
    """Preempt a run's job, once this attempt of it has saved something."""
    wait_for(lambda: list((run / "checkpoints").glob(f"{attempt:06}-*.json")))
    script("preempt", run.name)
