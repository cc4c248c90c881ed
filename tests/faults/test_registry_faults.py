"""The registry under many processes, kills, and disks that fill up or turn read-only."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from crown_exp.folder.segment import point
from crown_exp.registry import (
    Registry,
    default_url,
    ingest_run,
    open_registry,
    refresh,
    reindex,
)
from crown_exp.storage import BlobStore, open_blobs
from crown_exp.storage.database import DatabaseError
from crown_exp.storage.database.base import path_of
from crown_exp.storage.database.engine import open_database
from tests.unit.registry.folders import complete_run, dump, make_run

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]
PROCESSES = 8

WORKER = """
import sys
import anyio
from crown_exp.folder.segment import point
from crown_exp.registry import ingest_run, open_registry, reindex
from crown_exp.storage import open_blobs
from tests.unit.registry.folders import make_run

what, url, root, run_id, times = sys.argv[1:]
print("up", flush=True)
sys.stdin.readline()

async def write():
    blobs = open_blobs(root)
    made = await make_run(blobs, run_id)
    await made.attempt()
    batches = []
    async with open_registry(url) as registry:
        for number in range(int(times)):
            steps = range(number * 10 + 1, number * 10 + 11)
            batches.append([point(step, 1.0, {"loss": 1.0, "x": 2.0}) for step in steps])
            await made.log(batches)
            await ingest_run(registry, blobs, run_id)
            await registry.page(limit=5)
            if number == 0:
                print("begun", flush=True)

async def remake():
    for _ in range(int(times)):
        await reindex(url, open_blobs(root))

async def grow():
    blobs = open_blobs(root)
    made = await make_run(blobs, run_id)
    await made.attempt()
    batches = []
    for number in range(int(times)):
        batches.append([point(number + 1, 1.0, {"loss": 1.0})])
        await made.log(batches)
        async with open_registry(url) as registry:
            await ingest_run(registry, blobs, run_id)
            await registry.page()

