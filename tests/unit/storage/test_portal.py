"""Storage from code without an event loop, and from within one."""

import asyncio
import signal
import threading

import pytest

from crown_exp.errors import StoreError
from crown_exp.storage import NotFound, Portal, open_blobs


def test_calls_run_in_one_loop_of_one_other_thread() -> None:
    async def where(*, name: str) -> tuple[str, int, int]:
        return name, threading.get_ident(), id(asyncio.get_running_loop())

    with Portal() as portal:
        one, other = portal.call(where, name="a"), portal.call(where, name="b")
    assert (one[0], other[0]) == ("a", "b")
    assert one[1:] == other[1:]
    assert one[1] != threading.get_ident()


def test_works_where_a_loop_is_running_as_in_a_notebook() -> None:
    blobs = open_blobs("memory://portal")

    async def cell() -> bytes:
        with Portal() as portal:
            portal.call(blobs.put, "a", b"1", create=True)
            return portal.call(blobs.get, "a")

    assert asyncio.run(cell()) == b"1"


def test_errors_come_through_and_leave_it_usable() -> None:
    blobs = open_blobs("memory://portal-errors")
    with Portal() as portal:
        with pytest.raises(NotFound):
            portal.call(blobs.get, "nothing")
        portal.call(blobs.put, "a", b"")
        assert portal.call(blobs.get, "a") == b""


def test_an_error_in_the_block_ends_the_thread() -> None:
    before = set(threading.enumerate())
    with pytest.raises(StoreError, match="mine"), Portal():
        raise StoreError("mine")
    assert not set(threading.enumerate()) - before


def test_many_threads_share_it() -> None:
    blobs = open_blobs("memory://portal-threads")
    with Portal() as portal:
        threads = [
            threading.Thread(target=portal.call, args=(blobs.put, f"{n}", b"")) for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(portal.call(blobs.list, "")) == 8


def test_only_within_its_block() -> None:
    portal = Portal()
    blobs = open_blobs("memory://portal-closed")
    for _ in range(2):
        with portal:  # and again
            portal.call(blobs.now)
        with pytest.raises(RuntimeError, match="within its `with` block"):
            portal.call(blobs.now)


def test_work_behind_the_caller() -> None:
    async def later(gate: asyncio.Event, *, name: str) -> str:
        await gate.wait()
        if not name:
            raise StoreError("no name")
        return name

    async def new() -> asyncio.Event:
        return asyncio.Event()

    async def opened(gate: asyncio.Event) -> None:
        gate.set()

    with Portal() as portal:
        gate = portal.call(new)
        good, bad = portal.start(later, gate, name="a"), portal.start(later, gate, name="")
        assert not good.done()
        portal.call(opened, gate)
        assert good.result(60) == "a"
        with pytest.raises(StoreError, match="no name"):
            bad.result(60)
        last = portal.start(later, gate, name="z")
    assert last.result(0) == "z"  # the end of the block waited for it
    with pytest.raises(RuntimeError, match="within its `with` block"):
        portal.start(later, gate, name="")


def test_a_wait_that_is_interrupted_ends_its_work() -> None:
    became = list[str]()

    async def long() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.2)  # of the process: the main thread is interrupted
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            became.append("cancelled")
            raise

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with Portal() as portal, pytest.raises(KeyboardInterrupt):
            portal.call(long)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert became == ["cancelled"]
