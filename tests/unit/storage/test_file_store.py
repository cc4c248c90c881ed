"""What a store of files adds to the contract: its files, its litter, its error messages."""

import errno
import os
import shutil
import stat
import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from crown_exp.errors import StoreError
from crown_exp.storage import AlreadyExists, NotFound
from crown_exp.storage.file import HIDDEN, LITTER_AGE_S, TEMPORARY, FileStore

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "store")


def names(store: FileStore) -> list[str]:
    return sorted(path.name for path in store.root.rglob("*"))


async def test_leaves_nothing_but_the_blob(store: FileStore) -> None:
    await store.put("a", b"1", create=True)
    with pytest.raises(AlreadyExists):
        await store.put("a", b"2", create=True)
    await store.put("a", b"3")
    await store.now()
    assert names(store) == ["a"]
    assert store.local_path("a").stat().st_nlink == 1


async def test_a_blob_is_as_readable_as_any_file_one_writes(store: FileStore) -> None:
    mask = os.umask(0o027)
    try:
        await store.put("a", b"", create=True)
        await store.put("b", b"")
    finally:
        os.umask(mask)
    for path in ("a", "b"):
        assert stat.S_IMODE(store.local_path(path).stat().st_mode) == 0o640


async def test_looking_into_a_store_that_is_not_there_makes_nothing(store: FileStore) -> None:
    assert await store.list("runs/") == []
    assert await store.folders("runs/") == []
    assert (await store.now()).tzinfo is not None
    with pytest.raises(NotFound):
        await store.get("a")
    await store.delete("a")
    assert not store.root.exists()


async def test_what_others_put_there_is_seen(store: FileStore) -> None:
    """A run's folder may be copied in by hand, and a folder may be a link to a bigger disk."""
    elsewhere = store.root.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "run.json").write_bytes(b"{}")
    await store.put("runs/r1/run.json", b"")
    (store.root / "runs" / "r2").symlink_to(elsewhere)
    assert [entry.path for entry in await store.list("runs/r")] == [
        "runs/r1/run.json",
        "runs/r2/run.json",
    ]
    assert await store.folders("runs/") == ["r1", "r2"]
    assert await store.get("runs/r2/run.json") == b"{}"


async def test_the_litter_of_the_killed_is_hidden_and_in_time_removed(store: FileStore) -> None:
    await store.put("a/blob", b"")
    young, old = (store.root / "a" / f"{TEMPORARY}{age}" for age in ("young", "old"))
    for path in (young, old):
        path.write_bytes(b"half")
    long_ago = young.stat().st_mtime - LITTER_AGE_S - 1
    os.utime(old, (long_ago, long_ago))
    assert [entry.path for entry in await store.list("")] == ["a/blob"]
    assert young.exists() and not old.exists()


async def test_its_own_names_are_refused(store: FileStore) -> None:
    for path in (f"{TEMPORARY}x", f"a/{HIDDEN}lock"):
        with pytest.raises(StoreError, match="the store's own"):
            await store.put(path, b"")
        with pytest.raises(StoreError, match="the store's own"):
            await store.get(path)


@pytest.mark.parametrize("create", [False, True])
async def test_a_folder_in_the_way(store: FileStore, create: bool) -> None:
    await store.put("a/b", b"")
    with pytest.raises(StoreError, match=r"cannot write a in .*: is a directory; a folder stands"):
        await store.put("a", b"", create=create)
    assert names(store) == ["a", "b"]


@pytest.mark.parametrize("create", [False, True])
@pytest.mark.parametrize("path", ["a/b", "a/b/c"])
async def test_a_file_in_the_way(store: FileStore, create: bool, path: str) -> None:
    await store.put("a", b"")
    with pytest.raises(StoreError, match=f"cannot write {path} in .*: not a directory; a file"):
        await store.put(path, b"", create=create)
    assert names(store) == ["a"]


async def test_a_name_that_is_too_long(store: FileStore) -> None:
    with pytest.raises(StoreError, match="file name too long; choose a shorter name") as caught:
        await store.put("x" * 300, b"")
    assert not isinstance(caught.value, NotFound | AlreadyExists)
    assert names(store) == []


