"""Which checkpoints a run has, and one run that begins with a checkpoint of another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from crown_exp.checkpoints import Keep
from crown_exp.checkpoints.checkpoints import Checkpoints
from crown_exp.checkpoints.listing import adopt, steps_of
from crown_exp.errors import ConfigError
from crown_exp.folder.paths import RunPaths
from crown_exp.folder.records import Damaged
from crown_exp.storage import BlobStore, Portal
from crown_exp.storage.file import FileStore
from tests.checkpoint_states import PATHS, attempt, contents, saved

FORK = RunPaths("r261123-forked")


@pytest.fixture
def portal() -> Iterator[Portal]:
    with Portal() as portal:
        yield portal


@pytest.fixture
def blobs(portal: Portal, tmp_path: Path) -> BlobStore:
    """A run with checkpoints after steps 1, 2 and 3 of attempt 1, and 2 of attempt 2."""
    store = FileStore(tmp_path)
    for number, steps in ((1, (1, 2, 3)), (2, (2,))):
        checkpoints = attempt(portal, store, number, keep=Keep(last=9))
        for step in steps:
            saved(
                checkpoints,
                step,
                {"w": torch.full((100,), step), "by": number},
                metrics={"m": step},
            )
    return store


def test_what_there_is(portal: Portal, blobs: BlobStore) -> None:
    found = portal.call(steps_of, blobs, PATHS)
    assert [(item.attempt, item.step) for item in found] == [(2, 2), (1, 3), (1, 2), (1, 1)]
    assert found[0].name == "000002-000000000002"
    assert found[0].bytes == 832 and found[0].metrics == {"m": 2}
    assert found[0].created.tzinfo is not None
    portal.call(blobs.put, PATHS.checkpoint(1, 3), b"nothing")
    portal.call(blobs.put, PATHS.damaged(1, 1), b"")
    left = portal.call(steps_of, blobs, PATHS)
    assert [(item.attempt, item.step) for item in left] == [(2, 2), (1, 2)]
    assert portal.call(steps_of, blobs, FORK) == []


@pytest.mark.parametrize(("step", "by", "of"), [(None, 2, 2), (3, 1, 3), (2, 2, 2)])
def test_adopted(portal: Portal, blobs: BlobStore, step: int | None, by: int, of: int) -> None:
    before = contents(portal, blobs)
    manifest = portal.call(adopt, blobs, PATHS, FORK, step)
    assert (manifest.run, manifest.attempt, manifest.step) == (FORK.run_id, 0, of)
    assert manifest.parent is not None
    assert manifest.parent.name == f"{PATHS.run_id}/00000{by}-00000000000{of}"
    assert portal.call(adopt, blobs, PATHS, FORK, step) == manifest
    restored = Checkpoints(portal, blobs, FORK, 1).restore()
    assert restored is not None and (restored.attempt, restored.step) == (0, of)
    assert restored.state["by"] == by and restored.state["w"][0] == of
    after = contents(portal, blobs)
    assert {path: after[path] for path in before} == before


def test_a_fork_stands_alone(portal: Portal, blobs: BlobStore) -> None:
    """One copy on the disk, and yet the one can go without the other."""
    manifest = portal.call(adopt, blobs, PATHS, FORK, 3)
    (pack,) = manifest.packs
    mine, theirs = (blobs.local_path(paths.pack(pack.sha256)) for paths in (FORK, PATHS))
    assert mine is not None and theirs is not None and mine.samefile(theirs)
    for path in contents(portal, blobs):
        if path.startswith(PATHS.root):
            portal.call(blobs.delete, path)
    checkpoints = Checkpoints(portal, blobs, FORK, 1, keep=Keep(last=1))
    restored = checkpoints.restore()
    assert restored is not None and restored.step == 3
    saved(checkpoints, 4, restored.state)
    assert [item.step for item in portal.call(steps_of, blobs, FORK)] == [4]


def test_what_cannot_be_adopted(portal: Portal, blobs: BlobStore) -> None:
    with pytest.raises(
        ConfigError, match=r"k7f3q2@7: no checkpoint of this step; there are 1, 2, 3$"
    ):
        portal.call(adopt, blobs, PATHS, FORK, 7)
    with pytest.raises(ConfigError, match="r1: has no checkpoint in file"):
        portal.call(adopt, blobs, RunPaths("r1"), FORK, None)
    newest = portal.call(steps_of, blobs, PATHS)
    for path in contents(portal, blobs):
        if "/packs/" in path:
            portal.call(blobs.put, path, b"other bytes")
    with pytest.raises(Damaged, match=rf"k7f3q2@{newest[0].step}: the checkpoint is damaged"):
        portal.call(adopt, blobs, PATHS, FORK, None)
    assert not [path for path in contents(portal, blobs) if path.startswith(FORK.root)]


def test_a_fork_of_the_newest_says_what_it_passed_over(portal: Portal, blobs: BlobStore) -> None:
    newest, before = portal.call(steps_of, blobs, PATHS)[:2]
    portal.call(blobs.put, PATHS.checkpoint(newest.attempt, newest.step), b"other bytes")
    said: list[str] = []
    made = portal.call(adopt, blobs, PATHS, FORK, None, said.append)
    assert made.step == before.step
    (line,) = said
    assert line.startswith(f"checkpoint {newest.name} of {PATHS.run_id} is damaged: ")
