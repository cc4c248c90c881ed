"""The store for every file system of fsspec: what it makes of their ways, and of faults before s3fs."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from fsspec import AbstractFileSystem
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from crown_exp.errors import SettingsError, StoreError
from crown_exp.storage import AlreadyExists, NotFound, WrongSize, open_blobs
from crown_exp.storage.filesystem import written
from crown_exp.storage.through_fsspec import FIRST, RANGE, FsspecStore
from crown_exp.storage.vendor_errors import answer_of
from tests.s3.buckets import Bucket
from tests.s3.faults import ACCESS_DENIED, CONFLICT, EXPIRED_TOKEN, INTERNAL_ERROR, SLOW_DOWN, Fault
from tests.s3.servers import Proxy

pytestmark = pytest.mark.anyio
ONCE = {"first": 1, "last": 1}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def behind(bucket: Bucket, proxy: Proxy) -> FsspecStore:
    """S3 by s3fs, through the proxy."""
    through = bucket.behind(proxy)
    return FsspecStore(f"{through.url}/a", through.access)


async def impatient(bucket: Bucket, proxy: Proxy, deadline: float) -> FsspecStore:
    """The same with a deadline, and with its client made: that takes long on a busy machine."""
    through = bucket.behind(proxy)
    store = FsspecStore(f"{through.url}/a", through.access | {"DEADLINE": str(deadline)})
    store.filesystem().system.connect()
    return store


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense://x", "no store speaks nonsense://; known are file:///path"),
        ("oss://x", "oss:// needs ossfs: pip install ossfs"),
        ("dropbox://x", "dropbox:// needs dropboxdrivefs: pip install dropboxdrivefs"),
    ],
)
def test_schemes_that_it_cannot_speak(url: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        open_blobs(url)


@pytest.mark.parametrize("system", [LocalFileSystem(), DirFileSystem("/x", LocalFileSystem())])
async def test_refuses_what_writes_through_open(system: AbstractFileSystem) -> None:
    """A writer that dies would publish a part."""
    with pytest.raises(SettingsError, match=r"open\(\)"):
        await FsspecStore("any://x", {}, system).prepare()


class Careless(MemoryFileSystem):  # type: ignore[misc]
    """Takes `mode`, and does not mind it."""

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        super().pipe_file(path, value)


class Ignorant(MemoryFileSystem):  # type: ignore[misc]
    """Knows no `mode`."""

    def pipe_file(self, path: str, value: bytes) -> None:
        super().pipe_file(path, value)


@pytest.mark.parametrize("kind", [Careless, Ignorant])
async def test_refuses_what_does_not_keep_create_only(kind: type[AbstractFileSystem]) -> None:
    store = FsspecStore(f"memory://{uuid4().hex}", {}, kind(skip_instance_cache=True))
    with pytest.raises(SettingsError, match="create-only"):
        await store.prepare()


async def test_refuses_a_place_of_others() -> None:
    system = MemoryFileSystem()
    name = uuid4().hex
    system.pipe_file(f"/{name}/photos/a.jpg", b"")
    with pytest.raises(SettingsError, match=rf"{name} holds other things \(first: photos/a.jpg\)"):
        await FsspecStore(f"memory://{name}", {}, system).prepare()


async def test_a_path_that_s3fs_would_take_for_another() -> None:
    store = FsspecStore(f"memory://{uuid4().hex}")
    with pytest.raises(StoreError, match="versionId"):
        await store.put("a?versionId=1", b"")


@pytest.mark.parametrize(
    "told",
    [
        {"LastModified": datetime(2026, 11, 30, 1, 2, 3, 999, UTC)},
        {"mtime": datetime(2026, 11, 30, 1, 2, 3, tzinfo=UTC).timestamp() + 0.4},
        {"updated": "2026-11-30T01:02:03.25Z", "created": "2020-01-01T00:00:00Z"},
        {"last_modified": datetime(2026, 11, 30, 1, 2, 3)},
    ],
)
def test_times_as_they_are_told(told: dict[str, Any]) -> None:
    assert written({"name": "a"} | told) == datetime(2026, 11, 30, 1, 2, 3, tzinfo=UTC)


def test_what_is_no_answer_of_a_server_is_a_mistake_of_ours() -> None:
    assert answer_of(KeyError("x")) is None
    assert answer_of(TypeError("x")) is None
    full = answer_of(OSError(errno.ENOSPC, "No space left on device"))
    assert full is not None and full.status == 507


@pytest.mark.parametrize("kind", ["hang", "hang_answer"])
async def test_a_create_only_write_that_hangs(
    bucket: Bucket, proxy: Proxy, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is made again before its deadline, and ends as ours."""
    monkeypatch.setattr("crown_exp.storage.calls.FIRST_TRY", 0.01)  # two seconds are waited for it
    store = await impatient(bucket, proxy, deadline=120)
    proxy.arm_at(1, kind, method="PUT")
    await store.put("x", b"mine", create=True)
    assert proxy.fired() == 1
    assert bucket.read("a/x") == b"mine"


@pytest.mark.parametrize("kind", ["drop_answer", "cut_request", "refuse"])
async def test_a_create_only_write_whose_answer_is_lost(
    behind: FsspecStore, bucket: Bucket, proxy: Proxy, kind: Any
) -> None:
    """Ends as ours, once, whether the server had done it or not."""
    proxy.arm_at(1, kind, method="PUT")
    await behind.put("x", b"mine", create=True)
    assert proxy.fired() == 1
    assert bucket.read("a/x") == b"mine"
    for data in (b"other", b"mine"):
        with pytest.raises(AlreadyExists):
            await behind.put("x", data, create=True)


