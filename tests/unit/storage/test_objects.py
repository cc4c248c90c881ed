"""What a store in a bucket adds to the contract: ranges, requests, memory, deadlines, what others put there."""

import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import anyio
import pytest

from crown_exp.errors import SettingsError, StoreError
from crown_exp.storage import AlreadyExists, NotFound, WrongSize, transport
from crown_exp.storage.objects import FIRST, RANGE, ObjectStore
from crown_exp.storage.parallel import each
from tests.s3.buckets import Bucket
from tests.s3.faults import Fault
from tests.s3.servers import Proxy

pytestmark = pytest.mark.anyio
MIB = 2**20


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def store(bucket: Bucket) -> ObjectStore:
    return ObjectStore(f"{bucket.url}/a/b", bucket.access)


@pytest.fixture
def watched(bucket: Bucket, proxy: Proxy) -> ObjectStore:
    """The store, reached through the proxy."""
    return ObjectStore(f"{bucket.url}/a/b", bucket.behind(proxy).access)


def asked(proxy: Proxy) -> list[str]:
    return [operation.method for operation in proxy.operations()]


def test_opening_imports_and_asks_nothing() -> None:
    store = ObjectStore("s3://nowhere/x/", {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"})
    assert store.url == "s3://nowhere/x"
    assert ObjectStore("s3://nowhere").url == "s3://nowhere"


@pytest.mark.parametrize(
    "url", ["s3://", "s3:///x", "s3://key:secret@bucket/x", "s3://bucket//x", "s3://b/../x", "s3://b/a\nb"]
)  # fmt: skip
def test_what_is_no_bucket(url: str) -> None:
    with pytest.raises(SettingsError, match="CROWN_STORAGE__ROOT") as caught:
        ObjectStore(url)
    assert "\n" not in str(caught.value) and "secret@" not in str(caught.value)


async def test_keys_are_the_paths_below_the_prefix(bucket: Bucket, store: ObjectStore) -> None:
    await store.put("x%20y+z/ü\\", b"1", create=True)
    assert bucket.keys() == ["a/b/x%20y+z/ü\\"]


async def test_more_than_a_page(store: ObjectStore) -> None:

    async def write(number: int) -> None:
        await store.put(f"runs/r{number:04}/run.json", b"")

    await each(write, range(1005), at_once=16)
    assert len(await store.list("runs/")) == 1005
    assert await store.folders("runs/") == [f"r{number:04}" for number in range(1005)]
    assert [entry.path for entry in await store.list("runs/r100")] == [
        f"runs/r100{number}/run.json" for number in range(5)
    ]


async def test_a_request_a_call(watched: ObjectStore, proxy: Proxy) -> None:
    await watched.put("x", b"1", create=True)
    await watched.get("x")
    await watched.stat("x")
    await watched.list("")
    await watched.folders("")
    await watched.copy("x", "y")
    await watched.get_into("x", memoryview(bytearray(1)))
    await watched.delete("x")
    assert asked(proxy) == ["PUT", "GET", "HEAD", "GET", "GET", "PUT", "GET", "DELETE"]


async def test_big_blobs_are_read_by_ranges(watched: ObjectStore, proxy: Proxy) -> None:
    data = os.urandom(2 * RANGE + 1000)
    await watched.put("pack", data)
    assert asked(proxy) == ["PUT"]  # one, and no parts
    proxy.clear()
    memory = bytearray(len(data))
    await watched.get_into("pack", memoryview(memory))
    assert memory == data
    assert asked(proxy) == ["GET"] * 3
    await watched.get_into("pack", memoryview(memory)[: RANGE + 1], start=RANGE - 1)
    assert memory[: RANGE + 1] == data[RANGE - 1 : 2 * RANGE]
    with pytest.raises(WrongSize, match=f"has {len(data)} bytes"):
        await watched.get_into("pack", memoryview(bytearray(len(data) + RANGE)))
    with pytest.raises(WrongSize):
        await watched.get_into("pack", memoryview(memory)[:1000], start=len(data) - 999)


async def test_never_a_mix_of_two_versions(bucket: Bucket, store: ObjectStore) -> None:
    """While a blob is replaced, what is read by ranges is of one writing."""
    versions = [bytes([number]) * (RANGE + 10) for number in range(6)]
    await store.put("x", versions[0])
    memory = bytearray(RANGE + 10)

    async def write() -> None:
        for data in versions:
            await store.put("x", data)

    async with anyio.create_task_group() as group:
        group.start_soon(write)
        for _ in range(6):
            try:
                await store.get_into("x", memoryview(memory))
            except StoreError as error:
                assert "was replaced each time" in str(error)
            else:
                assert memory in versions


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_memory_is_written_and_read_where_it_lies(store: ObjectStore) -> None:
    """Nothing of a pack's size is taken on the way."""
    data = memoryview(bytearray(os.urandom(MIB) * 64))
    await store.put("warm", data[:MIB])
    await store.get_into("warm", data[:MIB])
    for act in (store.put("x", data), store.get_into("x", data)):
        before = resident_peak(reset=True)
        await act
        assert resident_peak() - before < 32 * MIB


def resident_peak(*, reset: bool = False) -> int:
    """The most memory that this process held, since it was last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


async def test_what_hangs_ends_by_the_deadline_and_is_gone(bucket: Bucket, proxy: Proxy) -> None:
    access = bucket.behind(proxy).access
    store = ObjectStore(bucket.url, access | {"DEADLINE": "0.6"})
    await store._transport.connect()  # imports a library: that is not what hangs
    proxy.arm(Fault("hang"))
    acts = (
        store.put("x", b"1"), store.put("x", b"1", create=True), store.get("x"), store.stat("x"),
        store.list(""), store.folders(""), store.delete("x"), store.copy("x", "y"), store.now(),
    )  # fmt: skip
    for act in acts:
        with pytest.raises(StoreError, match=r"does not answer \(timed out\)") as caught:
            await act
        assert not isinstance(caught.value, NotFound | AlreadyExists)
    proxy.clear()
    await ObjectStore(bucket.url, access).put("x", b"1", create=True)


@pytest.mark.parametrize("kind", ["refuse", "cut_request", "drop_answer"])
@pytest.mark.parametrize("create", [False, True])
async def test_a_write_survives_a_lost_connection(
    bucket: Bucket, watched: ObjectStore, proxy: Proxy, kind: str, create: bool
) -> None:
    data = os.urandom(3 * MIB)
    with proxy.armed(Fault.at(1, kind, method="PUT")):  # type: ignore[arg-type]
        await watched.put("x", data, create=create)
        assert proxy.fired() == 1
    assert bucket.read("a/b/x") == data
    with pytest.raises(AlreadyExists):
        await watched.put("x", data, create=True)


@pytest.mark.parametrize(
    "code", [(503, "SlowDown"), (500, "InternalError"), (409, "ConditionalRequestConflict")]
)
async def test_a_create_that_another_won_meanwhile(
    bucket: Bucket, watched: ObjectStore, proxy: Proxy, code: tuple[int, str]
) -> None:
    bucket.write("a/b/x", b"theirs")
    proxy.arm_at(1, "answer", method="PUT", status=code[0], code=code[1])
    with pytest.raises(AlreadyExists):
        await watched.put("x", b"mine", create=True)
    assert bucket.read("a/b/x") == b"theirs"


@pytest.mark.parametrize("kind", ["refuse", "cut_response", "drop_answer"])
async def test_a_read_survives_a_lost_connection(
    watched: ObjectStore, proxy: Proxy, kind: str
) -> None:
    data = os.urandom(2 * RANGE)
    await watched.put("x", data)
    memory = bytearray(len(data))
    for act in (watched.get("x"), watched.get_into("x", memoryview(memory))):
        proxy.clear()
        proxy.arm_at(1, kind, method="GET")  # type: ignore[arg-type]
        found = await act
        assert proxy.fired() == 1
        assert found in (None, data)
    assert memory == data


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork(2)")
@pytest.mark.parametrize("before", [False, True])
def test_a_fork_works_or_says_why_not(bucket: Bucket, before: bool) -> None:
    """Of the threads that do the work a fork has none: where there were any, it would wait for ever."""
    code = f"""if True:
    import os, anyio
    from crown_exp.storage import open_blobs
    store = open_blobs({bucket.url!r}, {bucket.access!r})
    if {before}:
        anyio.run(store.list, "")
    if child := os.fork():
        raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    try:
        print(anyio.run(store.list, ""))
    except Exception as error:
        print(error)
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("cannot reach s3://" if before else "[]"), done


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cannot be kept on one core")
def test_a_process_that_ends_right_after_a_call_keeps_its_exit_code(bucket: Bucket) -> None:
    """A thread of the transport that then asks for the interpreter would abort it (134)."""
    code = f"""if True:
    import os, sys, anyio
    from crown_exp.storage import open_blobs
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    store = open_blobs({bucket.url!r}, {bucket.access!r})
    async def look():
        async with anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(store.put, str(number), b"")
        await store.list("")
    anyio.run(look)
    sys.exit(75)
    """
    for _ in range(6):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (75, "")


async def test_its_own_names_are_hidden(bucket: Bucket, store: ObjectStore) -> None:
    await store.prepare()
    await store.now()
    assert bucket.keys() == ["a/b/.crown-clock", "a/b/.crown-store"]
    assert await store.list("") == await store.folders("") == []
    for path in (".crown-clock", "a/.crown-x"):
        for act in (store.get(path), store.put(path, b""), store.delete(path), store.stat(path)):
            with pytest.raises(StoreError, match="the store's own"):
                await act


async def test_a_key_that_is_no_path(bucket: Bucket, store: ObjectStore) -> None:
    bucket.write("a/b/runs//x", b"")
    with pytest.raises(StoreError, match=r"a key with an empty name in it: 'a/b/runs//x'; move"):
        await store.list("runs/")


async def test_folders_that_some_tools_make(bucket: Bucket, store: ObjectStore) -> None:
    """They write an empty object whose key ends in a slash."""
    bucket.write("a/b/", b"")
    bucket.write("a/b/runs/", b"")
    bucket.write("a/b/runs/r1/", b"")
    await store.put("runs/r1/run.json", b"{}")
    assert [entry.path for entry in await store.list("runs/r1/")] == ["runs/r1/run.json"]
    assert await store.folders("runs/") == ["r1"]
    await store.prepare()


@pytest.mark.parametrize("size", [0, 1, FIRST - 1, FIRST, FIRST + 1, FIRST + RANGE + 1])
async def test_a_blob_of_any_size(watched: ObjectStore, proxy: Proxy, size: int) -> None:
    data = os.urandom(size)
    await watched.put("x", data)
    proxy.clear()
    assert await watched.get("x") == data
    if 0 < size <= FIRST:
        assert asked(proxy) == ["GET"]


async def test_a_big_blob_has_the_time_that_its_bytes_take(bucket: Bucket, proxy: Proxy) -> None:
    """One try of 60 % of a deadline that small ones have would never end."""
    store = ObjectStore(bucket.url, bucket.behind(proxy).access | {"DEADLINE": "1"})
    await store._transport.connect()  # imports a library: bytes have nothing to do with that
    data = os.urandom(12 * MIB)  # so many that a machine that stands still for 20 s has time, too
    await store.put("x", data)
    with proxy.armed(Fault("throttle", method="GET", rate=6 * MIB)):
        assert await store.get("x") == data


async def test_a_get_is_never_of_two_versions(bucket: Bucket, store: ObjectStore) -> None:
    versions = [bytes([number]) * (RANGE + FIRST + number) for number in range(6)]
    await store.put("x", versions[0])

    async def write() -> None:
        for data in versions:
            await store.put("x", data)

    async with anyio.create_task_group() as group:
        group.start_soon(write)
        for _ in range(6):
            assert await store.get("x") in versions


async def test_above_a_size_a_blob_goes_in_parts(
    bucket: Bucket, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a gigabyte; here of less."""
    monkeypatch.setattr(transport, "ONE_PUT", 6 * MIB)
    monkeypatch.setattr(transport, "PART", 5 * MIB)
    data = os.urandom(12 * MIB)
    for size, parts in ((6 * MIB, 0), (6 * MIB + 1, 2), (12 * MIB, 3)):
        await store.put("x", data[:size])
        tag = bucket.client.head_object(Bucket=bucket.name, Key="a/b/x")["ETag"].strip('"')
        assert tag.partition("-")[2] == (str(parts) if parts else "")
        assert bucket.read("a/b/x") == data[:size]
        assert await store.get("x") == data[:size]
    await store.put("y", data, create=True)  # which parts would not keep
    with pytest.raises(AlreadyExists):
        await store.put("y", data[:-1], create=True)


async def test_a_server_that_gives_fewer_bytes_than_it_has(proxy: Proxy) -> None:
    """With headers that say so: what it left out is not taken for read."""

    class Short(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
            body = b"A" * ((last - first + 1) // 2)
            self.send_response(206)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Range", f"bytes {first}-{first + len(body) - 1}/1000000")
            self.send_header("Last-Modified", "Mon, 30 Nov 2026 00:00:00 GMT")
            self.send_header("ETag", '"x"')
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Short)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    access = proxy.access() | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_address[1]}"}
    store = ObjectStore("s3://b", access)
    try:
        with pytest.raises(StoreError, match="cannot do this"):
            await store.get_into("x", memoryview(bytearray(1000000)))
        with pytest.raises(StoreError, match="cannot do this"):
            await store.get("x")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
