"""What logging costs who logs, and how soon it is durable: ours, with and without W&B behind it, and the peers.

The peers are measured where they are installed, best in an environment of their own:

    python -m venv /tmp/peers
    /tmp/peers/bin/pip install -c constraints.txt -e . wandb mlflow-skinny tensorboard trackio
    /tmp/peers/bin/python -m benchmarks --only tracking
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.child import python
from benchmarks.durable import WAYS
from benchmarks.measure import Figure, interleave, not_installed
from benchmarks.sinks import OURS, SINKS

TARGET, TRAINED_TARGET = 3.0, 20.0


def measure(rounds: int, home: Path) -> list[Figure]:
    """Microseconds a call of three floats; thousands of points a second. A process for each sample."""
    folders = (home / f"sink-{number}" for number in count())
    return [*callers(rounds, home, folders), *durable(rounds, home, folders)]


def callers(rounds: int, home: Path, folders: Iterator[Path]) -> list[Figure]:
    """What a call takes in an empty loop, and after each step of a small training."""
    there = [*OURS, *(name for name, sink in SINKS.items() if find_spec(sink.module))]
    if not find_spec("wandb"):
        there.remove("ours+wandb")
    cases = {name: partial(sample, "benchmarks.sinks", name, home, folders) for name in there}
    taken = interleave(cases, rounds)
    figures = []
    for name, sink in (OURS | SINKS).items():
        if name not in taken:
            figures.append(not_installed(sink.what))
            continue
        empty, trained = (
            list(zip(*(item[kind] for item in taken[name]), strict=True))
            for kind in ("empty", "trained")
        )
        ours = name in OURS
        figures += [
            Figure(f"{sink.what}, in an empty loop", "µs wall", empty[0], TARGET if ours else None),
            Figure(f"{sink.what}, the caller's CPU there", "µs CPU", empty[1]),
            Figure(
                f"{sink.what}, after a step of training", "µs wall", trained[0],
                TRAINED_TARGET if ours else None,
            ),
            Figure(f"{sink.what}, all threads' CPU there", "µs CPU", trained[2]),
        ]  # fmt: skip
    return figures


def durable(rounds: int, home: Path, folders: Iterator[Path]) -> list[Figure]:
    """Points a second, from the first until all are in files."""
    cases: dict[str, Callable[[], Any]] = {
        name: partial(sample, "benchmarks.durable", name, home, folders)
        for name, way in WAYS.items()
        if find_spec(way.module)
    }
    taken = interleave(cases, rounds)
    figures = []
    for name, way in WAYS.items():
        for what in way.what:
            if name not in taken:
                figures.append(not_installed(what))
                continue
            rates = tuple(item[what] / 1e3 for item in taken[name])
            figures.append(Figure(what, "k points/s", rates, way.at_least, more_is_better=True))
    return figures


def sample(module: str, name: str, home: Path, folders: Iterator[Path]) -> Any:
    """What a process of its own measured."""
    output = python("-m", module, name, str(next(folders)), home=home).output
    return json.loads(output.splitlines()[-1])
