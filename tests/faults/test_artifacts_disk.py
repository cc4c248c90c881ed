"""Files of a run on a disk that is full: nothing half-written, said once, kept where there is room."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from crown_exp.folder import RunPaths
from crown_exp.runner.artifacts import Artifacts
from crown_exp.storage import Portal, open_blobs

PATHS = RunPaths("r261124-k7f3q2")
HALF = bytes(600_000)
"""Of the disk; the second does not fit."""


@pytest.fixture
def portal() -> Iterator[Portal]:
    with Portal() as portal:
        yield portal


def opened(portal: Portal, store: Path, spool: Path, said: list[str]) -> Artifacts:
    return Artifacts(
        portal, open_blobs(str(store)), PATHS, spool,
        event=lambda kind, **data: None, warn=said.append,
    )  # fmt: skip


def sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def test_the_store_is_full_for_a_while(portal: Portal, small_disk: Path, tmp_path: Path) -> None:
    said: list[str] = []
    artifacts = opened(portal, small_disk / "store", tmp_path / "spool", said)
    artifacts.keep("first.bin", HALF, 1)
    artifacts.keep("second.bin", HALF, 1)
    artifacts.keep("third.bin", HALF, 1)
    assert sizes(small_disk) == {"first.bin": len(HALF)}
    assert sizes(tmp_path / "spool") == {"second.bin": len(HALF), "third.bin": len(HALF)}
    (line,) = said
    assert "no space left on device" in line
    assert line.endswith("training goes on, and it is tried again")
    (small_disk / "store" / PATHS.files / "000001/first.bin").unlink()
    (left,) = artifacts.finish()
    artifacts.clear()
    assert left.endswith(f"it is in {tmp_path}/spool/{PATHS.files}000001/third.bin")
    assert sizes(small_disk) == {"second.bin": len(HALF)}
    assert sizes(tmp_path / "spool") == {"third.bin": len(HALF)}


def test_the_spool_is_on_the_same_disk(portal: Portal, small_disk: Path) -> None:
    said: list[str] = []
    artifacts = opened(portal, small_disk / "store", small_disk / "spool", said)
    artifacts.keep("first.bin", HALF, 1)
    artifacts.keep("second.bin", HALF, 1)
    assert len(said) == 1
    (lost,) = artifacts.finish()
    assert "no space left on device" in lost
    assert sizes(small_disk) == {"first.bin": len(HALF)}
