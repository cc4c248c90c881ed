"""Batches of a dataset in memory, ours and torch's DataLoader, without workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.child import task_result
from benchmarks.measure import Figure, interleave, ratios

if TYPE_CHECKING:
    from crown_exp import Run

BATCHES, SIZE = 500, 32


def measure(rounds: int, home: Path) -> list[Figure]:
    """CPU µs a shuffled batch of 32 images."""
    task = ("++task._target_=benchmarks.batches.time_epochs", f"++task.rounds={rounds}")
    seconds = task_result(*task, "device.threads=1", home=home)
    micro = {
        name: tuple(value / BATCHES * 1e6 for value in taken) for name, taken in seconds.items()
    }
    return [
        Figure("torch DataLoader, shuffled, a batch of 32", "µs", micro["torch"]),
        Figure("run.batches, the same", "µs", micro["ours"]),
        Figure("ratio", "×", ratios(micro["ours"], micro["torch"])),
    ]


def time_epochs(run: Run, *, rounds: int) -> dict[str, list[float]]:
    """The task: epochs in turns, one loader of each kind over one dataset."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    count = BATCHES * SIZE
    data = TensorDataset(torch.rand(count, 1, 8, 8), torch.zeros(count, dtype=torch.int64))
    theirs: DataLoader[Any] = DataLoader(data, batch_size=SIZE, shuffle=True, drop_last=True)
    cases: dict[str, Callable[[], float]] = {
        "torch": lambda: epoch(theirs),
        "ours": lambda: epoch(run.batches(data, batch_size=SIZE, epochs=1)),
    }
    return interleave(cases, rounds)


def epoch(batches: Iterable[Any]) -> float:
    """CPU seconds of one pass."""
    started = time.process_time()
    for _ in batches:
        pass
    return time.process_time() - started
