"""A blob that is there and for once is not found: nothing is marked, passed over or removed for it."""

from __future__ import annotations

from typing import Any

import pytest

from crown_exp.checkpoints import Keep
from crown_exp.checkpoints.checking import checked, numbers_of
from crown_exp.checkpoints.pruning import plan_prune
from crown_exp.errors import StoreError
from crown_exp.storage.runs import is_superseded
from tests.checkpoint_states import PATHS, attempt, begin, same
from tests.s3.faults import PLAIN_404, Fault
from tests.s3.operations import marks, restored, saves, state
from tests.s3.sweeps import World, hurried

IN_WORDS: dict[str, Any] = {"kind": "answer", "status": 404, "code": "NoSuchKey"}
BOTH = pytest.mark.parametrize("answer", [PLAIN_404, IN_WORDS], ids=["plain", "in words"])
FIRST = r"checkpoints/000001-0+1(\.json)?$"
"""The manifest of step 1."""

NEWEST = r"checkpoints/000001-0+2(\.json)?$"


def stray(world: World, answer: dict[str, Any], path: str, *, times: int | None = 1) -> None:
    """Let a GET find nothing, once, or so often; None is always."""
    world.proxy.clear()
    world.proxy.arm(Fault(**answer, method="GET", path=path, first=1, last=times))


def all_whole(world: World, *steps: int) -> None:
    """These checkpoints are there, whole and unmarked, and no others."""
    assert world.proxy.fired()
    world.proxy.clear()
    numbers = world.portal.call(numbers_of, world.direct, PATHS)
    assert [step for _, step in numbers] == sorted(steps, reverse=True)
    for number in numbers:
        assert world.portal.call(checked, world.direct, PATHS, number).whole
    assert not marks(world)


@BOTH
def test_retention_removes_nothing_of_a_checkpoint_whose_manifest_was_not_found(
    worlds: Any, answer: dict[str, Any]
) -> None:
    with worlds() as world:
        saves(world, world.direct, 1, 2)
        made = attempt(world.portal, world.through, 2, keep=Keep(last=9))
        made.restore()
        stray(world, answer, FIRST)
        world.portal.call(made.retention.retain, (1, 2), made.packs)
        all_whole(world, 1, 2)


@BOTH
def test_prune_plans_nothing_of_a_checkpoint_whose_manifest_was_not_found(
    worlds: Any, answer: dict[str, Any]
) -> None:
    with worlds() as world:
        saves(world, world.direct, 1, 2)
        stray(world, answer, FIRST)
        plan = world.portal.call(plan_prune, world.through, PATHS, Keep(last=9))
        assert plan.empty
        all_whole(world, 1, 2)


def test_what_is_listed_and_never_found_keeps_all(worlds: Any) -> None:
    """A store that contradicts itself is no ground to remove anything, or to take an older checkpoint."""
    with worlds() as world:
        saves(world, world.direct, 1, 2)
        made = attempt(world.portal, world.through, 2, keep=Keep(last=1))
        made.restore()
        stray(world, IN_WORDS, FIRST, times=None)
        for work in (
            lambda: world.portal.call(made.retention.retain, (1, 2), made.packs),
            lambda: world.portal.call(plan_prune, world.through, PATHS, Keep(last=1)),
        ):
            with pytest.raises(StoreError, match=r"lists .*0001\.json, and does not find it"):
                work()
        all_whole(world, 1, 2)
        stray(world, IN_WORDS, NEWEST, times=None)
        with pytest.raises(StoreError, match=r"lists .*0002\.json, and does not find it"):
            attempt(world.portal, world.through, 3).restore()
        all_whole(world, 1, 2)


@BOTH
@pytest.mark.parametrize("path", ["packs/", NEWEST])
def test_the_newest_is_restored_though_a_part_of_it_was_not_found(
    worlds: Any, answer: dict[str, Any], path: str
) -> None:
    with worlds() as world:
        saves(world, world.direct, 1, 2)
        stray(world, answer, path)
        found = attempt(world.portal, world.through, 2).restore()
        assert found is not None and (found.step, found.damaged) == (2, ())
        assert same(state(2), found.state)
        all_whole(world, 1, 2)


def test_a_pack_that_is_there_and_never_found_marks_nothing(worlds: Any) -> None:
    with worlds() as world:
        saves(world, world.direct, 1, 2)
        stray(world, IN_WORDS, "packs/", times=None)
        with pytest.raises(StoreError, match=r"packs/\w+ is in s3://.*, which did not find it"):
            attempt(world.portal, world.through, 2).restore()
        all_whole(world, 1, 2)


def test_a_pack_that_is_gone_is_damage_still(worlds: Any) -> None:
    with worlds() as world:
        saves(world, world.direct, 1)
        old = set(world.bucket.keys(world.prefix))
        saves(world, world.direct, 2)
        new = [key for key in world.bucket.keys(world.prefix) if key not in old]
        world.bucket.remove(*(key for key in new if "/packs/" in key))
        found = restored(world)
        assert found is not None and found.step == 1
        assert len(found.damaged) == 1 and "is gone" in found.damaged[0]
        assert len(marks(world)) == 1


def test_a_look_that_found_nothing_is_believed_only_in_words(worlds: Any) -> None:
    """An attempt that is superseded is not told otherwise by a proxy."""
    with worlds() as world:
        begin(world.portal, world.direct, 2)
        world.proxy.clear()
        world.proxy.arm(Fault(**PLAIN_404, path="attempts/000002", first=1, last=3))
        assert world.portal.call(is_superseded, world.through, PATHS.run_id, 1)
        assert not world.portal.call(is_superseded, world.through, PATHS.run_id, 2)
        assert world.proxy.fired() >= 2


@pytest.mark.parametrize("worlds", [("moto", "s3fs")], indirect=True)
def test_by_s3fs_too(worlds: Any) -> None:
    with worlds() as world:
        saves(world, world.direct, 1, 2)
        for work in (
            lambda: attempt(world.portal, world.through, 2).restore().step,
            lambda: len(world.portal.call(world.through.list, PATHS.checkpoints)),
            lambda: 2 * (world.portal.call(world.through.stat, PATHS.checkpoint(1, 2)).size > 0),
        ):
            for k in range(1, 4):
                world.proxy.clear()
                world.proxy.arm(Fault(**PLAIN_404, first=k, last=k))
                assert work() == 2
        world.proxy.clear()
        world.proxy.arm(Fault(**PLAIN_404))
        with hurried(world.through, world.hurried_s):
            with pytest.raises(StoreError, match="404 without a word of S3's"):
                world.portal.call(world.through.stat, PATHS.checkpoint(1, 2))
            with pytest.raises(StoreError, match="404 without a word of S3's"):
                world.portal.call(world.through.list, PATHS.checkpoints)
