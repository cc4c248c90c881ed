"""Tags and notes: records in the run's folder, which no database can lose."""

import json
from datetime import UTC, datetime

import anyio
import pytest

from crown_exp.errors import ConfigError, CrownError
from crown_exp.registry.notes import Change, applied, folder, path, read_change, write_change
from crown_exp.storage import AlreadyExists, BlobStore

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 11, 22, tzinfo=UTC)
ID = "r261122-k7f3q2"


async def changes_in(store: BlobStore) -> list[Change]:
    found = await store.list(folder(ID))
    return [read_change(await store.get(entry.path), entry.path) for entry in found]


def test_changes_hold_in_order() -> None:
    changes = [Change(add=["b"]), Change(remove=["a"], note="one"), Change(add=["a"]), Change()]
    assert applied(["a", "z"], changes[:2]) == (["b", "z"], "one")
    assert applied(["a", "z"], changes) == (["a", "b", "z"], "one")
    assert applied([], [*changes, Change(note="")])[1] == ""


async def test_a_change_comes_back(store: BlobStore) -> None:
    written = [Change(["päper", "🎉"], ["old"], None), Change(note="two\nlines"), Change(note="")]
    for change in written:
        await write_change(store, ID, change, user="ada", now=NOW)
    assert await changes_in(store) == [Change(list(c.add), list(c.remove), c.note) for c in written]


async def test_many_who_change_a_run_at_once_all_succeed(store: BlobStore) -> None:
    async with anyio.create_task_group() as group:
        for number in range(20):
            change = Change(add=[f"t{number}"])
            group.start_soon(
                lambda change=change: write_change(store, ID, change, user="a", now=NOW)
            )
    assert applied([], await changes_in(store))[0] == sorted(f"t{number}" for number in range(20))


async def test_who_was_slower_takes_the_next_number(store: BlobStore) -> None:
    class Lagging:
        """A listing that is late."""

        async def list(self, prefix: str) -> list[object]:
            return []

        async def put(self, path: str, data: bytes, *, create: bool) -> None:
            await store.put(path, data, create=create)

    for number in range(3):
        await write_change(Lagging(), ID, Change(add=[str(number)]), user="a", now=NOW)
    with pytest.raises(AlreadyExists):
        await store.put(path(ID, 3), b"", create=True)
    assert len(await changes_in(store)) == 3


@pytest.mark.parametrize("tag", ["", "two words", "a,b", 'a"b', "a\nb", "x" * 65])
async def test_what_is_no_tag_is_refused_before_anything_is_written(
    store: BlobStore, tag: str
) -> None:
    for change in (Change(add=["good", tag]), Change(remove=[tag])):
        with pytest.raises(ConfigError, match=r"expected 1 to 64 printable characters"):
            await write_change(store, ID, change, user="ada", now=NOW)
    assert await store.list("") == []


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b'{"format": "x"}', b"\xff"])
def test_a_damaged_change_is_named(data: bytes) -> None:
    with pytest.raises(CrownError, match=r"^here: damaged"):
        read_change(data, "here")


def test_a_newer_change_is_refused() -> None:
    with pytest.raises(CrownError, match=r"^here: has format 2; upgrade"):
        read_change(json.dumps({"format": 2}).encode(), "here")
