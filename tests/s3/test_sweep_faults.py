"""Each fault at every k-th request of all that is done to a store: nothing lost, nothing silently wrong."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from crown_exp.storage import Portal
from tests.s3.faults import Fault
from tests.s3.operations import OPERATIONS
from tests.s3.sweeps import ALWAYS_SURVIVED, FAULTS, Counts, one, quick, requests_of, sweep, world

SOME = ["second save", "restore", "retention", "fence"]
LASTING = ["500", "refuse", "409", "hang"]


@pytest.fixture(scope="module")
def portal() -> Iterator[Portal]:
    with Portal() as portal, quick():
        yield portal


@pytest.fixture
def worlds(portal: Portal, request: pytest.FixtureRequest) -> Any:
    """On moto; in the tests' `server` says on which, and by what it is reached."""
    server, by = getattr(request, "param", ("moto", "obstore"))
    prefix = "" if server == "moto" else f"{server}_"
    proxy = request.getfixturevalue(f"{prefix}proxy")
    return partial(world, portal, proxy, request.getfixturevalue(f"{prefix}bucket"), by=by)


def nothing_lost(counts: Counts) -> None:
    """None of its cases lost something, or told something that is not so."""
    assert counts.cases and counts.fired
    assert not counts.lost and not counts.wrong, (counts.lost, counts.wrong)
    assert counts.safe == counts.cases


@pytest.mark.parametrize("name", OPERATIONS)
def test_one_fault_after_the_other(worlds: Any, name: str) -> None:
    """At every request of the operation, or every second of many, one fault, each time another."""
    operation, counts = OPERATIONS[name], Counts()
    shift = list(OPERATIONS).index(name) * 5
    kinds = cycle(
        [*FAULTS.values()][shift % len(FAULTS) :] + [*FAULTS.values()][: shift % len(FAULTS)]
    )
    count = requests_of(worlds, operation)
    for k, given in zip(range(1, count + 1, 1 + (count > 15)), kinds, strict=False):
        with worlds() as fresh:
            one(fresh, operation, Fault(**given, first=k, last=k), counts)
    nothing_lost(counts)


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


@pytest.mark.full
@pytest.mark.parametrize("worlds", [("ceph", "obstore"), ("moto", "s3fs")], indirect=True)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_on_a_server_as_in_earnest_and_by_the_other_way(worlds: Any, name: str, fault: str) -> None:
    """At every second request, beginning with another for each fault."""
    operation = OPERATIONS[name]
    first = 1 + list(FAULTS).index(fault) % 2
    places = range(first, requests_of(worlds, operation) + 1, 2) or range(1, 2)
    nothing_lost(sweep(worlds, operation, FAULTS[fault], places))


@pytest.mark.full
@pytest.mark.parametrize("length", [2, 5, None])
@pytest.mark.parametrize("fault", LASTING)
@pytest.mark.parametrize("name", OPERATIONS)
def test_bursts_and_for_ever(worlds: Any, name: str, fault: str, length: int | None) -> None:
    """From the k-th request on: for ever is past the deadline, and ends in one line."""
    operation = OPERATIONS[name]
    places = range(1, requests_of(worlds, operation) + 1, 3)
    counts = sweep(worlds, operation, FAULTS[fault], places, length=length)
    nothing_lost(counts)
    if (
        length is None and name != "save and retention"
    ):  # whose end is retention, for which nobody waits
        assert set(counts.ended) <= {"StoreError", "Refused"} | (
            {"done"} if "save" in name else set()
        )


@pytest.mark.parametrize("name", SOME)
def test_for_ever_from_the_first_request_on(worlds: Any, name: str) -> None:
    counts = sweep(worlds, OPERATIONS[name], FAULTS["503"], [1], length=None)
    nothing_lost(counts)
    assert "done" not in counts.ended
    (line,) = counts.lines.values()
    assert " answers 503" in line and "; try again later" in line


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
    after = opened(), portal.call(tasks)
    assert after[1] <= before[1] and after[0] <= before[0] + 8, (before, after)