anyio.run({"write": write, "remake": remake, "grow": grow}[what])
print("done", flush=True)
"""


class Worker:
    """A process that begins when it is told to."""

    def __init__(self, what: str, url: str, root: Path, run_id: str, times: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, what, url, str(root), run_id, str(times)],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.hear() == "up"

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.communicate()

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def begin(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def errors(self) -> str:
        """What it said of errors, once it has ended; empty if all went well."""
        out, error = self.process.communicate(timeout=240)
        return "" if out.endswith("done\n") else error or "it did not end well"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return default_url(tmp_path / "home")


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return open_blobs(str(tmp_path / "store"))


def run_together(workers: list[tuple[str, str, Path, str, int]]) -> list[str]:
    """Begin all at once; what went wrong."""
    with ExitStack() as stack:
        started = [stack.enter_context(Worker(*worker)) for worker in workers]
        for worker in started:
            worker.begin()
        return [said for worker in started if (said := worker.errors())]


async def test_many_processes_write_at_once_from_the_first_opening_on(
    url: str, tmp_path: Path
) -> None:
    times = 40
    workers = [("write", url, tmp_path, f"r1-{number}", times) for number in range(PROCESSES)]
    assert run_together(workers) == []
    async with open_registry(url) as registry:
        await check_written(registry, [f"r1-{number}" for number in range(PROCESSES)], times * 10)


async def check_written(registry: Registry, runs: list[str], points: int) -> None:
    async with registry.database.read() as connection:
        sql = "SELECT run_id, count(*), max(step) FROM metric_points GROUP BY run_id ORDER BY 1"
        found = [tuple(row) for row in await connection.exec_driver_sql(sql)]
        assert found == [(run, 2 * points, points) for run in runs]
        sql = "SELECT count(*), min(n), max(n), sum(last) FROM metric_summaries"
        told = tuple((await connection.exec_driver_sql(sql)).one())
        assert told == (2 * len(runs), points, points, 3.0 * len(runs))


async def test_two_who_make_it_anew_at_once_and_two_who_write(
    url: str, store: BlobStore, tmp_path: Path
) -> None:
    for number in range(4):
        await complete_run(store, f"r1-{number}")
    root = tmp_path / "store"
    workers = [("remake", url, root, "-", 3)] * 2 + [
        ("grow", url, root, f"r2-{n}", 12) for n in range(2)
    ]
    assert run_together(workers) == []
    assert not list(path_of(url).parent.glob("*.new*"))
    other = default_url(tmp_path / "other")
    await reindex(other, store)
    async with open_registry(url) as registry, open_registry(other) as anew:
        await refresh(registry, store)
        assert await dump(registry) == await dump(anew)


async def test_a_writer_that_is_killed_leaves_whole_transactions(url: str, tmp_path: Path) -> None:
    for number in range(3):
        with Worker("write", url, tmp_path, f"r1-{number}", 10_000) as worker:
            worker.begin()
            assert worker.hear() == "begun"
            worker.process.send_signal(signal.SIGKILL)
            worker.process.wait()
        async with open_registry(url) as registry, registry.database.read() as connection:
            sql = f"SELECT count(*), max(step) FROM metric_points WHERE run_id = 'r1-{number}'"
            count, last = (await connection.exec_driver_sql(sql)).one()
            assert count == 2 * last > 0 and last % 10 == 0
            sql = f"SELECT records FROM segments WHERE run_id = 'r1-{number}'"
            assert (await connection.exec_driver_sql(sql)).scalar_one() == last


async def test_who_waits_too_long_is_told_and_nothing_is_lost(url: str, store: BlobStore) -> None:
    made = await complete_run(store)
    async with open_registry(url):
        pass
    with closing(sqlite3.connect(path_of(url), isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        async with open_database(url, busy_seconds=0.05) as database:
            registry = Registry(database)
            with pytest.raises(
                DatabaseError, match="another process has been writing it for too long"
            ) as caught:
                await ingest_run(registry, store, made.id)
            assert "\n" not in str(caught.value)
            assert (await registry.page()).total == 0  # readers wait for nobody
            holder.execute("ROLLBACK")
            await ingest_run(registry, store, made.id)
            assert (await registry.summaries(made.id))["loss"].n == 3


# --- disks ----------------------------------------------------------------------------------------------


@pytest.fixture
def disk_mebibytes() -> int:
    """An empty registry takes more than one."""
    return 2


def refused_in_one_line(error: DatabaseError, path: Path) -> str:
    line = str(error)
    assert str(path) in line and "\n" not in line and "CROWN_DATABASE__URL" in line
    return line


def fill(disk: Path, leave: int) -> Path:
    """A file that takes up the disk but for some bytes."""
    status = os.statvfs(disk)
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(status.f_bavail * status.f_frsize - leave))
    return ballast


async def test_a_full_disk_is_told_and_nothing_is_broken(
    small_disk: Path, store: BlobStore
) -> None:
    url = default_url(small_disk)
    made = await make_run(store)
    async with open_registry(url) as registry:
        await ingest_run(registry, store, made.id)
        ballast = fill(small_disk, leave=64 << 10)
        await made.log([[point(step, 1.0, {"loss": 1.0}) for step in range(10_000)]])
        with pytest.raises(DatabaseError) as caught:
            await ingest_run(registry, store, made.id)
        line = refused_in_one_line(caught.value, path_of(url))
        assert line.startswith("cannot write the registry") and "disk is full" in line
        assert (await registry.get(made.id)).summaries == {}
        ballast.unlink()
        await ingest_run(registry, store, made.id)
        assert (await registry.summaries(made.id))["loss"].n == 10_000


async def test_a_full_disk_leaves_the_old_index_when_it_is_made_anew(
    small_disk: Path, store: BlobStore
) -> None:
    url = default_url(small_disk)
    made = await complete_run(store)
    await reindex(url, store)
    await made.log([[point(step, 1.0, {"loss": 1.0}) for step in range(100_000)]], number=2)
    with pytest.raises(DatabaseError):
        await reindex(url, store)
    assert sorted(path.name for path in small_disk.iterdir()) == ["registry.db", "registry.db.lock"]
    async with open_registry(url) as registry:
        assert (await registry.curve(made.id, "loss")).steps == [1, 2, 3]


async def test_a_read_only_disk_is_told(small_disk: Path, store: BlobStore) -> None:
    url, fresh = default_url(small_disk), default_url(small_disk / "fresh")
    await complete_run(store)
    await reindex(url, store)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for place in (url, fresh):
        with pytest.raises(DatabaseError) as caught:
            async with open_registry(place) as registry:
                await refresh(registry, store)
        refused_in_one_line(caught.value, path_of(place))
    with pytest.raises(DatabaseError) as caught:
        await reindex(url, store)
    assert "CROWN_DATABASE__URL" in str(caught.value)


async def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    with pytest.raises(DatabaseError) as caught:
        async with open_registry(default_url(tmp_path / "home")):
            pass
    refused_in_one_line(caught.value, tmp_path / "home" / "registry.db")


# --- what folders may do ----------------------------------------------------------------------------------


async def test_a_run_that_is_deleted_while_it_is_read(
    url: str, store: BlobStore, tmp_path: Path
) -> None:
    made = await complete_run(store)

    class Vanishing:
        url = store.url

        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        async def get(self, path: str) -> bytes:
            shutil.rmtree(tmp_path / "store" / "runs" / made.id, ignore_errors=True)
            return await store.get(path)

    async with open_registry(url) as registry:
        assert (await ingest_run(registry, Vanishing(), made.id)).gone
        assert (await registry.page()).runs == ()


async def test_a_hundred_thousand_names(url: str, store: BlobStore) -> None:
    made = await make_run(store)
    await made.log([[point(step, 1.0, {f"new/{step}": 1.0}) for step in range(100_000)]])
    async with open_registry(url) as registry:
        await ingest_run(registry, store, made.id)
        found = await registry.get(made.id)
        assert len(found.summaries) == 100_000
        assert (await registry.curve(made.id, "new/77777")).steps == [77_777]
        assert (await registry.page(columns=["new/5"])).runs[0].values == {"new/5": 1.0}
