"""What a step costs beyond the bare loop: ours and the frameworks', without a log and with three values logged.

The peers are measured where they are installed, best in an environment of their own:

    python -m venv /tmp/peers
    /tmp/peers/bin/pip install -c constraints.txt -e . accelerate lightning transformers tensorboard
    /tmp/peers/bin/python -m benchmarks --only step_overhead
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.child import python
from benchmarks.measure import Figure, interleave, not_installed

LABELS = {
    "ours": ("run.steps", "crown_exp"),
    "accelerate": ("accelerate", "accelerate"),
    "fabric": ("Lightning Fabric", "lightning"),
    "lightning": ("Lightning Trainer", "lightning"),
    "transformers": ("HF Trainer", "transformers"),
}
KINDS = {"silent": "without a log", "logged": "with 3 values logged"}
TARGET = 20.0


def measure(rounds: int, home: Path) -> list[Figure]:
    """Microseconds a step. A process for each sample, in which the two loops take turns."""
    number = count()

    def sample(name: str) -> Any:
        folder = str(home / f"loop-{next(number)}")
        output = python("-m", "benchmarks.frameworks", name, folder, home=home).output
        return json.loads(output.splitlines()[-1])

    there = [name for name, (_, module) in LABELS.items() if find_spec(module)]
    taken = interleave({name: lambda name=name: sample(name) for name in there}, rounds)
    bare = zip(*(item["bare"] for item in taken["ours"]), strict=True)
    figures = [
        Figure("the bare loop, a step", unit, samples)
        for unit, samples in zip(("µs wall", "µs CPU"), bare, strict=True)
    ]
    for name, (what, _) in LABELS.items():
        if name not in taken:
            figures.append(not_installed(what))
            continue
        for kind, label in KINDS.items():
            wall, cpu = zip(*(item[kind] for item in taken[name]), strict=True)
            target = TARGET if name == "ours" and kind == "logged" else None
            figures.append(Figure(f"{what}, {label}, beyond it", "µs wall", wall, target))
            figures.append(Figure(f"{what}, {label}, beyond it", "µs CPU", cpu))
    return figures
