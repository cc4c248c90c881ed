"""A state of 341 MB and one of 1 MB saved and restored: ours, torch.save, safetensors and torch's DCP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.child import python
from benchmarks.measure import Figure

WAYS = {
    "ours": "crown_exp",
    "torch": "torch.save",
    "safetensors": "safetensors",
    "dcp": "DCP save",
    "dcp_async": "DCP async_save, cached stager",
}
BARS = {"stall": 1.25, "durable": 1.5, "restore": 1.5}
FLOORS = {
    "memcpy": "memcpy into a buffer used before",
    "write": "one file written and synced",
    "read": "one file read into fresh memory",
}
RATIOS = {
    "stall": ("memcpy", "what the training waits, over the memcpy"),
    "durable": ("write", "until durable, over the write"),
    "restore": ("read", "restored, over the read"),
}


def measure(rounds: int, home: Path) -> list[Figure]:
    """Ratios to the floor of the same round for the large state, milliseconds for the small one."""
    home.mkdir(parents=True)
    large, small = (answer(size, rounds, home) for size in ("large", "small"))
    return [*of_large(large), *of_small(small)]


def answer(size: str, rounds: int, home: Path) -> Any:
    """What `benchmarks.saving` says."""
    folder = home / size
    folder.mkdir()
    command = ("-m", "benchmarks.saving", size, str(rounds), str(folder))
    return json.loads(python(*command, home=home).output.splitlines()[-1])


def of_large(told: Any) -> list[Figure]:
    """341 MB."""
    title = f"{told['bytes'] / 1e6:.0f} MB in {told['tensors']} tensors"
    samples, size = told["samples"], told["bytes"]
    figures = [
        Figure(f"{title}: {what}", "s", of(samples["ours"], name)) for name, what in FLOORS.items()
    ]
    for part, (floor, what) in RATIOS.items():
        for way, name in WAYS.items():
            bar = BARS[part] if way == "ours" else None
            figures.append(Figure(f"{name}: {what}", "×", of(samples[way], part, floor), bar))
    for part, unit, scale, what in (
        ("save_cpu", "s CPU", 1.0, "a save"),
        ("restore_cpu", "s CPU", 1.0, "a restore"),
        ("save_memory", "×", size, "memory of a save, over the state's"),
        ("restore_memory", "×", size, "memory of a restore, over the state's"),
    ):
        for way, name in WAYS.items():
            taken = tuple(value / scale for value in of(samples[way], part))
            figures.append(Figure(f"{name}: {what}", unit, taken))
    return figures


def of_small(told: Any) -> list[Figure]:
    """1 MB: what the disk takes to sync is most of it."""
    title = f"{told['bytes'] / 1e6:.0f} MB in {told['tensors']} tensors"
    figures = []
    for part, what in (("stall", "waits"), ("durable", "until durable"), ("restore", "restored")):
        for way, name in WAYS.items():
            taken = tuple(1e3 * value for value in of(told["samples"][way], part))
            syncs = f", {told['fsyncs'][way]} fsyncs" if part == "durable" else ""
            figures.append(Figure(f"{title}, {name}: {what}{syncs}", "ms", taken))
    return figures


def of(samples: list[dict[str, float]], part: str, over: str | None = None) -> tuple[float, ...]:
    """A figure's samples, or their ratios to another of the same round."""
    return tuple(one[part] / (one[over] if over else 1.0) for one in samples)
