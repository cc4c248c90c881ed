"""The index follows the store, and can be made anew from it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from anyio import to_thread

from crown_exp.errors import StoreError
from crown_exp.folder.segment import event, point
from crown_exp.registry import (
    Change,
    Registry,
    change_run,
    default_url,
    ingest_run,
    open_registry,
    refresh,
    reindex,
    segments,
    upkeep,
)
from crown_exp.registry.base import Refreshed, Reindexed
from crown_exp.storage import BlobStore, open_blobs
from crown_exp.storage.database import DatabaseError, sqlite
from crown_exp.storage.database.base import path_of
from tests.unit.registry.folders import complete_run, dump, make_run

pytestmark = pytest.mark.anyio
A, B, C, D = (f"r261122-{letter * 6}" for letter in "abcd")


async def fill(store: BlobStore) -> None:
    """A completed run, one that resumed, one that waits and one that failed; tags, notes, files."""
    await complete_run(store, A, tags=["composed"])
    await store.put(f"runs/{A}/files/000002/x.png", b"123")
    resumed = await make_run(store, B)
    await resumed.attempt(1)
    await resumed.log([[point(step, 1.0, {"loss": 1.0, "lr": 0.1}) for step in range(1, 9)]], 1)
    await resumed.attempt(2)
    await resumed.log([[point(6, 2.0, {"loss": 2.0})], [event(3.0, "saved", {"step": 6})]], 2)
    await (await make_run(store, C)).job()
    failed = await make_run(store, D)
    await failed.attempt()
    await failed.end(code=1)


async def delete_folder(store: BlobStore, run_id: str) -> None:
    for entry in await store.list(f"runs/{run_id}/"):
        await store.delete(entry.path)


async def test_made_anew_it_is_the_same_to_the_last_row(url: str, store: BlobStore) -> None:
    await fill(store)
    async with open_registry(url) as registry:
        await refresh(registry, store)
        await change_run(registry, store, A, Change(add=["paper"], note="good one"), user="ada")
        await change_run(registry, store, D, Change(add=["bad"]), user="ada")
        before = await dump(registry)
    assert {name for name, rows in before.items() if not rows} == set()
    for path in path_of(url).parent.iterdir():
        path.unlink()
    assert await reindex(url, store) == Reindexed(4)
    async with open_registry(url) as registry:
        assert await dump(registry) == before
        run = (await registry.get(A)).run
        assert (run.tags, run.note) == (("composed", "paper"), "good one")
        assert (await refresh(registry, store)).problems == ()
        assert await dump(registry) == before


async def test_whoever_has_it_open_goes_on_with_the_new_one(
    registry: Registry, url: str, store: BlobStore
) -> None:
    await fill(store)
    await refresh(registry, store)
    await delete_folder(store, A)
    async with registry.database.read() as connection:
        count = "SELECT count(*) FROM runs"
        assert (await connection.exec_driver_sql(count)).scalar() == 4
        await reindex(url, store)
        assert (await connection.exec_driver_sql(count)).scalar() == 4  # one state to the end
    assert (await registry.page()).total == 3
    await complete_run(store, A)
    await refresh(registry, store)
    assert (await registry.page()).total == 4
    async with open_registry(url) as other:
        assert await dump(other) == await dump(registry)


@pytest.mark.parametrize("written", range(5))
async def test_one_that_takes_its_place_while_a_run_is_read_gets_all_of_it(
    registry: Registry, url: str, store: BlobStore, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    """It knows the run as of before: nothing that went into the old one may count as read in it."""
    monkeypatch.setattr(segments, "TOGETHER", 2)
    points = [point(step, 1.0, {"loss": float(step)}) for step in range(1, 8)]
    made = await make_run(store, A)
    await made.attempt()
    await made.log([points[:1]])
    await ingest_run(registry, store, A)
    other = default_url(path_of(url).parent / "other")
    await reindex(other, store)
    await made.log([points[:1], points[1:]])
    write, left = registry.database.write, written

    async def seam(*arguments: Any) -> Any:
        nonlocal left
        if left == 0:
            await to_thread.run_sync(sqlite.replace, path_of(url), path_of(other))
        left -= 1
        return await write(*arguments)

    monkeypatch.setattr(registry.database, "write", seam)
    await ingest_run(registry, store, A)
    assert left < 0 or written == 4
    await refresh(registry, store)
    found = await dump(registry)
    await reindex(url, store)
    assert found == await dump(registry)


class Changing:
    """A store in which the first run is tagged when the last one is read; then that may be out of reach."""

    def __init__(self, store: BlobStore, registry: Registry, *, goes: bool = False) -> None:
        self.store, self.registry, self.goes, self.is_changed = store, registry, goes, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    async def list(self, prefix: str) -> Any:
        if self.goes and self.is_changed and prefix == f"runs/{A}/":
            raise StoreError("the store is away")
        found = await self.store.list(prefix)
        if prefix == f"runs/{D}/":
            await change_run(self.registry, self.store, A, Change(add=["late"]), user="ada")
            self.is_changed = True
        return found


async def test_what_changes_while_it_is_made_is_in_the_new_one(
    registry: Registry, url: str, store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of a run that is over, at which nobody looks again."""
    monkeypatch.setattr(upkeep, "AT_ONCE", 1)
    await fill(store)
    await refresh(registry, store)
    changing: Any = Changing(store, registry)
    assert await reindex(url, changing) == Reindexed(4)
    assert (await registry.tags())["late"] == 1


