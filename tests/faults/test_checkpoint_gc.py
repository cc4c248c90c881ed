"""Removing packs while another process writes, at every point of either, whatever the clocks say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import anyio.to_thread
import pytest
import torch

from crown_exp.checkpoints import Keep, Saved
from crown_exp.checkpoints.base import GRACE
from crown_exp.checkpoints.checkpoints import Checkpoints
from crown_exp.checkpoints.pruning import plan_prune, prune
from crown_exp.errors import StoreError, Superseded
from crown_exp.storage import BlobStore, Portal
from tests.checkpoint_states import (
    PATHS,
    FailingStore,
    Moved,
    attempt,
    begin,
    listed,
    memory_store,
    same,
    saved,
)

FROZEN = 5632
"""Bytes of the packs of what is not trained."""

CALLS = ("put", "get", "get_into", "list", "stat", "delete", "now")


@pytest.fixture(scope="module")
def portal() -> Iterator[Portal]:
    with Portal() as portal:
        yield portal


@pytest.fixture(autouse=True)
def small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a state of kilobytes has several."""
    monkeypatch.setattr("crown_exp.checkpoints.layout.PACK", 4096)


def state(step: int) -> Any:
    seeded = torch.Generator().manual_seed(step)
    return {"w": torch.randn(1500, generator=seeded), "frozen": torch.arange(700)}


def save(checkpoints: Checkpoints, step: int) -> Any:
    now = state(step)
    return saved(checkpoints, step, now, frozen={id(now["frozen"])})


class Meanwhile:
    """A store before whose `at`-th call something else happens, once."""

    def __init__(self, blobs: BlobStore, at: int, what: Callable[[], None]) -> None:
        self.blobs, self.at, self.what, self.url = blobs, at, what, blobs.url
        self.calls: list[tuple[str, str]] = []

    def __getattr__(self, name: str) -> Any:
        there = getattr(self.blobs, name)
        if name not in CALLS:
            return there

        async def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append((name, str(args[0]) if args else ""))
            if len(self.calls) == self.at:
                await anyio.to_thread.run_sync(self.what)
            return await there(*args, **kwargs)

        return call


def killed_save(portal: Portal, blobs: BlobStore, number: int, step: int) -> None:
    """All packs of that step, and no manifest."""
    dying = FailingStore(blobs, at=1, only="checkpoints/")
    save(attempt(portal, dying, number), step)  # type: ignore[arg-type]


def restored(portal: Portal, blobs: BlobStore, number: int, step: int) -> None:
    found = attempt(portal, blobs, number).restore()
    assert found is not None and (found.step, found.damaged) == (step, ())
    assert same(state(step), found.state)


def is_last_moment(call: str, path: str) -> bool:
    """Whether a pack has had its last look, and goes now: see the docstring of `retention`."""
    return call == "delete" and "/packs/" in path


@pytest.fixture(params=[-1, 0, 1], ids=["a day slow", "right", "a day fast"])
def skewed(request: pytest.FixtureRequest) -> Moved:
    """The clock of a writer."""
    return Moved(timedelta(days=request.param))


# --- a writer, and `checkpoints prune` of another process ---------------------------------------------------


def test_a_new_attempt_at_every_point_of_a_prune(portal: Portal, skewed: Moved) -> None:
    """The run was dead when it was planned; an attempt begins, and saves what a killed one had written."""

    def once(at: int) -> list[tuple[str, str]]:
        clock = Moved()
        blobs = memory_store(clock)
        begin(portal, blobs, 1)
        first = attempt(portal, blobs, keep=Keep(last=9))
        for step in (1, 2, 3):
            save(first, step)
        killed_save(portal, blobs, 1, 4)
        clock.by += 1.1 * GRACE

        def writer() -> None:
            begin(portal, blobs, 2)
            second = attempt(portal, blobs, 2, keep=Keep(last=9), clock=skewed)
            second.restore()
            assert isinstance(save(second, 4), Saved)
            assert isinstance(save(second, 5), Saved)

        watched: Any = Meanwhile(blobs, at, writer)
        try:
            plan = portal.call(plan_prune, watched, PATHS, Keep(last=1))
            portal.call(prune, watched, PATHS, plan)
        except Superseded:
            pass
        if at <= len(watched.calls) and is_last_moment(*watched.calls[at - 1]):
            return watched.calls
        if at <= len(watched.calls):
            restored(portal, blobs, 3, 5)
            if f"checkpoints/{PATHS.checkpoint(2, 4)[-24:]}" in listed(portal, blobs):
                portal.call(blobs.delete, PATHS.checkpoint(2, 5))
                restored(portal, blobs, 3, 4)
        return watched.calls

    calls = once(10**9)
    assert sum(name == "delete" for name, _ in calls) > 6
    for at in range(1, len(calls) + 1):
        once(at)


