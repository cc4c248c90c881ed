"""What `run.steps` and `run.log` add to a bare loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.child import task_result
from benchmarks.measure import Figure, differences, interleave

if TYPE_CHECKING:
    from crown_exp import Run

TURNS = 10**6
CALLS = 20_000
SETTLED = 0.6
"""Seconds after which the log's thread has written all it was handed: it looks four times a second."""


def measure(rounds: int, home: Path) -> list[Figure]:
    """CPU µs a turn of an empty loop and a call of `run.log`, in a real run."""
    task = ("++task._target_=benchmarks.steps.time_loops", f"++task.rounds={rounds}")
    seconds = task_result(*task, home=home)
    counts = {"bare": TURNS, "range": TURNS, "count": TURNS}
    each = {
        name: tuple(value / counts.get(name, CALLS) * 1e6 for value in taken)
        for name, taken in seconds.items()
    }
    bare, empty = each["bare"], each["empty"]
    return [
        Figure("bare `for` over range(10⁶), a turn", "µs", bare),
        Figure(
            "run.steps(range(10⁶)) over it, a turn", "µs", differences(each["range"], bare), 2.0
        ),
        Figure("run.steps(10⁶) over it, a turn", "µs", differences(each["count"], bare), 2.0),
        Figure("run.log(loss=1.0), a call", "µs", differences(each["log 1"], empty)),
        Figure("run.log of 3 floats, a call", "µs", differences(each["log 3"], empty)),
    ]


def time_loops(run: Run, *, rounds: int) -> dict[str, list[float]]:
    """The task. CPU seconds: of the whole process for turns, of the caller's thread for `log`."""
    number = iter(range(TURNS))  # every loop of a run has its own name
    loops = {
        "bare": lambda: spin(range(TURNS)),
        "range": lambda: spin(run.steps(range(TURNS), name=f"range {next(number)}")),
        "count": lambda: spin(run.steps(TURNS, name=f"count {next(number)}")),
    }
    calls = {
        "empty": lambda: burst(lambda: None),
        "log 1": lambda: burst(lambda: run.log(loss=1.0)),
        "log 3": lambda: burst(lambda: run.log(loss=1.0, accuracy=0.5, rate=0.1)),
    }
    return interleave(loops, rounds) | interleave(calls, rounds)


def spin(turns: Iterable[int]) -> float:
    """CPU seconds of an empty loop."""
    started = time.process_time()
    for _ in turns:
        pass
    return time.process_time() - started


def burst(call: Callable[[], None]) -> float:
    """CPU seconds of calls in a row, while the log's thread sleeps."""
    time.sleep(SETTLED)
    started = time.thread_time()
    for _ in range(CALLS):
        call()
    return time.thread_time() - started
