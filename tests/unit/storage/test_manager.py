"""The one door to storage, and what it says of its health."""

from pathlib import Path

import anyio

from crown_exp.storage import StorageManager


async def health(root: str) -> dict[str, str]:
    async with StorageManager(root) as storage:
        found = await storage.health()
        assert await storage.blobs.list("") == []  # the probe leaves nothing
    return found


def test_healthy(tmp_path: Path) -> None:
    assert anyio.run(health, str(tmp_path)) == {"blobs": "ok"}
    assert anyio.run(health, "memory://health") == {"blobs": "ok"}


def test_not_healthy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = anyio.run(health, str(tmp_path / "file"))
    assert "cannot write health/" in found["blobs"] and "\n" not in found["blobs"]