async def test_what_cannot_be_read_again_is_told_and_the_new_one_is_in_place(
    registry: Registry, url: str, store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "AT_ONCE", 1)
    await fill(store)
    await refresh(registry, store)
    changing: Any = Changing(store, registry, goes=True)
    told = await reindex(url, changing)
    assert told.runs == 4
    (problem,) = told.problems
    assert "the store is away" in problem and A in problem
    assert (await registry.page()).total == 4


async def test_a_file_that_is_taken_away_is_told_and_not_tried_for_ever(
    registry: Registry, url: str, store: BlobStore
) -> None:
    """Who reads has it open still; who writes opens the one that took its place."""
    await complete_run(store, A)
    await registry.page()
    for path in path_of(url).parent.iterdir():
        path.unlink()
    await reindex(url, store)
    with pytest.raises(DatabaseError, match="is being made anew; try again"):
        await ingest_run(registry, store, A)


async def test_nothing_is_left_beside_it(url: str, store: BlobStore) -> None:
    import os

    await fill(store)
    home = path_of(url).parent
    home.mkdir()
    for name, age in (("registry.db.0123.new", 2 * 86400), ("registry.db.4567.new-wal", 60)):
        (home / name).touch()
        now = (home / name).stat().st_mtime
        os.utime(home / name, (now - age, now - age))
    await reindex(url, store)
    assert sorted(path.name for path in home.iterdir()) == [
        "registry.db", "registry.db.4567.new-wal", "registry.db.lock",
    ]  # fmt: skip


@pytest.mark.parametrize("damage", ["a letter", "pages"])
async def test_what_is_no_database_is_moved_away(url: str, store: BlobStore, damage: str) -> None:
    await fill(store)
    path = path_of(url)
    path.parent.mkdir()
    if damage == "a letter":
        path.write_bytes(b"This is a letter, and no database at all. " * 100)
    else:
        await reindex(url, store)
        data = bytearray(path.read_bytes())
        data[4096 : 4096 * 8] = bytes(4096 * 7)
        path.write_bytes(data)
    for number, name in enumerate(("registry.db.damaged", "registry.db.damaged-2"), 1):
        broken = path.read_bytes()
        done = await reindex(url, store)
        assert (done.runs, done.moved) == (4, path.with_name(name))
        assert path.with_name(name).read_bytes() == broken
        async with open_registry(url) as registry:
            assert (await registry.page()).total == 4
        if number == 1:
            path.write_bytes(b"another letter" * 100)


