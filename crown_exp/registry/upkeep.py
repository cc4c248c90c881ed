"""The index brought up to date with the store, as far as a moment suffices; or made anew from it."""

from __future__ import annotations

import glob
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from anyio import current_time, to_thread
from sqlalchemy import select

from crown_exp.errors import StoreError
from crown_exp.folder import RUNS
from crown_exp.folder.paths import is_id
from crown_exp.registry.base import REINDEX, Ingested, Refreshed, Reindexed
from crown_exp.registry.ingest import ingest_run
from crown_exp.registry.models import runs
from crown_exp.registry.opening import check_replaceable, open_registry
from crown_exp.registry.registry import Registry
from crown_exp.registry.states import unsettled
from crown_exp.storage import BlobStore
from crown_exp.storage.database import DatabaseError, database_url
from crown_exp.storage.database.base import path_of
from crown_exp.storage.database.engine import open_database
from crown_exp.storage.database.sqlite import exists, locked, make_way, replace
from crown_exp.storage.parallel import each

SECONDS = 2.0
AT_ONCE = 8
"""Runs that are read together: a store that is far away answers many as fast as one."""
LITTER_SECONDS = 24 * 3600.0

Progress = Callable[[int, int], None]
"""Called with how many runs are done, of how many."""


async def refresh(registry: Registry, blobs: BlobStore, *, seconds: float = SECONDS) -> Refreshed:
    """Take in runs that are new and those of which more may be told; forget those that are gone.

    What has begun is finished, but none is begun after `seconds`; live runs come first, then the newest.
    A store without any run is taken for one that is not mounted: then nothing is forgotten.
    Raises StoreError if the store cannot be read, DatabaseError if the index cannot be written.
    """
    there = {name for name in await blobs.folders(RUNS) if is_id(name)}
    known, pending = await _known(registry, blobs.url)
    if known and not there:
        what = f"{blobs.url} holds no runs, but {len(known):,} are known of it; is it mounted?"
        return Refreshed(problems=(what,))
    new = sorted(there - known, reverse=True)
    wanted = list(dict.fromkeys([*sorted(known - there), *pending, *new]))
    told = await _ingest_all(registry, blobs, wanted, current_time() + seconds)
    return Refreshed(
        looked=sum(not one.gone for one in told),
        gone=tuple(sorted(one.run for one in told if one.gone and one.run in known)),
        left=len(wanted) - len(told),
        problems=tuple(problem for one in told for problem in one.problems),
    )


async def _known(registry: Registry, store: str) -> tuple[set[str], list[str]]:
    """The runs that are known of a store, and those of which more may be told: the live ones first."""
    c = runs.c
    async with registry.database.read() as connection:
        known = set(await connection.scalars(select(c.id).where(c.store == store)))
        live_first = select(c.id).where(c.store == store, unsettled())
        live_first = live_first.order_by(c.ended.is_not(None), c.created.desc())
        pending = list(await connection.scalars(live_first))
    return known, pending


async def _ingest_all(
    registry: Registry,
    blobs: BlobStore,
    run_ids: Sequence[str],
    deadline: float = float("inf"),
    progress: Progress | None = None,
) -> list[Ingested]:
    """Ingest runs, some at once; those that the deadline (of the loop's clock) leaves out are missing."""
    told: list[Ingested] = []

    async def one(run_id: str) -> None:
        if current_time() < deadline:
            told.append(await _ingest(registry, blobs, run_id))
            if progress is not None:
                progress(len(told), len(run_ids))

    await each(one, run_ids, at_once=AT_ONCE)
    return told


async def _ingest(registry: Registry, blobs: BlobStore, run_id: str) -> Ingested:
    """As `ingest_run`, but a folder that cannot be read is told, unless it is the store that cannot."""
    try:
        return await ingest_run(registry, blobs, run_id)
    except DatabaseError:
        raise
    except StoreError as error:
        await blobs.folders(RUNS)
        return Ingested(run_id, problems=(f"{error}; {run_id} is not indexed",))


async def reindex(url: str, blobs: BlobStore, progress: Progress | None = None) -> Reindexed:
    """Make the registry at `url` anew from the runs in the store, and put it in the place of the old.

    Until then the old one answers, and whoever has it open goes on with the new. What was written into it
    meanwhile is in the runs' folders, too, and read from there; what is written in the very moment of the
    change is read when its run is next looked at. Two at once are safe.
    Raises StoreError if the store cannot be read, DatabaseError if the registry cannot be written or is the
    database of another program; then what was there is as it was.
    """
    await check_replaceable(url)
    path = path_of(url)
    new = path.with_name(f"{path.name}.{os.urandom(6).hex()}.new")
    try:
        async with open_registry(database_url(new), durable=False) as registry:
            found = [name for name in await blobs.folders(RUNS) if is_id(name)]
            told = await _ingest_all(registry, blobs, found, progress=progress)
        async with locked(path):
            moved = await to_thread.run_sync(make_way, path)
            newer = await _newer(path, new, blobs.url)
            await to_thread.run_sync(replace, path, new)
            told += await _read_again(path, blobs, newer)
    finally:
        await to_thread.run_sync(_clear, path, new)
    last = {one.run: one for one in told}.values()
    problems = tuple(problem for one in last for problem in one.problems)
    return Reindexed(sum(not one.gone for one in last), problems, moved)


async def _newer(path: Path, new: Path, store: str) -> list[str]:
    """Runs of which the old registry knows something else than the new one: they have changed meanwhile."""
    try:
        before, after = await _marks(path, store), await _marks(new, store)
    except DatabaseError:  # the old one is of no use
        return []
    return [run for run, mark in before.items() if after.get(run) != mark]


async def _marks(path: Path, store: str) -> dict[str, str]:
    if not exists(path):
        return {}
    c = runs.c
    async with open_database(database_url(path)) as database, database.read() as connection:
        found = await connection.execute(select(c.id, c.mark).where(c.store == store))
        return dict(found.all())


async def _read_again(path: Path, blobs: BlobStore, run_ids: Sequence[str]) -> list[Ingested]:
    """Take in the runs that have changed; what hinders that is told of each: the new registry is in place."""
    if not run_ids:
        return []
    try:
        async with open_database(database_url(path)) as database:
            return await _ingest_all(Registry(database), blobs, run_ids)
    except StoreError as error:
        why = f"{error}; what changed of it while the index was made is not in it: {REINDEX}"
        return [Ingested(run, problems=(f"{run}: {why}",)) for run in run_ids]


def _clear(path: Path, new: Path) -> None:
    """Remove what is left of `new`, and of others whose makers were killed long ago."""
    long_ago = time.time() - LITTER_SECONDS
    for left in path.parent.glob(f"{glob.escape(path.name)}.*.new*"):
        try:
            if left.name.startswith(new.name) or left.stat().st_mtime < long_ago:
                left.unlink()
        except OSError:
            continue  # somebody else cleared it