async def test_a_lost_answer_where_another_was_first(
    behind: FsspecStore, bucket: Bucket, proxy: Proxy
) -> None:
    bucket.write("a/x", b"theirs")
    proxy.arm_at(1, "drop_answer", method="PUT")
    with pytest.raises(AlreadyExists):
        await behind.put("x", b"mine", create=True)
    assert bucket.read("a/x") == b"theirs"


@pytest.mark.parametrize("fault", [SLOW_DOWN, INTERNAL_ERROR, CONFLICT])
async def test_goes_on_after_a_bad_answer(
    behind: FsspecStore, proxy: Proxy, fault: dict[str, Any]
) -> None:
    """To each verb once."""
    for method in ("PUT", "GET", "HEAD", "DELETE"):
        proxy.arm(Fault(**fault, **ONCE, method=method))
    await behind.put("x", b"1", create=True)
    await behind.put("x", b"22")
    assert await behind.get("x") == b"22"
    assert (await behind.stat("x")).size == 2
    assert [entry.path for entry in await behind.list("")] == ["x"]
    await behind.delete("x")
    assert proxy.fired() == 4


@pytest.mark.parametrize("kind", ["cut_response", "refuse", "drop_answer"])
async def test_goes_on_after_a_broken_read(
    behind: FsspecStore, bucket: Bucket, proxy: Proxy, kind: Any
) -> None:
    data = os.urandom(2 * RANGE + 5)
    bucket.write("a/x", data)
    proxy.arm(Fault(kind, method="GET", first=2, last=2))
    memory = bytearray(len(data))
    await behind.get_into("x", memoryview(memory))
    assert proxy.fired() == 1
    assert memory == data


async def test_never_mixes_two_versions(bucket: Bucket, proxy: Proxy, behind: FsspecStore) -> None:
    """Replaced while it is read by ranges."""
    old, new = b"o" * (2 * RANGE), b"n" * (2 * RANGE)
    bucket.write("a/x", old)
    proxy.arm(Fault("delay", method="GET", first=2, last=2, seconds=1.0))
    memory = bytearray(len(old))

    from anyio import create_task_group, sleep, to_thread

    async with create_task_group() as group:
        group.start_soon(behind.get_into, "x", memoryview(memory))
        while proxy.fired() == 0:
            await sleep(0.01)
        await to_thread.run_sync(bucket.write, "a/x", new)
    assert memory in (old, new)


@pytest.mark.parametrize("kind", ["hang", "hang_answer"])
async def test_ends_by_its_deadline(bucket: Bucket, proxy: Proxy, kind: Any) -> None:
    # Until then a request that is to be done without an answer must have come to the server.
    store = await impatient(bucket, proxy, deadline=4 if kind == "hang_answer" else 1.5)
    proxy.arm(Fault(kind))
    with pytest.raises(StoreError, match=r"cannot write x in s3://.* does not answer") as caught:
        await store.put("x", b"1")
    assert "\n" not in str(caught.value)
    proxy.clear()
    assert bucket.keys() == (["a/x"] if kind == "hang_answer" else [])


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (ACCESS_DENIED, "may not write there; allow s3:PutObject"),
        (EXPIRED_TOKEN, "have expired"),
        ({"kind": "answer", "status": 507, "code": "InsufficientStorage"}, "no more room"),
    ],
)
async def test_says_what_to_set(
    behind: FsspecStore, proxy: Proxy, fault: dict[str, Any], said: str
) -> None:
    proxy.arm(Fault(**fault))
    for create in (False, True):
        with pytest.raises(StoreError, match=said) as caught:
            await behind.put("x", b"1", create=create)
        assert "\n" not in str(caught.value) and "testtest" not in str(caught.value)


async def test_no_such_bucket(bucket: Bucket) -> None:
    store = FsspecStore(f"{bucket.url}-not/a", bucket.access)
    for act in (store.prepare(), store.put("x", b""), store.list(""), store.get("x")):
        with pytest.raises((SettingsError, StoreError), match="there is no bucket") as caught:
            await act
        assert not isinstance(caught.value, NotFound)


async def test_nobody_there(bucket: Bucket) -> None:
    store = FsspecStore(
        f"{bucket.url}/a",
        bucket.access | {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "DEADLINE": "1"},
    )
    with pytest.raises(StoreError, match=r"http://127\.0\.0\.1:1 does not answer"):
        await store.prepare()


async def test_a_blob_that_is_cut_while_it_is_read(behind: FsspecStore, bucket: Bucket) -> None:
    bucket.write("a/x", b"12345")
    with pytest.raises(WrongSize, match="5 bytes"):
        await behind.get_into("x", memoryview(bytearray(6)))


@pytest.mark.parametrize("size", [0, 1, FIRST - 1, FIRST, FIRST + 1, 2 * RANGE + 1])
async def test_a_blob_of_any_size(bucket: Bucket, size: int) -> None:
    for store in (FsspecStore(bucket.url, bucket.access), FsspecStore("memory://any")):
        data = os.urandom(size)
        await store.put("x", data)
        assert await store.get("x") == data


def test_a_call_that_hangs_does_not_keep_the_process() -> None:
    code = """
import time, anyio
from fsspec.implementations.memory import MemoryFileSystem
from crown_exp.errors import StoreError
from crown_exp.storage.through_fsspec import FsspecStore

class Hung(MemoryFileSystem):
    def pipe_file(self, *_, **__):
        time.sleep(300)

try:
    anyio.run(FsspecStore("hung://r", {"DEADLINE": "0.5"}, Hung()).put, "a", b"x")
except StoreError as error:
    print("timed out" in str(error))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == "True\n", done.stderr
