"""How much a save that is written behind the training slows its steps."""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.child import python
from benchmarks.measure import Figure

WAYS = {"ours": "crown_exp", "dcp_async": "DCP async_save, cached stager"}
STEPS = 40
"""Steps that are timed with nothing else going on, before each save."""


def measure(rounds: int, home: Path) -> list[Figure]:
    """A step's time while 341 MB are written, over that without; seconds of training lost by a save in all."""
    figures = []
    for threads in (1, 2):
        folder = home.parent / f"in-flight-{threads}"
        folder.mkdir()
        command = ("-m", "benchmarks.in_flight", str(rounds), str(folder), str(threads))
        taken = json.loads(python(*command, home=home).output.splitlines()[-1])
        for way, name in WAYS.items():
            ratio, lost, _ = zip(*taken[way], strict=True)
            title = f"{name}, training on {threads} thread{'s'[: threads > 1]}"
            figures.append(Figure(f"{title}: a step while it is written", "×", ratio))
            figures.append(Figure(f"{title}: training lost by a save", "s", lost))
    return figures


def make_step(threads: int) -> Callable[[], Any]:
    """A step of a few milliseconds, of a training that has nothing to do with what is saved."""
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    net = nn.Sequential(nn.Linear(512, 1024), nn.ReLU(), nn.Linear(1024, 512))
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    data = torch.rand(128, 512)

    def step() -> None:
        net(data).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def one(way: Any, number: int, state: Any, step: Callable[[], Any]) -> tuple[float, float, int]:
    """(a step's time during the save over that before it, seconds lost in all, steps during the save)."""
    from benchmarks.saving import timed

    free = median(timed(step) for _ in range(STEPS))
    started = time.perf_counter()
    way.save(number, state)
    stall = time.perf_counter() - started
    begun, steps = time.perf_counter(), 0
    while way.busy():
        step()
        steps += 1
    flight = time.perf_counter() - begun
    way.finish()
    slow = flight / max(1, steps) / free
    return slow, stall + flight - steps * free, steps


def main(rounds: int, folder: Path, threads: int) -> dict[str, list[tuple[float, float, int]]]:
    """Both in turns, after a save that is not counted."""
    from benchmarks.measure import interleave
    from benchmarks.saving import SIZES, make_state, ways
    from crown_exp.storage import Portal

    step, state = make_step(threads), make_state(*SIZES["large"])
    with Portal() as portal:
        known, number = ways(folder, portal), iter(range(1, 10**6))
        return interleave(
            {name: lambda way=known[name]: one(way, next(number), state, step) for name in WAYS},  # type: ignore[misc]
            rounds,
        )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    with redirect_stdout(sys.stderr):
        answer = main(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
    print(json.dumps(answer))
