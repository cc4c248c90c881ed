"""States of 341 MB and 1 GB saved to one S3 server and read from there: ours, the floors, and the peers.

Ratios are to the floor of the same round. The raw PUT and GET are of one object, in parts of 16 MiB, four at
once. With `CROWN_BENCH_QUICK=1` a state of 28 MB, to see whether it works.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.child import python
from benchmarks.measure import Figure, not_installed
from benchmarks.s3_server import Server, serving

SYNCHRONOUS = ("torch_s3fs", "safetensors_obstore", "dcp", "accelerate")
BEHIND = ("ours", "dcp_async", "lightning")
AT_A_GIGABYTE = ("ours", "safetensors_obstore", "dcp_async")
ROUNDS_AT_A_GIGABYTE = 3

FLOORS = {
    "memcpy": "memcpy into a buffer used before",
    "put": "raw PUT by obstore",
    "put_packs": "raw PUT by obstore, in objects of 64 MiB",
    "get": "raw ranged GET by obstore into memory used before",
    "get_fresh": "raw ranged GET by obstore into fresh memory",
}
RATIOS = {
    "stall": ("memcpy", 1.25, "what the training waits, over the memcpy"),
    "durable": ("put", 1.1, "until durable, over the raw PUT"),
    "restore": ("get", 1.1, "restored, over the raw GET"),
}
"""By part: its floor, the bar for ours, what it is."""


def measure(rounds: int, home: Path) -> list[Figure]:
    """All of it, against one server."""
    from benchmarks.s3_ways import WAYS, installed

    home.mkdir(parents=True)
    here = [way for way in WAYS if installed(way)]
    if "ours" not in here:
        return [not_installed("obstore and s3fs, which `pip install 'crown-exp[s3]'` brings")]
    with serving(home / "s3") as server:
        if os.environ.get("CROWN_BENCH_QUICK"):
            return of_size(ask("s3_saving", "tiny", rounds, home, server, here), here) + of_flight(
                ask("s3_in_flight", "tiny", rounds, home, server, [w for w in BEHIND if w in here])
            )
        large = ask("s3_saving", "large", rounds, home, server, here)
        some = [way for way in AT_A_GIGABYTE if way in here]
        turns = min(rounds, ROUNDS_AT_A_GIGABYTE)
        gigabyte = ask("s3_saving", "gigabyte", turns, home, server, some)
        behind = [way for way in BEHIND if way in here]
        flight = ask("s3_in_flight", "large", rounds, home, server, behind)
    return [*of_size(large, list(WAYS)), *of_size(gigabyte, some), *of_flight(flight)]


def ask(
    module: str, size: str, rounds: int, home: Path, server: Server, ways: list[str]
) -> dict[str, Any]:
    """What a process of its own measured."""
    folder = home / f"{module}-{size}"
    folder.mkdir()
    told = [json.dumps(server.access)]
    told += [json.dumps(server.pids)] if module == "s3_in_flight" else []
    command = ("-m", f"benchmarks.{module}", size, str(rounds), str(folder), *told, *ways)
    return json.loads(python(*command, home=home).output.splitlines()[-1])  # type: ignore[no-any-return]


def of_size(told: Mapping[str, Any], ways: list[str]) -> list[Figure]:
    """The lines of one size."""
    from benchmarks.s3_ways import WAYS

    samples, size = told["samples"], told["bytes"]
    title = f"{size / 1e6:.0f} MB"
    floors = samples["floors"]
    figures = [Figure(f"{title}, {what}", "s", of(floors, name)) for name, what in FLOORS.items()]
    for part, (floor, bar, what) in RATIOS.items():
        for way in ways:
            line = f"{title}, {WAYS[way]}: {what}"
            if way not in samples:
                figures.append(not_installed(line))
                continue
            taken = over(of(samples[way], part), of(floors, floor))
            figures.append(Figure(line, "×", taken, bar if way == "ours" else None))
    ours = samples["ours"]
    figures += [
        Figure(f"{title}, crown_exp: until durable, over the raw PUT of such objects", "×",
               over(of(ours, "durable"), of(floors, "put_packs"))),
        Figure(f"{title}, crown_exp: restored, over the raw GET into fresh memory", "×",
               over(of(ours, "restore"), of(floors, "get_fresh"))),
        *of_stall(title, samples),
        *of_cost(title, size, samples, ways),
        *of_frozen(told["frozen"]),
    ]  # fmt: skip
    return figures


def of_stall(title: str, samples: Mapping[str, Any]) -> list[Figure]:
    """How much longer a save is waited for that is not written behind the caller."""
    from benchmarks.s3_ways import WAYS

    stall = of(samples["ours"], "stall")
    figures = [
        Figure(f"{title}, the same save waited for, over what the training waits", "×",
               over(of(samples["ours"], "durable"), stall), 10, more_is_better=True)
    ]  # fmt: skip
    for way in SYNCHRONOUS:
        if way in samples:
            taken = over(of(samples[way], "stall"), stall)
            figures.append(
                Figure(f"{title}, {WAYS[way]}: waits, over what ours waits", "×", taken, 10, True)
            )
    return figures


def of_cost(title: str, size: int, samples: Mapping[str, Any], ways: list[str]) -> list[Figure]:
    """The processor's time of a GB, and memory over that of the state."""
    from benchmarks.s3_ways import WAYS

    figures = [
        Figure(
            f"{title}, raw {word}: processor", "s/GB", per(size / 1e9, of(samples["floors"], name))
        )
        for word, name in (("PUT", "put_cpu"), ("GET", "get_cpu"))
    ]
    for part, scale, unit, bar, what in (
        ("save_cpu", size / 1e9, "s/GB", 2.0, "processor, a save"),
        ("restore_cpu", size / 1e9, "s/GB", None, "processor, a restore"),
        ("save_memory", size, "×", 1.05, "memory of a save, over the state's"),
        ("restore_memory", size, "×", 1.05, "memory of a restore, over the state's"),
    ):
        for way in ways:
            if way in samples:
                taken = per(scale, of(samples[way], part))
                target = bar if way == "ours" else None
                figures.append(Figure(f"{title}, {WAYS[way]}: {what}", unit, taken, target))
    return figures


