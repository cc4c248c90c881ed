"""Runs in a store: their records written, read, found, and the fence before each attempt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from math import inf

from crown_exp.clock import isoformat
from crown_exp.errors import ConfigError, CrownError, Superseded
from crown_exp.folder import (
    RUNS,
    AttemptRecord,
    EndRecord,
    Facts,
    Free,
    Held,
    Here,
    JobRecord,
    ResultRecord,
    RunPaths,
    RunRecord,
    decode,
    encode,
    judge,
)
from crown_exp.folder.paths import is_id
from crown_exp.folder.records import AnyRecord, Record
from crown_exp.outcome import FINAL, STATE_OF_EXIT, ExitCode
from crown_exp.storage.base import AlreadyExists, BlobStore, NotFound
from crown_exp.storage.parallel import each

CANDIDATES = 5
"""How many runs are named when a prefix fits several."""


async def write_run(blobs: BlobStore, record: RunRecord, config_yaml: bytes) -> None:
    """Make a run: its config, then run.json, which is what makes it exist.

    Raises AlreadyExists, and changes nothing, if there is another run of that id. Writing the same
    run again is fine, so a writer that was cut short can start over.
    """
    paths = RunPaths(record.id)
    if not await _holds(blobs, paths.record, encode(record)):
        await blobs.put(paths.config, config_yaml)
        await _put_once(blobs, paths.record, record)


async def write_job(blobs: BlobStore, record: JobRecord, *, create: bool = False) -> None:
    """Write a job's record, or replace it: first the intent, then with the executor's id.

    create: it is to be the first of its number. Raises AlreadyExists if there is another: who was slower.
    """
    if create:
        await _put_once(blobs, RunPaths(record.run).job(record.number), record)
    else:
        await blobs.put(RunPaths(record.run).job(record.number), encode(record))


async def read_jobs(blobs: BlobStore, run_id: str) -> list[JobRecord]:
    """The records of a run's jobs, by number. Raises CrownError for one that cannot be understood."""
    paths = RunPaths(run_id)
    listed = [entry.path for entry in await blobs.list(paths.jobs)]
    marked = set(filter(None, map(paths.cancelled_number, listed)))
    records = await _read_all(blobs, JobRecord, filter(paths.job_number, listed))
    return [
        await _as_cancelled(blobs, record) if record.number in marked else record
        for record in records
    ]


async def read_job(blobs: BlobStore, run_id: str, number: int) -> JobRecord:
    """One job's record. Raises NotFound, CrownError for one that cannot be understood.

    A job that is cancelled after its record was written anew is seen to be: that is looked up last.
    """
    path = RunPaths(run_id).job(number)
    return await _as_cancelled(blobs, decode(JobRecord, await blobs.get(path), path))


async def cancel_job(blobs: BlobStore, run_id: str, number: int, reason: str) -> None:
    """Record that a job was cancelled, or is over. Whoever is first says why; nothing takes it back.

    It is no field of the record, which several write anew: one of them would write over it.
    """
    line = " ".join(reason.split())
    with suppress(AlreadyExists):
        await blobs.put(RunPaths(run_id).cancelled(number), f"{line}\n".encode(), create=True)


async def job_age(blobs: BlobStore, run_id: str, number: int) -> float:
    """Seconds since a job's record was last written, by the store's clock. Raises NotFound."""
    entry = await blobs.stat(RunPaths(run_id).job(number))
    return (await blobs.now() - entry.modified).total_seconds()


async def _as_cancelled(blobs: BlobStore, job: JobRecord) -> JobRecord:
    """The job with what its marker says, if it has one."""
    if job.cancelled:  # an older version wrote it there
        return job
    try:
        line = await blobs.get(RunPaths(job.run).cancelled(job.number))
    except NotFound:
        return job
    return replace(job, cancelled=True, reason=line.decode(errors="replace").strip())


async def write_result(blobs: BlobStore, record: ResultRecord) -> None:
    """Write the result, before the end. Raises AlreadyExists if there is another."""
    await _put_once(blobs, RunPaths(record.run).result, record)


async def write_end(blobs: BlobStore, record: EndRecord) -> None:
    """Write how an attempt ended. Raises AlreadyExists if it ended otherwise."""
    await _put_once(blobs, RunPaths(record.run).end(record.attempt), record)


async def _put_once(blobs: BlobStore, path: str, record: Record) -> None:
    data = encode(record)
    try:
        await blobs.put(path, data, create=True)
    except AlreadyExists:
        if await blobs.get(path) != data:
            raise


async def _holds(blobs: BlobStore, path: str, data: bytes) -> bool:
    """Whether the blob is there and is `data`. Raises AlreadyExists if it is something else."""
    try:
        found = await blobs.get(path)
    except NotFound:
        return False
    if found != data:
        raise AlreadyExists(f"{path} exists in {blobs.url}")
    return True


async def read_run(blobs: BlobStore, run_id: str) -> RunRecord:
    """run.json. Raises ConfigError if there is none, CrownError if it cannot be understood."""
    path = RunPaths(run_id).record
    try:
        return decode(RunRecord, await blobs.get(path), path)
    except NotFound:
        raise _unknown(run_id, blobs) from None


async def read_facts(blobs: BlobStore, run_id: str) -> Facts:
    """All that `folder.state` needs to know. Raises as `read_run`.

    The result is read last: it is written before the end record, so an end is never seen alone.
    """
    paths = RunPaths(run_id)
    run = await read_run(blobs, run_id)
    listed = [entry.path for entry in await blobs.list(paths.attempts)]
    attempts = [path for path in listed if paths.attempt_number(path)]
    ends = [path for path in listed if paths.end_number(path)]
    newest = max((paths.attempt_number(path) or 0 for path in attempts), default=0)
    return Facts(
        run=run,
        jobs=await read_jobs(blobs, run_id),
        attempts=await _read_all(blobs, AttemptRecord, attempts),
        ends=await _read_all(blobs, EndRecord, ends),
        last_beat=await last_beat(blobs, run_id, newest) if newest else None,
        result=await _read_if_there(blobs, ResultRecord, paths.result),
    )


