"""Two writers of one run, a remover beside a writer, and a zombie: one's request is held, the other goes on.

Every request of the one is held once, for as long as the other takes to do all it does; then it reaches the
server.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest

from crown_exp.checkpoints import Keep, Saved, Superseded, Unsaved
from crown_exp.checkpoints.checkpoints import Checkpoints
from crown_exp.checkpoints.pruning import plan_prune, prune
from crown_exp.errors import StoreError
from crown_exp.errors import Superseded as SupersededError
from crown_exp.storage import BlobStore, Portal
from crown_exp.storage.base import Entry
from tests.checkpoint_states import PATHS, begin
from tests.s3.operations import halves, restored, save, saves, state, what_is_wrong
from tests.s3.sweeps import World, hurried, quick, world

HOLD_S = 60.0
QUICK = [4, 7, 9]
ALL = range(1, 15)


def quick_ones(places: range, quick: list[int]) -> list[Any]:
    """All places; those that are not among the quick ones are for `make test-full`."""
    return [k if k in quick else pytest.param(k, marks=pytest.mark.full) for k in places]


@pytest.fixture(scope="module")
def portal() -> Iterator[Portal]:
    with Portal() as portal:
        yield portal


@pytest.fixture(params=["", pytest.param("ceph_", marks=pytest.mark.full)], ids=["moto", "ceph"])
def worlds(portal: Portal, request: pytest.FixtureRequest) -> Callable[..., Any]:
    """On moto, and on Ceph."""
    proxy, bucket = (
        request.getfixturevalue(f"{request.param}{what}") for what in ("proxy", "bucket")
    )
    return partial(world, portal, proxy, bucket, deadline_s=2 * HOLD_S)


def hold(fresh: World, k: int, started: Callable[[], bool]) -> bool:
    """Wait until the k-th request is held; False if all is over before. started: whether it goes on."""
    while not fresh.proxy.fired():
        if not started():
            return False
        time.sleep(0.005)
    return True


def held_save(
    fresh: World, writer: Checkpoints, step: int, k: int, meanwhile: Callable[[], Any]
) -> Any:
    """The outcome of a save whose k-th request is held until `meanwhile` is done; None if it has fewer."""
    fresh.proxy.clear()
    fresh.proxy.arm_at(k, "delay", seconds=HOLD_S)
    now = state(step)
    writer.save(step, now, frozen={id(now["frozen"])})
    if not hold(fresh, k, lambda: writer.busy):
        return None
    meanwhile()
    fresh.proxy.clear()
    writer.wait()
    return writer.outcome()


# --- a zombie -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "slept", [False, pytest.param(True, marks=pytest.mark.full)], ids=["a moment", "hours"]
)
@pytest.mark.parametrize("k", quick_ones(ALL, QUICK))
def test_a_zombie_wakes_when_the_new_attempt_has_saved_and_removed(
    worlds: Any, k: int, slept: bool, request: pytest.FixtureRequest
) -> None:
    """The newer one wins, nothing shadows it, and the older one ends."""
    with worlds() as fresh:
        zombie = saves(fresh, fresh.through, 8, keep=1)

        def take_over() -> None:
            begin(fresh.portal, fresh.direct, 2)
            new = saves(fresh, fresh.direct, number=2, keep=1)
            for step in (5, 6):  # fewer steps than the zombie's: numbers of attempts decide
                assert isinstance(save(new, step), Saved)

        if slept:
            with quick():
                outcome = held_save(fresh, zombie, 9, k, take_over)
        else:
            outcome = held_save(fresh, zombie, 9, k, take_over)
        if outcome is None:
            return
        assert isinstance(outcome, Superseded | Saved), outcome
        assert what_is_wrong(fresh, 6) == ""
        assert save(zombie, 10) == Superseded(10)
        assert what_is_wrong(fresh, 6) == ""
        new = saves(fresh, fresh.direct, number=3, keep=1)
        assert isinstance(save(new, 7), Saved)
        assert what_is_wrong(fresh, 7) == "" and halves(fresh) == ""


@pytest.mark.parametrize("k", quick_ones(ALL, [3, 6]))
def test_what_a_zombie_wrote_arrives_after_it_has_given_up(
    portal: Portal, proxy: Any, bucket: Any, k: int
) -> None:
    """A request that lay somewhere between for longer than the deadline."""
    with world(portal, proxy, bucket) as fresh, quick():
        zombie = saves(fresh, fresh.through, 8, keep=1)
        proxy.clear()
        proxy.arm_at(k, "delay", seconds=HOLD_S)
        with hurried(fresh.through, 1):
            outcome = save(zombie, 9)
        if not proxy.fired():
            return
        begin(portal, fresh.direct, 2)
        new = saves(fresh, fresh.direct, number=2, keep=1)
        went_on = restored(fresh)
        assert went_on is not None and went_on.step in (8, 9)
        assert not isinstance(outcome, Saved) or went_on.step == 9
        assert isinstance(save(new, 10), Saved)
        proxy.clear()  # now it arrives
        deadline = time.monotonic() + 60
        while any(one.outcome == "open" for one in proxy.operations()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert what_is_wrong(fresh, 10) == ""
        assert save(zombie, 11) == Superseded(11)
        assert what_is_wrong(fresh, 10) == ""


@pytest.mark.parametrize("first", ["old", "new"])
def test_two_writers_at_once(worlds: Any, first: str) -> None:
    """Whichever comes first: the later attempt goes on, and what it saved last is restored."""
    with worlds() as fresh:
        old = saves(fresh, fresh.through, 1, keep=1)
        now = state(2)
        if first == "old":
            old.save(2, now, frozen={id(now["frozen"])})
        begin(fresh.portal, fresh.direct, 2)
        if first == "new":
            old.save(2, now, frozen={id(now["frozen"])})
        new = saves(fresh, fresh.direct, number=2, keep=1)
        outcomes = [save(new, step) for step in (3, 4)]
        old.wait()
        assert all(isinstance(outcome, Saved) for outcome in outcomes)
        if first == "new":
            assert old.outcome() == Superseded(2)
        assert save(old, 5) == Superseded(5)
        assert what_is_wrong(fresh, 4) == ""


# --- a remover beside a writer ------------------------------------------------------------------------------


class Aged:
    """A store in which some blobs were written two hours ago, unless they were written again since."""

    def __init__(self, blobs: BlobStore, old: dict[str, datetime]) -> None:
        self.blobs, self.old = blobs, old

    def __getattr__(self, name: str) -> Any:
        return getattr(self.blobs, name)

    async def list(self, prefix: str) -> list[Entry]:
        return [self._aged(entry) for entry in await self.blobs.list(prefix)]

    async def stat(self, path: str) -> Entry:
        return self._aged(await self.blobs.stat(path))

    def _aged(self, entry: Entry) -> Entry:
        if self.old.get(entry.path) != entry.modified:
            return entry
        return replace(entry, modified=entry.modified - timedelta(hours=48))


def refuse() -> None:
    raise StoreError("the save before the one that counts")


def of_a_save_that_failed(fresh: World, writer_by: str) -> tuple[Checkpoints, Any]:
    """A writer that knows packs which nothing names, two days old; and the store as the remover sees it."""
    old: dict[str, datetime] = {}
    stores = {"through": Aged(fresh.through, old), "direct": Aged(fresh.direct, old)}
    other = "direct" if writer_by == "through" else "through"
    writer = saves(fresh, stores[writer_by], 1)  # type: ignore[arg-type]
    writer.before_commit = refuse
    assert isinstance(save(writer, 2), Unsaved)
    writer.before_commit = lambda: None
    old |= {
        entry.path: entry.modified for entry in fresh.portal.call(fresh.direct.list, PATHS.packs)
    }
    time.sleep(1.05)  # what is written again is of another second: a store tells no less
    return writer, stores[other]


async def plan_and_prune(blobs: BlobStore, packs_only: bool) -> int:
    plan = await plan_prune(blobs, PATHS, Keep(last=1), packs_only=packs_only)
    return await prune(blobs, PATHS, plan)


@pytest.mark.parametrize("packs_only", [True, pytest.param(False, marks=pytest.mark.full)])
@pytest.mark.parametrize("k", quick_ones(ALL, [4, 6, 7]))
def test_gc_while_a_writer_relies_on_the_pack(worlds: Any, k: int, packs_only: bool) -> None:
    """The writer's k-th request is held, the remover does all it does."""
    with worlds() as fresh:
        writer, remover = of_a_save_that_failed(fresh, "through")
        outcome = held_save(
            fresh, writer, 2, k, lambda: fresh.portal.call(plan_and_prune, remover, packs_only)
        )
        if outcome is not None:
            assert isinstance(outcome, Saved), outcome
            assert what_is_wrong(fresh, 2) == "" and halves(fresh) == ""


