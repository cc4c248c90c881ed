"""What the framework costs the four shipped experiments: each beside its own loop without one.

`python -m benchmarks.experiments <preset> <ours or plain> <folder> [key=value …]` times one, in a process of
its own, and prints JSON.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.child import python
from benchmarks.measure import Figure, interleave, ratios
from benchmarks.plain import PlainRun

SHORT = {
    "digits_cnn": ["task.steps=300"],
    "tiny_gpt": ["task.steps=60"],
    "ppo_cartpole": ["task.steps=20"],
    "tokenize_corpus": [],
}
"""The presets, and as much of each as takes seconds."""


def measure(rounds: int, home: Path) -> list[Figure]:
    """How long the turns take, ours over the plain loop's, round by round."""
    number = count()

    def sample(preset: str, kind: str) -> Any:
        folder = str(home / f"{preset}-{next(number)}")
        command = ("-m", "benchmarks.experiments", preset, kind, folder, *SHORT[preset])
        return json.loads(python(*command, home=home).output.splitlines()[-1])

    figures = []
    for preset in SHORT:
        kinds = ("plain", "ours")
        taken = interleave({kind: partial(sample, preset, kind) for kind in kinds}, rounds)
        plain, ours = taken["plain"], taken["ours"]
        figures.append(
            Figure(f"{preset}, the plain loop", "s wall", tuple(t["wall"] for t in plain))
        )
        for clock in ("wall", "cpu"):
            found = ratios((t[clock] for t in ours), (t[clock] for t in plain))
            figures.append(Figure(f"{preset}, ours over it, {clock}", "×", found))
        figures.append(
            Figure(f"{preset}, peak memory beyond it", "MB", tuple(
                (one["memory"] - other["memory"]) / 1e6 for one, other in zip(ours, plain, strict=True)
            ))
        )  # fmt: skip
    return figures


class Stopwatch:
    """Counts the time inside loops, from their first turn's end to their last's."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def around(self, steps: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        """`run.steps`, timed. The first turn is warming up."""

        def timed(*arguments: Any, **named: Any) -> Iterator[Any]:
            began = None
            for item in steps(*arguments, **named):
                yield item
                now = time.perf_counter(), time.process_time()
                began = began or now
                last = now
            if began:
                self.wall += last[0] - began[0]
                self.cpu += last[1] - began[1]

        return timed


def main(preset: str, kind: str, folder: str, *overrides: str) -> None:
    """Time one; what it prints goes to stderr."""
    from crown_exp.devices.memory import peak_memory

    watch = Stopwatch()
    with redirect_stdout(sys.stderr):
        {"ours": ours, "plain": plain}[kind](watch, preset, Path(folder), overrides)
    memory = peak_memory("cpu")["host"]
    print(json.dumps({"wall": watch.wall, "cpu": watch.cpu, "memory": memory}))


def ours(watch: Stopwatch, preset: str, folder: Path, overrides: tuple[str, ...]) -> None:
    """As a user runs it, without a bar."""
    import crown_exp
    from crown_exp.runner.context import Run

    Run.steps = watch.around(Run.steps)  # type: ignore[method-assign,assignment]
    crown_exp.start(f"+experiment={preset}", "tracker=none", "device=cpu", *overrides)


def plain(watch: Stopwatch, preset: str, folder: Path, overrides: tuple[str, ...]) -> None:
    """The same task on the plain run."""
    import crown_exp
    from crown_exp.runner.task import arguments, load_task

    config = crown_exp.compose(f"+experiment={preset}", *overrides)
    task = load_task(config)
    run = PlainRun(folder, config["seed"])
    random.seed(config["seed"])
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        torch.manual_seed(config["seed"])
        torch.set_num_threads(config["device"]["threads"] or torch.get_num_threads())
    run.steps = watch.around(run.steps)  # type: ignore[method-assign]
    groups = ("model", "dataset", "optimizer", "lr_schedule")
    bound = [name for name in groups if name in task.__annotations__]
    task(run, **arguments(config, bound))


if __name__ == "__main__":
    main(*sys.argv[1:])