def test_a_prune_at_every_point_of_a_save(portal: Portal, skewed: Moved) -> None:
    """The process had slept for hours, so that nobody thought it alive; then it goes on."""

    def once(at: int) -> int:
        clock = Moved()
        blobs = memory_store(clock)
        begin(portal, blobs, 1)

        async def prune_all() -> None:
            clock.by += 3 * GRACE
            skewed.by += 3 * GRACE
            await prune(blobs, PATHS, await plan_prune(blobs, PATHS, Keep(last=1)))

        def hours_later() -> None:
            with Portal() as own:
                own.call(prune_all)

        watched: Any = Meanwhile(blobs, at, hours_later)
        writer = attempt(portal, watched, keep=Keep(last=2), clock=skewed)
        outcomes = [save(writer, step) for step in (1, 2, 3)]
        assert all(isinstance(outcome, Saved) for outcome in outcomes), outcomes
        if at <= len(watched.calls) and watched.calls[at - 1] == ("put", PATHS.checkpoint(1, 3)):
            return len(watched.calls)
        restored(portal, blobs, 2, 3)
        return len(watched.calls)

    for at in range(1, once(10**9) + 1):
        once(at)


# --- a zombie, and the attempt after it ---------------------------------------------------------------------


def test_a_new_attempt_at_every_point_of_the_retention_of_an_old_one(
    portal: Portal, skewed: Moved
) -> None:
    """Stopped in its last retention, with a sweep due; the new attempt saves twice; then the old one wakes."""

    def once(at: int) -> list[tuple[str, str]]:
        clock = Moved()
        blobs = memory_store(clock)
        begin(portal, blobs, 1)
        killed_save(portal, blobs, 1, 11)
        clock.by += 1.1 * GRACE

        def successor() -> None:
            with Portal() as own:
                begin(own, blobs, 2)
                new = attempt(own, blobs, 2, keep=Keep(last=2), clock=skewed)
                new.restore()
                assert isinstance(save(new, 11), Saved)
                assert isinstance(save(new, 12), Saved)

        watched: Any = Meanwhile(blobs, at, successor)
        old = attempt(portal, watched, keep=Keep(last=1), clock=skewed)
        for step in (1, 2, 3):
            save(old, step)
        if at <= len(watched.calls) and not is_last_moment(*watched.calls[at - 1]):
            restored(portal, blobs, 3, 12)
            portal.call(blobs.delete, PATHS.checkpoint(2, 12))
            restored(portal, blobs, 3, 11)
        return watched.calls

    for at in range(1, len(once(10**9)) + 1):
        once(at)


# --- clocks ---------------------------------------------------------------------------------------------------


def test_litter_goes_an_hour_later_whatever_the_clock_here_says(
    portal: Portal, skewed: Moved
) -> None:
    """And again and again, not only at the first save; and a save that goes on is left alone."""
    clock, ticking = Moved(), Ticking(skewed.by)
    blobs = memory_store(clock)
    begin(portal, blobs, 1)
    killed_save(portal, blobs, 1, 11)
    writer = attempt(portal, blobs, keep=Keep(last=1), clock=ticking)
    save(writer, 1)
    before = len(listed(portal, blobs))
    clock.by += 1.1 * GRACE
    save(writer, 2)
    assert len(listed(portal, blobs)) == before  # once in an hour
    ticking.passed += 1.1 * GRACE.total_seconds()
    save(writer, 3)
    assert len(listed(portal, blobs)) < before
    killed_save(portal, blobs, 1, 12)
    ticking.passed += 1.1 * GRACE.total_seconds()
    full = len(listed(portal, blobs))
    save(writer, 4)
    assert len(listed(portal, blobs)) == full  # they are young
    ticking.passed += 1.1 * GRACE.total_seconds()
    clock.by += 1.1 * GRACE
    save(writer, 5)
    assert len(listed(portal, blobs)) < full


class Ticking(Moved):
    """A clock of a process whose time a test lets pass."""

    passed = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.passed


def test_a_pack_that_may_be_about_to_go_is_written_again(portal: Portal) -> None:
    """One that was written for a save that failed, once it is not young any more."""
    clock = Moved()
    blobs = memory_store(clock)
    begin(portal, blobs, 1)
    fails: list[bool] = []

    def refuse() -> None:
        if fails.pop():
            raise StoreError("the log cannot be written")

    writer = attempt(portal, blobs, before_commit=refuse)
    fails = [False, False, True, False, True]
    assert not isinstance(save(writer, 1), Saved)
    assert save(writer, 1).written == 0  # it is young
    assert not isinstance(save(writer, 2), Saved)
    clock.by += 0.6 * GRACE
    outcome = save(writer, 2)
    assert isinstance(outcome, Saved) and outcome.written == outcome.bytes - FROZEN
    clock.by += 99 * GRACE
    assert (
        save(writer, 3).written == outcome.bytes - FROZEN
    )  # what the newest names stays, however old
