"""A run's folder into the index: what is new is read, what was read before is not."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from anyio import to_thread
from sqlalchemy import select
from sqlalchemy.exc import StatementError

from crown_exp.errors import ConfigError, CrownError, StoreError
from crown_exp.folder import RunPaths
from crown_exp.folder.files import kind_of
from crown_exp.registry.base import FileInfo, Ingested
from crown_exp.registry.findings import forget, write_findings
from crown_exp.registry.models import runs, segments
from crown_exp.registry.notes import applied, folder, read_change
from crown_exp.registry.points import Cursor, Place
from crown_exp.registry.registry import Registry
from crown_exp.registry.rows import Findings
from crown_exp.registry.segments import read_segment, take_in, torn_line
from crown_exp.storage import BlobStore, NotFound
from crown_exp.storage.base import Entry
from crown_exp.storage.database import sqlite
from crown_exp.storage.database.base import Replaced
from crown_exp.storage.database.columns import tagged
from crown_exp.storage.runs import read_facts

TRIES = 5
"""As the index may be made anew meanwhile. Never seen twice, unless its file was taken from under it."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the index has of a run: the mark of its folder, and how far its segments were read.

    content: of the database that has it; if that is replaced, the next one has something else.
    """

    content: int
    store: str | None
    mark: str | None
    cursors: Mapping[tuple[int, int], Cursor]


async def ingest_run(registry: Registry, blobs: BlobStore, run_id: str) -> Ingested:
    """Bring the index up to date with a run's folder; one listing tells if there is anything new.

    What cannot be understood is told and left out: a segment, the config, a note; or the whole run if that
    is a record of its life. A run that is no longer in the store is forgotten.
    Raises StoreError if the store cannot be read, DatabaseError if the index cannot be written.
    """
    for _ in range(TRIES - 1):
        with suppress(Replaced):  # a part of it went into the old index: into the new one goes all
            return await _ingest(registry, blobs, run_id)
    return await _ingest(registry, blobs, run_id)


async def _ingest(registry: Registry, blobs: BlobStore, run_id: str) -> Ingested:
    paths, database = RunPaths(run_id), registry.database
    listed = await blobs.list(f"{paths.root}/")
    known = await _known(registry, run_id)
    if known.store not in (None, blobs.url):  # of another folder, perhaps of another run
        await database.write(forget, run_id)
        known = Known(known.content, None, None, {})
    if not any(entry.path == paths.record for entry in listed):
        await database.write(forget, run_id)
        return Ingested(run_id, gone=True)
    mark, problems = mark_of(listed), list[str]()
    if known.mark == mark:
        return Ingested(run_id)
    records = await _ingest_log(registry, blobs, paths, listed, known, problems)
    try:
        found = await _find(blobs, paths, listed, mark, problems)
        await database.write_in(known.content, write_findings, found)
    except (NotFound, ConfigError):  # deleted while we looked
        await database.write(forget, run_id)
        return Ingested(run_id, gone=True)
    except (OverflowError, StatementError) as error:
        # A number of 100 bits, a result 1000 levels deep.
        reason = getattr(error, "orig", None) or error
        problems.append(f"{paths.root}: {reason}; {run_id} is not indexed")
    except StoreError:
        raise
    except CrownError as error:
        problems.append(f"{error}; {run_id} is not indexed")
    return Ingested(run_id, records, problems=tuple(problems))


async def _known(registry: Registry, run_id: str) -> Known:
    c, s = runs.c, segments.c
    async with registry.database.read() as connection:
        content = await connection.run_sync(sqlite.content)
        row = (
            await connection.execute(select(c.store, c.mark).where(c.id == run_id))
        ).one_or_none()
        cursors = await connection.execute(
            select(s.attempt, s.segment, s.good_bytes, s.records).where(s.run_id == run_id)
        )
        found = {(attempt, number): Cursor(*cursor) for attempt, number, *cursor in cursors}
    store, mark = (None, None) if row is None else row
    return Known(content, store, mark, found)


async def _ingest_log(
    registry: Registry,
    blobs: BlobStore,
    paths: RunPaths,
    listed: Sequence[Entry],
    known: Known,
    problems: list[str],
) -> int:
    """Read what is new in every segment, in order; returns how many records."""
    over = {number for entry in listed if (number := paths.end_number(entry.path))}
    records = 0
    for entry in listed:
        part = paths.segment_number(entry.path)
        if part is None or entry.size <= (cursor := known.cursors.get(part, Cursor())).good_bytes:
            continue
        place = Place(paths.run_id, *part)
        try:
            found = await read_segment(blobs, entry.path, place, cursor)
        except NotFound:
            continue  # deleted while we looked
        except StoreError:
            raise
        except CrownError as error:
            problems.append(f"{error}; it is passed over")
            continue
        if found.torn and place.attempt in over:  # else a frame that is being written
            problems.append(torn_line(entry.path, found))
        taken, refused = await take_in(registry, known.content, place, cursor, found)
        records += taken
        if refused:
            what = f"{refused:,} records are no points or events"
            problems.append(f"{entry.path}: {what}; they are passed over")
    return records


def mark_of(listed: Sequence[Entry]) -> str:
    """A hash of a listing: equal marks, equal folders."""
    lines = (f"{entry.path}\0{entry.size}\0{entry.modified.timestamp():.6f}\n" for entry in listed)
    return hashlib.blake2b(
        "".join(lines).encode("utf-8", "backslashreplace"), digest_size=16
    ).hexdigest()


async def _find(
    blobs: BlobStore, paths: RunPaths, listed: Sequence[Entry], mark: str, problems: list[str]
) -> Findings:
    facts = await read_facts(blobs, paths.run_id)
    tags, note = await _annotations(blobs, paths, listed, facts.run.tags, problems)
    return Findings(
        store=blobs.url,
        facts=facts,
        config=await _config(blobs, paths, problems),
        tags=tags,
        note=note,
        files=[file_of(paths, entry) for entry in listed if entry.path.startswith(paths.files)],
        size=sum(entry.size for entry in listed),
        mark=mark,
    )


async def _config(blobs: BlobStore, paths: RunPaths, problems: list[str]) -> dict[str, Any] | None:
    import yaml

    try:
        data = await blobs.get(paths.config)
        tree = await to_thread.run_sync(lambda: yaml.load(data, Loader=yaml.CSafeLoader))
        tagged(tree)  # a tree may hold itself
    except NotFound:
        problems.append(f"{paths.config}: is missing")
    except (yaml.YAMLError, ValueError, RecursionError):
        problems.append(f"{paths.config}: damaged, not the YAML of a config")
    else:
        if isinstance(tree, dict):
            return tree
        problems.append(f"{paths.config}: damaged, not a mapping")
    return None


async def _annotations(
    blobs: BlobStore,
    paths: RunPaths,
    listed: Sequence[Entry],
    composed: Sequence[str],
    problems: list[str],
) -> tuple[list[str], str]:
    """The run's tags and note."""
    changes = []
    for entry in listed:
        if entry.path.startswith(folder(paths.run_id)):
            try:
                changes.append(read_change(await blobs.get(entry.path), entry.path))
            except StoreError:
                raise
            except CrownError as error:
                problems.append(str(error))
    return applied(composed, changes)


def file_of(paths: RunPaths, entry: Entry) -> FileInfo:
    """A file the task stored: `files/<step>/…`, or without a step."""
    path = entry.path.removeprefix(paths.files)
    step = path.partition("/")[0] if "/" in path else ""
    is_step = step.isdecimal() and step.isascii() and len(step) < 19
    return FileInfo(path, int(step) if is_step else None, entry.size, kind_of(path))