async def test_what_cannot_be_read_is_told_and_the_rest_is_there(
    url: str, store: BlobStore
) -> None:
    await fill(store)
    await store.put(f"runs/{A}/run.json", b"{")
    await store.put("runs/not a run/run.json", b"{")
    await store.put("runs/r261122-unborn/config.yaml", b"{")
    done = await reindex(url, store)
    (problem,) = done.problems
    assert problem.startswith(f"runs/{A}/run.json: damaged")
    async with open_registry(url) as registry:
        assert [run.id for run in (await registry.page(sort="name")).runs] == [D, C, B]


class Failing:
    """A store in which what is asked of run c fails, and from then on, if it is away, all."""

    def __init__(self, store: BlobStore, *, away: bool) -> None:
        self.store, self.url, self.away, self.failed = store, store.url, away, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    async def list(self, prefix: str) -> list[Any]:
        if C in prefix or (self.away and self.failed):
            self.failed = True
            raise StoreError("cannot be read")
        return await self.store.list(prefix)

    async def folders(self, prefix: str) -> Sequence[str]:
        if self.away and self.failed:
            raise StoreError("cannot be read")
        return await self.store.folders(prefix)


async def test_a_store_that_fails_leaves_the_old_one_as_it_was(url: str, store: BlobStore) -> None:
    await fill(store)
    await reindex(url, store)
    before = path_of(url).read_bytes()
    with pytest.raises(StoreError, match=r"^cannot be read$"):
        await reindex(url, Failing(store, away=True))
    assert path_of(url).read_bytes() == before
    assert not list(path_of(url).parent.glob("*.new*"))


async def test_one_folder_that_cannot_be_read_keeps_no_other_out(
    url: str, store: BlobStore
) -> None:
    await fill(store)
    done = await reindex(url, Failing(store, away=False))
    assert done.problems == (f"cannot be read; {C} is not indexed",)
    async with open_registry(url) as registry:
        assert [run.id for run in (await registry.page(sort="name")).runs] == [D, B, A]


async def test_progress_is_told(url: str, store: BlobStore) -> None:
    await fill(store)
    told: list[Sequence[int]] = []
    await reindex(url, store, lambda done, of: told.append((done, of)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


# --- refresh --------------------------------------------------------------------------------------------


async def test_new_runs_are_taken_in_and_settled_ones_left_alone(
    registry: Registry, store: BlobStore
) -> None:
    await fill(store)
    assert await refresh(registry, store) == Refreshed(looked=4)
    assert (await registry.page()).total == 4
    assert (await refresh(registry, store)).looked == 3  # all but the completed one
    await complete_run(store, "r261123-eeeeee")
    assert (await refresh(registry, store)).looked == 4


async def test_runs_that_are_gone_are_forgotten(registry: Registry, store: BlobStore) -> None:
    await fill(store)
    await refresh(registry, store)
    for run_id in (A, C):
        await delete_folder(store, run_id)
    assert (await refresh(registry, store)).gone == (A, C)
    assert [run.id for run in (await registry.page(sort="name")).runs] == [D, B]


async def test_a_store_that_is_not_there_is_not_taken_for_empty(
    registry: Registry, tmp_path: Path
) -> None:
    store = open_blobs(str(tmp_path / "store"))
    await fill(store)
    await refresh(registry, store)
    (tmp_path / "store").rename(tmp_path / "away")
    (problem,) = (await refresh(registry, store)).problems
    assert "holds no runs, but 4 are known of it; is it mounted?" in problem
    assert (await registry.page()).total == 4


async def test_runs_of_another_store_are_left_alone(registry: Registry, store: BlobStore) -> None:
    other = open_blobs(f"{store.url}-other")
    await complete_run(store, A)
    await complete_run(other, B)
    assert await refresh(registry, store) == Refreshed(looked=1)
    assert await refresh(registry, other) == Refreshed(looked=1)
    await delete_folder(other, B)
    await complete_run(other, C)
    assert (await refresh(registry, other)).gone == (B,)
    assert {run.id: run.store for run in (await registry.page()).runs} == {
        A: store.url,
        C: other.url,
    }


async def test_without_time_it_says_what_is_left(registry: Registry, store: BlobStore) -> None:
    await fill(store)
    assert await refresh(registry, store, seconds=0) == Refreshed(left=4)
