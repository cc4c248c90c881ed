"""What every store of bytes does."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

import anyio
import pytest
from anyio import to_thread

from crown_exp.errors import StoreError
from crown_exp.storage import AlreadyExists, BlobStore, NotFound, WrongSize
from crown_exp.storage.base import HIDDEN

WRITERS = 16
CLOCK_GRAIN = timedelta(seconds=2)
"""A store may tell times in whole seconds."""

ODD_PATHS = (
    "a b/c d.json",
    "überläufe/学習/🦊.log",
    "per%20cent/100%",
    "query?x=1&y=2",
    "fragment#1",
    "plus+equals=and~tilde",
    "quotes'\"/back\\slash",
    "-dash/.hidden/..dots",
)
HIDDEN_PATHS = (".crown-x", ".crown-store", "a/.crown-x", ".crown-x/b", ".crown-")
BAD_PATHS = ("", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", "a\nb", "a\0b")


class StoreContract:
    """What every `BlobStore` does. Override `store` with a fixture that yields an empty store."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def store(self) -> BlobStore:
        """An empty store."""
        raise NotImplementedError("override `store` with a fixture that returns an empty store")

    @pytest.fixture
    def anyio_backend(self) -> str:
        """The event loop that storage runs in."""
        return "asyncio"

    async def test_gives_back_what_was_put(self, store: BlobStore) -> None:
        """put, then get."""
        await store.put("a/b.bin", bytes(range(256)))
        assert await store.get("a/b.bin") == bytes(range(256))

    async def test_takes_a_view_of_memory(self, store: BlobStore) -> None:
        """And keeps its bytes, not the view."""
        buffer = bytearray(b"0123456789")
        await store.put("view", memoryview(buffer)[2:5])
        buffer[:] = b"x" * 10
        assert await store.get("view") == b"234"

    @pytest.mark.parametrize("create", [False, True])
    async def test_keeps_no_bytes_too(self, store: BlobStore, create: bool) -> None:
        """An empty blob is a blob."""
        await store.put("empty", b"", create=create)
        assert await store.get("empty") == b""
        assert (await store.stat("empty")).size == 0
        assert [entry.path for entry in await store.list("")] == ["empty"]

    async def test_keeps_megabytes(self, store: BlobStore) -> None:
        """More than one packet, page or part."""
        data = bytes(range(256)) * (20 * 4096)
        await store.put("big", data)
        assert await store.get("big") == data

    @pytest.mark.parametrize("size", [0, 1, 5_000_000])
    async def test_reads_into_memory(self, store: BlobStore, size: int) -> None:
        """All of it, and not a byte beside it."""
        data = bytes(range(1, 256)) * (size // 255 + 1)
        await store.put("a/b", data[:size])
        memory = bytearray(size + 20)
        await store.get_into("a/b", memoryview(memory)[10 : 10 + size])
        assert memory == bytes(10) + data[:size] + bytes(10)

    async def test_reads_into_memory_of_its_size_only(self, store: BlobStore) -> None:
        """Another size is an error of its own; so is nothing there."""
        await store.put("a", b"12345")
        for size in (0, 4, 6):
            with pytest.raises(WrongSize, match=r"^a .* 5 bytes"):
                await store.get_into("a", memoryview(bytearray(size)))
        for path in ("nothing", "a/b"):
            with pytest.raises(NotFound):
                await store.get_into(path, memoryview(bytearray(5)))

    @pytest.mark.parametrize(("start", "size"), [(0, 10), (3, 4), (9, 1), (0, 0), (10, 0), (4, 0)])
    async def test_reads_a_part_into_memory(self, store: BlobStore, start: int, size: int) -> None:
        """From a byte on, and not a byte beside it."""
        await store.put("a", b"0123456789")
        memory = bytearray(size + 4)
        await store.get_into("a", memoryview(memory)[2 : 2 + size], start=start)
        assert memory == bytes(2) + b"0123456789"[start : start + size] + bytes(2)

    async def test_reads_a_big_part_into_memory(self, store: BlobStore) -> None:
        """Where a store reads several ranges at once, each comes to its place."""
        data = bytes(range(251)) * (40 * 2**20 // 251)
        await store.put("big", data)
        memory = bytearray(len(data) - 2001)
        await store.get_into("big", memoryview(memory), start=1000)
        assert memory == data[1000:-1001]

    @pytest.mark.parametrize(("start", "size"), [(0, 11), (5, 6), (10, 1), (11, 0), (99, 5)])
    async def test_reads_no_part_that_is_not_there(
        self, store: BlobStore, start: int, size: int
    ) -> None:
        """Less than was asked for is an error; so is nothing there."""
        await store.put("a", b"0123456789")
        with pytest.raises(WrongSize, match=r"^a .* 10 bytes"):
            await store.get_into("a", memoryview(bytearray(size)), start=start)
        with pytest.raises(NotFound):
            await store.get_into("b", memoryview(bytearray(size)), start=start)

    async def test_copies(self, store: BlobStore) -> None:
        """As put would; what becomes of the one is nothing to the other."""
        await store.put("a/b", b"first")
        for target in ("c/d/e", "a/c", "c/d/e", "a/b"):
            await store.copy("a/b", target)
        await store.put("a/b", b"second")
        await store.put("a/c", b"third")
        assert await store.get("c/d/e") == b"first"
        await store.copy("a/b", "c/d/e")
        await store.delete("a/b")
        assert await store.get("c/d/e") == b"second"
        assert [entry.path for entry in await store.list("")] == ["a/c", "c/d/e"]

    async def test_copies_nothing_that_is_not_there(self, store: BlobStore) -> None:
        """And leaves the target."""
        await store.put("a/b", b"old")
        for source in ("nothing", "a"):
            with pytest.raises(NotFound):
                await store.copy(source, "a/b")
        assert await store.get("a/b") == b"old"

    async def test_put_replaces(self, store: BlobStore) -> None:
        """Longer by shorter, without a rest."""
        await store.put("a", b"longer than the next")
        await store.put("a", b"short")
        assert await store.get("a") == b"short"

    async def test_create_refuses_to_replace(self, store: BlobStore) -> None:
        """And leaves what is there, even where it is the same."""
        await store.put("a", b"first", create=True)
        for data in (b"second", b"first"):
            with pytest.raises(AlreadyExists):
                await store.put("a", data, create=True)
        assert await store.get("a") == b"first"

    async def test_create_after_delete(self, store: BlobStore) -> None:
        """A path that was freed can be created again."""
        await store.put("a", b"first", create=True)
        await store.delete("a")
        await store.put("a", b"second", create=True)
        assert await store.get("a") == b"second"

    async def test_one_of_many_creators_wins(self, store: BlobStore) -> None:
        """The fence and every commit stand on this."""
        for path in ("race/1", "race/2", "race/3"):
            winners: list[int] = []

            async def create(number: int, path: str = path, won: list[int] = winners) -> None:
                try:
                    await store.put(path, b"%d" % number * 1000, create=True)
                except AlreadyExists:
                    return
                won.append(number)

            async with anyio.create_task_group() as group:
                for number in range(WRITERS):
                    group.start_soon(create, number)
            assert len(winners) == 1
            assert await store.get(path) == b"%d" % winners[0] * 1000

    async def test_a_reader_never_sees_a_part(self, store: BlobStore) -> None:
        """While a blob is replaced, its readers get the old or the new one."""
        versions = [bytes([number]) * (300_000 - number) for number in range(20)]
        await store.put("a", versions[0])
        done = anyio.Event()

        async def write() -> None:
            for data in versions:
                await store.put("a", data)
            done.set()

        async with anyio.create_task_group() as group:
            group.start_soon(write)
            while not done.is_set():
                assert await store.get("a") in versions
                assert [entry.path for entry in await store.list("")] == ["a"]
                await anyio.sleep(0)  # a store that never waits must not shut the writer out
        assert await store.get("a") == versions[-1]

    async def test_absent(self, store: BlobStore) -> None:
        """get and stat say so; delete does not mind."""
        await store.put("a/b", b"")
        for path in ("nothing", "a", "a/b/c", "a/bc"):
            with pytest.raises(NotFound):
                await store.get(path)
            with pytest.raises(NotFound):
                await store.stat(path)
            await store.delete(path)
        assert await store.get("a/b") == b""

    async def test_delete(self, store: BlobStore) -> None:
        """Only what was named goes."""
        await store.put("a/1", b"")
        await store.put("a/10", b"")
        await store.delete("a/1")
        await store.delete("a/1")
        assert [entry.path for entry in await store.list("")] == ["a/10"]

    async def test_list_goes_by_the_beginning_of_the_path(self, store: BlobStore) -> None:
        """A prefix is a string; the order is that of the paths."""
        paths = ["a", "b/1", "b/10", "b/2/x", "b-c/1", "bc", "c/d/e/f"]
        for path in paths:
            await store.put(path, path.encode())

        async def listed(prefix: str) -> list[str]:
            return [entry.path for entry in await store.list(prefix)]

        for prefix in ("", "a", "b", "b/", "b/1", "b/2", "b/2/", "c/d/e/f", "c/d/e/f/", "x", "x/y"):
            expected = sorted(path for path in paths if path.startswith(prefix))
            assert await listed(prefix) == expected, prefix

    async def test_list_tells_what_stat_tells(self, store: BlobStore) -> None:
        """One entry, two ways."""
        await store.put("a/b", b"12345")
        (entry,) = await store.list("a/")
        assert entry == await store.stat("a/b")
        assert (entry.path, entry.size) == ("a/b", 5)

    async def test_folders(self, store: BlobStore) -> None:
        """Names right below, once each, without the blobs that lie there."""
        for path in ("runs/r1/run.json", "runs/r1/log/1", "runs/r2/run.json", "runs/note", "x/y"):
            await store.put(path, b"")
        assert await store.folders("runs/") == ["r1", "r2"]
        assert await store.folders("") == ["runs", "x"]
        assert await store.folders("runs/r1/") == ["log"]
        assert await store.folders("runs/r1/log/") == await store.folders("no/") == []
        with pytest.raises(StoreError):
            await store.folders("runs")

    @pytest.mark.parametrize("path", ODD_PATHS)
    async def test_odd_paths(self, store: BlobStore, path: str) -> None:
        """A path comes back as it went in."""
        await store.put(path, path.encode(), create=True)
        assert await store.get(path) == path.encode()
        assert [entry.path for entry in await store.list("")] == [path]
        assert [entry.path for entry in await store.list(path[:-1])] == [path]
        await store.delete(path)
        assert await store.list("") == []

    @pytest.mark.parametrize("path", BAD_PATHS)
    async def test_paths_that_lead_out_are_refused(self, store: BlobStore, path: str) -> None:
        """By every method that takes a path."""
        into = store.get_into(path, memoryview(bytearray()))
        copies = (store.copy(path, "ok"), store.copy("ok", path))
        await store.put("ok", b"")
        writes = (store.put(path, b""), store.delete(path))
        for act in (*writes, *copies, store.get(path), into, store.stat(path)):
            with pytest.raises(StoreError) as caught:
                await act
            assert not isinstance(caught.value, NotFound | AlreadyExists)
        with pytest.raises(StoreError):
            store.local_path(path)

    @pytest.mark.parametrize("path", HIDDEN_PATHS)
    async def test_hidden_names_are_the_stores_own(self, store: BlobStore, path: str) -> None:
        """Refused by every method that takes a path; what the store keeps there is not listed."""
        await store.prepare()
        await store.now()
        await store.put("ok", b"")
        into = store.get_into(path, memoryview(bytearray()))
        copies = (store.copy(path, "ok"), store.copy("ok", path))
        writes = (store.put(path, b""), store.put(path, b"", create=True), store.delete(path))
        for act in (*writes, *copies, store.get(path), into, store.stat(path)):
            with pytest.raises(StoreError) as caught:
                await act
            assert not isinstance(caught.value, NotFound | AlreadyExists)
        assert [entry.path for entry in await store.list("")] == ["ok"]
        assert await store.list(HIDDEN) == []
        assert await store.folders("") == []

    async def test_is_fit_for_runs(self, store: BlobStore) -> None:
        """However often it is asked, and when it holds some; nothing of that is seen."""
        await store.prepare()
        await store.put("runs/r1/run.json", b"{}", create=True)
        await store.prepare()
        assert [entry.path for entry in await store.list("")] == ["runs/r1/run.json"]
        assert await store.folders("") == ["runs"]

    @pytest.mark.parametrize("prefix", ["../", "/", "/etc/", "a/../../", "a//"])
    async def test_prefixes_that_lead_out_are_refused(self, store: BlobStore, prefix: str) -> None:
        """Nobody lists what is not the store's."""
        with pytest.raises(StoreError):
            await store.list(prefix)
        with pytest.raises(StoreError):
            await store.folders(prefix)

    async def test_one_clock(self, store: BlobStore) -> None:
        """`now` and `modified` can be compared, and a rewritten blob is newer."""
        before = await store.now()
        await store.put("a", b"1")
        first = (await store.stat("a")).modified
        await store.put("a", b"2")
        second = (await store.stat("a")).modified
        after = await store.now()
        assert before.utcoffset() == first.utcoffset() == timedelta(0)
        assert before - CLOCK_GRAIN <= first <= second <= after + CLOCK_GRAIN

    async def test_local_path(self, store: BlobStore) -> None:
        """The file that holds the bytes, if the store has files of this machine."""
        await store.put("a/b", b"123")
        path = store.local_path("a/b")
        assert path is None or path.read_bytes() == b"123"

    async def test_a_link_reads_one_blob(self, store: BlobStore) -> None:
        """Without the store, if it has such links."""
        await store.put("a b/ü+%.gz", b"123")
        link = await store.link("a b/ü+%.gz", 60)
        assert link is None or await to_thread.run_sync(follow, link) == b"123"

    async def test_a_link_writes_one_blob(self, store: BlobStore) -> None:
        """Also where there is none, or another."""
        for data in (b"1" * 70_000, b"22"):
            link = await store.link("a b/ü+%.gz", 60, put=True)
            if link is not None:
                await to_thread.run_sync(follow, link, data)
                assert await store.get("a b/ü+%.gz") == data
                assert [entry.path for entry in await store.list("")] == ["a b/ü+%.gz"]

    @pytest.mark.parametrize("path", [*BAD_PATHS, *HIDDEN_PATHS])
    async def test_no_link_leads_out(self, store: BlobStore, path: str) -> None:
        """Nor to what is the store's own."""
        for put in (False, True):
            with pytest.raises(StoreError):
                await store.link(path, 60, put=put)

    async def test_errors_are_one_line(self, store: BlobStore) -> None:
        """And name the path."""
        with pytest.raises(NotFound, match=r"no/such") as caught:
            await store.get("no/such")
        assert "\n" not in str(caught.value)


def follow(link: str, data: bytes | None = None) -> bytes:
    """What a link leads to; with `data`, that is put there."""
    if link.startswith("file://") and data is not None:
        path = Path(unquote(urlsplit(link).path))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return data
    method = "GET" if data is None else "PUT"
    with urlopen(Request(link, data, {"Content-Type": ""}, method=method), timeout=120) as answer:
        return bytes(answer.read())
