"""Runs that are elsewhere, for tests: real jobs of real runs in a store of files, on this machine.

with elsewhere(tmp_path) as far:
    run = far.send("train", TASKS)
    watch = Watch(far, [run], io.StringIO())
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from crown_exp.compute.base import OVER, Executor, Job, Target
from crown_exp.compute.executors.local import LocalExecutor
from crown_exp.compute.executors.skypilot.child import Child
from crown_exp.compute.executors.skypilot.executor import SkyPilotExecutor
from crown_exp.folder import Facts, JobRecord
from crown_exp.folder.records import Rate
from crown_exp.launch.remote.base import Submitted
from crown_exp.launch.remote.executors import Executors
from crown_exp.storage import BlobStore, Portal, open_blobs
from crown_exp.storage.runs import read_facts, write_job
from tests.clocks import Moved
from tests.running import Lab
from tests.sky_project import stand_in
from tests.stand_in.sky import edge

ROOT = Path(__file__).parents[1]

TASKS = """
import time
from pathlib import Path

def train(run, steps=3, value=0.5):
    for _ in run.steps(steps):
        run.log(loss=value)
    return {"accuracy": value}

def fails(run):
    for _ in run.steps(1):
        pass
    raise ValueError("no such number")

def lasts(run, ends="never"):
    for _ in run.steps(100_000):
        run.log(loss=1.0)
        time.sleep(0.02)
        if Path(ends).exists():
            return "ended"
"""


@dataclass
class Elsewhere:
    """A store, a project in `root` with TASKS in tasks.py, and an executor that is called skypilot."""

    root: Path
    portal: Portal
    blobs: BlobStore
    executor: Executor
    executors: Executors
    clock: Moved
    lab: Lab

    def send(
        self,
        task: str,
        config: Mapping[str, Any] = {},
        *,
        setup: tuple[str, ...] = (),
        argv: tuple[str, ...] = (),
        target: Target | None = None,
        rates: tuple[Rate, ...] = (),
    ) -> Submitted:
        """Record a run and submit its job."""
        run = self.lab.make(f"tasks.{task}", config)
        target = target or Target(name="a100_spot", executor="skypilot")
        job = Job(
            name=run, argv=argv or self.argv(run), target=target, directory=self.root, setup=setup,
            env={"CROWN_JOB": run, "CROWN_HOME": str(self.root / f"home-{run}")},
        )  # fmt: skip
        ticket = self.executor.submit(job)
        record = JobRecord(
            run=run, number=1, executor="skypilot", created=datetime.now(UTC), job=run, cancelled=False,
            ticket=ticket, handle=self.executor.handle(ticket), target=target.name, rates=list(rates),
        )  # fmt: skip
        self.portal.call(write_job, self.blobs, record)
        return Submitted(self.facts(run).run, record, target)

    def argv(self, run: str) -> tuple[str, ...]:
        return (sys.executable, "-m", "crown_exp", "run", f"{self.blobs.url}/runs/{run}")

    def facts(self, run: str) -> Facts:
        return self.portal.call(read_facts, self.blobs, run)

    def job(self, run: str) -> JobRecord:
        (job,) = self.facts(run).jobs
        return job

    def is_over(self, sent: Submitted) -> bool:
        handle = sent.job.handle or ""
        return self.executor.poll([handle])[handle].state in OVER

    def wait_for_log(self, run: str) -> None:
        """Until it has logged something."""
        log = self.root / "store/runs" / run / "log"
        until(lambda: any(path.stat().st_size > 200 for path in log.glob("*")))


def until(done: Callable[[], Any], seconds: float = 120.0) -> None:
    """Wait until it is so."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)


@contextmanager
def elsewhere(root: Path, executor: Executor | None = None) -> Iterator[Elsewhere]:
    """A place below `root`; what was sent there is ended at the end."""
    (root / "tasks.py").write_text(TASKS)
    (root / "pyproject.toml").write_text("[tool.crown_exp]\n")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CROWN_")}
    environment["PYTHONPATH"] = f"{ROOT}{os.pathsep}{root}"
    used = executor or LocalExecutor(root / "jobs", environment, grace_seconds=60.0)
    with Portal() as portal:
        blobs = open_blobs(str(root / "store"))
        made = Elsewhere(
            root, portal, blobs, used, Executors({"skypilot": lambda: used}), Moved(),
            Lab(portal, blobs, root / "home"),
        )  # fmt: skip
        try:
            yield made
        finally:
            used.cancel([it.handle for it in used.jobs()])
            until(lambda: not used.jobs())
            used.close()


@contextmanager
def on_skypilot(root: Path, patch: pytest.MonkeyPatch) -> Iterator[Elsewhere]:
    """As `elsewhere`, on the stand-in for SkyPilot: the folder of its server is `root/stand-in`."""
    with (
        stand_in(root / "stand-in", patch) as state,
        elsewhere(root, SkyPilotExecutor(Child(sys.executable))) as made,
    ):
        try:
            yield made
        finally:
            edge.stop(state)  # what a test told it to refuse or delay is no matter then
