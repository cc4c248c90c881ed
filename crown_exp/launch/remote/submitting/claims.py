"""Two commands that record the same runs at once: one records them, the other waits, and finds them recorded.

A claim is a blob that only one can create. It stands while runs are recorded, which takes seconds, and is
written anew meanwhile; who died leaves one that grows old, and the next command takes its place.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from crown_exp.folder.paths import claim_number, claim_path, claims_of
from crown_exp.launch.remote.submitting.touching import touched
from crown_exp.launch.session import Session
from crown_exp.launch.submit import Order
from crown_exp.storage import AlreadyExists, BlobStore, NotFound
from crown_exp.storage.machine import alive, here, process_started
from crown_exp.tracking.run_log import to_stderr

STANDS_SECONDS = 120.0
"""A claim that was not written for so long, by the store's clock, is nobody's."""

LOOK_SECONDS = 0.5


@contextmanager
def claimed(session: Session, orders: Iterable[Order]) -> Iterator[None]:
    """Inside, no other command records runs of the same tasks on the same compute targets.

    Waits for those that do. Raises StoreError.
    """
    keys = sorted(set(map(claim_key, orders)))  # in one order: none waits for one that waits for it
    if keys:
        session.prepare()
    with ExitStack() as claims:
        for key in keys:
            claims.enter_context(claim(session, key))
        yield


def claim_key(order: Order) -> str:
    """What equal runs share, and few others: the task and the target."""
    config = order.composition.config
    parts = [order.checked.target.name, config["compute"]["name"]]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


@contextmanager
def claim(session: Session, key: str) -> Iterator[None]:
    """One claim, once no other stands."""
    owner, told = own_claim(), False
    while (path := session.portal.call(taken, session.blobs, key, owner)) is None:
        if not told:
            to_stderr("another command records runs of this task just now; waiting until it has")
            told = True
        time.sleep(LOOK_SECONDS)
    try:
        with touched(session, {path: owner}):
            yield
    finally:
        session.portal.call(session.blobs.delete, path)


def own_claim() -> bytes:
    """Who we are, so that others on this machine see whether we live."""
    machine, pid = here(), os.getpid()
    told = {
        "host": machine.host, "boot_id": machine.boot_id, "pid": pid,
        "process_started": process_started(pid),
    }  # fmt: skip
    return json.dumps(told).encode()


async def taken(blobs: BlobStore, key: str, owner: bytes) -> str | None:
    """Our claim's path, if no other stands. Claims are numbered: that in the place of a dead one has the next.

    Others are looked for before it is written and again afterwards: of two that came at once and got
    different numbers, the later one sees the other.
    """
    listed = [entry.path for entry in await blobs.list(claims_of(key))]
    if await any_stands(blobs, listed):
        return None
    path = claim_path(key, max((claim_number(key, it) for it in listed), default=0) + 1)
    try:
        await blobs.put(path, owner, create=True)
    except AlreadyExists:  # somebody was quicker
        return None
    others = [entry.path for entry in await blobs.list(claims_of(key)) if entry.path != path]
    if await any_stands(blobs, others):
        await blobs.delete(path)
        return None
    for other in others:
        await blobs.delete(other)
    return path


async def any_stands(blobs: BlobStore, paths: Iterable[str]) -> bool:
    """Whether the owner of any of these claims may be at work."""
    return any([await stands(blobs, path) for path in paths])


async def stands(blobs: BlobStore, path: str) -> bool:
    """Whether a claim's owner may be at work."""
    try:
        entry, data = await blobs.stat(path), await blobs.get(path)
    except NotFound:
        return False
    if (await blobs.now() - entry.modified).total_seconds() > STANDS_SECONDS:
        return False
    return not is_dead(data)


def is_dead(data: bytes) -> bool:
    """Whether an owner was a process of this machine that has ended."""
    try:
        told = json.loads(data)
        ours = told["boot_id"] == here().boot_id is not None
        return bool(ours and not alive(told["pid"], told["process_started"]))
    except (ValueError, KeyError, TypeError):
        return False
