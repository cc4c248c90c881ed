"""The newest checkpoint on this machine's own disk."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from crown_exp.checkpoints import Keep, Saved
from crown_exp.checkpoints.mirror import FORGOTTEN_S, Mirror
from crown_exp.storage import Portal
from tests.checkpoint_states import PATHS, FailingStore, attempt, memory_store, same, saved


@pytest.fixture
def portal() -> Iterator[Portal]:
    with Portal() as portal:
        yield portal


@pytest.fixture(autouse=True)
def small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a state of kilobytes has several."""
    monkeypatch.setattr("crown_exp.checkpoints.layout.PACK", 4096)
    monkeypatch.setattr("crown_exp.checkpoints.mirror.PIECE", 1000)
    monkeypatch.setattr("crown_exp.checkpoints.mirror.SPARE", 0)


class Reads:
    """A store that notes which packs are read."""

    def __init__(self, blobs: Any) -> None:
        self.blobs, self.read = blobs, set[str]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.blobs, name)

    async def get_into(self, path: str, buffer: memoryview, *, start: int | None = None) -> None:
        self.read.add(path.rpartition("/")[2])
        await self.blobs.get_into(path, buffer, start=start)


def state(step: int) -> Any:
    return {"w": torch.arange(2500) + step, "frozen": torch.arange(1000)}


def mirror(folder: Path, said: list[str] | None = None) -> Mirror:
    return Mirror(folder, PATHS.run_id, (said if said is not None else []).append)


def save(checkpoints: Any, step: int) -> Any:
    now = state(step)
    return saved(checkpoints, step, now, frozen={id(now["frozen"])})


def names(folder: Path) -> set[str]:
    return {file.name for file in (folder / PATHS.run_id).iterdir()}


def test_a_restart_here_reads_no_pack_of_the_store(portal: Portal, tmp_path: Path) -> None:
    blobs = Reads(memory_store())
    checkpoints = attempt(portal, blobs, mirror=mirror(tmp_path), keep=Keep(last=9))  # type: ignore[arg-type]
    for step in (1, 2, 3):
        assert isinstance(save(checkpoints, step), Saved)
        assert names(tmp_path) == checkpoints.packs.named  # the newest, and no other
    told: list[Any] = []
    again = attempt(
        portal, blobs, 2, mirror=mirror(tmp_path), progress=lambda *args: told.append(args)
    )  # type: ignore[arg-type]
    restored = again.restore()
    assert restored is not None and restored.step == 3 and same(state(3), restored.state)
    assert not blobs.read and told[-1] == ("restoring", 28032, 28032)
    assert (
        save(again, 4).written == 20032
    )  # they were verified, so the frozen one is not written again


@pytest.mark.parametrize("how", ["flipped", "shorter", "longer", "gone", "a folder"])
def test_a_pack_that_is_not_right_is_read_from_the_store(
    portal: Portal, tmp_path: Path, how: str
) -> None:
    blobs = Reads(memory_store())
    save(attempt(portal, blobs, mirror=mirror(tmp_path)), 1)  # type: ignore[arg-type]
    file = tmp_path / PATHS.run_id / min(names(tmp_path))
    data = file.read_bytes()
    file.unlink()
    match how:
        case "flipped":
            file.write_bytes(data[:50] + bytes([data[50] ^ 1]) + data[51:])
        case "shorter":
            file.write_bytes(data[:-1])
        case "longer":
            file.write_bytes(data + b"more")
        case "a folder":
            file.mkdir()
    restored = attempt(portal, blobs, 2, mirror=mirror(tmp_path)).restore()  # type: ignore[arg-type]
    assert restored is not None and same(state(1), restored.state)
    assert blobs.read == (set() if how == "longer" else {file.name})


def test_what_goes_wrong_with_the_disk_is_one_line(
    portal: Portal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    said: list[str] = []
    checkpoints = attempt(portal, memory_store(), mirror=mirror(tmp_path / "file", said))
    for step in (1, 2):
        assert isinstance(save(checkpoints, step), Saved)
    assert len(said) == 1 and said[0].startswith("no copy of the newest checkpoint is kept in ")
    assert said[0].endswith("goes on without one (checkpoint.mirror=false asks for none)")

    monkeypatch.setattr("crown_exp.checkpoints.mirror.SPARE", 2**80)
    checkpoints = attempt(portal, memory_store(), mirror=mirror(tmp_path / "full", said))
    assert isinstance(save(checkpoints, 1), Saved)
    assert "less than 1 GB would be left free" in said[1]
    assert not list((tmp_path / "full").iterdir())


def test_a_save_that_fails_leaves_the_one_before(portal: Portal, tmp_path: Path) -> None:
    blobs = FailingStore(memory_store(), at=2, only="checkpoints/", once=True)
    checkpoints = attempt(portal, blobs, mirror=mirror(tmp_path))  # type: ignore[arg-type]
    save(checkpoints, 1)
    before = names(tmp_path)
    assert not isinstance(save(checkpoints, 2), Saved)
    assert names(tmp_path) == before


def test_it_goes_with_the_run_and_what_was_forgotten_with_any(
    portal: Portal, tmp_path: Path
) -> None:
    old, young = tmp_path / "r1", tmp_path / "r2"
    for folder in (old, young):
        folder.mkdir()
        (folder / "pack").write_bytes(b"x")
    long_ago = time.time() - FORGOTTEN_S - 60
    os.utime(old, (long_ago, long_ago))
    own = mirror(tmp_path)
    save(attempt(portal, memory_store(), mirror=own), 1)
    assert {item.name for item in tmp_path.iterdir()} == {"r2", PATHS.run_id}
    own.remove()
    own.remove()
    assert {item.name for item in tmp_path.iterdir()} == {"r2"}
