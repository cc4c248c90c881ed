"""`runs` and `show` over 10,000 runs: the registry's answer, and the whole command."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.child import Cost, python
from benchmarks.many_runs import write_runs
from benchmarks.measure import Figure, interleave

RUNS = 10_000
QUESTIONS = {
    "page": ("the newest 50", 50.0),
    "best": ("the best 50 of `tag:paper lr<0.5`, with 2 values", 50.0),
    "show": ("a run and its curve", 100.0),
}


def measure(rounds: int, home: Path) -> list[Figure]:
    """The store is made and indexed once; then each question and command is a process of its own."""
    newest = write_runs(home / "store", RUNS)[-1]
    indexing = python("-m", "crown_exp", "reindex", home=home)
    words = {
        "python -c pass": ("-c", "pass"),
        "crown_exp runs": ("-m", "crown_exp", "runs"),
        "crown_exp runs tag:paper --sort=val_loss": (
            "-m", "crown_exp", "runs", "tag:paper", "--sort=val_loss",
        ),
        "crown_exp show <run>": ("-m", "crown_exp", "show", newest),
    }  # fmt: skip
    commands = {name: partial(python, *words[name], home=home) for name in words}
    questions = {
        "questions": lambda: json.loads(python("-m", "benchmarks.many_runs", home=home).output)
    }
    taken: dict[str, list[Any]] = interleave(questions | commands, rounds)
    return [
        Figure("crown_exp reindex, once", "ms/run wall", (indexing.wall * 1e3 / RUNS,)),
        *(
            Figure(f"the registry: {what}", "ms", tuple(item[name] for item in taken["questions"]), target)
            for name, (what, target) in QUESTIONS.items()
        ),
        *(figure for name in words for figure in whole(name, taken[name])),
    ]  # fmt: skip


def whole(name: str, costs: list[Cost]) -> list[Figure]:
    """A command from exec to exit."""
    return [
        Figure(name, "s CPU", tuple(cost.cpu for cost in costs)),
        Figure(name, "s wall", tuple(cost.wall for cost in costs)),
    ]
