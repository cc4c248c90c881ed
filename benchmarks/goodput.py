"""What is left of the time of spot machines: the policy of `checkpoint.every=auto`, and fixed intervals.

A simulation, on three traces, driven by the real policy (`benchmarks.goodput_simulator`). What takes time was
measured: saves and restores against an S3 server, and starts, in docs/numbers.md; new machines with SkyPilot on
an idle Slurm cluster, where a cloud's would have to boot, too. A round draws anew when, between two looks of
the trace, the machine came and went.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.goodput_simulator import Costs, Goodput, Notice, bound, simulate, wished
from benchmarks.measure import Figure
from benchmarks.spot_traces import Trace, traces

BAR = 0.97

TURN = 0.5
"""Seconds of a turn; nothing was measured there. It only turns seconds lost into turns lost."""

MEASURED_GB = 0.341
"""The state that the seconds below belong to. Those of others are reckoned in proportion to their bytes."""

MEMCPY = 0.027 / 1.46
"""docs/numbers.md, "A run survives any death": the training waits 0.027 s, 1.46 × a memcpy."""

PUT, GET = 0.88, 0.33
"""docs/numbers.md, "Checkpoints on S3": one object, parts of 16 MiB, four at once."""

PUT_BACK = 0.17
"""docs/numbers.md: of a resumed run, putting back."""

SLOWER = 1.05
"""docs/numbers.md, "Checkpoints on S3": a step while a save is in flight, server and upload on another core."""

START = 2.07
"""docs/numbers.md: a fresh run, from exec to its first turn."""

PROVISION = (81 + 102) / 2
"""SkyPilot's managed job on Slurm, on an idle machine: from STARTING to the process 81 to 102 s. It learns that
the machine is gone in 19 to 29 s, before the next is there: no gap of the traces is shorter than 32."""


@dataclass(frozen=True)
class Size:
    """A state. waits, durable, restored: over a memcpy, a raw PUT and a raw GET, of docs/numbers.md."""

    name: str
    gigabytes: float
    waits: float
    durable: float
    restored: float

    def costs(self) -> Costs:
        """In seconds."""
        times = self.gigabytes / MEASURED_GB
        return Costs(
            turn=TURN,
            stall=times * MEMCPY * self.waits,
            durable=times * PUT * self.durable,
            slower=SLOWER,
            start=START,
            restore=times * (GET * self.restored + PUT_BACK),
            provision=PROVISION,
        )


SIZES = (
    Size("341 MB", 0.341, 1.33, 1.10, 2.57),
    Size("1.02 GB", 1.02, 1.82, 1.09, 1.83),
    Size("10 GB (as 1.02)", 10.0, 1.82, 1.09, 1.83),
)
AWS, GCP = Notice(120), Notice(30, dated=False)
FIXED = ("1 minute", "10 minutes", "60 minutes")


@dataclass(frozen=True)
class Case:
    """How a run saves, and whether it is told before its machine is taken. told: of the trace's own mtbf."""

    name: str
    every: str = "auto"
    notice: Notice | None = None
    told: bool = False

    def wish(self, trace: Trace) -> dict[str, Any]:
        """The config's `checkpoint`."""
        if not self.told:
            return wished(self.every)
        return wished(self.every, f"{trace.present / trace.taken:.0f} s")


CASES = (
    Case("auto, no notice"),
    Case("auto, 30 s notice", notice=GCP),
    Case("auto, 120 s notice", notice=AWS),
    Case("auto, no notice, checkpoint.mtbf right", told=True),
    *(Case(f"{every}, no notice", every) for every in FIXED),
)
OURS = CASES[:3]
HINDSIGHT = tuple(f"{seconds} s" for seconds in (20, 30, 45, 60, 90, 120, 150, 240))
"""Fixed intervals of which the best, without a notice, is told."""

Samples = tuple[Goodput, ...]


def measure(rounds: int, home: Path) -> list[Figure]:
    """The ratio to both ideals, what could be had of it, and what each machine that was taken cost."""
    drawn = {trace.name: [trace.drawn(seed) for seed in range(rounds)] for trace in traces()}
    figures = []
    for size in SIZES:
        costs = size.costs()
        taken = {
            (name, case): samples_of(few, costs, case)
            for name, few in drawn.items()
            for case in CASES
        }
        figures += of_size(size.name, list(drawn), taken)
        for name, few in drawn.items():
            figures += bounds(f"{size.name}, {name}", few, costs)
    return figures


def samples_of(drawn: Iterable[Trace], costs: Costs, case: Case) -> Samples:
    """A case on what may have been the trace."""
    return tuple(simulate(trace, costs, case.wish(trace), case.notice) for trace in drawn)


def bounds(where: str, drawn: list[Trace], costs: Costs) -> list[Figure]:
    """What nobody can surpass, and the best that a fixed interval does without a notice, seen afterwards."""
    most = tuple(bound(trace, costs).of_usable for trace in drawn)
    fixed = {
        every: of(samples_of(drawn, costs, Case(every, every)), lambda one: one.of_usable)
        for every in HINDSIGHT
    }
    best = max(fixed, key=lambda every: median(fixed[every]))
    return [
        Figure(f"{where}: bound, ends known beforehand", "", most),
        Figure(
            f"{where}: every {best}, no notice, the best interval in hindsight", "", fixed[best]
        ),
    ]


def of_size(size: str, names: list[str], taken: dict[tuple[str, Case], Samples]) -> list[Figure]:
    """The lines of one size of state. Of what was lost each time a sample is a trace."""
    figures = []
    for trace in names:
        for case in CASES:
            bar = BAR if case in OURS else None
            ratios = of(taken[trace, case], lambda one: one.of_usable)
            figures.append(Figure(f"{size}, {trace}: {case.name}", "", ratios, bar, True))
        for case in OURS:
            title = f"{size}, {trace}: {case.name}, provisioning is loss"
            figures.append(Figure(title, "", of(taken[trace, case], lambda one: one.of_present)))
    for case in OURS:
        each = [taken[trace, case] for trace in names]
        seconds = tuple(median(of(one, lambda it: it.lost_seconds)) for one in each)
        turns = tuple(median(of(one, lambda it: it.lost_turns)) for one in each)
        figures.append(Figure(f"{size}, {case.name}: lost each time", "s", seconds))
        figures.append(Figure(f"{size}, {case.name}: done again each time", "turns", turns))
    return figures


def of(samples: Samples, what: Callable[[Goodput], float]) -> tuple[float, ...]:
    """One number of each."""
    return tuple(what(one) for one in samples)