def of_frozen(told: Mapping[str, Any]) -> list[Figure]:
    """The second save of a state of which most is not trained."""
    title = (
        f"{told['bytes'] / 1e6:.0f} MB, {told['changed'] / 1e6:.0f} of them changed, second save"
    )
    samples = told["samples"]
    return [
        Figure(f"{title}: bytes written, over those changed", "×",
               per(told["changed"], of(samples, "written")), 1.05),
        Figure(f"{title}: until durable, over the raw PUT of those changed", "×",
               over(of(samples, "seconds"), of(samples, "put"))),
    ]  # fmt: skip


def of_flight(told: Mapping[str, Any]) -> list[Figure]:
    """The training while a save is written."""
    from benchmarks.s3_ways import WAYS

    figures = []
    for way, samples in told.items():
        name, ours = WAYS.get(way, way), way == "ours"
        slow = of(samples, "slow")
        figures += [
            Figure(
                f"in flight, {name}: a step over one without", "×", slow, 1.05 if ours else None
            ),
            Figure(
                f"in flight, {name}: the interpreter's lock held by others",
                "ms",
                of(samples, "held"),
            ),
            Figure(f"in flight, {name}: the longest of it", "ms", of(samples, "longest")),
        ]
    return figures


def of(samples: list[dict[str, float]], part: str) -> tuple[float, ...]:
    """A figure's samples."""
    return tuple(one[part] for one in samples)


def over(values: tuple[float, ...], floor: tuple[float, ...]) -> tuple[float, ...]:
    """Their ratios, round by round."""
    return tuple(value / least for value, least in zip(values, floor, strict=True))


def per(scale: float, values: tuple[float, ...]) -> tuple[float, ...]:
    """In another unit."""
    return tuple(value / scale for value in values)
