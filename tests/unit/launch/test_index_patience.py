"""A word that asks a store which does not answer tells what was known, in time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from crown_exp.launch import index as index_module
from crown_exp.launch.index import look, open_index
from crown_exp.storage.file import FileStore


def test_a_store_that_does_not_answer_is_waited_for_so_long_and_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hangs(*_: object) -> list[str]:
        await asyncio.sleep(600)
        return []

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CROWN_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(index_module, "PATIENCE_S", 0.2)
    monkeypatch.setattr(FileStore, "folders", hangs)
    monkeypatch.setattr(FileStore, "list", hangs)
    said: list[str] = []
    with open_index() as index:
        assert look(index, said.append) is None
    assert said == ["the store did not answer for 0 s; what follows was known before"]
