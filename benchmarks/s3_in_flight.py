"""`python -m benchmarks.s3_in_flight <size> <rounds> <folder> <access> <pids> <way>…`: training meanwhile.

access: JSON, as AWS's variables; pids: JSON, the server's processes.

The training has the first core for itself; the server and all other threads of the process have the second.
Prints JSON: by way, samples of a step's time while a save is written over that before, and of how long
other threads held the interpreter's lock: a loop that only looks at the clock is kept from it so long.
`nothing` waits as long as a save takes, and so tells how much the figures vary; `raw put` sends the same bytes
by obstore alone.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import warnings
from collections.abc import Iterable, Mapping
from contextlib import redirect_stdout, suppress
from pathlib import Path
from resource import RUSAGE_THREAD, getrusage
from statistics import fmean
from typing import Any

from benchmarks.in_flight import make_step
from benchmarks.s3_floors import S3Floors
from benchmarks.s3_saving import SIZES
from benchmarks.s3_server import processes_of
from benchmarks.s3_ways import configure, make
from benchmarks.saving import make_state, timed
from crown_exp.storage import Portal

STEPS = 150
"""Steps that are timed with nothing else going on, before each save."""

GAP = 5e-4
"""Seconds that the clock's loop is held up at least, to be counted: a turn of it takes a ten-thousandth."""


class Nothing:
    """No save: as long as one takes."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.until = seconds, 0.0

    def save(self, step: int, state: Any) -> None:
        """Begin to wait."""
        self.until = time.perf_counter() + self.seconds

    def busy(self) -> bool:
        """Whether the time is not up."""
        return time.perf_counter() < self.until

    def finish(self) -> None:
        """Nothing is left to do."""


class RawPut:
    """The floor's PUT in a thread, of bytes that do not change."""

    def __init__(self, floor: S3Floors) -> None:
        self.floor, self.thread = floor, threading.Thread()

    def save(self, step: int, state: Any) -> None:
        """Begin."""
        self.thread = threading.Thread(target=self.floor.put)
        self.thread.start()

    def busy(self) -> bool:
        """Whether it is under way."""
        return self.thread.is_alive()

    def finish(self) -> None:
        """Until it is done."""
        self.thread.join()


def part_cores(server: Iterable[int] = ()) -> None:
    """This thread to the first core, all others of the process and the server to the second."""
    first, second = sorted(CORES)[:2]
    own = threading.get_native_id()
    for task in [*(int(path.name) for path in Path("/proc/self/task").iterdir()), *server]:
        with suppress(ProcessLookupError, PermissionError):
            os.sched_setaffinity(task, {first if task == own else second})


CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


def slowed(way: Any, number: int, state: Any, step: Any, server: Iterable[int]) -> dict[str, float]:
    """A step's mean time while it is written over that before it."""
    part_cores(processes_of(server))
    free = fmean(timed(step) for _ in range(STEPS))
    way.save(number, state)
    taken = []
    while way.busy():
        if len(taken) % 10 == 0:
            part_cores()  # it may have started threads
        taken.append(timed(step))
    way.finish()
    return {"slow": fmean(taken) / free if taken else 1.0, "steps": len(taken), "step": free}


def held(way: Any, number: int, state: Any, server: Iterable[int]) -> dict[str, float]:
    """Milliseconds that others held the lock during a save: the longest, and in all."""
    part_cores(processes_of(server))
    way.save(number, state)
    part_cores()
    gaps, waits, turn = [], getrusage(RUSAGE_THREAD).ru_nvcsw, 0
    clock, begun = time.perf_counter, time.perf_counter()
    last = begun
    while True:
        now = clock()
        if now - last > GAP:
            slept = getrusage(RUSAGE_THREAD).ru_nvcsw
            if slept != waits:  # it waited for the lock, rather than the core being another's
                gaps.append(now - last)
            waits = slept
        turn += 1
        if turn % 200 == 0:
            waits = getrusage(RUSAGE_THREAD).ru_nvcsw
        if turn % 20_000 == 0 and not way.busy():
            break
        last = clock()
    way.finish()
    return {
        "longest": 1e3 * max(gaps, default=0.0), "held": 1e3 * sum(gaps), "seconds": clock() - begun
    }  # fmt: skip


def in_turns(
    known: Mapping[str, Any], rounds: int, state: Any, step: Any, pids: Iterable[int]
) -> dict[str, list[dict[str, float]]]:
    """By way, the samples."""
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in known}
    number = 0
    for turn in range(rounds + 1):
        for name, way in known.items():
            number += 2
            taken = slowed(way, number, state, step, pids)
            taken |= held(way, number + 1, state, pids)
            sys.stderr.write(f"  in flight {turn} {name} {taken}\n")
            if turn:
                samples[name].append(taken)
    return samples


def main(
    size: str,
    rounds: int,
    folder: Path,
    access: Mapping[str, str],
    pids: list[int],
    names: list[str],
) -> Any:
    """All in turns, after a round that is not counted."""
    os.environ.update(access)
    configure(access)
    step, state = make_step(1), make_state(*SIZES[size])
    total = sum(tensor.nbytes for tensor in state.values())
    floor = S3Floors(access, total)
    known: dict[str, Any] = {"nothing": Nothing(0.0), "raw put": RawPut(floor)}
    known["nothing"].seconds = timed(floor.put)
    with Portal() as portal:
        for name in names:
            known[name] = make(name, portal, access, f"{size}/flight-{name}", folder)
        samples = in_turns(known, rounds, state, step, pids)
    floor.clean()
    return samples


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    given, turns, place, reached, served, *chosen = sys.argv[1:]
    with redirect_stdout(sys.stderr):
        answer = main(
            given, int(turns), Path(place), json.loads(reached), json.loads(served), chosen
        )
    print(json.dumps(answer))
