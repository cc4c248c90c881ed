"""Completed runs and where their attempts were lived, from the registry or from the store itself."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from crown_exp.folder import RUNS, AttemptRecord, Facts, RunRecord
from crown_exp.folder.paths import is_id
from crown_exp.launch.equal import asked
from crown_exp.launch.recorded import if_readable, read_runs
from crown_exp.storage import BlobStore
from crown_exp.storage.parallel import each
from crown_exp.storage.runs import last_beat, read_facts

if TYPE_CHECKING:
    from sqlite3 import Connection

NEWEST = 20
"""Of how many earlier runs the median is taken, at most."""

ASKED = 200
"""How many completed runs of an experiment the registry is asked for: they may have been on many machines."""

LOOKED = 300
"""How many runs of a store are looked at, the newest: what lies further back is in the registry."""

AT_ONCE = 32

Kind = tuple[str | None, str]
"""What is run: an experiment's name, if it is one, and the task's target."""


@dataclass(frozen=True, slots=True)
class Lived:
    """An attempt of a completed run.

    until: its end; of one that was killed, when it was last heard of. accelerators: of the machine that was
    paid for; None if nothing was. target: the compute target's name of its job; None: it was started by hand.
    choices: all accelerators that its job might have been given, in small letters, if nobody could tell which
    of them it was; else empty. steps: of the whole run, when it was completed; 0 if it counted none.
    """

    since: datetime | None
    until: datetime | None
    host: str
    accelerators: str | None
    target: str | None
    choices: frozenset[str] = frozenset()
    steps: int = 0

    @property
    def seconds(self) -> float:
        """How long it lived; 0 if it is not known when it began, or if it was never heard of."""
        if self.since is None or self.until is None:
            return 0.0
        return max(0.0, (self.until - self.since).total_seconds())


Past = dict[Kind, list[Sequence[Lived]]]
"""Completed runs, as all attempts of each, the newest run first."""

_PAST = """
    SELECT r.id, a.started, a.ended, a.host, a.place,
        CASE WHEN j.run_id IS NULL THEN NULL ELSE coalesce(nullif(j.target, ''), r.compute) END,
        CASE WHEN a.ended IS NULL THEN (
            SELECT max(e.ts) FROM events e WHERE e.run_id = a.run_id AND e.attempt = a.attempt
        ) END,
        j.rates, r.step
    FROM (
        SELECT id, created, compute, step FROM runs
        WHERE experiment IS ? AND task = ? AND store = ? AND result_attempt IS NOT NULL AND NOT pruned
        ORDER BY created DESC, id DESC LIMIT ?
    ) r
    JOIN attempts a ON a.run_id = r.id
    LEFT JOIN jobs j ON j.run_id = r.id AND j.job = a.job
    ORDER BY r.created DESC, r.id DESC, a.attempt
