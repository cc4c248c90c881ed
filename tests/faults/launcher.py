"""A launcher that kills itself at a step: `python -m tests.faults.launcher '<json>'` in a project's folder.

    {"runs": 2, "kill": ["asked", 1, "after"]}       before or after the n-th time that it comes there
    {"runs": 2, "kill": ["asked", 1, 20]}            so many milliseconds after the n-th time has begun
    {"runs": 2, "terminals": 3}                      as one of three that plan, and then launch, at once

Steps: composed, staged, recorded, intent, asked, ticket, accepted, handle, submitted. One that is not killed
lets the runs end, waits until no job is left, and prints what became of each run.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from crown_exp.compute.base import Executor, Target
from crown_exp.folder import JobRecord, decode
from crown_exp.launch.remote.base import Fate, Submitted
from crown_exp.launch.remote.executors import Executors
from crown_exp.launch.remote.submitting import submission
from crown_exp.launch.remote.submitting.reuse import earlier_of
from crown_exp.launch.remote.submitting.submission import submit_all
from crown_exp.launch.session import Session
from tests.launches import COMPUTE, Sharing, order, planned, session_on

STEPS = (
    "composed", "staged", "recorded", "intent", "asked", "ticket", "accepted", "handle", "submitted",
)  # fmt: skip


class Death:
    """Comes at one step."""

    def __init__(self, step: str = "", nth: int = 0, when: str | int = "") -> None:
        self.step, self.left, self.when = step, nth, when

    def at(self, step: str, act: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Do what the step is, if it is to be done."""
        now = step == self.step and self.counted()
        if now and self.when == "before":
            die()
        if now and isinstance(self.when, int):
            threading.Timer(self.when / 1000, die).start()
        result = act(*arguments, **options)
        if now and self.when == "after":
            die()
        return result

    def counted(self) -> bool:
        self.left -= 1
        return self.left == 0


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Seamed:
    """Something whose methods are steps."""

    def __init__(self, inner: Any, death: Death, **steps: str) -> None:
        self.inner, self.death, self.steps = inner, death, steps

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        step = self.steps.get(name)
        if step is None:
            return found
        return lambda *a, **o: self.death.at(step, found, *a, **o)


class Store(Seamed):
    """A store in which the records of jobs are steps."""

    async def put(self, path: str, data: bytes, **options: Any) -> None:
        step = written(path, data)
        if step and step == self.death.step and self.death.counted():
            if self.death.when == "before":
                die()
            await self.inner.put(path, data, **options)
            die()
        await self.inner.put(path, data, **options)


def written(path: str, data: bytes) -> str:
    """Which step the writing of a blob is."""
    if "/jobs/" not in path:
        return ""
    if path.endswith(".cancelled"):
        return "closed"
    record = decode(JobRecord, data, path)
    return "handle" if record.handle else "ticket" if record.ticket else "intent"


class Staging(Sharing):
    """Stages at a step."""

    death = Death()

    def bundle(self, target: Target) -> Any:
        return self.death.at("staged", super().bundle, target)


def meet(place: str, terminals: int) -> None:
    """Wait until so many launchers have come to a place."""
    folder = Path("..") / place
    folder.mkdir(exist_ok=True)
    (folder / str(os.getpid())).touch()
    while len(list(folder.iterdir())) < terminals:
        time.sleep(0.005)


def launch(
    session: Session, runs: int, death: Death, executor: str, terminals: int
) -> list[Submitted]:
    """What the launcher does with jobs for elsewhere."""
    compute = COMPUTE | {"executor": executor}
    orders = [order(seed=seed, compute=compute) for seed in range(1, runs + 1)]
    found = earlier_of(session, orders)
    plans = [planned(*pair, n) for n, pair in enumerate(zip(orders, found, strict=True), 1)]
    wanted = [it for it in plans if it.fate is not Fate.DONE]
    death.at("composed", list)
    meet("composed", terminals)
    prepared = Staging(session)
    prepared.death = death
    done: list[Submitted] = death.at("submitted", submit_all, session, wanted, prepared=prepared)
    return done


def main(
    runs: int, kill: Sequence[Any] = (), executor: str = "skypilot", terminals: int = 1
) -> None:
    # Of those that launch at once none is killed: who asks is waited for as long as it takes.
    submission.APPEARS_SECONDS = 8.0 if terminals == 1 else 200.0
    submission.LOOK_SECONDS = 0.05
    death = Death(*kill)
    with session_on() as session:
        real: Executor = session.executors[executor]
        seamed: Any = Seamed(real, death, submit="asked", handle="accepted")
        session.executors = Executors({executor: lambda: seamed})
        session.blobs = Store(session.blobs, death)  # type: ignore[assignment]
        make = session.make
        session.make = lambda of: death.at("recorded", make, of)  # type: ignore[method-assign]
        done = launch(session, runs, death, executor, terminals)
        meet("submitted", terminals)
        handles = [str(it.job.handle) for it in done]
        Path("../go").touch()  # what waits for it may end
        while real.jobs():
            time.sleep(0.1)
        states = real.poll(handles)
        told = [[it.record.id, it.job.job, states[str(it.job.handle)].state] for it in done]
        print(json.dumps(told))


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
