"""What people do to runs that are there: tag them, note something, delete them."""

from __future__ import annotations

from crown_exp.clock import Clock, SystemClock
from crown_exp.errors import ConfigError, CrownError, StoreError
from crown_exp.folder import RunPaths, died_here, state
from crown_exp.outcome import State
from crown_exp.registry.base import Deletion, Ingested
from crown_exp.registry.ingest import ingest_run
from crown_exp.registry.notes import Change, write_change
from crown_exp.registry.registry import Registry
from crown_exp.storage import BlobStore
from crown_exp.storage.machine import here
from crown_exp.storage.runs import read_facts, read_run

_ALIVE = (State.RUNNING, State.QUEUED)


async def change_run(
    registry: Registry,
    blobs: BlobStore,
    run_id: str,
    change: Change,
    *,
    user: str,
    clock: Clock | None = None,
) -> Ingested:
    """Tag a run, take tags away, or replace its note: in its folder, then in the index.

    Raises ConfigError for a tag that is none and for a run that is not there.
    """
    await read_run(blobs, run_id)
    await write_change(blobs, run_id, change, user=user, now=(clock or SystemClock()).now())
    return await ingest_run(registry, blobs, run_id)


async def size_up(blobs: BlobStore, run_id: str) -> Deletion:
    """What deleting a run would free. Changes nothing."""
    listed = await blobs.list(f"{RunPaths(run_id).root}/")
    return Deletion(run_id, len(listed), sum(entry.size for entry in listed))


async def delete_run(registry: Registry, blobs: BlobStore, run_id: str) -> Deletion:
    """Delete a run's folder, then its rows. Raises ConfigError if it is running or queued.

    Its record goes first: if the rest is cut short there is no half of a run, and to delete it again, by its
    whole id, takes away what is left.
    """
    paths = RunPaths(run_id)
    freed = await size_up(blobs, run_id)
    await _refuse_if_alive(blobs, run_id)
    await blobs.delete(paths.record)
    for entry in await blobs.list(f"{paths.root}/"):
        await blobs.delete(entry.path)
    await ingest_run(registry, blobs, run_id)
    return freed


async def _refuse_if_alive(blobs: BlobStore, run_id: str) -> None:
    try:
        facts = await read_facts(blobs, run_id)
        found = state(facts, await blobs.now())
    except StoreError:
        raise
    except CrownError:
        return  # no run any more, or one that nobody can understand
    if found in _ALIVE and not died_here(facts, here()):
        what = f"is {found}, so it is not deleted; end it first, then delete it"
        raise ConfigError.of(run_id, what)
