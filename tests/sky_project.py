"""A project whose commands find a stand-in for SkyPilot where they look for SkyPilot.

Its targets `there` (spot) and `on_demand` are machines that see this one's files, as a cluster's do.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from crown_exp.compute.base import Executor
from crown_exp.compute.executors.skypilot.child import Child
from crown_exp.compute.executors.skypilot.executor import SkyPilotExecutor
from crown_exp.config.project import builtin_conf
from tests.running import Project
from tests.stand_in.sky import edge

TESTS = Path(__file__).parent
STAND_IN = TESTS / "stand_in"
"""To be on PYTHONPATH, before SkyPilot."""

TARGET = """\
executor: skypilot
accelerators: [A100:1]
spot: {spot}
shared: true
environment: image
name: {name}
"""


@contextmanager
def stand_in(state: Path, patch: pytest.MonkeyPatch) -> Iterator[Path]:
    """In this process: its children find the stand-in, whose server keeps what it knows in a folder.

    The server and all that it started are ended at the end.
    """
    patch.setenv("SKY_STAND_IN", str(state))
    patch.setenv("PYTHONPATH", str(STAND_IN))
    try:
        yield state
    finally:
        edge.stop(state)


@contextmanager
def sky_project(root: Path, tasks: str, **keys: str) -> Iterator[Project]:
    """As Project.write; the stand-in's server and all that it started are ended at the end."""
    project = Project.write(root, tasks, **keys)
    (root / "conf/compute").mkdir()
    for name, spot in (("there", True), ("on_demand", False)):
        text = TARGET.format(name=name, spot=str(spot).lower())
        (root / f"conf/compute/{name}.yaml").write_text(text)
    state = root.parent / f"{root.name}-stand-in"
    project.environment |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{STAND_IN}{os.pathsep}{TESTS.parent}",
        "SKY_STAND_IN": str(state),
    }
    try:
        yield project
    finally:
        edge.stop(state)


def near_targets(conf: Path, *names: str) -> None:
    """Have machines of some of the framework's targets see this one's files, as the stand-in's do."""
    for name in names:
        text = (builtin_conf() / f"compute/{name}.yaml").read_text()
        target = conf / f"compute/{name}.yaml"
        target.write_text(f"{text}shared: true\nenvironment: image\n")


def state_of(project: Project) -> Path:
    """The folder of the stand-in's server, for `edge` and `preempt`."""
    return Path(project.environment["SKY_STAND_IN"])


@contextmanager
def executor_of(project: Project) -> Iterator[Executor]:
    """The executor that the project's commands use."""
    executor = SkyPilotExecutor(Child(env={**os.environ, **project.environment}))
    try:
        yield executor
    finally:
        executor.close()


def preempt(project: Project, job: str) -> None:
    """Take the machine from a job."""
    environment = {**os.environ, **project.environment}
    done = subprocess.run(
        [sys.executable, "-m", "sky.preempt", job],
        env=environment, cwd=project.root, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "1"
