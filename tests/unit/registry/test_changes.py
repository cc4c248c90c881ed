"""Tags, notes and deletion: in the run's folder first, then in the index."""

import pytest

from crown_exp.errors import ConfigError
from crown_exp.registry import (
    Change,
    Registry,
    change_run,
    delete_run,
    ingest_run,
    parse_filter,
    size_up,
)
from crown_exp.storage import BlobStore
from tests.unit.registry.folders import RUN, complete_run, make_run

pytestmark = pytest.mark.anyio
ID = RUN.id


async def test_a_tag_and_a_note_are_found_at_once(registry: Registry, store: BlobStore) -> None:
    await complete_run(store, tags=["old"])
    await change_run(registry, store, ID, Change(add=["paper"], remove=["old"]), user="ada")
    await change_run(registry, store, ID, Change(note="the one of figure 3"), user="bob")
    (run,) = (await registry.page(parse_filter("tag:paper"))).runs
    assert (run.tags, run.note) == (("paper",), "the one of figure 3")
    await change_run(registry, store, ID, Change(note=""), user="ada")
    assert (await registry.get(ID)).run.note == ""


async def test_only_a_run_that_is_there_is_changed(registry: Registry, store: BlobStore) -> None:
    with pytest.raises(ConfigError, match="no run in memory://"):
        await change_run(registry, store, ID, Change(add=["a"]), user="ada")
    assert await store.list("") == []


async def test_deletion_says_before_what_it_frees_and_frees_that(
    registry: Registry, store: BlobStore
) -> None:
    await complete_run(store)
    await complete_run(store, f"{ID}x")
    for run_id in (ID, f"{ID}x"):
        await ingest_run(registry, store, run_id)
    before = await store.list("")
    told = await size_up(store, ID)
    assert await store.list("") == before
    assert await delete_run(registry, store, ID) == told
    after = await store.list("")
    assert (told.files, told.bytes) == (
        len(before) - len(after),
        sum(entry.size for entry in before) - sum(entry.size for entry in after),
    )
    assert [run.id for run in (await registry.page()).runs] == [f"{ID}x"]


async def test_a_run_that_lives_is_not_deleted(registry: Registry, store: BlobStore) -> None:
    made = await make_run(store)
    await made.job()
    with pytest.raises(
        ConfigError, match=rf"^{ID}: is queued, so it is not deleted; end it first, then delete it$"
    ):
        await delete_run(registry, store, ID)
    await made.attempt()
    with pytest.raises(ConfigError, match="is running"):
        await delete_run(registry, store, ID)
    await made.end(code=1)
    await delete_run(registry, store, ID)
    assert await store.list("") == []


async def test_a_deletion_that_was_cut_short_is_finished(
    registry: Registry, store: BlobStore
) -> None:
    made = await complete_run(store)
    await ingest_run(registry, store, ID)
    await store.delete(made.paths.record)
    await delete_run(registry, store, ID)
    assert await store.list("") == []
    assert (await registry.page()).total == 0


async def test_a_run_that_nobody_can_understand_can_be_deleted(
    registry: Registry, store: BlobStore
) -> None:
    made = await complete_run(store)
    await store.put(made.paths.record, b"{")
    await delete_run(registry, store, ID)
    assert await store.list("") == []
