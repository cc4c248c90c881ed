"""The ledger: what attempts cost, by month, in a store."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from crown_exp.folder import SpendingRecord, encode
from crown_exp.folder.paths import spending_path
from crown_exp.folder.records import Rate
from crown_exp.identity import new_run_id
from crown_exp.storage import BlobStore, open_blobs
from crown_exp.storage.spending import (
    FollowedLedger,
    months,
    read_ledger,
    read_run_spending,
    write_spending,
)
from tests.asked import Asked

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
    assert (await read_ledger(blobs, (), "2026-12")).records == [DECEMBER]
    assert (await read_run_spending(blobs, "r1")).records == [record(), record(attempt=2), DECEMBER]
    assert len((await read_ledger(blobs)).records) == 6


OLD = [datetime(2024 + month // 12, 1 + month % 12, 3, tzinfo=UTC) for month in range(30)]


def run_of(day: datetime, letter: str = "a") -> str:
    return new_run_id(day, lambda letters: letter)


@pytest.fixture
async def aged(blobs: BlobStore) -> Asked:
    """A store that is years old: two runs a month, and one that goes on from November to December."""
    await write_spending(blobs, [record(run_of(day, it), since=day) for day in OLD for it in "ab"])
    await write_spending(blobs, [record(run_of(T0)), replace(DECEMBER, run=run_of(T0))])
    return Asked(blobs)


async def test_months_before_a_run_was_made_are_not_read(aged: Asked) -> None:
    run = run_of(T0)
    mine = [record(run), replace(DECEMBER, run=run)]
    whole = {"folders": 1, "list": 2, "get": 2}
    assert (await read_run_spending(aged.store, run)).records == mine
    assert aged.take() == whole
    assert (await read_ledger(aged.store, [run])).records == mine
    assert aged.take() == whole
    await FollowedLedger({run}).look(aged.store, T0, earlier=True)
    assert aged.take() == whole
    found = await read_ledger(aged.store, [run, run_of(OLD[-1])])
    assert len(found.records) == 3
    assert aged.take() == {"folders": 1, "list": 3, "get": 3}


@pytest.mark.parametrize("ahead", [timedelta(days=40), timedelta(days=4_000)])
async def test_a_clock_that_was_ahead_hides_nothing_that_was_paid(
    aged: Asked, ahead: timedelta
) -> None:
    run = run_of(T0 + ahead)
    mine = [record(run), replace(DECEMBER, run=run)]
    await write_spending(aged.store, mine)
    assert (await read_run_spending(aged.store, run)).records == mine
    assert (await read_ledger(aged.store, [run])).records == mine
    followed = FollowedLedger({run})
    await followed.look(aged.store, T0, earlier=True)
    assert [it.record for it in followed.known.values()] == mine


async def test_of_a_month_all_is_read_and_of_others_what_runs_have(aged: Asked) -> None:
    month = f"{OLD[0]:%Y-%m}"
    assert len((await read_ledger(aged.store, (), month)).records) == 2
    assert aged.take() == {"list": 1, "get": 2}
    assert len((await read_ledger(aged.store, [run_of(T0)], month)).records) == 4
    assert aged.take() == {"folders": 1, "list": 3, "get": 4}
    assert (await read_ledger(aged.store, ())).records == []
    assert aged.take() == {}


@pytest.mark.parametrize("hours", [-24, -1, 1, 24])
async def test_clocks_a_day_apart_hide_nothing(blobs: BlobStore, hours: int) -> None:
    """Made on the first of a month by a clock, paid by another one, on a machine that was there before."""
    made, paid = datetime(2026, 12, 1, 0, 30, tzinfo=UTC), timedelta(hours=hours)
    mine = record(run_of(made), since=made + paid)
    await write_spending(blobs, [mine])
    assert (await read_run_spending(blobs, mine.run)).records == [mine]


@pytest.mark.parametrize("run", ["r1", "mine", "r261399-abcdef", "r2611-a"])
async def test_of_a_run_whose_id_tells_no_day_all_months_are_read(aged: Asked, run: str) -> None:
    ancient = record(run, since=OLD[0])
    await write_spending(aged.real, [ancient])
    assert (await read_run_spending(aged.store, run)).records == [ancient]
    assert (await read_ledger(aged.store, [run, run_of(T0)])).records[0] == ancient


async def test_an_empty_ledger_is_no_error(blobs: BlobStore) -> None:
    assert (await read_ledger(blobs)).records == []
    assert await months(blobs) == []
    assert (await read_ledger(blobs, (), "2026-11")).records == []
    assert (await read_run_spending(blobs, "r1")).records == []


async def test_a_later_record_of_an_attempt_takes_the_place_of_the_one_before(
    blobs: BlobStore,
) -> None:
    later = replace(record(), usd=12.25)
    await write_spending(blobs, [record()])
    await write_spending(blobs, [later])
    assert (await read_ledger(blobs, (), "2026-11")).records == [later]


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
        await read_ledger(blobs, (), "2026-11"),
        await read_run_spending(blobs, "r1"),
        await read_ledger(blobs),
    ):
        assert ledger.records == [record()]
        (line,) = ledger.damaged
        assert line.startswith(path)
