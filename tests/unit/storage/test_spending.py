"""The ledger: what attempts cost, by month, in a store."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from crown_exp.folder import SpendingRecord, encode
from crown_exp.folder.paths import spending_path
from crown_exp.folder.records import Rate
from crown_exp.storage import BlobStore, open_blobs
from crown_exp.storage.spending import (
    months,
    read_ledger,
    read_month,
    read_run_spending,
    write_spending,
)

pytestmark = pytest.mark.anyio
T0 = datetime(2026, 11, 30, 22, tzinfo=UTC)
RATE = Rate(cloud="aws", region="r", accelerators="A100:1", spot=True, usd_per_hour=2.0)


def record(run: str = "r1", attempt: int = 1, since: datetime = T0) -> SpendingRecord:
    return SpendingRecord(
        run=run, attempt=attempt, user="ada", experiment=None, sweep=None, target="a100", place=RATE,
        since=since, until=since + timedelta(hours=1), usd=2.0,
    )  # fmt: skip


DECEMBER = record(since=T0 + timedelta(hours=3))


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return open_blobs(str(tmp_path / "store"))


async def test_what_is_written_is_read_by_month_and_by_run(blobs: BlobStore) -> None:
    others = [record("r1-2"), record("r11"), record("r1-2", 3)]
    await write_spending(blobs, [record(), DECEMBER, record(attempt=2), *others])
    assert await months(blobs) == ["2026-11", "2026-12"]
    assert (await read_month(blobs, "2026-12")).records == [DECEMBER]
    assert (await read_run_spending(blobs, "r1")).records == [record(), record(attempt=2), DECEMBER]
    assert len((await read_ledger(blobs)).records) == 6


async def test_an_empty_ledger_is_no_error(blobs: BlobStore) -> None:
    assert (await read_ledger(blobs)).records == await months(blobs) == []
    assert (await read_month(blobs, "2026-11")).records == []
    assert (await read_run_spending(blobs, "r1")).records == []


async def test_a_later_record_of_an_attempt_takes_the_place_of_the_one_before(
    blobs: BlobStore,
) -> None:
    later = replace(record(), usd=12.25)
    await write_spending(blobs, [record()])
    await write_spending(blobs, [later])
    assert (await read_month(blobs, "2026-11")).records == [later]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        encode(record()).replace(b'"format": 1', b'"format": 99'),
        encode(replace(record(), usd=float("nan"))),
        encode(replace(record(), usd=float("-inf"))),
        encode(replace(record(), usd=-1.0)),
    ],
)
async def test_a_damaged_record_is_named_and_skipped(blobs: BlobStore, data: bytes) -> None:
    await write_spending(blobs, [record(), record(attempt=2)])
    path = spending_path("2026-11", "r1", 2)
    await blobs.put(path, data)
    for ledger in (
        await read_month(blobs, "2026-11"),
        await read_run_spending(blobs, "r1"),
        await read_ledger(blobs),
    ):
        assert ledger.records == [record()]
        (line,) = ledger.damaged
        assert line.startswith(path)
