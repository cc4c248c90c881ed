"""Tasks of runs that are carried out elsewhere, and what their folders tell."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


def hastens(run, steps: int = 400, pace: float = 0.1, slow: int = 1, until: str = ""):
    """As train, at this pace in its first attempts: that of a test which has to come before their end.

    until: a file that the attempts after those wait for before they begin.
    """
    end = time.monotonic() + 240
    while until and run.attempt > slow and not pathlib.Path(until).exists():
        assert time.monotonic() < end, "nobody lets it begin"
        time.sleep(0.05)
    return train(run, steps=steps, pace=pace if run.attempt <= slow else 0.0)


def holds(run, until: str):
    """Logs until there is a file."""
    for turn in run.steps(100_000):
        time.sleep(0.05)
        run.log(sum=turn)
        if pathlib.Path(until).exists():
            return {"sum": turn}


def fails(run):
    raise ValueError("the data is not there")
'''


def wait_for(what: Callable[[], Any], seconds: float = 120.0) -> Any:
    """What is asked for, once it is there."""
    until = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.05)
    return found


def record(path: Path) -> Any:
    """A record of a run's folder."""
    return json.loads(path.read_text())


def result(run: Path) -> Any:
    """What the task returned."""
    return record(run / "result.json")["result"]


def jobs_of(run: Path) -> list[str | None]:
    """The jobs of a run's attempts, in order."""
    return [record(path)["job"] for path in sorted((run / "attempts").glob("??????.json"))]