async def _read_all(
    blobs: BlobStore, cls: type[AnyRecord], paths: Iterable[str]
) -> list[AnyRecord]:
    """The records at `paths`, fetched together."""
    found: dict[str, bytes] = {}
    ordered = sorted(paths)

    async def fetch(path: str) -> None:
        found[path] = await blobs.get(path)

    await each(fetch, ordered, at_once=inf)
    return [decode(cls, found[path], path) for path in ordered]


async def _read_if_there(blobs: BlobStore, cls: type[AnyRecord], path: str) -> AnyRecord | None:
    try:
        return decode(cls, await blobs.get(path), path)
    except NotFound:
        return None


async def last_beat(blobs: BlobStore, run_id: str, attempt: int) -> datetime | None:
    """When an attempt last wrote its record or a log segment, by the store's clock."""
    paths = RunPaths(run_id)
    written = [entry.modified for entry in await blobs.list(paths.log_of(attempt))]
    try:
        written.append((await blobs.stat(paths.attempt(attempt))).modified)
    except NotFound:
        pass
    return max(written, default=None)


async def find_run(blobs: BlobStore, prefix: str) -> str:
    """The id of the one run that begins with `prefix`, as a whole or after its dash.

    A whole id wins over longer ones. Raises ConfigError if no run fits, or several do.
    """
    wanted = prefix.strip().lower()
    names = [name for name in await blobs.folders(RUNS) if is_id(name) and _fits(name, wanted)]
    names.sort(key=lambda name: (name == wanted, name), reverse=True)
    found: list[str] = []
    for name in names:
        if await _exists(blobs, RunPaths(name).record):
            found.append(name)
        if name == wanted and found:
            return name
        if len(found) > CANDIDATES:
            break
    if len(found) == 1:
        return found[0]
    raise _ambiguous(prefix, found) if found else _unknown(prefix, blobs)


def _fits(name: str, wanted: str) -> bool:
    return name.startswith(wanted) or name.partition("-")[2].startswith(wanted)


async def _exists(blobs: BlobStore, path: str) -> bool:
    try:
        await blobs.get(path)  # S3's answer to a HEAD says too little to be believed alone
    except NotFound:
        return False
    return True


def _unknown(prefix: str, blobs: BlobStore) -> CrownError:
    return ConfigError.of(prefix or "run", f"no run in {blobs.url} has this id")


def _ambiguous(prefix: str, found: Sequence[str]) -> CrownError:
    named = ", ".join(found[:CANDIDATES]) + (", ..." if len(found) > CANDIDATES else "")
    return ConfigError.of(prefix or "run", f"several runs fit: {named}; type more of the id")


class Over(CrownError):
    """A run that was to be gone on with has come to its end meanwhile."""


async def claim_attempt(
    blobs: BlobStore,
    run_id: str,
    build: Callable[[int], AttemptRecord],
    here: Here,
    *,
    job: str | None = None,
    take_over: bool = False,
) -> AttemptRecord:
    """Begin the next attempt of a run: of all who try, here or elsewhere, one at a time succeeds.

    build: makes the record of an attempt, given its number. job, take_over: as `folder.judge`.
    Raises Superseded if a living attempt holds the run, Over if it has ended for good.
    """
    paths, known = RunPaths(run_id), 0
    while True:
        newest = max(known, await _newest(blobs, paths))
        verdict = await _judge(blobs, paths, newest, here, job=job, take_over=take_over)
        if isinstance(verdict, Held):
            way = "nothing was changed: wait for it to end, or add --take-over"
            raise Superseded(f"{held_by(verdict)}; {way}")
        record = replace(build(verdict.next_attempt), took_over=verdict.took_over)
        try:
            await blobs.put(paths.attempt(record.attempt), encode(record), create=True)
        except AlreadyExists:
            known = record.attempt  # someone was faster; listings of a shared folder may lag
            continue
        return record


async def _newest(blobs: BlobStore, paths: RunPaths) -> int:
    listed = await blobs.list(paths.attempts)
    return max((paths.attempt_number(entry.path) or 0 for entry in listed), default=0)


async def _judge(
    blobs: BlobStore, paths: RunPaths, number: int, here: Here, *, job: str | None, take_over: bool
) -> Free | Held:
    if not number:
        return Free(1)
    path = paths.attempt(number)
    newest = decode(AttemptRecord, await blobs.get(path), path)
    end = await _read_if_there(blobs, EndRecord, paths.end(number))
    if end is not None and not end.again and STATE_OF_EXIT.get(ExitCode(end.exit_code)) in FINAL:
        raise Over(f"run {paths.run_id} has ended")
    beat = await last_beat(blobs, paths.run_id, number)
    return judge(newest, end, beat, await blobs.now(), here, job=job, take_over=take_over)


def held_by(held: Held) -> str:
    """Who holds a run, and since when."""
    by = held.by
    return (
        f"run {by.run} is held by attempt {by.attempt} on {by.host} (pid {by.pid}) since "
        f"{isoformat(by.started)}, last heard of {max(held.beat_age_s, 0):.0f} s ago"
    )


async def is_superseded(blobs: BlobStore, run_id: str, attempt: int) -> bool:
    """Whether a later attempt has begun: one look, as attempts are numbered without gaps."""
    return await _exists(blobs, RunPaths(run_id).attempt(attempt + 1))
