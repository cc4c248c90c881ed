"""From exec to the first training step: a bare torch script, a recorded run, a command that composes."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.child import Cost, python
from benchmarks.measure import Figure, differences, interleave, ratios

PROJECT = Path(__file__).parent / "project"
PRESET = "+experiment=first_step"


class Sample(NamedTuple):
    """CPU and wall seconds until the first step is done, and CPU seconds until the process is gone."""

    cpu: float
    wall: float
    whole: float


def measure(rounds: int, home: Path) -> list[Figure]:
    """Same data, model, optimizer and schedule in all three; each process makes one step and ends."""
    project = home.parent / "project"
    make_project(project)
    folders = iter(recorded(project, home, rounds + 1))
    cases: dict[str, Callable[[], Sample]] = {
        "bare": lambda: sample(python("bare.py", home=home, cwd=project)),
        "run": lambda: sample(
            python("-m", "crown_exp", "run", next(folders), home=home, cwd=project)
        ),
        "composed": lambda: sample(python("-m", "crown_exp", PRESET, home=home, cwd=project)),
    }
    taken = interleave(cases, rounds)
    cpu = {name: tuple(item.cpu for item in samples) for name, samples in taken.items()}
    wall = {name: tuple(item.wall for item in samples) for name, samples in taken.items()}
    whole = {name: tuple(item.whole for item in samples) for name, samples in taken.items()}
    return [
        Figure("bare torch script", "s CPU", cpu["bare"]),
        Figure("bare torch script", "s wall", wall["bare"]),
        Figure("crown_exp run <folder>", "s CPU", cpu["run"]),
        Figure("crown_exp run <folder>", "s wall", wall["run"]),
        Figure("ratio to bare, CPU", "×", ratios(cpu["run"], cpu["bare"]), 1.1),
        Figure("ratio to bare, wall", "×", ratios(wall["run"], wall["bare"])),
        Figure("ratio to bare, CPU of the whole process", "×", ratios(whole["run"], whole["bare"])),
        Figure(
            "composing, checking and recording", "s CPU", differences(cpu["composed"], cpu["run"])
        ),
    ]


def make_project(project: Path) -> None:
    """A copy of `benchmarks/project`, committed to git as a user's would be."""
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("__pycache__"))
    author = ("-c", "user.name=bench", "-c", "user.email=bench@localhost")
    for command in (("init", "--quiet"), ("add", "."), (*author, "commit", "--quiet", "-m", "x")):
        subprocess.run(("git", *command), cwd=project, check=True)


def recorded(project: Path, home: Path, count: int) -> list[str]:
    """Folders of runs that are recorded and wait to be carried out."""
    output = python("-m", "benchmarks.record", PRESET, str(count), home=home, cwd=project).output
    return output.split()


def sample(cost: Cost) -> Sample:
    """What `parts.first_step_done` printed, and what the process took in all."""
    line = next(line for line in cost.output.splitlines() if line.startswith("first step "))
    cpu, moment = map(float, line.split()[2:])
    return Sample(cpu, moment - cost.started, cost.cpu)