@pytest.mark.parametrize("packs_only", [True, pytest.param(False, marks=pytest.mark.full)])
@pytest.mark.parametrize("k", quick_ones(ALL, [5, 8]))
def test_a_writer_relies_on_the_pack_while_gc_goes_on(
    worlds: Any, k: int, packs_only: bool
) -> None:
    """The remover's k-th request is held, the writer saves."""
    with worlds() as fresh:
        writer, remover = of_a_save_that_failed(fresh, "direct")
        fresh.proxy.clear()
        fresh.proxy.arm_at(k, "delay", seconds=HOLD_S)
        removing: Future[int] = fresh.portal.start(plan_and_prune, remover, packs_only)
        held = hold(fresh, k, lambda: not removing.done())
        last = fresh.proxy.operations()[-1]
        assert isinstance(save(writer, 2), Saved)
        fresh.proxy.clear()
        removing.result(60)
        if held and last.method == "DELETE" and "/packs/" in last.path:
            # What no store can keep apart (see retention): a restore finds it, and so does the next save.
            assert isinstance(save(writer, 3), Saved)
            assert what_is_wrong(fresh, 3) == ""
        else:
            assert what_is_wrong(fresh, 2) == "" and halves(fresh) == ""


@pytest.mark.parametrize("k", quick_ones(range(1, 25), [9, 15]))
def test_a_prune_ends_when_a_new_attempt_begins(worlds: Any, k: int) -> None:
    """The words' prune is held; an attempt begins, restores, saves and removes."""
    with worlds() as fresh, quick():
        saves(fresh, fresh.direct, 1, 2, 3)
        begin(fresh.portal, fresh.direct, 1)
        fresh.proxy.clear()
        fresh.proxy.arm_at(k, "delay", seconds=HOLD_S)
        removing: Future[int] = fresh.portal.start(plan_and_prune, fresh.through, False)
        if not hold(fresh, k, lambda: not removing.done()):
            return
        begin(fresh.portal, fresh.direct, 2)
        new = saves(fresh, fresh.direct, number=2, keep=2)
        assert isinstance(save(new, 4), Saved)
        fresh.proxy.clear()
        try:
            removing.result(60)
        except SupersededError as error:
            assert "attempt 2 has begun meanwhile" in str(error)
        assert what_is_wrong(fresh, 4) == ""
        assert isinstance(save(new, 5), Saved)
        assert what_is_wrong(fresh, 5) == "" and halves(fresh) == ""
