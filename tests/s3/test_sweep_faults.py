"""Each fault at every k-th request of all that is done to a store: nothing lost, nothing silently wrong."""

from __future__ import annotations

import gc
import time
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from crown_exp.storage import Portal
from tests.s3.faults import Fault
from tests.s3.operations import OPERATIONS
from tests.s3.sweeps import ALWAYS_SURVIVED, FAULTS, Counts, nothing_lost, one, requests_of, sweep


@pytest.mark.parametrize("name", OPERATIONS)
def test_one_fault_after_the_other(worlds: Any, name: str) -> None:
    """At every request of the operation, or every second of many, one fault, each time another."""
    operation, counts = OPERATIONS[name], Counts()
    shift = list(OPERATIONS).index(name) * 5
    names = cycle([*FAULTS][shift % len(FAULTS) :] + [*FAULTS][: shift % len(FAULTS)])
    count = requests_of(worlds, operation)
    for k, fault in zip(range(1, count + 1, 1 + (count > 15)), names, strict=False):
        done = counts.ended["done"]
        with worlds() as fresh:
            one(fresh, operation, Fault(**FAULTS[fault], first=k, last=k), counts)
        assert fault not in ALWAYS_SURVIVED or counts.ended["done"] == done + 1, counts.lines
    nothing_lost(counts)


@pytest.mark.parametrize("name", ["fence", "write_run", "write_result", "write_end", "second save"])
def test_an_answer_lost_after_the_commit_is_a_success(worlds: Any, name: str) -> None:
    """Whoever is told so holds the run, and nobody is told that another does."""
    given = FAULTS["drop answer"] | {"method": "PUT"}
    writes = {"fence": 2, "write_run": 2, "second save": 2}.get(name, 1)
    counts = sweep(worlds, OPERATIONS[name], given, range(1, writes + 1))
    nothing_lost(counts)
    assert counts.fired == counts.cases and counts.ended == {"done": counts.cases}


@pytest.mark.parametrize("name", ["first save", "second save", "restore"])
def test_a_bit_that_turned_on_the_way_marks_and_removes_nothing(worlds: Any, name: str) -> None:
    """In a manifest, in a listing, which has no checksum, or in a pack."""
    counts = sweep(worlds, OPERATIONS[name], FAULTS["corrupt"] | {"method": "GET"}, range(1, 5))
    nothing_lost(counts)
    assert counts.ended == {"done": counts.cases}


@pytest.mark.full
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_fault_everywhere(worlds: Any, name: str, fault: str) -> None:
    """What passes within the deadline is got over, too."""
    operation = OPERATIONS[name]
    places = range(1, requests_of(worlds, operation) + 1)
    counts = sweep(worlds, operation, FAULTS[fault], places)
    nothing_lost(counts)
    if fault in ALWAYS_SURVIVED:
        assert counts.ended == {"done": counts.cases}, counts.lines


def test_nothing_is_left_open(worlds: Any, portal: Portal) -> None:
    """Neither tasks nor connections of what was cut, dropped or hung."""

    async def tasks() -> int:
        import asyncio

        return len(asyncio.all_tasks())

    def opened() -> int:
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir()))

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("no /proc here")
    operation = OPERATIONS["write_run"]
    sweep(worlds, operation, FAULTS["hang"], [1])
    before = opened(), portal.call(tasks)
    for fault in ("hang", "hang answer", "drop answer", "cut response", "cut request"):
        nothing_lost(sweep(worlds, operation, FAULTS[fault], [1, 2, 3]))
    until = time.monotonic() + 60
    while True:
        after = opened(), portal.call(tasks)
        if after[1] <= before[1] and after[0] <= before[0] + 8:
            break
        assert time.monotonic() < until, (before, after)  # what was cut off ends in the background
        time.sleep(0.1)
