"""How long a launch takes, and how much of it is ours: `python -m dev.launch_times [runs] [preemptions]`.

On the real SkyPilot over the real Slurm of dev/skypilot.sh, which is brought up if it is not (root, Debian).
For each run: from the command to SkyPilot being asked, to the job being accepted, to its process, to the first
step of the task. Then a machine is taken, so often as is wanted: to the next process, to its first new step.
Ours is what comes before SkyPilot is asked and after it has started our process.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from tests.e2e_sky.bed_project import bed_project, take_machine, wait_long_for
from tests.running import Project

TASK = '''
import json
import os
import pathlib
import time


def started():
    """When this process was, in seconds since 1970."""
    ticks = float(pathlib.Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    booted = next(
        float(line.split()[1])
        for line in pathlib.Path("/proc/stat").read_text().splitlines()
        if line.startswith("btime")
    )
    return booted + ticks / os.sysconf("SC_CLK_TCK")


def clocked(run, notes: str, steps: int = 10, pace: float = 0.0):
    first = True
    for turn in run.steps(steps):
        if first:
            with open(notes, "a") as file:
                file.write(json.dumps({"process": started(), "step": time.time(), "turn": turn}) + "\\n")
            first = False
        time.sleep(pace)
        run.log(turn=turn)
    return steps
'''
PAUSE = 0.3


def main(runs: int, preemptions: int) -> int:
    """Launch, tell."""
    with (
        tempfile.TemporaryDirectory(prefix="crown-launch-") as folder,
        bed_project(Path(folder) / "project") as project,
    ):
        (project.root / "clocked.py").write_text(TASK)
        (project.root / "conf/task/clocked.yaml").write_text(
            "_target_: clocked.clocked\nnotes: ???\n"
        )
        told = [
            launched(project, Path(folder) / f"notes{number}", number) for number in range(runs)
        ]
        for name in told[0]:
            show(name, [each[name] for each in told])
        if preemptions:
            show_all(preempted(project, Path(folder) / "taken", preemptions))
    return 0


def launched(project: Project, notes: Path, number: int) -> dict[str, float]:
    """Seconds of one launch, by what they were spent on. The code differs from the launch before."""
    (project.root / "edited.py").write_text(f"NUMBER = {number}\n")
    before, known = resource.getrusage(resource.RUSAGE_CHILDREN), set(project.runs)
    asked = time.time()
    child = project.popen("task=clocked", f"task.notes={notes}", "compute=bed")
    (run,) = wait_long_for(lambda: set(project.runs) - known)
    job = run / "jobs/0001.json"
    wait_long_for(job.exists)
    intent = job.stat().st_mtime
    ticket = wait_long_for(lambda: when(job, "ticket"))
    handle = wait_long_for(lambda: when(job, "handle"))
    said, _ = child.communicate(timeout=1500)
    assert child.returncode == 0, said
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    (line,) = map(json.loads, notes.read_text().splitlines())
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    ours = intent - asked + line["step"] - line["process"]
    return {
        "command to SkyPilot asked": intent - asked,
        "asked to request taken": ticket - intent,
        "asked to job accepted": handle - intent,
        "accepted to our process": line["process"] - handle,
        "our process to first step": line["step"] - line["process"],
        "command to first step": line["step"] - asked,
        "of it ours": ours,
        "first step to command over": time.time() - line["step"],
        "CPU of the command": cpu,
    }


def when(job: Path, field: str) -> float | None:
    """When a job's record was written in which a field stands, if it is."""
    return job.stat().st_mtime if json.loads(job.read_text())[field] else None


def preempted(project: Project, notes: Path, count: int) -> Mapping[str, Sequence[float]]:
    """Seconds from the loss of a machine to the next process and its first new step; steps that were lost."""
    known = set(project.runs)
    child = project.popen(
        "task=clocked",
        f"task.notes={notes}",
        "task.steps=3000",
        f"task.pace={PAUSE}",
        "compute=bed",
    )
    (run,) = wait_long_for(lambda: set(project.runs) - known)
    found: dict[str, list[float]] = {name: [] for name in ("process", "step", "ours", "lost")}
    for number in range(1, count + 1):
        take_machine(run, number)
        taken = time.time()
        line = wait_long_for(lambda: nth(notes, number + 1))  # noqa: B023
        ended = json.loads((run / f"attempts/{number:06}.end.json").read_text())
        found["process"].append(line["process"] - taken)
        found["step"].append(line["step"] - taken)
        found["ours"].append(line["step"] - line["process"])
        found["lost"].append(ended["step"] - line["turn"])
    project.crown("cancel", run.name, "--yes")
    child.communicate(timeout=300)
    return {
        "preemption to next process": found["process"],
        "preemption to first new step": found["step"],
        "of it ours": found["ours"],
        "steps lost": found["lost"],
    }


def nth(notes: Path, number: int) -> Any:
    """A line of the notes, once it is there."""
    lines = notes.read_text().splitlines() if notes.exists() else []
    return json.loads(lines[number - 1]) if len(lines) >= number else None


def show_all(found: Mapping[str, Sequence[float]]) -> None:
    """A row for each."""
    for name, values in found.items():
        show(name, values)


def show(name: str, values: Sequence[float]) -> None:
    """The median, the least and the most."""
    print(f"{name:32} {median(values):7.1f}   {min(values):.1f} to {max(values):.1f}", flush=True)


if __name__ == "__main__":
    counts = [int(text) for text in sys.argv[1:]]
    sys.exit(main(counts[0] if counts else 3, counts[1] if len(counts) > 1 else 3))