"""


# --- the registry ---------------------------------------------------------------------------------------


def in_registry(url: str, store: str, kinds: Collection[Kind]) -> Past:
    """What the registry knows of each kind; nothing if it cannot be read: it is a hint.

    url: of the registry. store: whose runs. An attempt that was killed counts up to its last event, which is
    what was saved: the rest was lived through again.
    """

    def ask(connection: Connection) -> Past:
        return {
            kind: list(_by_run(connection.execute(_PAST, (*kind, store, ASKED)))) for kind in kinds
        }

    return asked(url, ask) or {}


def _by_run(rows: Any) -> Iterator[list[Lived]]:
    attempts: list[Lived] = []
    before = None
    for run, *row in rows:
        if run != before and attempts:
            yield attempts
            attempts = []
        attempts.append(_lived(*row))
        before = run
    if attempts:
        yield attempts


def _lived(
    started: str | None, ended: str | None, host: str | None, place: str | None,
    target: str | None, heard: float | None, rates: str | None, steps: int,
) -> Lived:  # fmt: skip
    paid = json.loads(place) if place else None
    sold = json.loads(rates) if rates else []
    until = datetime.fromtimestamp(heard, UTC) if heard is not None else _moment(ended)
    return Lived(
        since=_moment(started), until=until, host=host or "",
        accelerators=str(paid.get("accelerators", "")) if isinstance(paid, dict) else None,
        target=target, choices=choices(paid, sold), steps=steps,
    )  # fmt: skip


def _moment(text: str | None) -> datetime | None:
    """What SQLite holds of a moment: in UTC, without a zone."""
    return None if text is None else datetime.fromisoformat(text).replace(tzinfo=UTC)


# --- what is known of a machine ---------------------------------------------------------------------------


def choices(place: Any, rates: Any) -> frozenset[str]:
    """All accelerators of a job, if that of a place could not be told from others: the dearest was recorded.

    place: of an attempt, as it is recorded; None if nothing was paid. rates: of its job. What is damaged tells
    nothing.
    """
    try:
        price = place["usd_per_hour"]
        there = [it for it in rates if all(it[name] == place[name] for name in ("cloud", "region"))]
        if not any(_is_dearest_of_several(price, among) for among in (there, rates)):
            return frozenset()
        return frozenset(str(it["accelerators"]).lower() for it in rates)
    except (TypeError, LookupError):
        return frozenset()


def _is_dearest_of_several(price: float, rates: Sequence[Mapping[str, Any]]) -> bool:
    several = len({it["accelerators"] for it in rates}) > 1
    return several and bool(price >= max(it["usd_per_hour"] for it in rates))


# --- the store ------------------------------------------------------------------------------------------


async def in_store(blobs: BlobStore, kinds: Collection[Kind]) -> Past:
    """The newest completed runs of each kind, NEWEST of each, among the newest LOOKED runs of the store.

    What cannot be understood is passed over. Raises StoreError.
    """
    past: Past = {kind: [] for kind in kinds}
    ids = sorted(filter(is_id, await blobs.folders(RUNS)), reverse=True)[:LOOKED]
    for start in range(0, len(ids), AT_ONCE):
        wanted = {kind for kind, runs in past.items() if len(runs) < NEWEST}
        if not wanted:
            break
        records = await read_runs(blobs, ids[start : start + AT_ONCE])
        records = [it for it in records if (it.experiment, it.task) in wanted]
        records.sort(key=lambda it: (it.created, it.id), reverse=True)
        found = await _completed(blobs, records)
        for record in records:
            if record.id in found:
                past[record.experiment, record.task].append(found[record.id])
    return {kind: runs for kind, runs in past.items() if runs}


async def _completed(blobs: BlobStore, records: list[RunRecord]) -> dict[str, list[Lived]]:
    """The attempts of those of the runs that are completed, by run."""
    found: dict[str, list[Lived]] = {}

    async def read(record: RunRecord) -> None:
        facts = await if_readable(read_facts(blobs, record.id))
        if facts is None or facts.result is None or facts.result.pruned:
            return
        if facts.attempts:
            found[record.id] = await lived(blobs, facts)

    await each(read, records, at_once=AT_ONCE)
    return found


async def lived(blobs: BlobStore, facts: Facts) -> list[Lived]:
    """The attempts of a run."""
    return [await _attempt(blobs, facts, it) for it in facts.attempts]


async def _attempt(blobs: BlobStore, facts: Facts, attempt: AttemptRecord) -> Lived:
    job = next((it for it in facts.jobs if attempt.job and it.job == attempt.job), None)
    until = next((it.ended for it in facts.ends if it.attempt == attempt.attempt), None)
    return Lived(
        since=attempt.started,
        until=until or await last_beat(blobs, facts.run.id, attempt.attempt),
        host=attempt.host,
        accelerators=attempt.place["accelerators"] if attempt.place is not None else None,
        target=(job.target or facts.run.compute) if job is not None else None,
        choices=choices(attempt.place, job.rates if job is not None else ()),
        steps=facts.result.step if facts.result is not None else 0,
    )
