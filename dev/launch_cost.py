"""How far what was expected is from what was paid: `python -m dev.launch_cost [seconds]`.

Runs of so many seconds on the stand-in of SkyPilot: two from which the hours are guessed, then three whose
price is told before, and one more that loses its machine half-way.
"""

from __future__ import annotations

import json
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.remote_runs import wait_for
from tests.running import Project
from tests.sky_project import preempt, sky_project

TASKS = """
import pathlib
import time

def train(run, steps: int, half: str):
    for turn in run.steps(steps):
        time.sleep(0.1)
        if turn == steps // 2:
            pathlib.Path(half, run.id).touch()
"""


def main(seconds: float) -> int:
    """Run, tell."""
    with (
        tempfile.TemporaryDirectory(prefix="crown-cost-") as folder,
        sky_project(Path(folder) / "project", TASKS) as project,
    ):
        task = ("task=train", f"task.steps={seconds * 10:.0f}", f"task.half={folder}")
        typed = (*task, "compute=there", "--yes")
        launched(project, "-m", *typed, "seed=1,2")
        before = set(project.runs)
        launched(project, "-m", *typed, "seed=3,4,5")
        undisturbed = {run.name for run in set(project.runs) - before}
        before = set(project.runs)
        with ThreadPoolExecutor(1) as terminal:
            last = terminal.submit(launched, project, *typed, "seed=6")
            wait_for(lambda: len(project.runs) > len(before))
            (run,) = set(project.runs) - before
            wait_for((Path(folder) / run.name).exists, 600.0)
            preempt(project, run.name)
            last.result()
        told = json.loads(project.crown("cost", "--json").stdout)
        for row in told:
            if row["estimate"] is not None and row["key"] in undisturbed | {run.name}:
                kind = "preempted once" if row["key"] == run.name else "undisturbed"
                print(
                    f"{kind:15}paid ${row['usd']:.5f}  expected ${row['estimate']:.5f}  "
                    f"error {row['error']:+.1%}"
                )
    return 0


def launched(project: Project, *words: str) -> None:
    """Type a command, and see it through."""
    done = project.crown(*words)
    assert done.returncode == 0, done.stdout


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0))
