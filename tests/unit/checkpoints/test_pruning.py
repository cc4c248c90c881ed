"""What `checkpoints prune` would remove, and that it removes that."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import torch

from crown_exp.checkpoints import Keep
from crown_exp.checkpoints.base import GRACE
from crown_exp.checkpoints.pruning import LONG_GRACE, Plan, plan_prune, prune
from crown_exp.errors import Superseded
from crown_exp.folder.records import Damaged, NewerFormat
from crown_exp.storage import BlobStore, Portal, open_blobs
from tests.checkpoint_states import (
    PATHS,
    Moved,
    attempt,
    begin,
    contents,
    listed,
    memory_store,
    same,
    saved,
)
from tests.s3.buckets import Bucket


@pytest.fixture
def portal() -> Iterator[Portal]:
    with Portal() as portal:
        yield portal


@pytest.fixture
def clock() -> Moved:
    return Moved()


@pytest.fixture
def blobs(portal: Portal, clock: Moved) -> BlobStore:
    """A run with checkpoints after steps 1 to 4 of attempt 1, two hours old, that share a pack."""
    store = memory_store(clock)
    begin(portal, store, 1)
    checkpoints = attempt(portal, store, keep=Keep(last=9))
    for step in range(1, 5):
        now = state(step)
        saved(checkpoints, step, now, frozen={id(now["frozen"])})
    clock.by += timedelta(hours=2)
    return store


def state(step: int) -> Any:
    return {"w": torch.full((1000,), float(step)), "frozen": torch.arange(500)}


def steps(plan: Plan) -> tuple[list[int], list[int]]:
    return [item.step for item in plan.checkpoints], [item.step for item in plan.stays]


def plan_of(portal: Portal, blobs: BlobStore, last: int = 1, **options: Any) -> Plan:
    return portal.call(plan_prune, blobs, PATHS, Keep(last=last), **options)


def test_what_would_go_is_told_and_then_goes(portal: Portal, blobs: BlobStore) -> None:
    before, told = contents(portal, blobs), []
    plan = plan_of(portal, blobs, 2, progress=lambda *args: told.append(args))
    assert steps(plan) == ([1, 2], [4, 3])
    assert plan.bytes == 2 * 4032 and len(plan.packs) == 2 and not plan.empty
    assert contents(portal, blobs) == before
    assert told[-1] == ("verifying", 8064, 8064)
    assert (
        portal.call(prune, blobs, PATHS, plan, progress=lambda *args: told.append(args))
        == plan.bytes
    )
    assert told[-1] == ("pruning", plan.bytes, plan.bytes)
    after = contents(portal, blobs)
    assert len(before) - len(after) == 4 and after.items() <= before.items()
    restored = attempt(portal, blobs, 2).restore()
    assert restored is not None and restored.step == 4 and same(state(4), restored.state)
    assert plan_of(portal, blobs, 2).empty


def test_packs_without_a_checkpoint_go_when_they_are_old(
    portal: Portal, blobs: BlobStore, clock: Moved
) -> None:
    portal.call(blobs.put, PATHS.pack("a" * 64), b"young")
    clock.by += GRACE / 2
    portal.call(blobs.put, PATHS.pack("b" * 64), b"younger")
    assert plan_of(portal, blobs, 9).empty
    clock.by += GRACE * 0.6
    plan = plan_of(portal, blobs, 9)
    assert [entry.path for entry in plan.packs] == [PATHS.pack("a" * 64)]
    assert plan_of(portal, blobs, 1, packs_only=True).empty
    clock.by += LONG_GRACE
    held = plan_of(portal, blobs, 1, packs_only=True)
    assert held.checkpoints == () and len(held.packs) == 2
    portal.call(blobs.put, PATHS.pack("a" * 64), b"young")  # written again before it is carried out
    assert portal.call(prune, blobs, PATHS, held) == len(b"younger")
    assert f"packs/{'a' * 64}" in listed(portal, blobs)


def test_the_newest_that_verifies_stays(portal: Portal, blobs: BlobStore) -> None:
    """Whatever else is newer; the two that are damaged count for nothing."""
    sole = set(portal.call(blobs.get, PATHS.checkpoint(1, 4)).split(b'"')) - set(
        portal.call(blobs.get, PATHS.checkpoint(1, 3)).split(b'"')
    )
    pack = next(path for path in contents(portal, blobs) if path[-64:].encode() in sole)
    portal.call(blobs.put, pack, b"other")
    portal.call(blobs.put, PATHS.damaged(1, 3), b"")
    assert steps(plan_of(portal, blobs)) == ([1], [4, 3, 2])


def test_if_none_verifies_nothing_goes(portal: Portal, blobs: BlobStore) -> None:
    for entry in portal.call(blobs.list, PATHS.packs):
        portal.call(blobs.put, entry.path, b"other")
    with pytest.raises(Damaged, match=r"none of its checkpoints verifies .* nothing is removed"):
        plan_of(portal, blobs)


def test_an_attempt_that_begins_ends_it(portal: Portal, blobs: BlobStore) -> None:
    plan = plan_of(portal, blobs)
    begin(portal, blobs, 2)
    before = contents(portal, blobs)
    with pytest.raises(Superseded, match="attempt 2 has begun meanwhile"):
        portal.call(prune, blobs, PATHS, plan)
    assert contents(portal, blobs) == before


def test_a_later_format_is_refused(
    portal: Portal, blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as later:
        later.setattr("crown_exp.checkpoints.format.Manifest.format", 2)
        saved(attempt(portal, blobs, keep=Keep(last=9)), 40, state(40))
    with pytest.raises(NewerFormat):
        plan_of(portal, blobs)


def test_a_run_without_checkpoints(portal: Portal) -> None:
    assert plan_of(portal, memory_store()).empty


def test_uploads_that_were_left_behind_go_too(portal: Portal, bucket: Bucket) -> None:
    """moto says of each that it was begun in 2010."""
    blobs = open_blobs(f"{bucket.url}/a", bucket.access)
    saved(attempt(portal, blobs), 1, state(1))
    key = f"a/{PATHS.pack('c' * 64)}"
    bucket.client.create_multipart_upload(Bucket=bucket.name, Key=key)
    bucket.client.create_multipart_upload(Bucket=bucket.name, Key="a/runs/other/packs/x")
    plan = plan_of(portal, blobs, access=bucket.access)
    assert [upload.path for upload in plan.uploads] == [PATHS.pack("c" * 64)]
    assert plan.packs == () and not plan.empty and not plan.note
    portal.call(prune, blobs, PATHS, plan, access=bucket.access)
    left = bucket.client.list_multipart_uploads(Bucket=bucket.name)["Uploads"]
    assert [upload["Key"] for upload in left] == ["a/runs/other/packs/x"]
    nobody = {
        **bucket.access,
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
    }
    plan = plan_of(portal, blobs, access=nobody)
    assert plan.note.startswith("unfinished uploads are not looked for: ") and plan.uploads == ()
