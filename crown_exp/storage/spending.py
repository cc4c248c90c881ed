"""The ledger in a store: what every paid attempt has cost, by month."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from crown_exp.folder import SpendingRecord, decode, encode
from crown_exp.folder.paths import BUDGET, spending_path
from crown_exp.folder.records import Damaged, NewerFormat
from crown_exp.identity import day_of
from crown_exp.storage.base import BlobStore, Entry, NotFound
from crown_exp.storage.parallel import each

AT_ONCE = 32
QUIET = timedelta(seconds=60)
"""A record that was not written for so long is that of an attempt that is over; one that lives writes it every
15 seconds."""

SLACK = timedelta(days=2)
"""So long before the day that a run's id tells it may be paid: a day for clocks, one for its machine's boot."""

_MONTH = re.compile(r"\d{4}-\d{2}")
_NAME = re.compile(r"(.+)-\d+\.json")


@dataclass(frozen=True)
class Ledger:
    """What was read. damaged: a line for each record that cannot be understood, and is not among them."""

    records: list[SpendingRecord] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)


async def write_spending(blobs: BlobStore, records: Iterable[SpendingRecord]) -> None:
    """Write records, or replace them by later ones of the same attempts and months."""
    for record in records:
        month = f"{record.since:%Y-%m}"
        await blobs.put(spending_path(month, record.run, record.attempt), encode(record))


async def months(blobs: BlobStore) -> list[str]:
    """The months in which something was paid, in order."""
    return sorted(name for name in await blobs.folders(BUDGET) if _MONTH.fullmatch(name))


async def months_of(blobs: BlobStore, runs: Collection[str]) -> list[str]:
    """Those in which these runs may have been paid, in order: the store's others may be many, and are over.

    An id that speaks of a month in which nobody was paid yet is new, or its maker's clock was ahead: it then
    tells nothing of when the run was paid first.
    """
    if not runs:
        return []
    first, found = first_month(runs), await months(blobs)
    return [month for month in found if month >= first or first > found[-1]]


def first_month(runs: Collection[str]) -> str:
    """The month in which the oldest of these runs was paid first, if not later; "" if an id does not tell."""
    days = [day_of(run) for run in runs]
    return min(("" if day is None else f"{day - SLACK:%Y-%m}" for day in days), default="")


async def read_ledger(
    blobs: BlobStore, runs: Collection[str] | None = None, whole: str = ""
) -> Ledger:
    """All spending; of certain runs only if they are told, and then all of the month `whole`, if any."""
    wanted = await (months(blobs) if runs is None else months_of(blobs, runs))
    found = []
    for month in sorted({*wanted, *([whole] if whole else ())}):
        start = f"{BUDGET}{month}/"
        of = None if month == whole else runs
        entries = await blobs.list(start)
        own = [it for it in entries if _is_of(it.path[len(start) :], of)]
        found.append(await _read(own, blobs))
    return _joined(found)


def _is_of(name: str, runs: Collection[str] | None) -> bool:
    """Whether a file of a month is a record, and of one of these runs. runs: None for any."""
    match = _NAME.fullmatch(name)
    return match is not None and (runs is None or match[1] in runs)


async def read_run_spending(blobs: BlobStore, run: str) -> Ledger:
    """All spending of a run, of all its months."""
    found = []
    for month in await months_of(blobs, [run]):
        start = f"{BUDGET}{month}/{run}-"
        entries = await blobs.list(start)
        own = re.compile(rf"{re.escape(start)}\d+\.json")
        found.append(await _read([it for it in entries if own.fullmatch(it.path)], blobs))
    return _joined(found)


@dataclass
class Followed:
    """A record that is looked at again and again.

    record: None if it cannot be understood. entry: of what was read. listed: as it was listed last; changed:
    when that was listed first, by the clock of who follows.
    """

    record: SpendingRecord | None
    entry: Entry
    listed: Entry
    changed: datetime

    @property
    def until(self) -> datetime:
        """Until when its attempt was paid when it was written last, by its own clock, to within a write."""
        assert self.record is not None
        return self.record.until + max(self.listed.modified - self.entry.modified, timedelta())

    def must_be_read(self, now: datetime) -> bool:
        """Whether it was written since it was read, and has its last words, or had none."""
        written = self.listed != self.entry
        return written and (self.record is None or now - self.changed > QUIET)


@dataclass
class FollowedLedger:
    """The ledger, followed: a look is one listing, however many attempts write what they cost meanwhile.

    A record is read when it is first seen, and again when it is quiet; between, `Followed.until` tells how
    far it has come. runs: the only ones whose records are wanted; None: all. since: the first month of which
    anything is wanted.
    """

    runs: Collection[str] | None = None
    since: str = ""
    known: dict[str, Followed] = field(default_factory=dict)
    month: str = ""

    async def look(self, blobs: BlobStore, now: datetime, *, earlier: bool) -> list[str]:
        """See what is new; a line for each record that was read and cannot be understood.

        now: by the clock of who follows. earlier: at first, the months before this one too.
        """
        month = f"{now.astimezone(UTC):%Y-%m}"
        wanted = {month, self.month or month}  # of a month that is over, the last records too
        if earlier and not self.month:
            wanted.update(await self._earlier(blobs))
        found = [line for each in sorted(wanted) for line in await self._look(blobs, each, now)]
        self.month = month
        return found

    async def _earlier(self, blobs: BlobStore) -> list[str]:
        found = await (months(blobs) if self.runs is None else months_of(blobs, self.runs))
        return [month for month in found if month >= self.since]

    async def _look(self, blobs: BlobStore, month: str, now: datetime) -> list[str]:
        start = f"{BUDGET}{month}/"
        listed = await blobs.list(start)
        entries = [it for it in listed if _is_of(it.path[len(start) :], self.runs)]
        for path in {it for it in self.known if it.startswith(start)} - {it.path for it in entries}:
            del self.known[path]
        new = [it for it in entries if self._is_new(it, now)]
        records, damaged, gone = await _fetch(new, blobs)
        for entry in new:
            if entry.path in gone:
                self.known.pop(entry.path, None)
            else:
                found = Followed(records.get(entry.path), entry, entry, now)
                self.known[entry.path] = found
        return [damaged[path] for path in sorted(damaged)]

    def _is_new(self, entry: Entry, now: datetime) -> bool:
        """Whether a record must be read; if it is known, when it was written last is noted."""
        known = self.known.get(entry.path)
        if known is None:
            return True
        if known.listed != entry:
            known.listed, known.changed = entry, now
        return known.must_be_read(now)


def _joined(ledgers: Iterable[Ledger]) -> Ledger:
    whole = Ledger()
    for ledger in ledgers:
        whole.records.extend(ledger.records)
        whole.damaged.extend(ledger.damaged)
    return whole


async def _read(entries: Iterable[Entry], blobs: BlobStore) -> Ledger:
    records, damaged, _ = await _fetch(entries, blobs)
    return Ledger(
        [records[path] for path in sorted(records)], [damaged[path] for path in sorted(damaged)]
    )


async def _fetch(
    entries: Iterable[Entry], blobs: BlobStore
) -> tuple[dict[str, SpendingRecord], dict[str, str], set[str]]:
    """By path: records, and what is wrong with those that are damaged; which were deleted meanwhile."""
    records: dict[str, SpendingRecord] = {}
    damaged: dict[str, str] = {}
    gone: set[str] = set()

    async def fetch(entry: Entry) -> None:
        try:
            records[entry.path] = _decoded(await blobs.get(entry.path), entry.path)
        except NotFound:
            gone.add(entry.path)
        except (Damaged, NewerFormat) as error:
            damaged[entry.path] = str(error)

    await each(fetch, entries, at_once=AT_ONCE)
    return records, damaged, gone


def _decoded(data: bytes, path: str) -> SpendingRecord:
    record = decode(SpendingRecord, data, path)
    if not (math.isfinite(record.usd) and record.usd >= 0):  # a sum with it would keep no cap
        raise Damaged(f"{path}: damaged, usd must be a finite number of at least 0")
    return record