@pytest.fixture
def nobody() -> Iterator[None]:
    """Root may do all: be nobody for a while."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield
    os.seteuid(user)


async def test_a_folder_without_permission(nobody: None) -> None:
    store = FileStore(tempfile.mkdtemp())  # nobody may not enter pytest's own
    await store.put("a/b", b"")
    folder = store.root / "a"
    folder.chmod(0)
    try:
        for act in (store.put("a/c", b""), store.get("a/b"), store.list("a/"), store.delete("a/b")):
            with pytest.raises(StoreError, match="permission denied; change the permissions"):
                await act
    finally:
        folder.chmod(0o700)
        shutil.rmtree(store.root)


async def test_an_answer_lost_on_the_way_is_not_a_lost_race(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS sends a request again when the answer is lost; then the link exists, and is ours."""
    link = os.link

    def link_twice(source: Path, target: Path) -> None:
        link(source, target)
        link(source, target)

    monkeypatch.setattr("os.link", link_twice)
    await store.put("a", b"1", create=True)
    with pytest.raises(AlreadyExists):
        await store.put("a", b"2", create=True)
    assert await store.get("a") == b"1"


async def test_putting_waits_for_the_disk_and_not_for_the_loop(store: FileStore) -> None:
    """The loop goes on while bytes are written."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.sleep(0)

    async with anyio.create_task_group() as group:
        group.start_soon(count)
        await anyio.sleep(0)
        before = turns
        await store.put("big", bytes(20_000_000))
        assert turns > before
        group.cancel_scope.cancel()


async def test_a_folder_goes_with_its_last_blob(store: FileStore) -> None:
    await store.put("runs/a/log/1.seg", b"1")
    await store.put("runs/a/run.json", b"2")
    await store.delete("runs/a/log/1.seg")
    assert [path.name for path in (store.root / "runs" / "a").iterdir()] == ["run.json"]
    await store.delete("runs/a/run.json")
    assert names(store) == []


async def test_a_folder_that_goes_is_in_no_writers_way(store: FileStore) -> None:
    async def come_and_go(name: str) -> None:
        for _ in range(150):
            await store.put(f"one/two/{name}", b"x")
            await store.delete(f"one/two/{name}")

    async with anyio.create_task_group() as group:
        for name in "abcd":
            group.start_soon(come_and_go, name)


async def test_a_folder_that_goes_as_soon_as_it_is_found_is_made_again(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, found = Path.mkdir, list[Path]()

    def mkdir(self: Path, *arguments: Any, **options: Any) -> None:
        if self.name == "one" and not found:
            found.append(self)
            raise FileExistsError  # it was there just now
        make(self, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    await store.put("one/two", b"x")
    assert await store.get("one/two") == b"x"
    assert found


def test_a_loop_of_links_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(StoreError, match="leads nowhere"):
        FileStore(tmp_path / "a")


async def test_a_copy_is_one_file_until_either_is_replaced(store: FileStore) -> None:
    await store.put("a/pack", b"1" * 100)
    await store.copy("a/pack", "b/pack")
    assert store.local_path("a/pack").samefile(store.local_path("b/pack"))
    await store.put("b/pack", b"2")
    assert await store.get("a/pack") == b"1" * 100
    assert names(store) == ["a", "b", "pack", "pack"]


async def test_a_copy_where_links_lead_nowhere(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    await store.put("a", b"1" * 3_000_000)
    monkeypatch.setattr("os.link", refuse)
    await store.copy("a", "b")
    assert await store.get("b") == b"1" * 3_000_000
    assert not store.local_path("a").samefile(store.local_path("b"))
    assert names(store) == ["a", "b"]


async def test_memory_is_written_and_read_where_it_lies(store: FileStore) -> None:
    """Nothing of a pack's size is allocated on the way."""
    memory = bytearray(32_000_000)
    await store.put("warm", b"")
    tracemalloc.start()
    try:
        await store.put("pack", memoryview(memory)[:-1])
        await store.get_into("pack", memoryview(memory)[1:])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3_000_000
