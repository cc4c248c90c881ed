"""The ledger in a store: what every paid attempt has cost, by month."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from crown_exp.folder import SpendingRecord, decode, encode
from crown_exp.folder.paths import BUDGET, spending_path
from crown_exp.folder.records import Damaged, NewerFormat
from crown_exp.storage.base import BlobStore, Entry, NotFound
from crown_exp.storage.parallel import each

AT_ONCE = 32
_MONTH = re.compile(r"\d{4}-\d{2}")

Known = dict[str, tuple[Entry, SpendingRecord]]
"""Records that were read before, by path: those that have not been written since are not fetched again."""


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


async def read_month(blobs: BlobStore, month: str, known: Known | None = None) -> Ledger:
    """All spending of a month. known: what earlier calls found; it is brought up to date."""
    known, start = {} if known is None else known, f"{BUDGET}{month}/"
    entries = await blobs.list(start)
    for path in {it for it in known if it.startswith(start)} - {it.path for it in entries}:
        del known[path]
    return await _read([it for it in entries if it.path.endswith(".json")], blobs, known)


async def read_ledger(blobs: BlobStore, known: Known | None = None) -> Ledger:
    """All spending of all months."""
    return _joined([await read_month(blobs, month, known) for month in await months(blobs)])


async def read_run_spending(blobs: BlobStore, run: str) -> Ledger:
    """All spending of a run, of all its months."""
    found = []
    for month in await months(blobs):
        start = f"{BUDGET}{month}/{run}-"
        entries = await blobs.list(start)
        own = re.compile(rf"{re.escape(start)}\d+\.json")
        found.append(await _read([it for it in entries if own.fullmatch(it.path)], blobs, None))
    return _joined(found)


def _joined(ledgers: Iterable[Ledger]) -> Ledger:
    whole = Ledger()
    for ledger in ledgers:
        whole.records.extend(ledger.records)
        whole.damaged.extend(ledger.damaged)
    return whole


async def _read(entries: list[Entry], blobs: BlobStore, known: Known | None) -> Ledger:
    known = {} if known is None else known
    damaged: dict[str, str] = {}

    async def fetch(entry: Entry) -> None:
        try:
            known[entry.path] = entry, _decoded(await blobs.get(entry.path), entry.path)
        except NotFound:  # deleted since it was listed
            known.pop(entry.path, None)
        except (Damaged, NewerFormat) as error:
            known.pop(entry.path, None)
            damaged[entry.path] = str(error)

    new = [it for it in entries if it.path not in known or known[it.path][0] != it]
    await each(fetch, new, at_once=AT_ONCE)
    paths = sorted(it.path for it in entries)
    return Ledger(
        [known[path][1] for path in paths if path in known],
        [damaged[path] for path in paths if path in damaged],
    )


def _decoded(data: bytes, path: str) -> SpendingRecord:
    record = decode(SpendingRecord, data, path)
    if not (math.isfinite(record.usd) and record.usd >= 0):  # a sum with it would keep no cap
        raise Damaged(f"{path}: damaged, usd must be a finite number of at least 0")
    return record
