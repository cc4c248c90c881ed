"""A store of files on disks that fill up or turn read-only, and under writers that are killed."""

import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from crown_exp.errors import StoreError
from crown_exp.storage import AlreadyExists
from crown_exp.storage.file import FileStore

ROOT = Path(__file__).parents[2]
MEBIBYTE = 2**20


def files_of(disk: Path) -> list[str]:
    return sorted(path.name for path in disk.rglob("*") if path.is_file())


def refused(store: FileStore, path: str, data: bytes, create: bool) -> str:
    async def put() -> None:
        await store.put(path, data, create=create)

    with pytest.raises(StoreError) as caught:
        anyio.run(put)
    assert not isinstance(caught.value, AlreadyExists) and caught.value.exit_code == 80
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("create", [False, True])
def test_a_full_disk_is_one_line_and_leaves_no_half(small_disk: Path, create: bool) -> None:
    store = FileStore(small_disk)
    anyio.run(store.put, "a/small", b"1" * 1000)
    line = refused(store, "a/big", bytes(2 * MEBIBYTE), create)
    assert f"cannot write a/big in {small_disk}: no space left on device; free some" in line
    assert files_of(small_disk) == ["small"]
    assert anyio.run(store.get, "a/small") == b"1" * 1000
    # What was freed is free: nothing of the failed write is left.
    anyio.run(store.put, "a/fits", bytes(MEBIBYTE // 2))
    assert files_of(small_disk) == ["fits", "small"]


def test_a_full_disk_keeps_the_old_bytes_of_a_blob(small_disk: Path) -> None:
    store = FileStore(small_disk)
    anyio.run(store.put, "a", b"old" * 1000)
    refused(store, "a", bytes(2 * MEBIBYTE), create=False)
    assert anyio.run(store.get, "a") == b"old" * 1000


@pytest.mark.parametrize("create", [False, True])
def test_a_read_only_disk_can_be_read(small_disk: Path, create: bool) -> None:
    store = FileStore(small_disk)
    anyio.run(store.put, "a/b", b"1")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for path in ("a/c", "new/c"):
        line = refused(store, path, b"2", create)
        assert f"cannot write {path} in {small_disk}: read-only file system; mount it" in line
    with pytest.raises(StoreError, match=r"cannot delete a/b .*: read-only file system"):
        anyio.run(store.delete, "a/b")
    assert anyio.run(store.get, "a/b") == b"1"
    assert [entry.path for entry in anyio.run(store.list, "")] == ["a/b"]
    assert anyio.run(store.now).tzinfo is not None


# The writer is killed by itself before or after one call, or by the kernel in the middle of a write.
WRITER = """
import os, resource, signal, sys
import anyio
from crown_exp.storage.file import FileStore

root, create, links, when, name = sys.argv[1:]

def die(*args, **kwargs):
    if when == "after":
        call(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)

def refuse(*args):
    raise PermissionError(1, "no links here")

if links == "no":
    os.link = refuse
if when == "within":
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
else:
    call = getattr(os, name)
    setattr(os, name, die)

async def put():
    await FileStore(root).put("folder/blob", b"new" * 1_000_000, create=create == "create")

anyio.run(put)
"""
REPLACE = ("replace", "yes", ("before fsync", "after fsync", "before replace", "after replace"))
CREATE = ("create", "yes", ("before link", "after link", "before unlink", "after unlink"))
CREATE_NO_LINKS = ("create", "no", ("before replace", "after replace"))
DEATHS = [
    (how, links, death)
    for how, links, deaths in (REPLACE, CREATE, CREATE_NO_LINKS)
    for death in ("within write", *deaths)
]


@pytest.mark.parametrize(("how", "links", "death"), DEATHS)
def test_a_killed_writer_leaves_the_old_or_the_new(
    tmp_path: Path, how: str, links: str, death: str
) -> None:
    store = FileStore(tmp_path)
    old = None if how == "create" else b"old"
    if old is not None:
        anyio.run(store.put, "folder/blob", old)
    when, name = death.split()
    died = subprocess.run(
        [sys.executable, "-c", WRITER, str(tmp_path), how, links, when, name], cwd=ROOT
    )
    assert died.returncode in (-signal.SIGKILL, -signal.SIGXFSZ)

    published = death in ("after replace", "after link", "before unlink", "after unlink")
    seen = {entry.path: anyio.run(store.get, entry.path) for entry in anyio.run(store.list, "")}
    expected = b"new" * 1_000_000 if published else old
    assert seen == ({} if expected is None else {"folder/blob": expected})
    assert next_writer_creates(tmp_path, links) == (expected is None)


def next_writer_creates(root: Path, links: str) -> bool:
    """Whether a later writer could create the blob; one that hangs on a lock fails the test."""
    code = WRITER.replace("setattr(os, name, die)", "")
    done = subprocess.run(
        [sys.executable, "-c", code, str(root), "create", links, "after", "link"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0 or "AlreadyExists" in done.stderr
    return done.returncode == 0
