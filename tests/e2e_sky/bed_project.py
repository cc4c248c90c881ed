"""A project whose target `bed` is the real SkyPilot of dev/skypilot.sh, and what its runs leave behind."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.remote_runs import TASKS, wait_for
from tests.running import Project
from tests.skypilot import bed, open_executor, script

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


def wait_long_for(what: Callable[[], Any]) -> Any:
    """What is asked for, once it is there: a machine takes a minute on an idle bed."""
    return wait_for(what, PATIENCE_SECONDS)


def left(project: Project) -> list[str]:
    """The jobs that SkyPilot still has of this project's runs."""
    executor = open_executor(project.environment)
    try:
        names = {run.name for run in project.runs}
        return [job.name for job in executor.jobs() if job.name[:14] in names]
    finally:
        executor.close()


def take_machine(run: Path, attempt: int) -> None:
    """Preempt a run's job, once this attempt of it has saved something."""
    wait_long_for(lambda: list((run / "checkpoints").glob(f"{attempt:06}-*.json")))
    script("preempt", run.name)
