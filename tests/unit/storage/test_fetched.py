"""Blobs as files of this machine: whole, named by their bytes, whoever fetches at the same time."""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import anyio
import pytest

from crown_exp.errors import SettingsError, StoreError
from crown_exp.storage import fetched
from crown_exp.storage.fetched import as_file, download
from crown_exp.storage.memory import MemoryStore

pytestmark = pytest.mark.anyio
PIECE = 2**12


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Slow(MemoryStore):
    """A store whose pieces come one after the other, and others are served meanwhile."""

    async def get_into(self, path: str, buffer: memoryview, *, start: int | None = None) -> None:
        await anyio.sleep(0)
        await super().get_into(path, buffer, start=start)


async def test_two_of_one_process_id_do_not_write_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in two containers with one home."""
    monkeypatch.setattr(fetched, "PIECE", PIECE)
    blobs, found = Slow("fetched-two"), dict[str, tuple[Path, str]]()
    data = {name: os.urandom(10 * PIECE) for name in ("a.pt", "b.pt")}
    for name, bytes_ in data.items():
        await blobs.put(name, bytes_)

    async def one(name: str) -> None:
        found[name] = await download(blobs, name, tmp_path, ".pt")

    async with anyio.create_task_group() as group:
        for name in data:
            group.start_soon(one, name)
    for name, (path, digest) in found.items():
        assert path.read_bytes() == data[name]
        assert digest == sha256(data[name]).hexdigest()


async def test_what_a_disk_does_not_give_back_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiled(then: Callable[[Path], str]) -> Callable[[Path], str]:
        def act(path: Path) -> str:
            path.write_bytes(b"other")
            return then(path)

        return act

    blobs = MemoryStore("fetched-spoiled")
    await blobs.put("a.pt", b"1234")
    monkeypatch.setattr(fetched, "file_digest", spoiled(fetched.file_digest))
    with pytest.raises(StoreError, match="this disk does not give back"):
        await download(blobs, "a.pt", tmp_path, ".pt")
    assert not any(tmp_path.iterdir())


async def test_files_by_path_and_by_url(tmp_path: Path) -> None:
    file = tmp_path / "a b%" / "w.pt"
    file.parent.mkdir()
    file.write_bytes(b"1")
    expected: Any = (file, sha256(b"1").hexdigest())
    for url in (str(file), file.as_uri(), file.as_uri().replace("file://", "FILE://localhost")):
        assert await as_file(url, tmp_path, {}) == expected
    with pytest.raises(SettingsError, match="three slashes"):
        await as_file("file://host/w.pt", tmp_path, {})
